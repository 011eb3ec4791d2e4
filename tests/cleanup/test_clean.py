"""Clean-up of damaged dances whose truth is known: what was bad is mended, and nothing becomes worse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from opendance_hf.cleanup import CleanedMotion, CleanError, CleanSettings, clean_motion
from opendance_hf.cleanup.bodies import Body
from opendance_hf.cleanup.clean import STEPS
from opendance_hf.cleanup.steady import noise_level
from opendance_hf.metrics.duet import interpenetration
from opendance_hf.metrics.quality import floor_height, jitter
from opendance_hf.motion.body import bone_lengths, forward_kinematics
from opendance_hf.motion.generated import posed
from opendance_hf.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS
from tests.cleanup.dancers import TOES, WRISTS, peak_acceleration, stepping_dancer

DANCER = stepping_dancer()
TRUTH = DANCER.joints


def clean(body: Body, **options: object) -> CleanedMotion:
    return clean_motion(
        body.joints[None],
        floor=0.0,
        poses=body.poses[None],
        transl=body.transl[None],
        rest_offsets=body.rest_offsets[None],
        **options,  # type: ignore[arg-type]
    )


def error_m(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(found - truth, axis=-1).mean())


def shifted(x: np.ndarray | float, y: np.ndarray | float, z: np.ndarray | float) -> Body:
    body = DANCER.copy()
    body.pelvis += np.stack(np.broadcast_arrays(x, y, z, np.zeros(len(TRUTH)))[:3], axis=1)
    return body


def test_a_dance_without_faults_hardly_moves() -> None:
    found = clean(DANCER)
    assert error_m(found.joints[0], TRUTH) < 0.003
    assert found.moved_mm == pytest.approx(1000 * error_m(found.joints[0], TRUTH), abs=1e-6)
    assert not worse(found)


def test_a_body_that_drifts_under_its_feet_stands_again() -> None:
    drift = 0.05 * np.sin(2 * np.pi * 0.7 * np.arange(len(TRUTH)) / 60)
    found = clean(shifted(drift, 0, 0))
    assert found.steps == (STEPS,)
    assert found.before.slide_cmps > 10
    assert found.after.slide_cmps < 0.15 * found.before.slide_cmps


@pytest.mark.parametrize("height", [-0.05, 0.045])
def test_feet_in_and_above_the_floor_are_put_on_it(height: float) -> None:
    found = clean(shifted(0, height, 0))
    stands = np.abs(np.diff(TRUTH[:, TOES], axis=0)).max(axis=-1) < 1e-4
    toes = found.joints[0][1:, TOES, 1][stands]
    assert np.percentile(toes, 2) > 0.01
    assert np.percentile(toes, 98) < 0.025 + CleanSettings().feet.hover_m + 0.003
    assert found.after.below_floor_mm == 0


def test_the_floor_is_found_where_none_is_given() -> None:
    up = np.array([0, 1.3, 0])
    drift = shifted(0.05 * np.sin(np.arange(len(TRUTH)) / 10), 0, 0).joints
    there, here = (clean_motion(drift[None] + y, floor=f) for y, f in ((up, None), (0, floor_height(drift))))
    np.testing.assert_allclose(there.joints - up, here.joints, atol=1e-9)


@pytest.mark.parametrize("fps", [30.0, 60.0, 120.0])
def test_noise_of_a_centimetre_is_taken_and_hits_stay(fps: float) -> None:
    truth = stepping_dancer(round(6 * fps), fps).joints
    noisy = truth + np.random.default_rng(0).normal(0, 0.01, truth.shape)
    found = clean_motion(noisy[None], fps, floor=0.0)
    assert found.steps == (STEPS,)
    assert found.after.jitter < 0.25 * found.before.jitter
    assert found.after.slide_cmps < 0.1 * found.before.slide_cmps
    assert error_m(found.joints[0], truth) < 0.75 * error_m(noisy, truth)
    ratios = []
    for wrist in WRISTS:
        true, ours = (peak_acceleration(p[:, wrist], fps) for p in (truth, found.joints[0]))
        for frame in np.flatnonzero((true[1:-1] > 0.8 * true.max()) & (true[1:-1] >= true[:-2])) + 1:
            near = slice(max(0, frame - round(fps / 20)), frame + round(fps / 20) + 1)
            ratios.append(ours[near].max() / true[frame])
    assert 0.8 < np.median(ratios) < 1.2


def test_spikes_of_a_frame_are_removed() -> None:
    spiked = TRUTH.copy()
    spiked[[40, 41, 200], JOINT_INDEX["left_wrist"]] += [0.4, 0.3, 0]
    found = clean_motion(spiked[None], floor=0.0)
    assert error_m(found.joints[0, [40, 41, 200]], TRUTH[[40, 41, 200]]) < 0.02


def hand_through_chest() -> Body:
    """The left wrist goes through the trunk for a second."""
    from opendance_hf.cleanup.bodies import LIMBS
    from opendance_hf.motion.ik import turn_limb

    body = DANCER.copy()
    joints, turned = body.posed()
    inside = gaussian_filter1d(np.where(abs(np.arange(len(TRUTH)) - 150) < 40, 1.0, 0.0), 5)[:, None]
    chest = joints[:, JOINT_INDEX["spine2"]] + [0.0, 0.05, 0.0]
    wrist = joints[:, JOINT_INDEX["left_wrist"]]
    turn_limb(body.local, (joints, turned), LIMBS[0][:3], wrist + inside * (chest - wrist))
    return body


def test_an_arm_is_taken_out_of_the_chest() -> None:
    found = clean(hand_through_chest())
    assert found.before.self_mm > 5
    assert found.after.self_mm < 0.3 * found.before.self_mm


def test_partners_are_taken_apart_and_share_the_way() -> None:
    one, two = shifted(-0.125, 0, 0), shifted(0.125, 0, 0)
    joints = np.stack([one.joints, two.joints])
    arrays = {
        name: np.stack([getattr(body, name) for body in (one, two)])
        for name in ("poses", "transl", "rest_offsets")
    }
    found = clean_motion(joints, floor=0.0, settings=replace(CleanSettings(), max_mean_move_m=0.1), **arrays)
    before, after = interpenetration(*joints).mean(), interpenetration(*found.joints).mean()
    assert before > 0.05
    assert after < 0.5 * before
    moved = [error_m(found.joints[d], joints[d]) for d in range(2)]
    assert 0.5 < moved[0] / moved[1] < 2


def test_dancers_far_apart_are_cleaned_each_alone() -> None:
    bodies = [shifted(3 * d + 0.04 * np.sin(np.arange(len(TRUTH)) / (8 + d)), 0, 0) for d in range(3)]
    together = clean_motion(np.stack([body.joints for body in bodies]), floor=0.0)
    for dancer, body in enumerate(bodies):
        alone = clean_motion(body.joints[None], floor=0.0)
        np.testing.assert_allclose(together.joints[dancer], alone.joints[0], atol=1e-9)


def test_bodies_are_rigid_and_poses_are_those_of_the_joints() -> None:
    noisy = TRUTH + np.random.default_rng(1).normal(0, 0.01, TRUTH.shape)
    found = clean_motion(noisy[None], floor=0.0)
    lengths = bone_lengths(found.joints[0])
    np.testing.assert_allclose(lengths, np.broadcast_to(lengths[:1], lengths.shape), atol=1e-9)
    joints = forward_kinematics(found.poses[0], found.transl[0], found.rest_offsets[0])
    np.testing.assert_allclose(joints, found.joints[0], atol=1e-6)


def test_poses_keep_their_twist_and_their_skeleton() -> None:
    body = shifted(0.05 * np.sin(np.arange(len(TRUTH)) / 10), 0, 0)
    wrist, head = JOINT_INDEX["left_wrist"], JOINT_INDEX["head"]
    body.rest_offsets = body.rest_offsets.copy()
    body.rest_offsets[0] = [0.0, -0.2, 0.03]  # SMPL's pelvis is not its origin
    twist = axis_angle_to_matrix(np.array([0.9, 0, 0]))
    body.local[:, [wrist, head]] = body.local[:, [wrist, head]] @ twist
    found = clean(body)
    assert found.steps == (STEPS,)
    np.testing.assert_array_equal(found.rest_offsets[0], body.rest_offsets)
    turned = Body.of_poses(found.poses[0], found.transl[0], found.rest_offsets[0]).posed()[1]
    before = body.posed()[1]
    for joint in (wrist, head):
        off = matrix_to_axis_angle(np.swapaxes(before[:, joint], -1, -2) @ turned[:, joint])
        assert np.degrees(np.median(np.linalg.norm(off, axis=-1))) < 5


def test_joints_that_are_not_those_of_the_poses_rule() -> None:
    stretched = TRUTH + 0.05 * np.sin(np.arange(len(TRUTH)) / 9)[:, None, None]
    arrays = {"poses": DANCER.poses, "transl": DANCER.transl, "rest_offsets": DANCER.rest_offsets}
    found = clean_motion(stretched[None], floor=0.0, **{name: value[None] for name, value in arrays.items()})
    assert error_m(found.joints[0], stretched) < error_m(found.joints[0], TRUTH)


def worse(found: CleanedMotion) -> list[str]:
    """Measures that have grown beyond the stated limits."""
    stated = CleanSettings()
    limits = found.before._asdict()
    limits["jitter"] = max(limits["jitter"], stated.natural_jitter)
    for name in ("below_floor_mm", "self_mm", "partner_mm"):
        limits[name] += 1000 * stated.max_depth_growth_m
    names = ("skate", "below_floor_mm", "self_mm", "partner_mm", "jitter")
    return [name for name in names if getattr(found.after, name) > limits[name] + 1e-4]


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([0.05, 0.2, 0.6]),
    st.sampled_from([24.0, 60.0]),
    st.integers(1, 2),
)
def test_nothing_becomes_worse(seed: int, size: float, fps: float, dancers: int) -> None:
    rng = np.random.default_rng(seed)
    poses = gaussian_filter1d(rng.normal(0, size * 4, (dancers, 90, 24, 3)), 4, axis=1)
    transl = gaussian_filter1d(rng.normal(0, 0.4, (dancers, 90, 3)), 6, axis=1)
    transl[..., 1] += 0.8
    rest = np.stack([MEAN_OFFSETS.astype(float)] * dancers)
    joints = np.stack([forward_kinematics(*one) for one in zip(poses, transl, rest, strict=True)])
    for options in ({}, {"poses": poses, "transl": transl, "rest_offsets": rest}):
        found = clean_motion(joints, fps, floor=0.0, **options)
        assert not worse(found)
        noise_m = np.mean([noise_level(one) for one in joints])
        assert found.moved_mm <= 1000 * (CleanSettings().max_mean_move_m + 1.6 * noise_m)
        assert np.isfinite(found.joints).all()


def test_a_noisy_partner_does_not_spoil_a_good_dancer() -> None:
    good = TRUTH + np.array([0.35, 0, 0])
    noisy = TRUTH + np.random.default_rng(0).normal(0, 0.02, TRUTH.shape)
    for seed in range(3):
        partner = stepping_dancer(seed=seed).joints + np.array([0.35, 0, 0])
        found = clean_motion(np.stack([noisy, partner]), floor=0.0)
        assert jitter(found.joints[0]) < 0.2 * jitter(noisy)
        assert jitter(found.joints[1]) <= max(jitter(partner), CleanSettings().natural_jitter) + 1
        assert len(found.steps[1]) <= len(found.steps[0])
    alone = clean_motion(good[None], floor=0.0)
    assert alone.steps[0]


@pytest.mark.parametrize("noise_m", [0.02, 0.04])
def test_the_worse_the_noise_the_more_is_done(noise_m: float) -> None:
    noisy = TRUTH + np.random.default_rng(0).normal(0, noise_m, TRUTH.shape)
    found = clean_motion(noisy[None], floor=0.0)
    assert found.steps == (STEPS,)
    assert found.after.skate < 0.1 * found.before.skate
    assert error_m(found.joints[0], TRUTH) < 0.7 * error_m(noisy, TRUTH)
    assert found.max_moved_mm > found.moved_mm


def test_a_cut_to_another_place_is_not_smeared() -> None:
    cut = TRUTH.copy()
    cut[150:, :, 0] += 1.5
    noisy = cut + np.random.default_rng(0).normal(0, 0.01, cut.shape)
    found = clean_motion(noisy[None], floor=0.0)
    assert np.linalg.norm(found.joints[0, 140:160] - cut[140:160], axis=-1).mean() < 0.03


def test_a_body_that_is_one_point_is_returned() -> None:
    for joints in (np.zeros((1, 60, 24, 3)), TRUTH[None].copy()):
        joints[:, :, [16, 18, 20, 22]] = joints[:, :, [16]]
        found = clean_motion(joints, floor=0.0)
        assert np.isfinite(found.joints).all()
        assert np.isfinite(found.poses).all()
        assert not worse(found)


def test_the_ground_is_that_of_the_lower_dancer() -> None:
    joints = np.stack([TRUTH, TRUTH + np.array([2, 0.2, 0])])
    found = clean_motion(joints)
    assert found.floor == pytest.approx(floor_height(TRUTH))
    assert error_m(found.joints, joints) < 0.01


def test_a_result_too_far_away_is_not_used() -> None:
    found = clean(
        shifted(0.05 * np.sin(np.arange(len(TRUTH)) / 10), 0, 0),
        settings=replace(CleanSettings(), max_mean_move_m=1e-6),
    )
    assert "dancer 0, steady: moves by" in found.left_out[-1]
    assert found.steps == ((),)
    assert found.moved_mm == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p[:, :3], "at least 4 frames"),
        (lambda p: p[0], "dancers, frames, 24, 3"),
        (lambda p: p[:, :, :22], "24"),
        (lambda p: np.where(p > 1, np.nan, p), "finite"),
        (lambda p: p[:0], "got \\(0, 300, 24, 3\\)"),
    ],
)
def test_what_cannot_be_cleaned_is_named(change: Callable[[np.ndarray], np.ndarray], words: str) -> None:
    with pytest.raises(CleanError, match=words):
        clean_motion(change(TRUTH[None]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"floor": float("nan")}, "floor must be finite"),
        ({"fps": 0.0}, "fps must be positive"),
        ({"poses": DANCER.poses}, r"poses must be \(1, 300, 24, 3\)"),
        ({"transl": DANCER.transl[None, :5]}, r"transl must be \(1, 300, 3\)"),
        ({"rest_offsets": np.full((1, 24, 3), np.inf)}, "rest_offsets must be finite"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(CleanError, match=words):
        clean_motion(TRUTH[None], **options)  # type: ignore[arg-type]


def test_captured_dances_with_noise_come_nearer_to_the_truth(shared: Path) -> None:
    for name in ("salsa_04", "modern_05_04"):
        with np.load(shared / "data" / "mocap" / f"{name}.npz") as data:
            truth, fps = data["joints"][:, :900].astype(float), float(data["fps"])
        noisy = truth + np.random.default_rng(0).normal(0, 0.01, truth.shape)
        found = clean_motion(noisy, fps)
        assert found.steps == (STEPS,) * len(truth), name
        assert not worse(found)
        assert error_m(found.joints, truth) < 0.8 * error_m(noisy, truth)
        assert found.after.jitter < 0.1 * found.before.jitter
        assert found.after.skate < 0.5 * found.before.skate
        rigid = Body.of_poses(*(value[0] for value in posed(truth))).joints
        assert error_m(found.joints[0], truth[0]) < 2 * error_m(rigid, truth[0])
