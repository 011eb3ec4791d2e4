"""Detect people with YOLOX (Ge et al. 2021, paper reference 9) from an ONNX file as its authors export it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from opendance_hf.pipeline.backends.base import FileBackend
from opendance_hf.pipeline.backends.boxes import non_maximum_suppression, onnx_session
from opendance_hf.pipeline.clip import Floats, Image

_STRIDES: Final = (8, 16, 32)
_PAD: Final = 114.0
_PERSON: Final = 0


@dataclass(frozen=True)
class YOLOX(FileBackend):
    """Detect people with YOLOX of any size.

    The file has one input (1, 3, S, S), BGR from 0 to 255, with the image in the upper left corner and grey padding. It has
    one output (1, N, 5 + classes): centres and sizes relative to the N cells of a grid, objectness and class scores.

    Args:
        file: the ONNX file, or a Hub id (with or without the file's name).
        sha256: hash of the file, see :class:`FileBackend`.
        min_score: boxes with a lower score are dropped. It is low because trackers use weak boxes.
        max_iou: of two boxes that overlap more than this, the one with the lower score is dropped.
        session_threads: threads of one inference session; results are reproducible for a given number.
    """

    name = "yolox"
    licence = "Apache-2.0 (YOLOX)"
    default_file = "object_detection_yolox_2022nov.onnx"
    default_hub_id = "opencv/object_detection_yolox"
    hub_file = "object_detection_yolox_2022nov.onnx"
    how_to_get = (
        "YOLOX as ONNX: file object_detection_yolox_2022nov.onnx of the Hugging Face repository "
        "opencv/object_detection_yolox (Apache-2.0; fetched from there when the Hub can be reached), or any model "
        "exported by YOLOX's own tools/export_onnx.py"
    )

    min_score: float = 0.2
    max_iou: float = 0.6
    session_threads: int = 1

    def check(self, path: Path) -> None:
        """Load the file once, see :meth:`FileBackend.check`."""
        if not path.is_file() or path.suffix != ".onnx":
            raise ValueError("not an ONNX file")
        try:
            _YOLOX(path, self)
        except ValueError:
            raise
        except Exception as error:  # onnxruntime's exceptions have no common base class
            first = str(error).strip().partition("\n")[0]
            raise ValueError(f"onnxruntime cannot load the file ({first})") from None

    def load(self) -> _YOLOX:
        """Load the network."""
        return _YOLOX(self.path, self)


class _YOLOX:
    def __init__(self, path: Path, settings: YOLOX) -> None:
        self._settings = settings
        self._session = onnx_session(path, settings.session_threads)
        inputs = self._session.get_inputs()
        shape = inputs[0].shape
        side = shape[3] if len(shape) == 4 else None
        if len(inputs) != 1 or not isinstance(side, int) or shape[1:] != [3, side, side] or side % 32:
            raise ValueError(f"input of shape {shape}, expected YOLOX's (1, 3, S, S) with S divisible by 32")
        self._side, self._input = side, inputs[0].name
        self._centres, self._strides = _grid(side)

    def detect(self, image: Image) -> Floats:
        """Detect people in an image, see :class:`~opendance_hf.pipeline.backends.base.Detector`."""
        height, width = image.shape[:2]
        ratio = min(self._side / height, self._side / width)
        size = (max(1, int(width * ratio)), max(1, int(height * ratio)))
        padded = np.full((self._side, self._side, 3), _PAD, dtype=np.float32)
        padded[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)[..., ::-1]
        found = self._session.run(None, {self._input: padded.transpose(2, 0, 1)[None]})[0][0]
        if found.shape[0] != len(self._centres) or found.shape[1] < 6:
            raise ValueError(
                f"output of shape {found.shape}, expected YOLOX's ({len(self._centres)}, 5 + classes)"
            )
        scores = found[:, 4] * found[:, 5 + _PERSON]
        keep = scores >= self._settings.min_score
        scores, stride = scores[keep], self._strides[keep, None]
        centre = (found[keep, :2] + self._centres[keep]) * stride / ratio
        half = np.exp(found[keep, 2:4]) * stride / ratio / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1)
        boxes[:, 0::2] = boxes[:, 0::2].clip(0, width)
        boxes[:, 1::2] = boxes[:, 1::2].clip(0, height)
        selected = non_maximum_suppression(boxes, scores, self._settings.min_score, self._settings.max_iou)
        return np.column_stack([boxes, scores])[selected].astype(np.float32)


def _grid(side: int) -> tuple[Floats, Floats]:
    """Return (N, 2) cell indices ``x y`` and (N,) strides of all cells, finest grid first, row by row."""
    cells, strides = [], []
    for stride in _STRIDES:
        count = side // stride
        y, x = np.mgrid[:count, :count]
        cells.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        strides.append(np.full(count * count, stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)
