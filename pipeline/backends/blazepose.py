"""Estimate 33 landmarks in 2D and in metres with BlazePose GHUM (Bazarevsky et al. 2020, Apache-2.0) on LiteRT."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import cv2
import numpy as np
import numpy.typing as npt

from opendance_hf.assets import asset_files
from opendance_hf.pipeline.backends.base import Backend, Keypoints, Region
from opendance_hf.pipeline.clip import Floats, Image
from opendance_hf.pipeline.landmarks import LANDMARKS

#: BlazePose's keypoints in its order.
_NAMES: Final = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye",
    "right_eye_outer", "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky",
    "left_index", "right_index", "left_thumb", "right_thumb", "left_hip", "right_hip", "left_knee",
    "right_knee", "left_ankle", "right_ankle", "left_heel", "right_heel", "left_foot_index",
    "right_foot_index",
)  # fmt: skip
#: (33,) index of each landmark among BlazePose's keypoints.
_LANDMARK_ORDER: Final = np.array([_NAMES.index(name) for name in LANDMARKS])
_SIDE: Final = 256
#: The model adds six alignment points; 33 is the hip centre, 34 lies above it on the circle around the body.
_POINTS: Final = 39
_CENTRE, _CIRCLE = 33, 34


@dataclass(frozen=True)
class BlazePose(Backend):
    """Estimate the landmarks of one person inside a region, in about 10 ms on two cores.

    Args:
        region_margin: side of a region relative to the circle around the body, or to a person's box.
        heatmap_window: side of the window of heatmap cells whose centre of mass refines a point, an odd number.
        heatmap_min: maximum of the heatmap, as a probability, from which points are refined.
        session_threads: threads of one interpreter; results are reproducible for a given number.
    """

    name = "blazepose"
    assets = ("blazepose",)
    variant: ClassVar[str] = "full"

    region_margin: float = 1.25
    heatmap_window: int = 7
    heatmap_min: float = 0.5
    session_threads: int = 1

    @property
    def label(self) -> str:
        """Name with the variant of the network."""
        return f"blazepose-{self.variant}"

    def load(self) -> _BlazePose:
        """Load the network."""
        return _BlazePose(self)


@dataclass(frozen=True)
class BlazePoseHeavy(BlazePose):
    """Estimate landmarks with the larger network, in about 27 ms on two cores."""

    name = "blazepose-heavy"
    variant: ClassVar[str] = "heavy"


class _BlazePose:
    def __init__(self, settings: BlazePose) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._settings = settings
        model = asset_files("blazepose")[f"pose_landmark_{settings.variant}.tflite"]
        self._model = Interpreter(model_path=str(model), num_threads=settings.session_threads)
        self._model.allocate_tensors()
        self._input = self._model.get_input_details()[0]["index"]
        # Outputs are identified by their sizes, as their order differs between builds of the model.
        by_size = {int(np.prod(out["shape"])): out["index"] for out in self._model.get_output_details()}
        self._landmarks, self._flag = by_size[_POINTS * 5], by_size[1]
        self._world, self._heatmap = by_size[_POINTS * 3], by_size[64 * 64 * _POINTS]

    def estimate(self, image: Image, region: Region) -> Keypoints:
        """Estimate the landmarks of a region, see :class:`~opendance_hf.pipeline.backends.base.PoseEstimator`."""
        to_image = _crop_to_image(region)
        crop = cv2.warpAffine(image, to_image, (_SIDE, _SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        points, world, visibility, score = self._run(crop)
        image_points = (points @ to_image[:, :2].T + to_image[:, 2]).astype(np.float32)
        cos, sin = math.cos(region.rotation), math.sin(region.rotation)
        world[:, :2] = world[:, :2] @ np.array([[cos, sin], [-sin, cos]])
        world *= (1, -1, -1)
        return Keypoints(
            image=image_points[_LANDMARK_ORDER],
            world=world.astype(np.float32)[_LANDMARK_ORDER],
            visibility=visibility[_LANDMARK_ORDER],
            score=score,
            region=self._region_of(image_points),
        )

    def region_of_box(self, box: Floats) -> Region:
        """Return the region of a box, see :class:`~opendance_hf.pipeline.backends.base.PoseEstimator`."""
        x1, y1, x2, y2 = (float(value) for value in box[:4])
        side = self._settings.region_margin * max(x2 - x1, y2 - y1, 1.0)
        return Region((x1 + x2) / 2, (y1 + y2) / 2, side)

    def _region_of(self, points: Floats) -> Region:
        """Return the region of the circle given by the alignment points, rotated so that the body is upright."""
        (cx, cy), (tx, ty) = points[_CENTRE], points[_CIRCLE]
        radius = math.hypot(tx - cx, ty - cy)
        rotation = math.pi / 2 - math.atan2(cy - ty, tx - cx)
        rotation = (rotation + math.pi) % (2 * math.pi) - math.pi
        return Region(float(cx), float(cy), max(2 * self._settings.region_margin * radius, 1.0), rotation)

    def _run(self, crop: npt.NDArray[Any]) -> tuple[Floats, Floats, Floats, float]:
        """Return points (39, 2) in the crop, landmarks (33, 3) in metres, (33,) visibility, and the person's score."""
        self._model.set_tensor(self._input, crop[None].astype(np.float32) / 255)
        self._model.invoke()
        raw = self._model.get_tensor(self._landmarks).reshape(_POINTS, 5)
        points = self._refine(raw[:, :2], self._model.get_tensor(self._heatmap)[0])
        world = self._model.get_tensor(self._world).reshape(_POINTS, 3)[: len(_NAMES)].copy()
        visibility = 1 / (1 + np.exp(-raw[: len(_NAMES), 3:].astype(np.float64)))
        return (
            points,
            world,
            visibility.min(axis=1).astype(np.float32),
            float(self._model.get_tensor(self._flag).reshape(())),
        )

    def _refine(self, points: Floats, heatmap: Floats) -> Floats:
        """Replace each regressed point by its heatmap's centre of mass around it where the heatmap is reliable."""
        side = heatmap.shape[0]
        cell = _SIDE / side
        half = self._settings.heatmap_window // 2
        padded = np.pad(heatmap, ((half, half), (half, half), (0, 0)), constant_values=-np.inf)
        centre = np.floor(points / cell).astype(int)
        inside = ((centre >= 0) & (centre < side)).all(axis=1)
        centre = centre.clip(0, side - 1)
        window = np.arange(self._settings.heatmap_window)
        rows, columns = centre[:, 1, None] + window, centre[:, 0, None] + window
        logits = padded[rows[:, :, None], columns[:, None, :], np.arange(len(points))[:, None, None]]
        weights = 1 / (1 + np.exp(-logits.astype(np.float64)))
        total = weights.sum(axis=(1, 2))
        x = (weights * (columns - half)[:, None, :]).sum(axis=(1, 2))
        y = (weights * (rows - half)[:, :, None]).sum(axis=(1, 2))
        refined = np.column_stack([x, y]) / np.maximum(total, 1e-9)[:, None] * cell
        reliable = inside & (weights.max(axis=(1, 2)) >= self._settings.heatmap_min)
        return np.where(reliable[:, None], refined, points).astype(np.float32)


def _crop_to_image(region: Region) -> Floats:
    """Return the (2, 3) affine map from crop pixels to image pixels."""
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
