"""Parts of the clean-up: the filter, contacts, overlaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opendance_hf.cleanup.bodies import Body, blend
from opendance_hf.cleanup.collisions import depth_in_own_body, find_overlaps
from opendance_hf.cleanup.feet import FEET, envelope, foot_contacts, plant_feet
from opendance_hf.cleanup.settings import FeetLimits, SteadyLimits
from opendance_hf.cleanup.steady import cutoff_hz, low_pass, noise_level
from opendance_hf.metrics.duet import CAPSULES, interpenetration, segment_distance
from opendance_hf.motion.intervals import true_intervals
from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.motion.skeleton import JOINT_INDEX
from tests.cleanup.dancers import stepping_dancer

LIMITS, STEADY = FeetLimits(), SteadyLimits()
DANCER = stepping_dancer()


@pytest.mark.parametrize("noise_m", [0.002, 0.01, 0.03])
def test_the_noise_is_measured_within_a_tenth(noise_m: float) -> None:
    noisy = DANCER.joints + np.random.default_rng(0).normal(0, noise_m, DANCER.joints.shape)
    assert noise_level(noisy) == pytest.approx(noise_m, rel=0.1)


def test_more_noise_means_a_lower_cutoff_within_limits() -> None:
    found = [cutoff_hz(noise, 60, STEADY) for noise in (0.0, 0.003, 0.01, 0.03, 10.0)]
    assert found == sorted(found, reverse=True)
    assert found[0] == STEADY.max_cutoff_hz
    assert found[2] == STEADY.cutoff_hz
    assert found[-1] == STEADY.min_cutoff_hz
    assert cutoff_hz(0.0, 24, STEADY) is None, "24 FPS have no room above 12 Hz"


def test_the_filter_keeps_slow_motion_and_its_time() -> None:
    time = np.arange(240) / 60
    slow = np.sin(2 * np.pi * 1.5 * time)
    np.testing.assert_allclose(low_pass(slow, 8.0, 60.0), slow, atol=0.02)
    assert np.abs(low_pass(np.sin(2 * np.pi * 25 * time), 8.0, 60.0)[10:-10]).max() < 0.02
    assert len(low_pass(slow[:5], 8.0, 60.0)) == 5


def test_contacts_of_a_stepping_dancer_are_those_it_was_made_with() -> None:
    joints = DANCER.joints
    found = foot_contacts(joints, 60, LIMITS)
    still = np.linalg.norm(np.gradient(joints[:, FEET], 1 / 60, axis=0), axis=-1) < 0.01
    assert (found & still).sum() / still.sum() > 0.97
    flying = joints[:, FEET[::2], 1] > 0.08
    assert not (found[:, ::2] & flying).any()


def test_who_jumps_stands_nowhere() -> None:
    body = DANCER.copy()
    body.pelvis[100:140, 1] += 0.3 * np.sin(np.pi * np.linspace(0, 1, 40))
    assert not foot_contacts(body.joints, 60, LIMITS)[108:132].any()


def test_a_sliding_foot_stands_at_several_places_and_never_jumps_over_a_long_way() -> None:
    body = DANCER.copy()
    body.pelvis[:, 2] += 1.2 * np.arange(len(body.pelvis)) / 60  # the whole dancer glides
    joints = body.joints
    contacts = foot_contacts(joints, 60, LIMITS)
    assert contacts[:, ::2].any(axis=1).mean() > 0.8
    for k in (0, 2):
        for start, end in true_intervals(contacts[:, k]):
            path = joints[start:end, FEET[k]][:, [0, 2]]
            assert np.linalg.norm(path - path[0], axis=-1).max() < 2.2 * LIMITS.max_support_m


def test_planted_feet_do_not_move_and_legs_keep_their_lengths() -> None:
    body = DANCER.copy()
    body.pelvis[:, 0] += 0.04 * np.sin(np.arange(len(body.pelvis)) / 9)
    contacts = foot_contacts(DANCER.joints, 60, LIMITS)
    planted = plant_feet(body, contacts, 60, LIMITS).joints
    for k in (0, 2):
        inside = contacts[1:, k] & contacts[:-1, k]
        speed = np.linalg.norm(np.diff(planted[:, FEET[k]][:, [0, 2]], axis=0), axis=-1) * 60
        assert speed[inside].mean() < 0.02
    for one, two in ((1, 4), (4, 7), (7, 10)):
        lengths = [np.linalg.norm(p[:, one] - p[:, two], axis=-1) for p in (planted, DANCER.joints)]
        np.testing.assert_allclose(*lengths, atol=1e-9)


def floating(height_m: float, spread_rad: float) -> Body:
    """A body in T-pose with its feet over the ground and its legs spread, for two seconds."""
    body = Body.of_poses(np.zeros((120, 24, 3)), np.zeros((120, 3)), DANCER.rest_offsets)
    for side, sign in (("left", 1), ("right", -1)):
        turn = np.array([0, 0, sign * spread_rad])
        body.local[:, JOINT_INDEX[f"{side}_hip"]] = axis_angle_to_matrix(turn)
    body.pelvis[:, 1] += LIMITS.toe_height_m + height_m - body.joints[0, FEET[::2], 1].min()
    return body


@pytest.mark.parametrize("spread_rad", [0.0, 0.3])
def test_a_body_moves_once_for_both_feet(spread_rad: float) -> None:
    body = floating(0.10, spread_rad)
    moved_m = []
    for pinned in ([True, True, False, False], [False, False, True, True], [True] * 4):
        contacts = np.zeros((120, 4), dtype=bool)
        contacts[30:90] = pinned
        out = plant_feet(body, contacts, 60, LIMITS, move_body=True)
        feet = out.joints[30:90][:, np.array(FEET)[pinned]]
        np.testing.assert_allclose(feet, feet[:1].repeat(60, axis=0), atol=1e-4)
        assert feet[:, ::2, 1].max() < LIMITS.toe_height_m + LIMITS.hover_m + 1e-4, "on the ground"
        moved_m.append(out.pelvis[60, 1] - body.pelvis[60, 1])
    assert -moved_m[2] < -1.3 * min(moved_m[:2]), "not twice"


def test_a_body_is_moved_until_both_feet_stand() -> None:
    body = floating(0.02, 0.3)
    body.pelvis[:, 0] += np.linspace(-0.25, 0.25, 120)
    contacts = np.zeros((120, 4), dtype=bool)
    contacts[20:100] = True
    planted = plant_feet(body, contacts, 60, LIMITS, move_body=True)
    feet = planted.joints[20:100][:, FEET]
    np.testing.assert_allclose(feet, feet[:1].repeat(80, axis=0), atol=1e-4)
    step_m = np.linalg.norm(np.diff(planted.pelvis, axis=0), axis=-1)
    assert step_m.max() < 0.02, "and does not jump"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_an_envelope_is_nowhere_below(values: list[float]) -> None:
    array = np.array(values)
    assert (envelope(array, 60) >= array - 1e-12).all()


def test_overlaps_are_those_of_all_pairs_by_brute_force() -> None:
    one, two = DANCER.joints[:40], DANCER.joints[100:140] + np.array([0.12, 0, 0])
    ends = [(JOINT_INDEX[c.joint1], JOINT_INDEX[c.joint2]) for c in CAPSULES]
    expected = np.zeros(len(one))
    for (a, b), first in zip(ends, CAPSULES, strict=True):
        for (c, d), second in zip(ends, CAPSULES, strict=True):
            distance = segment_distance(one[:, a], one[:, b], two[:, c], two[:, d])
            expected = np.maximum(expected, first.radius + second.radius - distance)
    found = find_overlaps(one, two)
    deepest = np.zeros(len(one))
    np.maximum.at(deepest, found.frame, found.depth)
    np.testing.assert_allclose(deepest, expected, atol=1e-12)
    np.testing.assert_allclose(interpenetration(one, two), expected, atol=1e-12)
    assert expected.max() > 0.05


def test_overlaps_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = DANCER.joints, DANCER.joints[::-1] + np.array([0.1, 0, 0])
    whole = find_overlaps(one, two)
    monkeypatch.setattr("opendance_hf.cleanup.collisions._BLOCK", 37)
    for a, b in zip(whole, find_overlaps(one, two), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_arms_of_a_standing_dancer_are_not_in_its_shoulders() -> None:
    assert depth_in_own_body(DANCER.joints).max() == 0


def test_a_blend_is_one_body_or_the_other_at_its_ends() -> None:
    other = Body(DANCER.local[::-1].copy(), DANCER.pelvis[::-1].copy(), DANCER.rest_offsets)
    share = np.linspace(0, 1, len(DANCER.pelvis))
    mixed = blend(DANCER, other, share).joints
    np.testing.assert_allclose(mixed[0], DANCER.joints[0], atol=1e-9)
    np.testing.assert_allclose(mixed[-1], other.joints[-1], atol=1e-9)
