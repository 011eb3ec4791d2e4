from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opendance_hf.metrics import (
    beat_echo_degree,
    cross_distance_features,
    diversity_score,
    frechet_score,
    motion_beats,
)
from opendance_hf.metrics.duet import (
    CAPSULES,
    HOLD_DISTANCE,
    hand_hold_distance,
    interpenetration,
    segment_distance,
)
from opendance_hf.motion.skeleton import JOINT_INDEX
from tests.fixtures.make_metrics_small import SCORED, SETS, synth_motion


def with_hands(joints: np.ndarray) -> np.ndarray:
    """The 55-joint arrays of the reference files: face at the head, fingers at fixed offsets from the wrists."""
    fingers = np.random.RandomState(0).uniform(-0.05, 0.05, (30, 3))
    face = np.repeat(joints[:, 15:16], 3, axis=1)
    left, right = joints[:, 20:21] + fingers[:15], joints[:, 21:22] + fingers[15:]
    return np.concatenate([joints[:, :22], face, left, right], axis=1)


def test_parity_with_plain_loops(repo: Path) -> None:
    motions = [synth_motion(SETS["predictions"][1] + i) for i in range(SCORED)]
    with np.load(repo / "tests/fixtures/metrics_small.npz") as arrays:
        for i in range(SCORED // 2):
            one, two = motions[2 * i : 2 * i + 2]
            assert beat_echo_degree(one, two) == pytest.approx(arrays["echo"][i], abs=1e-6)
            got = cross_distance_features(one[:50], two[:50])
            np.testing.assert_allclose(got, arrays["cross_distance"][i], rtol=1e-6)


@pytest.mark.shared
def test_parity_with_the_official_code(shared: Path) -> None:
    facts = json.loads((shared / "reference/duet.json").read_text())
    with np.load(shared / "reference/metrics.npz") as arrays, np.load(shared / "reference/duet.npz") as duet:
        for i, pair in enumerate(facts["pairs"]):
            motions = [arrays[f"motion{number}"][:240] for number in pair["motions"]]
            follower, leader = with_hands(motions[0]), with_hands(motions[1]) + np.array([1, 0, 0])
            np.testing.assert_array_equal(motion_beats(follower), duet[f"beats_follower{i}"])
            np.testing.assert_array_equal(motion_beats(leader), duet[f"beats_leader{i}"])
            assert beat_echo_degree(leader, follower) == pytest.approx(pair["bed"], abs=1e-6)
            got = cross_distance_features(duet[f"follower{i}"], duet[f"leader{i}"])
            np.testing.assert_allclose(got, duet[f"duet_feature{i}"], rtol=1e-5)
        true, pred = arrays["gt24_joints"], arrays["pred40_joints"]
        true, pred = cross_distance_features(true, true[::-1]), cross_distance_features(pred, pred[::-1])
        np.testing.assert_allclose(true, duet["gt_duet_features"], rtol=1e-5)
        np.testing.assert_allclose(pred, duet["pred_duet_features"], rtol=1e-5)
    assert frechet_score(pred, true).value == pytest.approx(facts["fid_cd_pred40_vs_gt24"][0], rel=1e-4)
    assert diversity_score(pred, true).value == pytest.approx(facts["div_pred"], rel=1e-5)
    assert diversity_score(true, true).value == pytest.approx(facts["div_gt"], rel=1e-5)


def test_cross_distance_by_hand() -> None:
    follower, leader = np.zeros((4, 22, 3)), np.zeros((4, 22, 3))
    leader[:, 0] = (0, 3, 4)
    leader[2:, 21, 0] = 1  # half of the time
    feature = cross_distance_features(follower, leader).reshape(10, 10)
    np.testing.assert_allclose(feature[:, 0], 5)
    np.testing.assert_allclose(feature[:, 9], 0.5)
    np.testing.assert_array_equal(feature[:, 1:9], 0)


def test_only_the_two_together_matter() -> None:
    one, two = (synth_motion(i)[:50].astype(np.float64) for i in (1, 2))
    here = cross_distance_features(one, two)
    np.testing.assert_allclose(cross_distance_features(one + 3, two + 3), here)
    swapped = cross_distance_features(two, one).reshape(10, 10)
    np.testing.assert_allclose(swapped.T.reshape(-1), here)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="one shape"):
        cross_distance_features(np.zeros((4, 22, 3)), np.zeros((5, 22, 3)))
    with pytest.raises(ValueError, match="one shape"):
        cross_distance_features(np.zeros((4, 21, 3)), np.zeros((4, 21, 3)))


def apart(frames: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Two dancers, each with all joints in one point, far apart."""
    return np.zeros((frames, 24, 3)), np.full((frames, 24, 3), 100.0)


def put(joints: np.ndarray, **points: tuple[float, float, float]) -> None:
    for name, point in points.items():
        joints[:, JOINT_INDEX[name]] = point


def salsa(shared: Path) -> list[np.ndarray]:
    found = []
    for path in sorted((shared / "data/mocap").glob("salsa_*.npz")):
        with np.load(path) as arrays:
            found.append(arrays["joints"].astype(np.float64))
    return found


def test_hand_hold_by_hand() -> None:
    one, two = apart()
    put(one, left_hand=(50, 1, 0))
    put(two, right_hand=(50, 1, 0.3), left_hand=(50, 1, 0.5))
    two[2:, JOINT_INDEX["left_hand"], 2] = -0.1
    np.testing.assert_allclose(hand_hold_distance(one, two), [0.3, 0.3, 0.1, 0.1])
    np.testing.assert_allclose(hand_hold_distance(two, one), [0.3, 0.3, 0.1, 0.1])


@pytest.mark.shared
def test_real_partners_hold_hands_and_do_not_pass_through_each_other(shared: Path) -> None:
    for one, two in salsa(shared):
        held = (hand_hold_distance(one, two) < HOLD_DISTANCE).mean()
        assert 0.3 < held < 0.9
        depth = interpenetration(one, two)
        assert depth.max() < 0.09
        assert depth.mean() < 0.005
        assert (depth > 0.05).mean() < 0.02
        on_top = two + (one[:, :1] - two[:, :1]) * [1, 0, 1]
        assert interpenetration(one, on_top).mean() > 0.15


FOREARM, SHIN = (
    next(capsule.radius for capsule in CAPSULES if capsule.joint2 == joint)
    for joint in ("left_wrist", "left_ankle")
)


def test_parallel_capsules() -> None:
    one, two = apart()
    put(one, left_elbow=(50, 1, 0), left_wrist=(50, 1.3, 0))
    put(two, left_elbow=(50, 1.5, 0.02), left_wrist=(50, 1.2, 0.02))
    put(one, left_shoulder=(50, -50, 0))
    put(two, left_shoulder=(50, 50, 0.02))
    depth = interpenetration(one, two)
    np.testing.assert_allclose(depth, 2 * FOREARM - 0.02)
    np.testing.assert_allclose(interpenetration(two, one), depth)


def test_crossing_capsules() -> None:
    one, two = apart()
    put(one, left_knee=(50, 1, -0.2), left_ankle=(50, 1, 0.2))
    put(one, left_hip=(50, 1, -50))
    put(
        two,
        right_elbow=(50 + FOREARM, 0.8, 0),
        right_wrist=(50 + FOREARM, 1.2, 0),
        right_shoulder=(50, -50, 0),
    )
    np.testing.assert_allclose(interpenetration(one, two), SHIN)
    two[1:, :, 0] += SHIN / 2
    two[2:, :, 0] += SHIN
    np.testing.assert_allclose(interpenetration(one, two), [SHIN, SHIN / 2, 0, 0], atol=1e-12)


POINT = st.tuples(*[st.integers(-4, 4)] * 3)  # a grid, so that parallel, crossing and empty segments come up


@settings(max_examples=200)
@given(POINT, POINT, POINT, POINT, st.booleans(), st.integers(0, 1000))
def test_segment_distance_against_sampling(
    a: tuple[int, ...], b: tuple[int, ...], c: tuple[int, ...], d: tuple[int, ...], shaken: bool, seed: int
) -> None:
    ends = np.array([a, b, c, d], dtype=float)
    ends += np.random.default_rng(seed).normal(0, 0.3, (4, 3)) * shaken
    a1, b1, c1, d1 = ends
    share = np.linspace(0, 1, 201)[:, None]
    one, two = a1 + share * (b1 - a1), c1 + share * (d1 - c1)
    sampled = np.sqrt(((one[:, None] - two) ** 2).sum(axis=-1)).min()
    got = float(segment_distance(a1, b1, c1, d1))
    # Samples are at most a 400th of the lengths away from the nearest points.
    assert sampled - 2 * 14 / 400 <= got <= sampled + 1e-9
    assert float(segment_distance(d1, c1, a1, b1)) == pytest.approx(got, abs=1e-9)


def test_interpenetration_against_every_pair() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.normal(0, 0.5, (2, 40, 24, 3))
    expected = np.zeros(40)
    for part1 in CAPSULES:
        for part2 in CAPSULES:
            ends = [one[:, JOINT_INDEX[name]] for name in part1[:2]]
            ends += [two[:, JOINT_INDEX[name]] for name in part2[:2]]
            depth = part1.radius + part2.radius - segment_distance(*ends)
            expected = np.maximum(expected, depth)
    np.testing.assert_allclose(interpenetration(one, two), expected)
    np.testing.assert_allclose(interpenetration(two, one), expected)
    np.testing.assert_array_equal(interpenetration(one, two + 50), 0)


@pytest.mark.parametrize("measure", [hand_hold_distance, interpenetration])
def test_bad_dancers(measure) -> None:
    good = np.zeros((4, 24, 3))
    for bad in (good[:, :22], good[:3], good[None], np.full_like(good, np.nan)):
        for pair in ((good, bad), (bad, good)):
            with pytest.raises(ValueError, match=r"must|NaN"):
                measure(*pair)
    with pytest.raises(ValueError, match="at least 3 frames"):
        measure(good[:2], good[:2])
