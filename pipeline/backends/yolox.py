"""YOLOX person detector (Ge et al. 2021, paper reference 9) from an ONNX file as its authors export it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np
import onnxruntime

from opendance_hf.assets import sha256_of
from opendance_hf.pipeline.backends.base import Floats, Image

_STRIDES: Final = (8, 16, 32)
_PAD: Final = 114.0
_PERSON: Final = 0


class YOLOX:
    """YOLOX of any size on onnxruntime.

    The file has one input (1, 3, S, S), BGR from 0 to 255, the picture in its upper left corner and grey beyond; and
    one output (1, N, 5 + classes) of centres and sizes relative to the N cells of a grid, objectness and class scores.

    Args:
        path: the ONNX file.
        score_threshold: boxes below it are dropped. ByteTrack makes use of weak boxes, so it is low.
        iou_threshold: of two boxes that overlap more than this, the weaker is dropped.
        threads: of the inference session; results are reproducible for a given number.

    Raises:
        ValueError: if the file has other inputs or outputs.
    """

    name = "yolox"

    def __init__(
        self, path: Path, score_threshold: float = 0.2, iou_threshold: float = 0.6, threads: int = 1
    ) -> None:
        self.version = sha256_of(path)[:12]
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        inputs = self._session.get_inputs()
        shape = inputs[0].shape
        side = shape[3] if len(shape) == 4 else None
        if len(inputs) != 1 or not isinstance(side, int) or shape[1:] != [3, side, side] or side % 32:
            raise ValueError(f"{path.name}: input {shape} is not YOLOX's (1, 3, S, S) with S divisible by 32")
        self._side, self._input = side, inputs[0].name
        self._centres, self._strides = _grid(side)

    def detect(self, image: Image) -> Floats:
        """See :class:`~opendance_hf.pipeline.backends.base.Detector`."""
        height, width = image.shape[:2]
        ratio = min(self._side / height, self._side / width)
        size = (max(1, int(width * ratio)), max(1, int(height * ratio)))
        padded = np.full((self._side, self._side, 3), _PAD, dtype=np.float32)
        padded[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)[..., ::-1]
        found = self._session.run(None, {self._input: padded.transpose(2, 0, 1)[None]})[0][0]
        if found.shape[0] != len(self._centres) or found.shape[1] < 6:
            raise ValueError(f"output {found.shape} is not YOLOX's ({len(self._centres)}, 5 + classes)")
        scores = found[:, 4] * found[:, 5 + _PERSON]
        keep = scores >= self.score_threshold
        scores, stride = scores[keep], self._strides[keep, None]
        centre = (found[keep, :2] + self._centres[keep]) * stride / ratio
        half = np.exp(found[keep, 2:4]) * stride / ratio / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1)
        boxes[:, 0::2] = boxes[:, 0::2].clip(0, width)
        boxes[:, 1::2] = boxes[:, 1::2].clip(0, height)
        order = cv2.dnn.NMSBoxes(
            np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).tolist(),
            scores.tolist(),
            self.score_threshold,
            self.iou_threshold,
        )
        index = np.asarray(order, dtype=int).reshape(-1)
        return np.column_stack([boxes, scores])[index].astype(np.float32)


def _grid(side: int) -> tuple[Floats, Floats]:
    """(N, 2) cell numbers ``x y`` and (N,) strides of all cells, finest grid first, row by row."""
    cells, strides = [], []
    for stride in _STRIDES:
        count = side // stride
        y, x = np.mgrid[:count, :count]
        cells.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        strides.append(np.full(count * count, stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)
