"""Resample fitted motion to exactly 60 FPS by interpolating poses, never by repeating frames (paper section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.rotations import matrix_to_quaternion, quaternion_to_axis_angle, slerp
from opendance_hf.pipeline.clip import Clip, Fit, Floats, Motion
from opendance_hf.pipeline.stage import Stage
from opendance_hf.schema import FPS

#: Source frames further apart than this leave a gap.
MAX_FRAME_GAP_S: Final = 0.2


@dataclass(frozen=True)
class Retime(Stage):
    """Resample a fit from its source times to 60 FPS.

    Rotations are interpolated spherically (slerp), translations linearly. The span ends one source frame after its last
    frame, and the last pose is held until then. Joints are the forward kinematics of the resampled pose.

    Args:
        max_last_frame_s: maximum duration of the last frame, for videos with a low or uneven rate.
        max_frame_gap_s: motion between source frames further apart is interpolated with confidence 0.
    """

    name = "retime"
    version = 2
    reads = ("landmarks", "fit")
    writes = ("motion",)

    max_last_frame_s: float = 1 / 15
    max_frame_gap_s: float = MAX_FRAME_GAP_S

    def __call__(self, clip: Clip) -> Clip:
        """Process one span."""
        motion = self.resample(clip.fit, clip.landmarks.confidence())
        return replace(clip, start_s=motion.start_s, end_s=motion.end_s, motion=motion)

    def resample(self, fitted: Fit, confidence: Floats) -> Motion:
        """Resample a fit to 60 FPS.

        Args:
            fitted: motion at T source times, at any rate.
            confidence: (D, T) confidence at the source times.
        """
        times = fitted.times_s
        frame_s = min(float(np.median(np.diff(times))), self.max_last_frame_s)
        start_s = float(times[0])
        num_frames = round(FPS * (float(times[-1]) + frame_s - start_s))
        clock = np.clip(start_s + np.arange(num_frames) / FPS, times[0], times[-1])
        after = np.clip(np.searchsorted(times, clock, side="right"), 1, len(times) - 1)
        before = after - 1
        fraction = (clock - times[before]) / (times[after] - times[before])

        quaternions = matrix_to_quaternion(fitted.rotations.astype(np.float64))
        share = np.broadcast_to(fraction[:, None], (len(quaternions), num_frames, quaternions.shape[2]))
        axis_angles = quaternion_to_axis_angle(slerp(quaternions[:, before], quaternions[:, after], share))
        translations = _lerp(fitted.transl.astype(np.float64), before, after, fraction[:, None])
        poses, transl = axis_angles.astype(np.float32), translations.astype(np.float32)
        known = _lerp(confidence, before, after, fraction)
        between = (fraction > 1e-6) & (fraction < 1 - 1e-6)
        known[:, between & (times[after] - times[before] > self.max_frame_gap_s)] = 0
        joints = forward_kinematics(poses, transl, fitted.rest_offsets[:, None])
        return Motion(
            start_s=start_s,
            end_s=start_s + num_frames / FPS,
            poses=poses,
            transl=transl,
            joints=np.asarray(joints, dtype=np.float32),
            confidence=known.astype(np.float32).clip(0, 1),
        )


def _lerp(
    values: npt.NDArray[np.floating],
    before: npt.NDArray[np.intp],
    after: npt.NDArray[np.intp],
    fraction: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    return values[:, before] * (1 - fraction) + values[:, after] * fraction
