"""Forward kinematics of the 24-joint skeleton."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.motion.skeleton import NUM_JOINTS, PARENTS

Array = npt.NDArray[np.floating]


def forward_kinematics(poses: Array, transl: Array, rest_offsets: Array) -> Array:
    """Joint positions of posed skeletons.

    Args:
        poses: (..., 24, 3) axis-angle, each joint relative to its parent; the root relative to the world.
        transl: (..., 3) SMPL's own translation in metres: pelvis = transl + rest_offsets[0].
        rest_offsets: (24, 3) offsets from the parent in the rest pose, or (..., 24, 3) per pose; row 0 is the
            pelvis of the rest body (zero without an SMPL file).

    Returns:
        (..., 24, 3) joint positions, metres, world frame.

    Raises:
        ValueError: if the shapes do not describe 24 joints.
    """
    if poses.shape[-2:] != (NUM_JOINTS, 3) or rest_offsets.shape[-2:] != (NUM_JOINTS, 3):
        raise ValueError(f"poses {poses.shape} and rest_offsets {rest_offsets.shape} must end in (24, 3)")
    local = axis_angle_to_matrix(poses)
    offsets = np.broadcast_to(rest_offsets, poses.shape)
    joints = np.empty(poses.shape, dtype=np.result_type(poses, transl, rest_offsets))
    rotations = np.empty((*poses.shape, 3), dtype=joints.dtype)
    joints[..., 0, :] = transl + offsets[..., 0, :]
    rotations[..., 0, :, :] = local[..., 0, :, :]
    for joint, parent in enumerate(PARENTS[1:], start=1):
        rotated = rotations[..., parent, :, :] @ offsets[..., joint, :, None]
        joints[..., joint, :] = joints[..., parent, :] + rotated[..., 0]
        rotations[..., joint, :, :] = rotations[..., parent, :, :] @ local[..., joint, :, :]
    return joints


def bone_lengths(joints: Array) -> Array:
    """(..., 23) distance of every joint but the root from its parent, metres."""
    return np.linalg.norm(joints[..., 1:, :] - joints[..., PARENTS[1:], :], axis=-1)
