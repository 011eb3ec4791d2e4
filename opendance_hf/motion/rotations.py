"""Rotations as arrays of any leading shape. Axis-angle is in radians; quaternions are (w, x, y, z).

Conversions to matrices are those of ``scipy.spatial.transform.Rotation``. What is written here:

- Conversions from matrices and quaternions. On 24,000 rotations (1000 frames of 24 joints, one core of a shared
  machine, SciPy 1.17) SciPy takes 10 ms from float64 matrices to quaternions, 76 ms from float32 ones and 9 ms from
  quaternions to axis-angle. The functions here take 5, 4 and 1.4 ms.
- :func:`slerp` between two arrays of quaternions. SciPy interpolates along one sequence only.
- :func:`smallest_rotation` and :func:`best_rotation` for arrays. ``Rotation.align_vectors`` solves one problem a call.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]


def unit(vectors: Array) -> Array:
    """Scale (..., 3) vectors to length 1. Those shorter than 1e-9 are divided by 1e-9, so zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def axis_angle_to_matrix(axis_angle: Array) -> Array:
    """Convert (..., 3) axis-angle to (..., 3, 3) matrices of the same dtype."""
    # Imported here: it takes 0.3 s, and the schema imports this module.
    from scipy.spatial.transform import Rotation

    matrices = Rotation.from_rotvec(axis_angle.reshape(-1, 3)).as_matrix()
    return matrices.astype(axis_angle.dtype, copy=False).reshape(*axis_angle.shape, 3)


def matrix_to_quaternion(matrix: Array) -> Array:
    """Convert (..., 3, 3) rotation matrices to (..., 4) unit quaternions with w >= 0."""
    m = matrix
    # Four times the squared components; the largest picks a branch without cancellation.
    diag = np.stack([m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]], axis=-1)
    trace = diag.sum(-1)
    four = np.concatenate([(1 + trace)[..., None], 1 + 2 * diag - trace[..., None]], axis=-1)
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    w2, x2, y2, z2 = np.moveaxis(four, -1, 0)
    table = np.stack(
        [
            np.stack([w2, a, b, c], -1),
            np.stack([a, x2, d, e], -1),
            np.stack([b, d, y2, f], -1),
            np.stack([c, e, f, z2], -1),
        ],
        axis=-2,
    )
    best = np.argmax(four, axis=-1)
    quat = np.take_along_axis(table, best[..., None, None], axis=-2)[..., 0, :]
    quat = quat / np.linalg.norm(quat, axis=-1, keepdims=True)
    return np.where(quat[..., :1] < 0, -quat, quat)


def quaternion_to_axis_angle(quat: Array) -> Array:
    """Convert (..., 4) unit quaternions to (..., 3) axis-angle with an angle in [0, pi]."""
    quat = np.where(quat[..., :1] < 0, -quat, quat)
    vec = quat[..., 1:]
    sin_half = np.linalg.norm(vec, axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sin_half, quat[..., :1])
    scale = np.where(sin_half < 1e-7, 2.0, angle / np.where(sin_half < 1e-7, 1.0, sin_half))
    return vec * scale


def quaternion_to_matrix(quat: Array) -> Array:
    """Convert (..., 4) unit quaternions to (..., 3, 3) matrices of the same dtype."""
    from scipy.spatial.transform import Rotation

    matrices = Rotation.from_quat(quat.reshape(-1, 4), scalar_first=True).as_matrix()
    return matrices.astype(quat.dtype, copy=False).reshape(*quat.shape[:-1], 3, 3)


def matrix_to_axis_angle(matrix: Array) -> Array:
    """Convert (..., 3, 3) rotation matrices to (..., 3) axis-angle with an angle in [0, pi]."""
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def slerp(start: Array, end: Array, fraction: Array) -> Array:
    """Interpolate between (..., 4) quaternions along the shorter arc; ``fraction`` (...) lies in [0, 1]."""
    dot = np.sum(start * end, axis=-1, keepdims=True)
    end = np.where(dot < 0, -end, end)
    theta = np.arccos(np.clip(np.abs(dot), 0.0, 1.0))
    sin = np.sin(theta)
    f = fraction[..., None]
    near = sin < 1e-6
    safe = np.where(near, 1.0, sin)
    a = np.where(near, 1 - f, np.sin((1 - f) * theta) / safe)
    b = np.where(near, f, np.sin(f * theta) / safe)
    out = a * start + b * end
    return out / np.linalg.norm(out, axis=-1, keepdims=True)


def smallest_rotation(start: Array, end: Array) -> Array:
    """Return the smallest rotations that take directions to directions.

    Args:
        start: (..., 3) vectors. Leading dimensions broadcast with those of ``end``.
        end: (..., 3) vectors.

    Returns:
        (..., 3, 3) matrices. Opposite directions turn by half a turn about some axis perpendicular to them. A vector
        shorter than 1e-9 has no direction and gives the identity.
    """
    dtype = np.result_type(start, end)
    start, end = np.broadcast_arrays(unit(start.astype(dtype)), unit(end.astype(dtype)))
    cos = (start * end).sum(-1, keepdims=True)
    # The rotation happens in the plane of start and this vector. Dividing by 1 + cos instead would lose all digits
    # near opposite directions.
    aside = end - cos * start
    sin = np.linalg.norm(aside, axis=-1, keepdims=True)
    parallel = sin < 4 * np.finfo(aside.dtype).eps
    aside = np.where(parallel, perpendicular(start), aside / np.where(parallel, 1, sin))
    aside = unit(aside - (aside * start).sum(-1, keepdims=True) * start)
    zero = np.minimum((start * start).sum(-1, keepdims=True), (end * end).sum(-1, keepdims=True)) < 0.5
    sin = np.where(zero, 0, sin)[..., None]
    versine = np.where(zero, 0, 1 - cos)[..., None]
    a, b = start[..., None], aside[..., None]
    a_t, b_t = np.swapaxes(a, -1, -2), np.swapaxes(b, -1, -2)
    return np.asarray(
        np.eye(3, dtype=start.dtype) + sin * (b * a_t - a * b_t) - versine * (a * a_t + b * b_t)
    )


def perpendicular(vectors: Array) -> Array:
    """Return (..., 3) unit vectors perpendicular to the given ones."""
    smallest = np.argmin(np.abs(vectors), axis=-1)
    return unit(np.cross(vectors, np.eye(3, dtype=vectors.dtype)[smallest]))


def best_rotation(start: Array, end: Array) -> Array:
    """Return the rotations that bring points closest to points in the least-squares sense (Kabsch 1976).

    Args:
        start: (..., N, 3) points, relative to the centre of rotation.
        end: (..., N, 3) points. Leading dimensions broadcast with those of ``start``.

    Returns:
        (..., 3, 3) matrices R without reflection: ``end`` is about ``start @ R.T``.
    """
    u, _, vt = np.linalg.svd(np.swapaxes(end, -1, -2) @ start)
    u[..., 2] *= np.where(np.linalg.det(u @ vt) < 0, -1, 1)[..., None]
    return u @ vt
