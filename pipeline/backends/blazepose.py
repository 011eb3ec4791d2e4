"""BlazePose GHUM landmarks (Bazarevsky et al. 2020, Apache-2.0) on LiteRT: 33 landmarks in 2D and in metres."""

from __future__ import annotations

import math
from typing import Any, Final, Literal

import cv2
import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from opendance_hf.assets import ASSETS, asset_files
from opendance_hf.pipeline.backends.base import Floats, Image, Keypoints, Region

LANDMARKS: Final[tuple[str, ...]] = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye",
    "right_eye_outer", "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky",
    "left_index", "right_index", "left_thumb", "right_thumb", "left_hip", "right_hip", "left_knee",
    "right_knee", "left_ankle", "right_ankle", "left_heel", "right_heel", "left_foot_index",
    "right_foot_index",
)  # fmt: skip
LANDMARK_INDEX: Final[dict[str, int]] = {name: i for i, name in enumerate(LANDMARKS)}

_SWAP: Final = np.array(
    [
        LANDMARK_INDEX[name.replace("left", "other").replace("right", "left").replace("other", "right")]
        for name in LANDMARKS
    ]
)
_SIDE: Final = 256
#: The model adds six alignment points; 33 is the hip centre, 34 lies on the circle around the body above it.
_POINTS: Final = 39
_CENTRE, _TOP = 33, 34
_SWAP_POINTS: Final = np.concatenate([_SWAP, np.arange(len(LANDMARKS), _POINTS)])
#: A region is this much larger than the circle around the body.
_MARGIN: Final = 1.25
_HEATMAP_WINDOW: Final = 7
_HEATMAP_MIN: Final = 0.5


class BlazePose:
    """One person's landmarks inside a region.

    Args:
        variant: ``full`` (about 10 ms on two cores) or ``heavy`` (27 ms).
        threads: of the interpreter; results are reproducible for a given number.
    """

    version = ASSETS["blazepose"].version

    def __init__(self, variant: Literal["full", "heavy"] = "full", *, threads: int = 1) -> None:
        self.name = f"blazepose-{variant}"
        model = asset_files("blazepose")[f"pose_landmark_{variant}.tflite"]
        self._model = Interpreter(model_path=str(model), num_threads=threads)
        self._model.allocate_tensors()
        self._input = self._model.get_input_details()[0]["index"]
        # Outputs are told apart by their shapes: their order differs between builds of the model.
        by_size = {int(np.prod(out["shape"])): out["index"] for out in self._model.get_output_details()}
        self._landmarks, self._flag = by_size[_POINTS * 5], by_size[1]
        self._world, self._heatmap = by_size[_POINTS * 3], by_size[64 * 64 * _POINTS]

    def estimate(self, image: Image, region: Region, mirrored: bool = False) -> Keypoints:
        """See :class:`~opendance_hf.pipeline.backends.base.PoseEstimator`."""
        to_image = _crop_to_image(region)
        crop = cv2.warpAffine(image, to_image, (_SIDE, _SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        points, world, shown, score = self._run(crop[:, ::-1] if mirrored else crop)
        if mirrored:
            points, world, shown = (
                _mirror(points, _SIDE, _SWAP_POINTS),
                _mirror(world, 0, _SWAP),
                shown[_SWAP],
            )
        image_points = (points @ to_image[:, :2].T + to_image[:, 2]).astype(np.float32)
        cos, sin = math.cos(region.rotation), math.sin(region.rotation)
        world[:, :2] = world[:, :2] @ np.array([[cos, sin], [-sin, cos]])
        world *= (1, -1, -1)
        return Keypoints(
            image=image_points[: len(LANDMARKS)],
            world=world.astype(np.float32),
            visibility=shown,
            score=score,
            region=_region_of(image_points),
        )

    def _run(self, crop: npt.NDArray[Any]) -> tuple[Floats, Floats, Floats, float]:
        """Points (39, 2) in the crop, landmarks (33, 3) in metres, (33,) visibility, and the person's score."""
        self._model.set_tensor(self._input, crop[None].astype(np.float32) / 255)
        self._model.invoke()
        raw = self._model.get_tensor(self._landmarks).reshape(_POINTS, 5)
        points = _refine(raw[:, :2], self._model.get_tensor(self._heatmap)[0])
        world = self._model.get_tensor(self._world).reshape(_POINTS, 3)[: len(LANDMARKS)].copy()
        shown = 1 / (1 + np.exp(-raw[: len(LANDMARKS), 3:].astype(np.float64)))
        return (
            points,
            world,
            shown.min(axis=1).astype(np.float32),
            float(self._model.get_tensor(self._flag).reshape(())),
        )


def _mirror(points: Floats, width: float, swap: npt.NDArray[np.intp]) -> Floats:
    """Points seen in a mirror of this width: x turned round, and left for right."""
    out = points[swap].copy()
    out[:, 0] = width - out[:, 0]
    return out


def region_of_box(box: Floats) -> Region:
    """The upright region around a person's box ``x1 y1 x2 y2`` (pixels)."""
    x1, y1, x2, y2 = (float(value) for value in box[:4])
    return Region((x1 + x2) / 2, (y1 + y2) / 2, _MARGIN * max(x2 - x1, y2 - y1, 1.0))


def _region_of(points: Floats) -> Region:
    (cx, cy), (tx, ty) = points[_CENTRE], points[_TOP]
    radius = math.hypot(tx - cx, ty - cy)
    # Turned so that the body stands upright in the crop.
    rotation = math.pi / 2 - math.atan2(cy - ty, tx - cx)
    rotation = (rotation + math.pi) % (2 * math.pi) - math.pi
    return Region(float(cx), float(cy), max(2 * _MARGIN * radius, 1.0), rotation)


def _crop_to_image(region: Region) -> Floats:
    """(2, 3) affine map from crop pixels to image pixels."""
    scale = region.size / _SIDE
    cos, sin = scale * math.cos(region.rotation), scale * math.sin(region.rotation)
    half = _SIDE / 2
    return np.array(
        [
            [cos, -sin, region.cx - half * cos + half * sin],
            [sin, cos, region.cy - half * sin - half * cos],
        ],
        dtype=np.float32,
    )


def _refine(points: Floats, heatmap: Floats) -> Floats:
    """Move each regressed point to the heatmap's centre of mass around it where the heatmap is sure."""
    side = heatmap.shape[0]
    cell = _SIDE / side
    half = _HEATMAP_WINDOW // 2
    padded = np.pad(heatmap, ((half, half), (half, half), (0, 0)), constant_values=-np.inf)
    centre = np.floor(points / cell).astype(int)
    inside = ((centre >= 0) & (centre < side)).all(axis=1)
    centre = centre.clip(0, side - 1)
    window = np.arange(_HEATMAP_WINDOW)
    rows, columns = centre[:, 1, None] + window, centre[:, 0, None] + window
    logits = padded[rows[:, :, None], columns[:, None, :], np.arange(len(points))[:, None, None]]
    weights = 1 / (1 + np.exp(-logits.astype(np.float64)))
    total = weights.sum(axis=(1, 2))
    x = (weights * (columns - half)[:, None, :]).sum(axis=(1, 2))
    y = (weights * (rows - half)[:, :, None]).sum(axis=(1, 2))
    refined = np.column_stack([x, y]) / np.maximum(total, 1e-9)[:, None] * cell
    sure = inside & (weights.max(axis=(1, 2)) >= _HEATMAP_MIN)
    return np.where(sure[:, None], refined, points).astype(np.float32)
