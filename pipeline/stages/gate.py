"""Reject sequences that nobody needs to look at: the paper's reasons of inspection (section 3.1), as far as they can be measured.

Every score is kept and shown, whether it rejects or not. The limits are wide: they catch what is certainly wrong, and
leave the rest to people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.skeleton import JOINT_INDEX
from opendance_hf.pipeline.stages.retime import Motion
from opendance_hf.schema import FPS, Camera

Floats = npt.NDArray[np.floating]

_J: Final = JOINT_INDEX
#: Poses are compared this often.
_COMPARE_HZ: Final = 12
#: A movement repeats when it comes again after so many seconds, and at least this often.
_PERIODS_S: Final = (0.4, 4.0)
_TIMES: Final = 3


@dataclass(frozen=True)
class Limit:
    """What a score may be at most (or at least), and what is wrong beyond it."""

    most: float
    wrong: str
    at_least: bool = False

    def broken_by(self, value: float) -> bool:
        """Whether a value is beyond the limit."""
        return value < self.most if self.at_least else value > self.most


LIMITS: Final[dict[str, Limit]] = {
    "upside_down": Limit(
        0.3, "abnormal orientation: the head is lower than the hips for a share of the time"
    ),
    "jitter_mps2": Limit(60.0, "severe jitter: mean acceleration of the joints"),
    "mean_speed_mps": Limit(0.15, "standing still: mean speed of the joints", at_least=True),
    "repetition": Limit(
        0.85, "the same movement again and again: share of the motion that its own repetition explains"
    ),
    "back_to_camera": Limit(0.95, "back to the camera nearly all the time: share of the time"),
    "camera_motion": Limit(0.4, "the camera moves too much: picture heights a second"),
}


def quality_scores(motion: Motion, camera: Camera, camera_motion: float) -> dict[str, float]:
    """The scores of :data:`LIMITS` for a sequence; of several dancers, each score is that of the worst.

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
        "repetition": max(repetition(dancer) for dancer in joints),
        "back_to_camera": max(_away(dancer, camera) for dancer in joints),
        "camera_motion": camera_motion,
    }


def why_rejected(scores: dict[str, float]) -> str | None:
    """The first limit that is broken, in words with the numbers; None if all hold."""
    for name, limit in LIMITS.items():
        value = scores[name]
        if limit.broken_by(value):
            bound = "at least" if limit.at_least else "at most"
            return f"{limit.wrong} ({value:.2f}, {bound} {limit.most:g} allowed)"
    return None


def repetition(joints: Floats) -> float:
    """How much of a motion (T, J, 3) its best repetition explains: 0 nothing, 1 all.

    One less the mean distance of poses one period apart over the mean distance of poses any time apart, for the best
    period that fits at least three times into the motion. A period is a time after which poses are more alike than
    after a shorter one: in a slow motion all poses are like those shortly after.
    """
    poses = (joints - joints[:, :1])[:: FPS // _COMPARE_HZ].reshape(-1, joints.shape[1] * 3)
    lags = range(1, len(poses) // _TIMES + 1)
    apart = np.array([np.linalg.norm(poses[lag:] - poses[:-lag], axis=1).mean() for lag in lags])
    first, last = (round(seconds * _COMPARE_HZ) for seconds in _PERIODS_S)
    periods = apart[first - 1 : last]
    if not len(periods) or apart.mean() < 1e-6:
        return 0.0
    # The last lag there is may be a minimum: a motion that comes three times has its period there.
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
    """Share of the time a dancer's hips face away from the camera."""
    across = joints[:, _J["left_hip"]] - joints[:, _J["right_hip"]]
    ahead = np.stack([-across[:, 2], across[:, 0]], axis=1)  # x and z of the way the hips face
    rotation = np.asarray(camera.rotation).reshape(3, 3)
    eye = -rotation.T @ np.asarray(camera.translation)
    to_camera = (eye - joints[:, _J["pelvis"]])[:, [0, 2]]
    return float(((ahead * to_camera).sum(axis=1) < 0).mean())
