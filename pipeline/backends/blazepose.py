"""BlazePose GHUM landmarks (Bazarevsky et al. 2020, Apache-2.0) on LiteRT: 33 landmarks in 2D and in metres."""

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
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX, LANDMARKS, MIRRORED

#: BlazePose's own order of its keypoints.
_NAMES: Final = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye",
    "right_eye_outer", "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky",
    "left_index", "right_index", "left_thumb", "right_thumb", "left_hip", "right_hip", "left_knee",
    "right_knee", "left_ankle", "right_ankle", "left_heel", "right_heel", "left_foot_index",
    "right_foot_index",
)  # fmt: skip
#: (33,) place of each neutral landmark among them.
_PLACES: Final = np.array([_NAMES.index(name) for name in LANDMARKS])
_SIDE: Final = 256
#: The model adds six alignment points; 33 is the hip centre, 34 lies on the circle around the body above it.
_POINTS: Final = 39
_CENTRE, _TOP = 33, 34
#: (33,) and (39,) places of the other side's points, in BlazePose's order.
_SWAP: Final = np.array([_NAMES.index(LANDMARKS[MIRRORED[LANDMARK_INDEX[name]]]) for name in _NAMES])
_SWAP_POINTS: Final = np.concatenate([_SWAP, np.arange(len(_NAMES), _POINTS)])


@dataclass(frozen=True)
class BlazePose(Backend):
    """Estimates the landmarks of one person inside a region, in about 10 ms on two cores.

    Args:
        region_margin: a region is this much larger than the circle around the body, or than a person's box.
        heatmap_window: cells around a point that its heatmap's centre of mass is taken over, an odd number.
        heatmap_min: a point moves to that centre where the heatmap reaches this probability.
        session_threads: of one interpreter; results are reproducible for a given number.
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
        """See :class:`Backend`."""
        return f"blazepose-{self.variant}"

    def load(self) -> _BlazePose:
        """Load the network."""
        return _BlazePose(self)


@dataclass(frozen=True)
class BlazePoseHeavy(BlazePose):
    """The larger network, about 27 ms on two cores."""

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
            image=image_points[_PLACES],
            world=world.astype(np.float32)[_PLACES],
            visibility=shown[_PLACES],
            score=score,
            region=self._region_of(image_points),
        )

    def region_of_box(self, box: Floats) -> Region:
        """See :class:`~opendance_hf.pipeline.backends.base.PoseEstimator`."""
        x1, y1, x2, y2 = (float(value) for value in box[:4])
        side = self._settings.region_margin * max(x2 - x1, y2 - y1, 1.0)
        return Region((x1 + x2) / 2, (y1 + y2) / 2, side)

    def _region_of(self, points: Floats) -> Region:
        """Return the region of the circle that the alignment points describe, turned so that the body is upright."""
        (cx, cy), (tx, ty) = points[_CENTRE], points[_TOP]
        radius = math.hypot(tx - cx, ty - cy)
        rotation = math.pi / 2 - math.atan2(cy - ty, tx - cx)
        rotation = (rotation + math.pi) % (2 * math.pi) - math.pi
        return Region(float(cx), float(cy), max(2 * self._settings.region_margin * radius, 1.0), rotation)

    def _run(self, crop: npt.NDArray[Any]) -> tuple[Floats, Floats, Floats, float]:
        """Points (39, 2) in the crop, landmarks (33, 3) in metres, (33,) visibility, and the person's score."""
        self._model.set_tensor(self._input, crop[None].astype(np.float32) / 255)
        self._model.invoke()
        raw = self._model.get_tensor(self._landmarks).reshape(_POINTS, 5)
        points = self._refine(raw[:, :2], self._model.get_tensor(self._heatmap)[0])
        world = self._model.get_tensor(self._world).reshape(_POINTS, 3)[: len(_NAMES)].copy()
        shown = 1 / (1 + np.exp(-raw[: len(_NAMES), 3:].astype(np.float64)))
        return (
            points,
            world,
            shown.min(axis=1).astype(np.float32),
            float(self._model.get_tensor(self._flag).reshape(())),
        )

    def _refine(self, points: Floats, heatmap: Floats) -> Floats:
        """Move each regressed point to its heatmap's centre of mass around it where the heatmap is sure."""
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
        sure = inside & (weights.max(axis=(1, 2)) >= self._settings.heatmap_min)
        return np.where(sure[:, None], refined, points).astype(np.float32)


def _mirror(points: Floats, width: float, swap: npt.NDArray[np.intp]) -> Floats:
    """Return points as seen in a mirror of this width: x reversed, left and right exchanged."""
    out = points[swap].copy()
    out[:, 0] = width - out[:, 0]
    return out


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
