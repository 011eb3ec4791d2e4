"""Put fitted motion on an exact 60 FPS clock by interpolating poses, never by repeating frames (paper section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.rotations import matrix_to_quaternion, quaternion_to_axis_angle, slerp
from opendance_hf.pipeline.backends.base import Floats
from opendance_hf.schema import FPS

if TYPE_CHECKING:
    from opendance_hf.pipeline.stages.fit import Fit  # brings torch

_LAST_FRAME_S: Final = 1 / 15


@dataclass
class Motion:
    """Motion of D dancers at T frames of exactly 60 FPS, from ``start_s`` on.

    Attributes:
        poses: (D, T, 24, 3) axis-angle.
        transl: (D, T, 3) metres.
        joints: (D, T, 24, 3) metres.
        confidence: (D, T) in [0, 1].
    """

    start_s: float
    end_s: float
    poses: Floats
    transl: Floats
    joints: Floats
    confidence: Floats

    @property
    def num_frames(self) -> int:
        """Frames at 60 FPS."""
        return self.poses.shape[1]


def retime(fitted: Fit, confidence: Floats) -> Motion:
    """Resample a fit from its real presentation times to 60 FPS.

    Rotations are interpolated on the sphere, translations linearly. The span ends one source frame after its last
    frame; the motion holds still over that last bit. Joints are the forward kinematics of the resampled pose.

    Args:
        fitted: motion at T source times, in any rhythm.
        confidence: (D, T) at the source times.
    """
    times = fitted.times_s
    frame_s = min(float(np.median(np.diff(times))), _LAST_FRAME_S)
    start_s = float(times[0])
    num_frames = round(FPS * (float(times[-1]) + frame_s - start_s))
    clock = np.clip(start_s + np.arange(num_frames) / FPS, times[0], times[-1])
    after = np.clip(np.searchsorted(times, clock, side="right"), 1, len(times) - 1)
    before = after - 1
    fraction = (clock - times[before]) / (times[after] - times[before])

    quaternions = matrix_to_quaternion(fitted.rotations.astype(np.float64))
    share = np.broadcast_to(fraction[:, None], (len(quaternions), num_frames, quaternions.shape[2]))
    turned = quaternion_to_axis_angle(slerp(quaternions[:, before], quaternions[:, after], share))
    moved = _lerp(fitted.transl.astype(np.float64), before, after, fraction[:, None])
    poses, transl = turned.astype(np.float32), moved.astype(np.float32)
    return Motion(
        start_s=start_s,
        end_s=start_s + num_frames / FPS,
        poses=poses,
        transl=transl,
        joints=np.asarray(forward_kinematics(poses, transl, fitted.rest_offsets[:, None]), dtype=np.float32),
        confidence=_lerp(confidence, before, after, fraction).astype(np.float32).clip(0, 1),
    )


def _lerp(
    values: npt.NDArray[np.floating],
    before: npt.NDArray[np.intp],
    after: npt.NDArray[np.intp],
    fraction: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    return values[:, before] * (1 - fraction) + values[:, after] * fraction
