"""The lifter: the frame of a person, its inputs, and what its output depends on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from opendance_hf.modeling.lifter import LifterConfig, LifterModel
from opendance_hf.motion.lifting import LiftingNetwork, mirrored, rotation_to_axis


@pytest.fixture(scope="module")
def model() -> LifterModel:
    torch.manual_seed(0)
    return LifterModel(LifterConfig(hidden_size=32)).eval()


def inputs(frames: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Points of no body in particular, 5 m away."""
    noise = torch.Generator().manual_seed(seed)
    world = 0.5 * torch.randn(1, frames, 16, 3, generator=noise)
    rays = world[..., :2] / 5 + torch.tensor([0.2, -0.1])
    return rays, world, torch.rand(1, frames, 16, generator=noise)


@given(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5))
def test_the_ray_of_the_hips_becomes_the_axis(x: float, y: float) -> None:
    ray = torch.tensor([x, y, -1.0], dtype=torch.float64)
    turn = rotation_to_axis(ray)
    np.testing.assert_allclose(turn @ ray, [0, 0, -float(ray.norm())], atol=1e-9)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    assert float(torch.linalg.det(turn)) == pytest.approx(1)
    # The smallest of all such rotations: it turns by the angle between both rays.
    angle = float(torch.arccos(((turn.trace() - 1) / 2).clamp(-1, 1)))
    assert angle == pytest.approx(float(torch.arccos(-ray[2] * -1 / ray.norm() * -1)), abs=1e-6)


@pytest.mark.parametrize("metres", [2.0, 4.0, 9.0])
def test_a_person_is_as_far_away_as_the_size_in_the_picture_says(model: LifterModel, metres: float) -> None:
    _, world, visibility = inputs(60)
    flat = world[..., :2] / metres
    depth = model.person_depth(flat, world, visibility)
    np.testing.assert_allclose(depth, metres, rtol=1e-4)


def test_a_wrong_size_in_some_frames_does_not_move_a_person(model: LifterModel) -> None:
    _, world, visibility = inputs(60)
    flat = world[..., :2] / 4
    flat[:, 20:30] *= 3
    np.testing.assert_allclose(model.person_depth(flat, world, visibility), 4, rtol=1e-4)


def test_a_frame_depends_on_the_second_or_two_around_it(model: LifterModel) -> None:
    rays, world, visibility = inputs(120)
    moved = world.clone()
    moved[:, 60, :, 2] += 0.3  # depth alone, which does not change the distance of the person
    with torch.no_grad():
        change = (model(rays, moved, visibility).joints - model(rays, world, visibility).joints).norm(dim=-1)
    changed = torch.nonzero(change.amax(dim=-1)[0] > 1e-6).flatten()
    assert changed.min() >= 60 - 14
    assert changed.max() <= 60 + 14
    assert len(changed) > 20


def test_mirrored_landmarks_give_the_mirrored_joints(model: LifterModel) -> None:
    rays, world, visibility = inputs(30)
    flip = torch.tensor([-1.0, 1.0, 1.0])
    marks, joints = mirrored(model.config.landmarks), mirrored(model.config.joints)
    other = model.lift(rays[:, :, marks] * flip[:2], world[:, :, marks] * flip, visibility[:, :, marks])
    np.testing.assert_allclose(other[:, :, joints] * flip, model.lift(rays, world, visibility), atol=1e-5)


def test_the_loss_is_that_of_joints_and_of_their_velocity(model: LifterModel) -> None:
    rays, world, visibility = inputs(30)
    with torch.no_grad():
        found = model(rays, world, visibility).joints
        shifted = model(rays, world, visibility, found + 0.1)
        jumping = found + 0.1 * torch.tensor([1.0, -1.0]).repeat(15)[None, :, None, None]
        shaken = model(rays, world, visibility, jumping)
    assert float(shifted.metrics["mpjpe_mm"]) == pytest.approx(100 * 3**0.5, rel=1e-4)
    # The same distance, and 0.2 from frame to frame in each coordinate.
    assert float(shaken.loss - shifted.loss) == pytest.approx(0.5 * 0.2 * 3**0.5, rel=1e-3)


def test_an_even_window_is_refused() -> None:
    with pytest.raises(ValueError, match="depth_frames=4, expected an odd number"):
        LifterConfig(depth_frames=4)


def test_the_network_without_transformers_is_the_same(model: LifterModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    given = inputs(30)
    (network,) = LiftingNetwork.load(tmp_path)
    np.testing.assert_array_equal(network.lift(*given), model.lift(*given))
    command = "import sys, opendance_hf.motion.lifting; print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
