"""Reject sequences by measured quality: the paper's reasons for rejection (section 3.1) that can be measured.

Scores are stored and shown for every sequence. The limits are wide: they reject only certain failures and leave the other
decisions to annotators.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.intervals import inside
from opendance_hf.motion.skeleton import JOINT_INDEX
from opendance_hf.pipeline.clip import Clip, Motion
from opendance_hf.pipeline.stage import Dropped, Stage
from opendance_hf.pipeline.stages.retime import MAX_FRAME_GAP_S
from opendance_hf.schema import FPS, Camera

Floats = npt.NDArray[np.floating]

_JOINT: Final = JOINT_INDEX
#: For each score, the field with its limit and the reason for rejection beyond it.
_SCORES: Final = {
    "upside_down": (
        "max_upside_down",
        "abnormal orientation: share of the time with the head below the pelvis",
    ),
    "jitter_mps2": ("max_jitter_mps2", "severe jitter: mean acceleration of the joints in m/s²"),
    "mean_speed_mps": ("min_mean_speed_mps", "standing still: mean speed of the joints in m/s"),
    "repetition": ("max_repetition", "one movement is repeated: share of the motion explained by repetition"),
    "back_to_camera": (
        "max_back_to_camera",
        "back to the camera: share of the time with the hips facing away",
    ),
    "camera_motion": ("max_camera_motion", "the camera moves too much: image heights per second"),
    "missing_picture": ("max_missing_picture", "frames are missing: share of the time without a picture"),
    "missing_sound": ("max_missing_sound", "sound is missing: share of the time without sound in the file"),
}


@dataclass(frozen=True)
class Gate(Stage):
    """Measure the quality of a sequence and drop it if a score is beyond its limit.

    Args:
        reject: True to drop sequences, False to measure only.
        max_upside_down: maximum share of the time with the head below the pelvis.
        max_jitter_mps2: maximum mean acceleration of the joints.
        min_mean_speed_mps: minimum mean speed of the joints.
        max_repetition: maximum share of the motion that is explained by repetition.
        max_back_to_camera: maximum share of the time with the hips facing away from the camera; 1 leaves it to annotators,
            as backs are reconstructed about as well as fronts.
        max_camera_motion: maximum mean speed of the image background, image heights per second.
        max_steadied_motion: the same where stage ``steady`` has taken the camera's turn and zoom out of the motion.
        max_missing_picture: maximum share of the time between source frames more than 0.2 s apart.
        max_missing_sound: maximum share of the time whose sound is missing or damaged.
        compare_hz: rate at which poses are compared to find repetition.
        min_period_s: shortest period of a repetition.
        max_period_s: longest period of a repetition.
        min_repeats: number of periods that a sequence must contain.
    """

    name = "gate"
    version = 2
    reads = ("video", "camera_motion", "fit", "motion")
    writes = ("scores",)

    reject: bool = True
    max_upside_down: float = 0.3
    max_jitter_mps2: float = 60.0
    min_mean_speed_mps: float = 0.15
    max_repetition: float = 0.85
    max_back_to_camera: float = 1.0
    max_camera_motion: float = 0.4
    max_steadied_motion: float = 1.0
    max_missing_picture: float = 0.3
    max_missing_sound: float = 0.1
    compare_hz: int = 12
    min_period_s: float = 0.4
    max_period_s: float = 4.0
    min_repeats: int = 3

    def __call__(self, clip: Clip) -> Clip | Dropped:
        """Process one sequence."""
        camera_motion = clip.camera_motion.between(clip.start_s, clip.end_s)
        scores = self.measure(clip.motion, clip.fit.camera, camera_motion.speed()) | missing_shares(clip)
        limits = self
        if clip.steadied is not None:
            limits = replace(self, max_camera_motion=self.max_steadied_motion)
        broken = limits.first_broken(scores) if self.reject else None
        if broken is not None:
            return Dropped(clip.start_s, clip.end_s, *broken)
        return replace(clip, scores={**clip.scores, **scores})

    def measure(self, motion: Motion, camera: Camera, camera_motion: float) -> dict[str, float]:
        """Compute the scores of a sequence; each is that of the dancer with the worst value.

        Args:
            motion: motion at 60 FPS.
            camera: the source camera, in the world frame of the motion.
            camera_motion: mean speed of the image background, image heights per second.
        """
        joints = motion.joints.astype(np.float64)
        return {
            "upside_down": float(
                (joints[:, :, _JOINT["head"], 1] < joints[:, :, _JOINT["pelvis"], 1]).mean(axis=1).max()
            ),
            "jitter_mps2": max(_mean_acceleration(dancer) for dancer in joints),
            "mean_speed_mps": min(_mean_speed(dancer) for dancer in joints),
            "repetition": max(self.repetition(dancer) for dancer in joints),
            "back_to_camera": max(_back_to_camera(dancer, camera) for dancer in joints),
            "camera_motion": camera_motion,
        }

    def first_broken(self, scores: dict[str, float]) -> tuple[str, str] | None:
        """Return the reason and the detail of the first score beyond its limit; None if there is none."""
        for score, (field, reason) in _SCORES.items():
            value, limit, at_least = scores[score], getattr(self, field), field.startswith("min")
            if (value < limit) if at_least else (value > limit):
                return reason, f"{value:.2f}, " + (
                    f"at least {limit:g} required" if at_least else f"at most {limit:g} allowed"
                )
        return None

    def repetition(self, joints: Floats) -> float:
        """Compute the share of a motion (T, J, 3) that is explained by repetition, 0 to 1.

        The share is 1 - a / b for the best period that fits at least ``min_repeats`` times into the motion. a is the mean
        distance of poses one period apart, b the mean over all lags. A period must be a local minimum of the distance,
        and lower than at some shorter lag: in slow motion, poses are always similar to those shortly after.
        """
        poses = (joints - joints[:, :1])[:: FPS // self.compare_hz].reshape(-1, joints.shape[1] * 3)
        lags = range(1, len(poses) // self.min_repeats + 1)
        distances = np.array([np.linalg.norm(poses[lag:] - poses[:-lag], axis=1).mean() for lag in lags])
        first, last = (round(s * self.compare_hz) for s in (self.min_period_s, self.max_period_s))
        periods = distances[first - 1 : last]
        if not len(periods) or distances.mean() < 1e-6:
            return 0.0
        # The last lag may be a minimum: it is the period of a movement that is repeated exactly three times.
        padded = np.append(distances, np.inf)
        minima = [
            distances[i]
            for i in range(first - 1, first - 1 + len(periods))
            if distances[i] < distances[i - 1] and distances[i] <= padded[i + 1]
        ]
        return float(max(0.0, 1 - min(minima, default=distances.mean()) / distances.mean()))


def missing_shares(clip: Clip) -> dict[str, float]:
    """Compute the shares of a clip's time without a picture and without sound."""
    span = clip.start_s, clip.end_s
    frames = np.diff(clip.fit.times_s)
    picture_s = float(frames[frames > MAX_FRAME_GAP_S].sum())
    sound_s = sum(end_s - start_s for start_s, end_s in inside(span, clip.video.sound_gaps_s))
    duration_s = span[1] - span[0]
    return {"missing_picture": picture_s / duration_s, "missing_sound": sound_s / duration_s}


def _mean_acceleration(joints: Floats) -> float:
    return float(np.linalg.norm(np.diff(joints, 2, axis=0), axis=-1).mean() * FPS**2)


def _mean_speed(joints: Floats) -> float:
    return float(np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean() * FPS)


def _back_to_camera(joints: Floats, camera: Camera) -> float:
    """Compute the share of the time with a dancer's hips facing away from the camera."""
    hip_axis = joints[:, _JOINT["left_hip"]] - joints[:, _JOINT["right_hip"]]
    facing = np.stack([-hip_axis[:, 2], hip_axis[:, 0]], axis=1)  # x and z of the facing direction
    rotation = np.asarray(camera.rotation).reshape(3, 3)
    camera_position = -rotation.T @ np.asarray(camera.translation)
    to_camera = (camera_position - joints[:, _JOINT["pelvis"]])[:, [0, 2]]
    return float(((facing * to_camera).sum(axis=1) < 0).mean())
