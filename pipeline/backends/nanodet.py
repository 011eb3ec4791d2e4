"""Detect people with NanoDet-416 (COCO; RangiLyu 2020, Apache-2.0), converted once from TensorFlow.js to ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from opendance_hf.assets import asset_files, cache_dir, sha256_of
from opendance_hf.files import atomic_write
from opendance_hf.pipeline.backends.base import Backend
from opendance_hf.pipeline.backends.boxes import non_maximum_suppression, onnx_session
from opendance_hf.pipeline.clip import Floats, Image

_SIDE: Final = 416
_STRIDES: Final = (8, 16, 32)
_MEAN_BGR = np.array([103.53, 116.28, 123.675], dtype=np.float32)
_STD_BGR = np.array([57.375, 57.12, 58.395], dtype=np.float32)
_BINS: Final = 11
_GREY: Final = 114
_PERSON: Final = 0


@dataclass(frozen=True)
class NanoDet(Backend):
    """Detect people with NanoDet-416.

    Args:
        min_score: boxes with a lower score are dropped. It is low because trackers use weak boxes.
        sure_score: portrait images without a box of this score are detected a second time, letterboxed instead of
            stretched; the result with the highest score is used.
        max_iou: of two boxes that overlap more than this, the one with the lower score is dropped.
        session_threads: threads of one inference session; results are reproducible for a given number.
    """

    name = "nanodet"
    assets = ("nanodet",)

    min_score: float = 0.2
    sure_score: float = 0.5
    max_iou: float = 0.6
    session_threads: int = 1

    @property
    def label(self) -> str:
        """Name with the input size."""
        return "nanodet-416"

    def load(self) -> _NanoDet:
        """Load the network."""
        return _NanoDet(self)


class _NanoDet:
    def __init__(self, settings: NanoDet) -> None:
        self._settings = settings
        self._session = onnx_session(_onnx_file(), settings.session_threads)
        self._outputs = ["Identity", "Identity_1", "Identity_2", "Identity_3", "Identity_4", "Identity_5"]

    def detect(self, image: Image) -> Floats:
        """Detect people in an image, see :class:`~opendance_hf.pipeline.backends.base.Detector`."""
        # Portrait images are stretched to the square input: people appear larger and are detected more often than in a
        # letterboxed image, but not people who lean or whose camera is rolled, as stretching skews them. Landscape images
        # are padded: people squeezed to half their width are rarely detected.
        height, width = image.shape[:2]
        portrait = width < height
        boxes = self._detect(image, padded=width > height)
        if portrait and _best(boxes) < self._settings.sure_score:
            again = self._detect(image, padded=True)
            if _best(again) > _best(boxes):
                return again
        return boxes

    def _detect(self, image: Image, padded: bool) -> Floats:
        """Detect people in an image that is padded to a square, or stretched to one."""
        image_height, image_width = image.shape[:2]
        if padded:
            side = max(image.shape[:2])
            margins = ((0, side - image_height), (0, side - image_width), (0, 0))
            image = np.pad(image, margins, constant_values=_GREY)
        height, width = image.shape[:2]
        small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)[..., ::-1]
        tensor = ((small - _MEAN_BGR) / _STD_BGR).transpose(2, 0, 1)[None].astype(np.float32)
        outputs = self._session.run(self._outputs, {"input_1": tensor})
        scores = np.concatenate([out[0, :, _PERSON] for out in outputs[:3]])
        boxes = np.concatenate(
            [_decode(out[0], stride) for out, stride in zip(outputs[3:], _STRIDES, strict=True)]
        )
        boxes *= np.array([width, height, width, height], dtype=np.float32) / _SIDE
        boxes[:, 0::2] = boxes[:, 0::2].clip(0, image_width)
        boxes[:, 1::2] = boxes[:, 1::2].clip(0, image_height)
        keep = scores >= self._settings.min_score
        boxes, scores = boxes[keep], scores[keep]
        selected = non_maximum_suppression(boxes, scores, self._settings.min_score, self._settings.max_iou)
        return np.column_stack([boxes[selected], scores[selected]]).astype(np.float32).reshape(-1, 5)


def _best(boxes: Floats) -> float:
    return float(boxes[:, 4].max(initial=0.0))


def _decode(bins: Floats, stride: int) -> Floats:
    """Decode (N, 44) distance distributions to (N, 4) boxes: the expected distance from the cell centre to each side."""
    logits = bins.reshape(-1, 4, _BINS)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    distance = (weights * np.arange(_BINS)).sum(-1) / weights.sum(-1) * stride
    cells = _SIDE // stride
    x, y = np.meshgrid(np.arange(cells), np.arange(cells))
    centre = (np.column_stack([x.ravel(), y.ravel()]) + 0.5) * stride
    return np.column_stack([centre - distance[:, :2], centre + distance[:, 2:]]).astype(np.float32)


def _onnx_file() -> Path:
    """Return the path of the converted model in the cache; convert it on first use."""
    files = asset_files("nanodet")
    source = files["models/nanodet.bin"]
    target = cache_dir() / "converted" / f"nanodet-416-{sha256_of(source)[:12]}.onnx"
    if not target.is_file():
        from opendance_hf.pipeline.backends.tfjs_onnx import convert_graph_model

        model = convert_graph_model(files["models/nanodet.json"], source)
        with atomic_write(target) as part:
            part.write_bytes(model.SerializeToString())
    return target
