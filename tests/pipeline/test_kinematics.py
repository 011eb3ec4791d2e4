from __future__ import annotations

import numpy as np
import torch

from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.motion.skeleton import MEAN_OFFSETS
from opendance_hf.pipeline.fitting.kinematics import differentiable_forward_kinematics


def test_it_poses_like_forward_kinematics() -> None:
    rng = np.random.default_rng(0)
    poses, transl = rng.normal(size=(2, 5, 24, 3)), rng.normal(size=(2, 5, 3))
    offsets = np.stack([MEAN_OFFSETS, 1.1 * MEAN_OFFSETS]).astype(np.float64)
    rotations = axis_angle_to_matrix(poses)
    six = torch.from_numpy(rotations[..., :2] * 1.7)
    local, joints, turned = differentiable_forward_kinematics(
        six, torch.from_numpy(transl), torch.from_numpy(offsets)
    )
    np.testing.assert_allclose(local.numpy(), rotations, atol=1e-9)
    # Row 0 of the offsets moves the pelvis of a shaped body; here transl is the pelvis itself.
    bare = offsets.copy()
    bare[:, 0] = 0
    np.testing.assert_allclose(joints.numpy(), forward_kinematics(poses, transl, bare[:, None]), atol=1e-9)
    np.testing.assert_allclose(
        turned[..., 3, :, :].numpy(), rotations[..., 0, :, :] @ rotations[..., 3, :, :]
    )


def test_its_gradient_is_right() -> None:
    torch.manual_seed(0)
    inputs = [
        torch.randn(1, 2, 24, 3, 2, dtype=torch.float64),
        torch.randn(1, 2, 3, dtype=torch.float64),
        torch.randn(1, 24, 3, dtype=torch.float64),
    ]
    inputs = [value.requires_grad_() for value in inputs]
    assert torch.autograd.gradcheck(differentiable_forward_kinematics, inputs, atol=1e-6)
