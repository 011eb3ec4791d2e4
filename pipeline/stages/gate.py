"""Reject sequences by measured quality: the paper's reasons of inspection (section 3.1), as far as they can be measured.

Every score is kept and shown, whether it rejects or not. The limits are wide: they catch what is certainly wrong, and
leave the rest to people.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.skeleton import JOINT_INDEX
from opendance_hf.pipeline.clip import Clip, Motion
from opendance_hf.pipeline.stage import Dropped, Stage
from opendance_hf.schema import FPS, Camera

Floats = npt.NDArray[np.floating]

_J: Final = JOINT_INDEX
#: Score to the field that limits it and what is wrong beyond the limit.
_LIMITS: Final = {
    "upside_down": (
        "max_upside_down",
        "abnormal orientation: share of the time with the head below the hips",
    ),
    "jitter_mps2": ("max_jitter_mps2", "severe jitter: mean acceleration of the joints in m/s²"),
    "mean_speed_mps": ("min_mean_speed_mps", "standing still: mean speed of the joints in m/s"),
    "repetition": ("max_repetition", "the same movement again and again: share of the motion that repeats"),
    "back_to_camera": ("max_back_to_camera", "back to the camera: share of the time"),
    "camera_motion": ("max_camera_motion", "the camera moves too much: picture heights a second"),
}


@dataclass(frozen=True)
class Gate(Stage):
    """Measures the quality of a sequence, and drops it where a score is beyond its limit.

    Args:
        reject: False to measure only.
        max_upside_down: share of the time in which the head may be lower than the hips.
        max_jitter_mps2: mean acceleration of the joints.
        min_mean_speed_mps: mean speed of the joints.
        max_repetition: share of the motion that its own repetition explains.
        max_back_to_camera: share of the time in which the hips may face away from the camera.
        max_camera_motion: mean speed of the picture's background, picture heights a second.
        compare_hz: how often poses are compared to find repetition.
        min_period_s: a movement repeats when it comes again after at least this time,
        max_period_s: at most this time,
        min_repeats: and fits this often into the sequence.
    """

    name = "gate"
    reads = ("camera_motion", "fit", "motion")
    writes = ("scores",)

    reject: bool = True
    max_upside_down: float = 0.3
    max_jitter_mps2: float = 60.0
    min_mean_speed_mps: float = 0.15
    max_repetition: float = 0.85
    max_back_to_camera: float = 0.95
    max_camera_motion: float = 0.4
    compare_hz: int = 12
    min_period_s: float = 0.4
    max_period_s: float = 4.0
    min_repeats: int = 3

    def __call__(self, clip: Clip) -> Clip | Dropped:
        """Process one sequence."""
        filmed = clip.camera_motion.between(clip.start_s, clip.end_s)
        scores = self.measure(clip.motion, clip.fit.camera, filmed.speed())
        broken = self.first_broken(scores) if self.reject else None
        if broken is not None:
            return Dropped(clip.start_s, clip.end_s, *broken)
        return replace(clip, scores={**clip.scores, **scores})

    def measure(self, motion: Motion, camera: Camera, camera_motion: float) -> dict[str, float]:
        """Return the scores of a sequence; of several dancers, each score is that of the worst.

        Args:
            motion: at 60 FPS.
            camera: the source's, in the motion's world.
            camera_motion: mean speed of the picture's background, picture heights a second.
        """
        joints = motion.joints.astype(np.float64)
        return {
            "upside_down": float(
                (joints[:, :, _J["head"], 1] < joints[:, :, _J["pelvis"], 1]).mean(axis=1).max()
            ),
            "jitter_mps2": max(_acceleration(dancer) for dancer in joints),
            "mean_speed_mps": min(_speed(dancer) for dancer in joints),
            "repetition": max(self.repetition(dancer) for dancer in joints),
            "back_to_camera": max(_away(dancer, camera) for dancer in joints),
            "camera_motion": camera_motion,
        }

    def first_broken(self, scores: dict[str, float]) -> tuple[str, str] | None:
        """Return the reason and the numbers of the first limit that is broken; None if all hold."""
        for score, (field, reason) in _LIMITS.items():
            value, limit, at_least = scores[score], getattr(self, field), field.startswith("min")
            if (value < limit) if at_least else (value > limit):
                return reason, f"{value:.2f}, {'at least' if at_least else 'at most'} {limit:g} allowed"
        return None

    def repetition(self, joints: Floats) -> float:
        """Return how much of a motion (T, J, 3) its best repetition explains: 0 nothing, 1 all.

        One less the mean distance of poses one period apart over the mean distance of poses any time apart, for the
        best period that fits at least ``min_repeats`` times into the motion. A period is a time after which poses are
        more alike than after a shorter one: in a slow motion all poses are like those shortly after.
        """
        poses = (joints - joints[:, :1])[:: FPS // self.compare_hz].reshape(-1, joints.shape[1] * 3)
        lags = range(1, len(poses) // self.min_repeats + 1)
        apart = np.array([np.linalg.norm(poses[lag:] - poses[:-lag], axis=1).mean() for lag in lags])
        first, last = (round(s * self.compare_hz) for s in (self.min_period_s, self.max_period_s))
        periods = apart[first - 1 : last]
        if not len(periods) or apart.mean() < 1e-6:
            return 0.0
        # The last lag may be a minimum: a motion that comes three times has its period there.
        after = np.append(apart, np.inf)
        best = [
            apart[at]
            for at in range(first - 1, first - 1 + len(periods))
            if apart[at] <= min(apart[at - 1], after[at + 1]) and apart[at] < apart[:at].max()
        ]
        return float(max(0.0, 1 - min(best, default=apart.mean()) / apart.mean()))


def _acceleration(joints: Floats) -> float:
    return float(np.linalg.norm(np.diff(joints, 2, axis=0), axis=-1).mean() * FPS**2)


def _speed(joints: Floats) -> float:
    return float(np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean() * FPS)


def _away(joints: Floats, camera: Camera) -> float:
    """Return the share of the time in which a dancer's hips face away from the camera."""
    across = joints[:, _J["left_hip"]] - joints[:, _J["right_hip"]]
    ahead = np.stack([-across[:, 2], across[:, 0]], axis=1)  # x and z of the way the hips face
    rotation = np.asarray(camera.rotation).reshape(3, 3)
    eye = -rotation.T @ np.asarray(camera.translation)
    to_camera = (eye - joints[:, _J["pelvis"]])[:, [0, 2]]
    return float(((ahead * to_camera).sum(axis=1) < 0).mean())
