"""Compute forward kinematics and its gradients for torch, in loops compiled by Numba.

The loops are about fifteen times as fast as torch, in which the overhead of 24 successive small matrix products exceeds
their arithmetic.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor

from opendance_hf.motion.skeleton import NUM_JOINTS, PARENTS

Array = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]

_PARENTS: Final = np.array(PARENTS, dtype=np.int64)


class _ForwardKinematics(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, six: Tensor, transl: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        arrays = [np.ascontiguousarray(value.detach().numpy()) for value in (six, transl, offsets)]
        local, joints, turned = _down(arrays[0], arrays[1], arrays[2], _PARENTS)
        ctx.arrays = (arrays[0], arrays[2], local, turned)
        return torch.from_numpy(local), torch.from_numpy(joints), torch.from_numpy(turned)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        arrays = [np.ascontiguousarray(value.numpy()) for value in gradients]
        six, offsets, local, turned = ctx.arrays
        back = _up(six, offsets, local, turned, arrays[0], arrays[1], arrays[2], _PARENTS)
        return torch.from_numpy(back[0]), torch.from_numpy(back[1]), torch.from_numpy(back[2])


def differentiable_forward_kinematics(
    six: Tensor, transl: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Pose a skeleton, differentiable by torch.

    Args:
        six: (D, T, 24, 3, 2) the first two columns of each joint's rotation relative to its parent, not yet orthonormal
            (Zhou et al. 2019).
        transl: (D, T, 3) pelvis positions, metres.
        offsets: (D, 24, 3) metres; row 0 is not used.

    Returns:
        (D, T, 24, 3, 3) rotations relative to the parent, (D, T, 24, 3) joints, (D, T, 24, 3, 3) rotations relative to
        the world.
    """
    dancers, frames = transl.shape[:2]
    local, joints, turned = _ForwardKinematics.apply(
        six.reshape(-1, NUM_JOINTS, 3, 2),
        transl.reshape(-1, 3),
        offsets[:, None].expand(-1, frames, -1, -1).reshape(-1, NUM_JOINTS, 3),
    )
    shape = (dancers, frames, NUM_JOINTS, 3)
    return local.reshape(*shape, 3), joints.reshape(shape), turned.reshape(*shape, 3)


@njit(cache=True, error_model="numpy")
def _down(six: Array, transl: Array, offsets: Array, parents: Ints) -> tuple[Array, Array, Array]:
    """Return the local rotations, joints and global rotations of N poses."""
    count, num_joints = six.shape[:2]
    local = np.empty((count, num_joints, 3, 3), six.dtype)
    turned = np.empty_like(local)
    joints = np.empty((count, num_joints, 3), six.dtype)
    for n in range(count):
        for j in range(num_joints):
            own, a, b = local[n, j], six[n, j, :, 0], six[n, j, :, 1]
            length = np.sqrt(a[0] ** 2 + a[1] ** 2 + a[2] ** 2)
            for i in range(3):
                own[i, 0] = a[i] / length
            along = own[0, 0] * b[0] + own[1, 0] * b[1] + own[2, 0] * b[2]
            for i in range(3):
                own[i, 1] = b[i] - along * own[i, 0]
            length = np.sqrt(own[0, 1] ** 2 + own[1, 1] ** 2 + own[2, 1] ** 2)
            for i in range(3):
                own[i, 1] /= length
            for i in range(3):
                k, m = (i + 1) % 3, (i + 2) % 3
                own[i, 2] = own[k, 0] * own[m, 1] - own[m, 0] * own[k, 1]
            if j == 0:
                joints[n, 0] = transl[n]
                turned[n, 0] = own
                continue
            p = parents[j]
            for i in range(3):
                at = joints[n, p, i]
                for k in range(3):
                    at += turned[n, p, i, k] * offsets[n, j, k]
                joints[n, j, i] = at
                for m in range(3):
                    total = turned[n, p, i, 0] * own[0, m]
                    total += turned[n, p, i, 1] * own[1, m]
                    turned[n, j, i, m] = total + turned[n, p, i, 2] * own[2, m]
    return local, joints, turned


@njit(cache=True, error_model="numpy")
def _up(
    six: Array,
    offsets: Array,
    local: Array,
    turned: Array,
    to_local: Array,
    to_joints: Array,
    to_turned: Array,
    parents: Ints,
) -> tuple[Array, Array, Array]:
    """Return the gradients of ``six``, ``transl`` and ``offsets`` from those of the three results of :func:`_down`."""
    count, num_joints = six.shape[:2]
    back_six = np.empty_like(six)
    back_transl = np.empty((count, 3), six.dtype)
    back_offsets = np.zeros_like(offsets)
    place = np.empty((num_joints, 3), six.dtype)
    turn = np.empty((num_joints, 3, 3), six.dtype)
    own = np.empty((3, 3), six.dtype)
    for n in range(count):
        place[:] = to_joints[n]
        turn[:] = to_turned[n]
        for j in range(num_joints - 1, -1, -1):
            rotation = local[n, j]
            own[:] = to_local[n, j]
            if j == 0:
                own += turn[0]
                back_transl[n] = place[0]
            else:
                p = parents[j]
                for i in range(3):
                    place[p, i] += place[j, i]
                    for k in range(3):
                        back_offsets[n, j, k] += turned[n, p, i, k] * place[j, i]
                        total = place[j, i] * offsets[n, j, k]
                        for m in range(3):
                            total += turn[j, i, m] * rotation[k, m]
                            own[k, m] += turned[n, p, i, k] * turn[j, i, m]
                        turn[p, i, k] += total
            _orthonormal_back(six[n, j], rotation, own, back_six[n, j])
    return back_six, back_transl, back_offsets


@njit(cache=True, error_model="numpy")
def _orthonormal_back(six: Array, rotation: Array, own: Array, out: Array) -> None:
    """Write the gradient of ``six`` to ``out``; ``own``, the gradient of the rotation, is overwritten."""
    for i in range(3):
        k, m = (i + 1) % 3, (i + 2) % 3
        own[k, 0] += rotation[m, 1] * own[i, 2]
        own[m, 0] -= rotation[k, 1] * own[i, 2]
        own[m, 1] += rotation[k, 0] * own[i, 2]
        own[k, 1] -= rotation[m, 0] * own[i, 2]
    along = 0.0
    for i in range(3):
        along += rotation[i, 0] * six[i, 1]
    length = 0.0
    for i in range(3):
        length += (six[i, 1] - along * rotation[i, 0]) ** 2
    length = np.sqrt(length)
    inner = 0.0
    for i in range(3):
        inner += own[i, 1] * rotation[i, 1]
    cross = 0.0
    for i in range(3):
        own[i, 1] = (
            own[i, 1] - inner * rotation[i, 1]
        ) / length  # now the gradient of b minus its projection onto a
        cross += own[i, 1] * rotation[i, 0]
    for i in range(3):
        out[i, 1] = own[i, 1] - cross * rotation[i, 0]
        own[i, 0] -= cross * six[i, 1] + along * own[i, 1]
    length = np.sqrt(six[0, 0] ** 2 + six[1, 0] ** 2 + six[2, 0] ** 2)
    inner = 0.0
    for i in range(3):
        inner += own[i, 0] * rotation[i, 0]
    for i in range(3):
        out[i, 0] = (own[i, 0] - inner * rotation[i, 0]) / length
