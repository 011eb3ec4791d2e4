from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from opendance_hf.metrics import (
    beat_echo_degree,
    cross_distance_features,
    diversity_score,
    frechet_score,
    motion_beats,
)
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
