"""SMPLify on a made-up body in SMPL's format, whose pose, shape and place are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from opendance_hf.modeling.smoothnet import SmoothNetConfig, SmoothNetModel
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from opendance_hf.motion.smpl import SMPLData, load_smpl, smplx_layer
from opendance_hf.pipeline.stages.bodies import Bodies, complete_bodies, smooth_bodies
from opendance_hf.pipeline.stages.smplify import _VERTICES, _Smplify, smplify
from tests.bodies import smpl_arrays
from tests.pipeline.truth import HEIGHT_PX, WIDTH_PX, Truth, camera_at, dance, landmarks_of, together, view_of

CAMERA = camera_at(pitch_deg=4.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SMPLData:
    path = tmp_path_factory.mktemp("body") / "SMPL.npz"
    np.savez(path, **smpl_arrays())  # type: ignore[arg-type]
    return load_smpl(path)


def danced(data: SMPLData, betas: np.ndarray, frames: int = 60) -> tuple[Truth, Bodies]:
    """Two dancers of these shapes, and what an estimator without error reports of them."""
    dancers = []
    for seed, (shape, x) in enumerate(zip(betas, (-0.6, 0.7), strict=True)):
        poses, transl, _ = dance(seed, frames, place=(x, 0.0))
        offsets = data.rest_offsets(shape).astype(np.float64)
        feet = forward_kinematics(poses, transl - offsets[0], offsets)[:, [10, 11], 1]
        transl[:, 1] -= feet.min(axis=1) - 0.025
        dancers.append((poses, transl - offsets[0], offsets))
    truth = together(dancers, CAMERA)
    rotation = np.asarray(CAMERA.rotation).reshape(3, 3)
    rotations = axis_angle_to_matrix(truth.poses)
    rotations[:, :, 0] = rotation @ rotations[:, :, 0]
    pelvis = truth.joints[:, :, 0] @ rotation.T + np.asarray(CAMERA.translation)
    bodies = Bodies(
        truth.times_s,
        rotations.astype(np.float32),
        np.repeat(betas[:, None], frames, axis=1).astype(np.float32),
        (pelvis - truth.rest_offsets[:, None, 0]).astype(np.float32),
    )
    return truth, bodies


def disturbed(bodies: Bodies, angle_rad: float, place_m: float) -> Bodies:
    """A biased, jittering estimate: wrong by as much all the time as from frame to frame; of the mean shape."""
    rng = np.random.default_rng(5)
    shape = bodies.rotations.shape[:3]
    wrong = rng.normal(0, angle_rad, (shape[0], 1, shape[2], 3)) + rng.normal(0, angle_rad, (*shape, 3))
    turned = bodies.rotations @ axis_angle_to_matrix(wrong / np.sqrt(2))
    moved = bodies.transl + rng.normal(0, place_m, bodies.transl.shape)
    return Bodies(
        bodies.times_s,
        turned.astype(np.float32),
        np.zeros_like(bodies.betas),
        moved.astype(np.float32),
    )


def root_relative_error(ours: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance of joints in metres once the pelvis is put on the true one."""
    return float(np.linalg.norm((ours - ours[:, :, :1]) - (truth - truth[:, :, :1]), axis=-1).mean())


def test_it_recovers_a_known_pose(data: SMPLData) -> None:
    betas = np.zeros((2, 10), np.float32)
    betas[:, 0], betas[:, 1] = (0.8, -0.5), (0.5, 0.3)
    truth, exact = danced(data, betas, frames=45)
    found = landmarks_of(truth)
    start = smooth_bodies(disturbed(exact, 0.2, 0.1), None)
    result = smplify(start, found, data, WIDTH_PX, HEIGHT_PX)
    assert result.betas is not None
    poses = matrix_to_axis_angle(result.rotations.astype(np.float64))
    joints = forward_kinematics(poses, result.transl, result.rest_offsets[:, None])
    # By schema: the offsets are the shaped body's, and the ground is y = 0.
    np.testing.assert_allclose(result.rest_offsets, data.rest_offsets(result.betas), atol=1e-6)
    assert abs(float(np.quantile(joints[:, :, [10, 11], 1].min(axis=2), 0.5)) - 0.025) < 0.03

    true_view, view = (view_of(j, c) for j, c in ((truth.joints, CAMERA), (joints, result.camera)))
    before = forward_kinematics(
        matrix_to_axis_angle(start.rotations.astype(np.float64)),
        start.transl,
        data.rest_offsets(start.betas),
    ) * (1, -1, -1)
    error_before, error = root_relative_error(before, true_view), root_relative_error(view, true_view)
    pixels = np.linalg.norm(result.camera.project(joints) - CAMERA.project(truth.joints), axis=-1)
    # Measured: 134 mm before, 35 mm after; 7 px, most of it from holding resting feet still.
    assert error < 0.05
    assert error < 0.4 * error_before
    assert pixels.mean() < 13


def test_a_keypoint_far_off_pulls_little(data: SMPLData) -> None:
    truth, exact = danced(data, np.zeros((2, 10), np.float32), frames=24)
    found = landmarks_of(truth)
    clean = smplify(exact, found, data, WIDTH_PX, HEIGHT_PX)
    wild = replace(found, image=found.image.copy())
    wild.image[0, :, 15] += 300  # the left wrist, somewhere else altogether
    pulled = smplify(exact, wild, data, WIDTH_PX, HEIGHT_PX)
    turned = np.einsum("dtjab,dtjcb->dtjac", clean.rotations, pulled.rotations)
    angles = np.arccos(np.clip((np.trace(turned, axis1=-2, axis2=-1) - 1) / 2, -1, 1))
    assert angles[0].mean() < 0.05


def test_its_few_vertices_are_smplx_own(data: SMPLData) -> None:
    truth, exact = danced(data, np.full((2, 10), 0.3, np.float32), frames=5)
    problem = _Smplify(exact, landmarks_of(truth), data, WIDTH_PX, HEIGHT_PX)
    local, joints, turned = problem.pose()
    skin = problem.skin(local, joints, turned).detach()[0]
    pelvis = torch.from_numpy(data.rest_offsets(exact.betas[0])[:, 0])
    out = smplx_layer(data)(
        betas=torch.from_numpy(exact.betas[0]),
        global_orient=local.detach()[0, :, :1],
        body_pose=local.detach()[0, :, 1:],
        transl=problem.transl.detach()[0] - pelvis,
    )
    np.testing.assert_allclose(joints.detach()[0], out.joints[:, :24], atol=1e-4)
    np.testing.assert_allclose(skin, out.vertices[:, [vertex for vertex, _, _ in _VERTICES]], atol=1e-4)


def test_gaps_are_completed_and_jitter_is_taken_out(data: SMPLData, tmp_path: Path) -> None:
    truth, exact = danced(data, np.zeros((2, 10), np.float32))
    found = landmarks_of(truth)
    found.visibility[0, 20:24] = 0
    broken = disturbed(exact, 0.0, 0.0)
    broken.rotations[0, 20:24] = np.eye(3)
    broken.transl[0, 20:24] = 9
    whole = complete_bodies(broken, found)
    assert np.abs(whole.rotations[0, 20:24] - exact.rotations[0, 20:24]).max() < 0.1
    assert np.abs(whole.transl[0, 20:24] - exact.transl[0, 20:24]).max() < 0.05
    np.testing.assert_array_equal(whole.rotations[1], broken.rotations[1])

    torch.manual_seed(0)
    noisy = disturbed(exact, 0.1, 0.05)
    model = SmoothNetModel(SmoothNetConfig(8, hidden_size=8, res_hidden_size=8, num_blocks=1)).eval()
    with torch.no_grad():  # a SmoothNet that takes the mean of its window
        for parameter in model.parameters():
            parameter.zero_()
        model.encoder[0].weight[0] = 1 / 8
        model.encoder[0].weight[1] = -1 / 8
        model.decoder.weight[:, 0] = 1 / 0.99
        model.decoder.weight[:, 1] = -1 / 0.99
    for chosen in (None, model):
        steady = smooth_bodies(noisy, chosen)
        jitter = [np.abs(np.diff(b.rotations, n=2, axis=1)).mean() for b in (steady, noisy)]
        assert jitter[0] < 0.5 * jitter[1]
        products = steady.rotations @ np.swapaxes(steady.rotations, -1, -2)
        np.testing.assert_allclose(products, np.broadcast_to(np.eye(3), products.shape), atol=1e-5)
    steady.save(tmp_path / "b.npz")
    np.testing.assert_array_equal(Bodies.load(tmp_path / "b.npz").rotations, steady.rotations)
