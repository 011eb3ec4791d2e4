"""Forward kinematics of the 24-joint skeleton."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.motion.skeleton import NUM_JOINTS, PARENTS

Array = npt.NDArray[np.floating]


def forward_kinematics(poses: Array, transl: Array, rest_offsets: Array) -> Array:
    """Return the joint positions of posed skeletons.

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
    return pose_joints(axis_angle_to_matrix(poses), transl, rest_offsets)[0]


def pose_joints(rotations: Array, transl: Array, rest_offsets: Array) -> tuple[Array, Array]:
    """Return the joint positions and the global rotations of posed skeletons.

    Args:
        rotations: (..., 24, 3, 3) matrices, each joint relative to its parent; the root relative to the world.
        transl: see :func:`forward_kinematics`.
        rest_offsets: see :func:`forward_kinematics`.

    Returns:
        (..., 24, 3) joint positions in metres and (..., 24, 3, 3) rotations, both in the world frame.

    Raises:
        ValueError: if the shapes do not describe 24 joints.
    """
    if rotations.shape[-3:] != (NUM_JOINTS, 3, 3) or rest_offsets.shape[-2:] != (NUM_JOINTS, 3):
        raise ValueError(
            f"rotations {rotations.shape} must end in (24, 3, 3), rest_offsets {rest_offsets.shape} in (24, 3)"
        )
    offsets = np.broadcast_to(rest_offsets, rotations.shape[:-1])
    joints = np.empty(offsets.shape, dtype=np.result_type(rotations, transl, rest_offsets))
    turned = np.empty(rotations.shape, dtype=joints.dtype)
    joints[..., 0, :] = transl + offsets[..., 0, :]
    turned[..., 0, :, :] = rotations[..., 0, :, :]
    for joint, parent in enumerate(PARENTS[1:], start=1):
        bone = turned[..., parent, :, :] @ offsets[..., joint, :, None]
        joints[..., joint, :] = joints[..., parent, :] + bone[..., 0]
        turned[..., joint, :, :] = turned[..., parent, :, :] @ rotations[..., joint, :, :]
    return joints, turned


def bone_lengths(joints: Array) -> Array:
    """Return the (..., 23) distances of every joint but the root from its parent, metres."""
    return np.linalg.norm(joints[..., 1:, :] - joints[..., PARENTS[1:], :], axis=-1)
