"""The studies behind the tables of docs/training.md on the dancers of the package."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import couple, dancer
from tests.bodies import rest_joints

BEATS = np.arange(0.0, 600.0, 30.0)


def walking(beats: np.ndarray, x: float = 0.0) -> np.ndarray:
    """A dancer (600, 24, 3) whose feet go to and fro, one at a time, and land on every beat."""
    joints = np.repeat(rest_joints()[None].astype(np.float64), 600, axis=0)
    joints[..., 1] -= joints[..., 1].min()
    time = np.arange(600)
    for number, beat in enumerate(beats):
        swing = np.clip((time - beat + 18) / 18, 0, 1)
        ahead = 0.15 * (1 - np.cos(np.pi * swing)) * (1 if number // 2 % 2 == 0 else -1)
        joints[:, [7, 10] if number % 2 else [8, 11], 2] += ahead[:, None]
    return joints + np.array([x, 0, 0])


def test_steps_on_a_beat_score_above_those_of_another_song() -> None:
    other = np.arange(0.0, 600.0, 23.0)
    dances = [walking(BEATS), walking(other)]
    row = dancer.score("walk", dances, [[0], [1]], [BEATS, other], dances)
    assert row.own > row.other + 0.2
    assert row.difference == pytest.approx(row.own - row.other)
    wrong = dancer.score("exchanged", dances[::-1], [[0], [1]], [BEATS, other], dances)
    assert wrong.difference == pytest.approx(-row.difference)
    assert row.fid_k == pytest.approx(0, abs=1e-6)


def test_a_couple_is_two_dancers_and_what_is_between_them() -> None:
    beats = [BEATS, np.arange(0.0, 600.0, 23.0)]
    real = [np.stack([walking(one), walking(one, 0.6)]) for one in beats]
    row = couple.measure("couple", real, [[0], [1]], beats, real)
    alone = dancer.score("alone", [one[0] for one in real], [[0], [1]], beats, [one[0] for one in real])
    assert row.dancers.own == pytest.approx(alone.own)
    assert row.dancers.dances == 4
    far = couple.measure(
        "far", [one + [[[[0]]], [[[3]]]] * np.array([1, 0, 0]) for one in real], [[0], [1]], beats, real
    )
    assert far.hands_apart_m > row.hands_apart_m + 1
    assert far.hold == 0
