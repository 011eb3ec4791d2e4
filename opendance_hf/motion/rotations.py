"""Rotations as arrays of any leading shape, in numpy. Axis-angle is radians; quaternions are (w, x, y, z)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]


def axis_angle_to_matrix(axis_angle: Array) -> Array:
    """(..., 3) axis-angle to (..., 3, 3) matrices (Rodrigues; exact at zero)."""
    angle = np.linalg.norm(axis_angle, axis=-1)[..., None, None]
    small = angle < 1e-6
    safe = np.where(small, 1.0, angle)
    first = np.where(small, 1.0 - angle**2 / 6, np.sin(safe) / safe)
    second = np.where(small, 0.5 - angle**2 / 24, (1 - np.cos(safe)) / safe**2)
    x, y, z = np.moveaxis(axis_angle, -1, 0)
    zero = np.zeros_like(x)
    k = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*axis_angle.shape, 3)
    return np.eye(3, dtype=axis_angle.dtype) + first * k + second * (k @ k)


def matrix_to_quaternion(matrix: Array) -> Array:
    """(..., 3, 3) rotation matrices to (..., 4) unit quaternions, w >= 0."""
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
    """(..., 4) unit quaternions to (..., 3) axis-angle with angle in [0, pi]."""
    quat = np.where(quat[..., :1] < 0, -quat, quat)
    vec = quat[..., 1:]
    sin_half = np.linalg.norm(vec, axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sin_half, quat[..., :1])
    scale = np.where(sin_half < 1e-7, 2.0, angle / np.where(sin_half < 1e-7, 1.0, sin_half))
    return vec * scale


def quaternion_to_matrix(quat: Array) -> Array:
    """(..., 4) unit quaternions to (..., 3, 3) matrices."""
    w, x, y, z = np.moveaxis(quat, -1, 0)
    return np.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ],
        axis=-1,
    ).reshape(*quat.shape[:-1], 3, 3)  # fmt: skip


def matrix_to_axis_angle(matrix: Array) -> Array:
    """(..., 3, 3) rotation matrices to (..., 3) axis-angle."""
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def slerp(start: Array, end: Array, fraction: Array) -> Array:
    """Spherical interpolation of (..., 4) quaternions along the shorter arc; ``fraction`` (...) in [0, 1]."""
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
