"""Measure how well a sequence agrees with what was seen in the picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.skeleton import JOINT_INDEX, LIMB_JOINTS
from opendance_hf.pipeline.clip import Clip, Landmarks, Motion
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.pipeline.stage import Stage
from opendance_hf.schema import FPS, Camera

_JOINTS: Final = [JOINT_INDEX[name] for name in LIMB_JOINTS]
_MARKS: Final = [LANDMARK_INDEX[name] for name in LIMB_JOINTS]
_ENDS: Final = [i for i, name in enumerate(LIMB_JOINTS) if name.endswith(("wrist", "ankle"))]
_FEET: Final = [JOINT_INDEX["left_foot"], JOINT_INDEX["right_foot"]]


@dataclass(frozen=True)
class Reprojection(Stage):
    """Compares the reprojected limbs with the 2D estimate, over the landmarks that were seen.

    Args:
        min_visibility: of the landmarks that count.
        near_torsos: distance in torso lengths within which a joint is right.
        foot_on_ground_m: a foot lower than this may not slide.
    """

    name = "reprojection"
    reads = ("landmarks", "fit", "motion")
    writes = ("scores",)

    min_visibility: float = 0.5
    near_torsos: float = 0.2
    foot_on_ground_m: float = 0.1

    def __call__(self, clip: Clip) -> Clip:
        """Process one sequence."""
        scores = self.measure(clip.motion, clip.fit.camera, clip.landmarks)
        return replace(clip, scores={**clip.scores, **scores})

    def measure(self, motion: Motion, camera: Camera, seen: Landmarks) -> dict[str, float]:
        """Return the scores of a sequence.

        Returns:
            ``reprojection_pck``: share of limb joints (hips, knees, ankles, shoulders, elbows, wrists) within
            ``near_torsos`` torso lengths.
            ``speed_correlation``: Pearson correlation of the speed of wrists and ankles in the picture, mean over them;
            near zero for an avatar that stands still or drifts.
            ``foot_slide_mps``: median speed of the slower foot near the ground, metres per second.
        """
        near: list[npt.NDArray[np.bool_]] = []
        correlations: list[float] = []
        clock = motion.times_s
        for dancer in range(len(motion.joints)):
            path = camera.project(motion.joints[dancer][:, _JOINTS])
            path = np.stack(
                [np.interp(seen.times_s, clock, column) for column in path.reshape(len(path), -1).T],
                axis=1,
            ).reshape(len(seen.times_s), len(_JOINTS), 2)
            image = seen.image[dancer][:, _MARKS].astype(np.float64)
            sure = seen.visibility[dancer][:, _MARKS] >= self.min_visibility
            torso = _torso_px(seen.image[dancer].astype(np.float64))
            near.append((np.linalg.norm(path - image, axis=-1) < self.near_torsos * torso)[sure])
            step = np.diff(seen.times_s)[:, None]
            fitted = np.linalg.norm(np.diff(path, axis=0), axis=-1) / step
            found = np.linalg.norm(np.diff(image, axis=0), axis=-1) / step
            both = sure[1:] & sure[:-1]
            correlations += [_correlation(fitted[both[:, j], j], found[both[:, j], j]) for j in _ENDS]
        known = [value for value in correlations if np.isfinite(value)]
        return {
            "reprojection_pck": float(np.concatenate(near).mean())
            if near and np.concatenate(near).size
            else 0.0,
            "speed_correlation": float(np.mean(known)) if known else 0.0,
            "foot_slide_mps": _foot_slide(motion, self.foot_on_ground_m),
        }


def _torso_px(image: npt.NDArray[np.float64]) -> float:
    at = {name: image[:, LANDMARK_INDEX[name]] for name in LANDMARK_INDEX}
    shoulders = (at["left_shoulder"] + at["right_shoulder"]) / 2
    hips = (at["left_hip"] + at["right_hip"]) / 2
    return float(np.median(np.linalg.norm(shoulders - hips, axis=-1)))


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    if len(a) < 3 or a.std() < 1e-9 or b.std() < 1e-9:
        # A joint that never moves agrees with nothing; one seen in too few frames does not count.
        return 0.0 if len(a) >= 3 else float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _foot_slide(motion: Motion, on_ground_m: float) -> float:
    feet = motion.joints[:, :, _FEET]
    speed = np.linalg.norm(np.diff(feet[..., [0, 2]], axis=1), axis=-1) * FPS
    low = feet[:, 1:, :, 1] < on_ground_m
    slower = np.where(low, speed, np.inf).min(axis=-1)
    slower = slower[np.isfinite(slower)]
    return float(np.median(slower)) if slower.size else 0.0
