"""Measure how well a finished sequence agrees with what was seen in the picture."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.skeleton import JOINT_INDEX, LIMB_JOINTS
from opendance_hf.pipeline.backends.blazepose import LANDMARK_INDEX
from opendance_hf.pipeline.stages.pose import Landmarks
from opendance_hf.pipeline.stages.retime import Motion
from opendance_hf.schema import FPS, Camera

_SURE: Final = 0.5
_NEAR_TORSOS: Final = 0.2
_JOINTS: Final = [JOINT_INDEX[name] for name in LIMB_JOINTS]
_MARKS: Final = [LANDMARK_INDEX[name] for name in LIMB_JOINTS]
_ENDS: Final = [i for i, name in enumerate(LIMB_JOINTS) if name.endswith(("wrist", "ankle"))]
_FEET: Final = [JOINT_INDEX["left_foot"], JOINT_INDEX["right_foot"]]


def reprojection(motion: Motion, camera: Camera, seen: Landmarks) -> dict[str, float]:
    """Agreement of the reprojected limbs with the 2D estimate, over the landmarks it was sure of.

    Returns:
        ``reprojection_pck``: share of limb joints (hips, knees, ankles, shoulders, elbows, wrists) within 0.2 torso lengths.
        ``speed_correlation``: Pearson correlation of the speed of wrists and ankles in the picture, mean over them:
        an avatar that stands still or drifts has none.
        ``foot_slide_mps``: median speed of the slower foot near the ground, metres per second.
    """
    near: list[npt.NDArray[np.bool_]] = []
    correlations: list[float] = []
    clock = motion.start_s + np.arange(motion.num_frames) / FPS
    for dancer in range(len(motion.joints)):
        path = camera.project(motion.joints[dancer][:, _JOINTS])
        path = np.stack(
            [np.interp(seen.times_s, clock, column) for column in path.reshape(len(path), -1).T],
            axis=1,
        ).reshape(len(seen.times_s), len(_JOINTS), 2)
        image = seen.image[dancer][:, _MARKS].astype(np.float64)
        sure = seen.visibility[dancer][:, _MARKS] >= _SURE
        torso = _torso_px(seen.image[dancer].astype(np.float64))
        near.append((np.linalg.norm(path - image, axis=-1) < _NEAR_TORSOS * torso)[sure])
        step = np.diff(seen.times_s)[:, None]
        fitted = np.linalg.norm(np.diff(path, axis=0), axis=-1) / step
        found = np.linalg.norm(np.diff(image, axis=0), axis=-1) / step
        both = sure[1:] & sure[:-1]
        correlations += [_correlation(fitted[both[:, j], j], found[both[:, j], j]) for j in _ENDS]
    known = [value for value in correlations if np.isfinite(value)]
    return {
        "reprojection_pck": float(np.concatenate(near).mean()) if near and np.concatenate(near).size else 0.0,
        "speed_correlation": float(np.mean(known)) if known else 0.0,
        "foot_slide_mps": _foot_slide(motion),
    }


def _torso_px(image: npt.NDArray[np.float64]) -> float:
    at = {name: image[:, LANDMARK_INDEX[name]] for name in LANDMARK_INDEX}
    shoulders = (at["left_shoulder"] + at["right_shoulder"]) / 2
    hips = (at["left_hip"] + at["right_hip"]) / 2
    return float(np.median(np.linalg.norm(shoulders - hips, axis=-1)))


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    if len(a) < 3 or a.std() < 1e-9 or b.std() < 1e-9:
        # A joint that never moves in the fit agrees with nothing; one too rarely seen says nothing.
        return 0.0 if len(a) >= 3 else float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _foot_slide(motion: Motion) -> float:
    feet = motion.joints[:, :, _FEET]
    speed = np.linalg.norm(np.diff(feet[..., [0, 2]], axis=1), axis=-1) * FPS
    low = feet[:, 1:, :, 1] < 0.1
    slower = np.where(low, speed, np.inf).min(axis=-1)
    slower = slower[np.isfinite(slower)]
    return float(np.median(slower)) if slower.size else 0.0
