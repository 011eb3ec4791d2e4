"""Rotations from joint positions: what turns a generated dance, which is joints, into poses that drive a body."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.body import bone_lengths
from opendance_hf.motion.rotations import matrix_to_axis_angle
from opendance_hf.motion.skeleton import MEAN_OFFSETS, NUM_JOINTS, PARENTS

Array = npt.NDArray[np.floating]

_CHILDREN = [[j for j, parent in enumerate(PARENTS) if parent == i] for i in range(NUM_JOINTS)]


def joints_to_poses(joints: Array, rest_offsets: Array | None = None) -> tuple[Array, Array, Array]:
    """Rotations under which the skeleton's bones point as those of the joints do.

    Joints with several children take the rotation that fits all of them best (Kabsch); those with one child the
    smallest swing from their parent, so bones do not spin about their own axis; leaves do not turn.

    Args:
        joints: (T, 24, 3) metres.
        rest_offsets: (24, 3) of the skeleton; by default the mean skeleton with the median bone lengths of ``joints``,
            and with their mean hips and chest.

    Returns:
        (T, 24, 3) axis-angle, (T, 3) transl, and the (24, 3) rest offsets used. Their forward kinematics reproduces
        the direction of every bone whose joint has one child, and all joints if their bone lengths are constant and
        their pelvis and chest are rigid.
    """
    joints = joints.astype(np.float64)
    own_skeleton = rest_offsets is None
    if rest_offsets is None:
        rest = MEAN_OFFSETS.astype(np.float64)
        scale = np.median(bone_lengths(joints), axis=0) / np.linalg.norm(rest[1:], axis=-1)
        rest_offsets = np.concatenate([rest[:1], rest[1:] * scale[:, None]])
    local = np.broadcast_to(np.eye(3), (len(joints), NUM_JOINTS, 3, 3)).copy()
    turned = local.copy()
    for joint, parent in enumerate(PARENTS):
        above = turned[:, parent] if parent >= 0 else np.broadcast_to(np.eye(3), (len(joints), 3, 3))
        children = _CHILDREN[joint]
        if children:
            bones = joints[:, children] - joints[:, joint, None]
            seen = np.einsum("tji,tcj->tci", above, bones)
            if len(children) == 1:
                local[:, joint] = _swing(rest_offsets[children[0]], seen[:, 0])
            else:
                local[:, joint] = _kabsch(rest_offsets[children], seen)
                if own_skeleton:  # hips and chest as this body carries them, not as the mean one does
                    rest_offsets[children] = np.einsum("tji,tcj->ci", local[:, joint], seen) / len(joints)
        turned[:, joint] = above @ local[:, joint]
    transl = joints[:, 0] - rest_offsets[0]
    return matrix_to_axis_angle(local), transl, np.asarray(rest_offsets)


def _kabsch(rest: Array, seen: Array) -> Array:
    """(T, 3, 3) rotations that best take (C, 3) rest bones to (T, C, 3) seen ones."""
    u, _, vt = np.linalg.svd(np.einsum("tci,cj->tij", seen, rest))
    sign = np.sign(np.linalg.det(u @ vt))
    u[:, :, 2] *= sign[:, None]
    return u @ vt


def _swing(rest: Array, seen: Array) -> Array:
    """(T, 3, 3) smallest rotations that take the direction of (3,) to those of (T, 3)."""
    start = rest / np.linalg.norm(rest)
    end = seen / np.maximum(np.linalg.norm(seen, axis=-1, keepdims=True), 1e-9)
    cos = end @ start
    axis = np.cross(np.broadcast_to(start, end.shape), end)
    x, y, z = axis.T
    zero = np.zeros_like(x)
    k = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    turn = np.eye(3) + k + k @ k / np.maximum(1 + cos, 1e-6)[:, None, None]
    # A bone that points exactly the other way turns by half a circle about any axis across it.
    across = np.cross(start, np.eye(3)[np.argmin(np.abs(start))])
    across /= np.linalg.norm(across)
    half = 2 * np.outer(across, across) - np.eye(3)
    return np.where((cos < -0.99999)[:, None, None], half, turn)
