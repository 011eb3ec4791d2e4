"""Detect people with MoveNet MultiPose (Google 2021, Apache-2.0), converted once from TensorFlow.js to ONNX.

The network is a CenterNet: for every cell of a grid it estimates whether a person's centre lies there, with the box and the
expected keypoints of that person, and a heat map of each keypoint. The last steps, from these maps to people, are here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from opendance_hf.assets import asset_files, cache_dir, sha256_of
from opendance_hf.files import atomic_write
from opendance_hf.pipeline.backends.base import Backend
from opendance_hf.pipeline.backends.boxes import non_maximum_suppression, onnx_session
from opendance_hf.pipeline.clip import Floats, Image

KEYPOINTS: Final = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
_PREFIX: Final = "StatefulPartitionedCall/"
_HEADS: Final = tuple(
    _PREFIX + head
    for head in (
        "center_0/conv2d_4/BiasAdd", "box_scale_0/conv2d_5/BiasAdd", "box_offset_0/conv2d_6/BiasAdd",
        "kpt_heatmap_0/conv2d_7/BiasAdd", "kpt_regress_0/conv2d_8/BiasAdd", "kpt_offset_0/conv2d_9/BiasAdd",
    )
)  # fmt: skip
#: Side of a cell in pixels of the network's input, and the multiple that the sides of the input must be.
_CELL, _MULTIPLE = 4, 32
#: Side of the window in which a centre must be the largest value, in cells, and the largest number of people.
_PEAK, _MOST_PEOPLE = 5, 6
#: Spread of the weight of a heat map around the expected keypoint, relative to the shorter side of the grid, in cells.
_SPREAD: Final = 0.300048828125


@dataclass(frozen=True)
class MoveNet(Backend):
    """Detect up to six people with MoveNet MultiPose.

    Args:
        side_px: longer side of the network's input; the shorter one follows the picture.
        min_score: boxes with a lower score are dropped. It is low because trackers use weak boxes.
        max_iou: of two boxes that overlap more than this, the one with the lower score is dropped.
        session_threads: threads of one inference session; results are reproducible for a given number.
    """

    name = "movenet"
    assets = ("movenet-multipose",)

    side_px: int = 256
    min_score: float = 0.2
    max_iou: float = 0.6
    session_threads: int = 1

    @property
    def label(self) -> str:
        """Name with the variant of the network."""
        return "movenet-multipose"

    def load(self) -> _MoveNet:
        """Load the network."""
        return _MoveNet(self)


@dataclass(frozen=True)
class People:
    """Hold the N people of a picture, in pixels.

    Attributes:
        boxes: (N, 5) ``x1 y1 x2 y2 score``, inside the picture; the score is the probability of a person's centre.
        keypoints: (N, 17, 3) x, y and score of :data:`KEYPOINTS`.
    """

    boxes: Floats
    keypoints: Floats


class _MoveNet:
    def __init__(self, settings: MoveNet) -> None:
        self._settings = settings
        self._session = onnx_session(_onnx_file(), settings.session_threads)

    def detect(self, image: Image) -> Floats:
        """Detect people in an image, see :class:`~opendance_hf.pipeline.backends.base.Detector`."""
        settings = self._settings
        boxes = self.people(image).boxes
        boxes = boxes[boxes[:, 4] >= settings.min_score]
        selected = non_maximum_suppression(boxes[:, :4], boxes[:, 4], settings.min_score, settings.max_iou)
        return boxes[selected]

    def people(self, image: Image) -> People:
        """Return the people of an (H, W, 3) RGB image as the network finds them, those with the best centres first."""
        height, width = image.shape[:2]
        scale = self._settings.side_px / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        padded = np.zeros((*(-(-side // _MULTIPLE) * _MULTIPLE for side in size[::-1]), 3), np.int32)
        padded[: size[1], : size[0]] = small
        boxes, keypoints = decode(*self._session.run(_HEADS, {"input": padded[None]}))
        to_image = np.array([width / size[0], height / size[1]], np.float32) * _CELL
        boxes[:, :4] *= np.tile(to_image, 2)
        boxes[:, :4] = boxes[:, :4].clip(0, (width, height, width, height))
        keypoints[..., :2] *= to_image
        return People(boxes, keypoints)


def decode(
    centre: Floats, box_size: Floats, box_offset: Floats, heat: Floats, expected: Floats, offset: Floats
) -> tuple[Floats, Floats]:
    """Return the (6, 5) boxes and (6, 17, 3) keypoints, in cells, of the (1, H, W, C) maps of the network."""
    height, width = centre.shape[1:3]
    centres, heat = _sigmoid(centre[0, ..., 0]), _sigmoid(heat[0])
    window = np.ones((_PEAK, _PEAK), np.uint8)
    peaks = np.where(centres >= cv2.dilate(centres, window) - 1e-6, centres, 0)
    # Stable: equal values, such as those that are not peaks, in the order of their cells.
    best = np.argsort(-peaks.ravel(), kind="stable")[:_MOST_PEOPLE]
    row, column = np.unravel_index(best, peaks.shape)
    cell = np.stack([row, column], axis=-1).astype(np.float32)

    middle = cell + box_offset[0, row, column]
    half = np.maximum(box_size[0, row, column], 0) / 2
    low, high = (value.clip(0, (height, width)) for value in (middle - half, middle + half))
    at = cell[:, None] + expected[0, row, column].reshape(-1, len(KEYPOINTS), 2)
    grid_y, grid_x = np.mgrid[:height, :width].astype(np.float32)
    square = (grid_y - at[..., 0, None, None]) ** 2 + (grid_x - at[..., 1, None, None]) ** 2
    near = heat.transpose(2, 0, 1) * np.exp(-square / (_SPREAD * min(height, width)))
    inside = (grid_y >= low[:, 0, None, None]) & (grid_y < high[:, 0, None, None])
    inside &= (grid_x >= low[:, 1, None, None]) & (grid_x < high[:, 1, None, None])
    near = (near * inside[:, None]).reshape(len(best), len(KEYPOINTS), -1)
    y, x = np.unravel_index(near.argmax(axis=-1), (height, width))
    moved = offset[0].reshape(height, width, len(KEYPOINTS), 2)[y, x, np.arange(len(KEYPOINTS))]
    # The published graph multiplies the score by the mean of the keypoints' scores, which falls with hidden limbs.
    boxes = np.column_stack([low[:, ::-1], high[:, ::-1], peaks.ravel()[best]])
    keypoints = np.stack([x + moved[..., 1], y + moved[..., 0], near.max(axis=-1)], axis=-1)
    return boxes.astype(np.float32), keypoints.astype(np.float32)


def _sigmoid(values: Floats) -> npt.NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-values)), dtype=np.float32)


def _onnx_file() -> Path:
    """Return the path of the converted model in the cache; convert it on first use."""
    files = asset_files("movenet-multipose")
    source = files["models/movenet-multipose.bin"]
    target = cache_dir() / "converted" / f"movenet-multipose-{sha256_of(source)[:12]}.onnx"
    if not target.is_file():
        from opendance_hf.pipeline.backends.tfjs_onnx import convert_graph_model

        model = convert_graph_model(files["models/movenet-multipose.json"], source, _HEADS)
        with atomic_write(target) as part:
            part.write_bytes(model.SerializeToString())
    return target
