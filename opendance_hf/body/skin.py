"""Pose a body by linear blend skinning, as viewers of glTF and FBX files do."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from opendance_hf.body.mesh import BodyMesh
from opendance_hf.motion.body import pose_joints
from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.motion.skeleton import NUM_JOINTS

Array = npt.NDArray[np.floating]


def skin(mesh: BodyMesh, poses: Array, transl: Array) -> npt.NDArray[np.float32]:
    """Return the vertices of posed bodies.

    Args:
        mesh: the body, shaped to the skeleton that the poses belong to.
        poses: (..., 24, 3) axis-angle, radians, as in :func:`opendance_hf.motion.body.forward_kinematics`.
        transl: (..., 3) SMPL's own translation, metres.

    Returns:
        (..., V, 3) metres.

    Raises:
        ValueError: if the shapes do not belong together.
    """
    poses, transl = np.asarray(poses, dtype=np.float32), np.asarray(transl, dtype=np.float32)
    if poses.shape[-2:] != (NUM_JOINTS, 3) or transl.shape != (*poses.shape[:-2], 3):
        raise ValueError(
            f"poses {poses.shape} and transl {transl.shape} do not belong together: expected (..., 24, 3) and (..., 3)"
        )
    frames = poses.reshape(-1, NUM_JOINTS, 3)
    joints, turned = pose_joints(axis_angle_to_matrix(frames), transl.reshape(-1, 3), mesh.rest_offsets)
    moved = joints - np.einsum("tjab,jb->tja", turned, mesh.joints)
    motions = np.concatenate([turned, moved[..., None]], axis=-1)
    out = _blend(mesh.vertices, mesh.bones, mesh.weights, motions)
    return out.reshape(*poses.shape[:-2], -1, 3)


@njit(cache=True, nogil=True)
def _blend(vertices: Any, bones: Any, weights: Any, motions: Any) -> Any:
    """Return (T, V, 3) vertices moved by the weighted means of affine motions (T, J, 3, 4)."""
    out = np.zeros((len(motions), len(vertices), 3), np.float32)
    for t in range(len(motions)):
        for v in range(len(vertices)):
            x, y, z = vertices[v, 0], vertices[v, 1], vertices[v, 2]
            for k in range(bones.shape[1]):
                w = weights[v, k]
                if w == 0:
                    break
                m = motions[t, bones[v, k]]
                out[t, v, 0] += w * (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3])
                out[t, v, 1] += w * (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3])
                out[t, v, 2] += w * (m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3])
    return out
