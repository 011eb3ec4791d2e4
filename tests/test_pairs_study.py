"""The split by movement behind the figures of docs/training.md on ballroom pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import pairs_study as study
from benchmarks.step_beat import Dance
from opendance_hf.data.windows import mirrored_joints


def movement(seed: int, seconds: float) -> np.ndarray:
    """Smooth random motion of a body with its hips apart, (T, 24, 3)."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(60 * seconds)) / 60
    rates, phases = rng.uniform(0.2, 1.2, (2, 24, 3))
    joints = 0.3 * np.sin(2 * np.pi * (rates * time[:, None, None] + phases))
    joints[:, 0] = 0
    joints[:, 1], joints[:, 2] = [0.1, 0, 0], [-0.1, 0, 0]
    return joints + rng.normal(0, 0.3, (24, 3)) * (np.arange(24) > 2)[:, None]


def turned(joints: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return joints @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])


TAKE = movement(1, 6)


@pytest.mark.parametrize(
    "copy",
    [lambda j: turned(j, 2.0) + np.array([3, 0, -1]), mirrored_joints],
    ids=["elsewhere and turned", "mirrored"],
)
def test_a_take_that_recurs_is_found_and_nothing_else(copy: Callable[[np.ndarray], np.ndarray]) -> None:
    own = np.concatenate([movement(2, 6), copy(TAKE), movement(3, 6)])
    found = study.recurring(own, [np.concatenate([movement(4, 3), TAKE, movement(5, 3)])])
    assert found[60:120].all()
    # A window that begins or ends within the take may be near enough; more than half a second outside of it is too much.
    assert not found[:55].any()
    assert not found[125:].any()


def test_a_dance_without_a_common_take_is_kept_whole() -> None:
    own = movement(2, 10)
    found = study.recurring(own, [TAKE, movement(6, 0.5)])
    assert study.remaining(found, len(own)) == [(0, 600)]


def test_stretches_shorter_than_four_seconds_are_left_out() -> None:
    recurs = np.zeros(150, dtype=bool)
    recurs[[39, 80]] = True
    assert study.remaining(recurs, 897) == [(240, 480), (486, 897)]


def test_pieces_have_the_beats_of_their_song_in_their_own_frames(tmp_path: Path) -> None:
    joints, beats = np.concatenate([TAKE, movement(2, 9)]), np.arange(7, 900, 30)
    test = Dance("C_7", TAKE, beats, beats)
    study.write_pieces([Dance("C_1", joints, beats, beats)], [test], tmp_path)
    (file,) = tmp_path.glob("*.npz")
    start = int(file.stem.removeprefix("C_1_"))
    with np.load(file) as arrays:
        assert 360 <= start <= 390
        np.testing.assert_array_equal(arrays["music_beats"], beats - start)
        np.testing.assert_allclose(arrays["joints"], joints[start : start + len(arrays["joints"])], atol=1e-6)
        assert start + len(arrays["joints"]) == len(joints)
