"""Distances of poses after the best rotation, scale and shift."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.rotations import best_rotation

Array = npt.NDArray[np.floating]


def procrustes_error(found: Array, true: Array) -> Array:
    """Return the (...) mean joint distance of (..., J, 3) poses after the best rotation, scale and shift of each."""
    return np.asarray(procrustes_distances(found, true).mean(axis=-1))


def procrustes_distances(found: Array, true: Array) -> Array:
    """Return the (..., J) joint distances of (..., J, 3) poses after the best rotation, scale and shift of each."""
    a = found - found.mean(axis=-2, keepdims=True)
    b = true - true.mean(axis=-2, keepdims=True)
    rotated = a @ np.swapaxes(best_rotation(a, b), -1, -2)
    scale = (rotated * b).sum(axis=(-1, -2)) / np.maximum(np.square(a).sum(axis=(-1, -2)), 1e-12)
    return np.asarray(np.linalg.norm(scale[..., None, None] * rotated - b, axis=-1))


def constant_pose_error(joints: Array) -> float:
    """Return the mean Procrustes error, metres, of the best pose that never changes, for (T, J, 3) joints."""
    centred = joints - joints.mean(axis=-2, keepdims=True)
    pose = centred[0]
    for _ in range(5):
        pose = (centred @ np.swapaxes(best_rotation(centred, pose), -1, -2)).mean(axis=0)
    return float(procrustes_error(np.broadcast_to(pose, joints.shape), joints).mean())
