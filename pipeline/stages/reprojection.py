"""Measure how well a sequence agrees with the landmarks detected in the image."""

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
_LANDMARKS: Final = [LANDMARK_INDEX[name] for name in LIMB_JOINTS]
_WRISTS_AND_ANKLES: Final = [i for i, name in enumerate(LIMB_JOINTS) if name.endswith(("wrist", "ankle"))]
_FEET: Final = [JOINT_INDEX["left_foot"], JOINT_INDEX["right_foot"]]


@dataclass(frozen=True)
class Reprojection(Stage):
    """Compare the projected limb joints with the visible 2D landmarks.

    Args:
        min_visibility: minimum visibility of the landmarks that are compared.
        near_torsos: maximum distance of a correct joint, in torso lengths.
        foot_on_ground_m: height below which a foot counts as on the ground.
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

    def measure(self, motion: Motion, camera: Camera, landmarks: Landmarks) -> dict[str, float]:
        """Compute the scores of a sequence.

        Returns:
            ``reprojection_pck``: share of limb joints (hips, knees, ankles, shoulders, elbows, wrists) within
            ``near_torsos`` torso lengths.
            ``speed_correlation``: Pearson correlation of projected and detected speeds of wrists and ankles in the image,
            averaged over them; near zero if the fitted body stands still or drifts.
            ``foot_slide_mps``: median speed of the slower foot near the ground, metres per second.
        """
        within: list[npt.NDArray[np.bool_]] = []
        correlations: list[float] = []
        clock = motion.times_s
        for dancer in range(len(motion.joints)):
            projected = camera.project(motion.joints[dancer][:, _JOINTS])
            projected = np.stack(
                [
                    np.interp(landmarks.times_s, clock, column)
                    for column in projected.reshape(len(projected), -1).T
                ],
                axis=1,
            ).reshape(len(landmarks.times_s), len(_JOINTS), 2)
            image = landmarks.image[dancer][:, _LANDMARKS].astype(np.float64)
            visible = landmarks.visibility[dancer][:, _LANDMARKS] >= self.min_visibility
            torso = _torso_px(landmarks.image[dancer].astype(np.float64))
            within.append((np.linalg.norm(projected - image, axis=-1) < self.near_torsos * torso)[visible])
            step = np.diff(landmarks.times_s)[:, None]
            fitted = np.linalg.norm(np.diff(projected, axis=0), axis=-1) / step
            found = np.linalg.norm(np.diff(image, axis=0), axis=-1) / step
            both = visible[1:] & visible[:-1]
            correlations += [
                _correlation(fitted[both[:, j], j], found[both[:, j], j]) for j in _WRISTS_AND_ANKLES
            ]
        finite = [value for value in correlations if np.isfinite(value)]
        return {
            "reprojection_pck": float(np.concatenate(within).mean())
            if within and np.concatenate(within).size
            else 0.0,
            "speed_correlation": float(np.mean(finite)) if finite else 0.0,
            "foot_slide_mps": _foot_slide(motion, self.foot_on_ground_m),
        }


def _torso_px(image: npt.NDArray[np.float64]) -> float:
    points = {name: image[:, LANDMARK_INDEX[name]] for name in LANDMARK_INDEX}
    shoulders = (points["left_shoulder"] + points["right_shoulder"]) / 2
    hips = (points["left_hip"] + points["right_hip"]) / 2
    return float(np.median(np.linalg.norm(shoulders - hips, axis=-1)))


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    if len(a) < 3 or a.std() < 1e-9 or b.std() < 1e-9:
        # A joint that never moves has no correlation and scores 0. One that is visible in too few frames is ignored.
        return 0.0 if len(a) >= 3 else float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _foot_slide(motion: Motion, on_ground_m: float) -> float:
    feet = motion.joints[:, :, _FEET]
    speed = np.linalg.norm(np.diff(feet[..., [0, 2]], axis=1), axis=-1) * FPS
    low = feet[:, 1:, :, 1] < on_ground_m
    slower = np.where(low, speed, np.inf).min(axis=-1)
    slower = slower[np.isfinite(slower)]
    return float(np.median(slower)) if slower.size else 0.0
