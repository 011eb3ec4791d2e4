"""Distances of poses after the best rotation, scale and shift."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]


def procrustes_error(found: Array, true: Array) -> Array:
    """Return the (...) mean joint distance of (..., J, 3) poses after the best rotation, scale and shift of each."""
    a = found - found.mean(axis=-2, keepdims=True)
    b = true - true.mean(axis=-2, keepdims=True)
    rotation, trace = _best_rotation(a, b)
    scale = trace / np.maximum(np.square(a).sum(axis=(-1, -2)), 1e-12)
    return np.asarray(np.linalg.norm(scale[..., None, None] * (a @ rotation) - b, axis=-1).mean(axis=-1))


def constant_pose_error(joints: Array) -> float:
    """Return the mean Procrustes error, metres, of the best pose that never changes, for (T, J, 3) joints."""
    centred = joints - joints.mean(axis=-2, keepdims=True)
    pose = centred[0]
    for _ in range(5):
        rotation, _ = _best_rotation(centred, np.broadcast_to(pose, centred.shape))
        pose = (centred @ rotation).mean(axis=0)
    return float(procrustes_error(np.broadcast_to(pose, joints.shape), joints).mean())


def _best_rotation(a: Array, b: Array) -> tuple[Array, Array]:
    """Return the (..., 3, 3) R that brings a @ R closest to b, and the trace that gives the scale."""
    u, s, vt = np.linalg.svd(np.swapaxes(a, -1, -2) @ b)
    sign = np.where(np.linalg.det(u @ vt) < 0, -1.0, 1.0)
    u[..., 2] *= sign[..., None]
    s[..., 2] *= sign
    return u @ vt, s.sum(axis=-1)
