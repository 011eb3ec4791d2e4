"""Joints of a generated dance: put on the ground, and given poses."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d, minimum_filter1d

from opendance_hf.motion.ik import joints_to_poses
from opendance_hf.motion.skeleton import JOINT_INDEX

_TOE_ABOVE_GROUND_M: Final = 0.025
_JUMP_S: Final = 0.8


def posed(
    joints: npt.NDArray[np.floating],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Convert (D, T, 24, 3) joints to (D, T, 24, 3) poses, (D, T, 3) transl and (D, 24, 3) rest offsets."""
    poses, transl, offsets = zip(*(joints_to_poses(dancer) for dancer in joints), strict=True)
    return np.stack(poses), np.stack(transl), np.stack(offsets)


def stand_on_ground(joints: npt.NDArray[np.float64], fps: float = 60) -> npt.NDArray[np.float64]:
    """Move (T, 24, 3) joints up or down so that the lower foot of every moment finds the ground y = 0."""
    return joints - height_of_ground(joints, fps)[:, None]


def height_of_ground(joints: npt.NDArray[np.floating], fps: float = 60) -> npt.NDArray[np.float64]:
    """Return the (T, 3) position of the ground under (T, 24, 3) joints: zero in x and z.

    A dance is decoded as velocities, and their sum drifts in height; what is slower than a jump is drift.
    """
    toes = joints[:, [JOINT_INDEX["left_foot"], JOINT_INDEX["right_foot"]], 1].min(axis=1).astype(np.float64)
    window = round(_JUMP_S * fps)
    level = gaussian_filter1d(minimum_filter1d(toes, window, mode="nearest"), window / 2, mode="nearest")
    return np.stack([0 * level, level - _TOE_ABOVE_GROUND_M, 0 * level], axis=-1)
