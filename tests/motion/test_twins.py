from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import MEAN_OFFSETS, mirror_index
from opendance_hf.motion.twins import are_twins, mirrored, tracks, twin_candidates

FRAMES = 720


def dance(seed: int, step: int | None = None) -> np.ndarray:
    """(1, 720, 24, 3) joints of 12 s; dances of one ``step`` repeat the same two seconds, each in a style of its own."""
    rng = np.random.default_rng([seed, 5])
    poses = gaussian_filter1d(rng.normal(size=(FRAMES, 24, 3)), 15, axis=0)
    if step is not None:
        basic = gaussian_filter1d(
            np.random.default_rng(step).normal(size=(120, 24, 3)), 15, axis=0, mode="wrap"
        )
        poses = np.tile(basic, (FRAMES // 120, 1, 1)) + 0.8 * poses
    poses[:, 0] *= 0.2
    poses = 0.3 * poses / poses.std()
    return forward_kinematics(poses[None], np.zeros((1, FRAMES, 3)), MEAN_OFFSETS.astype(np.float64))


def estimated(joints: np.ndarray, seed: int = 0, tilt_rad: float = 0.1) -> np.ndarray:
    """The joints as another run of an estimator might give them: smooth errors of 2 cm, the camera tilted."""
    rng = np.random.default_rng(seed)
    noise = gaussian_filter1d(rng.normal(size=joints.shape), 6, axis=1)
    cos, sin = np.cos(tilt_rad), np.sin(tilt_rad)
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return (joints + 0.02 * noise / noise.std()) @ turn.T


@pytest.mark.parametrize("change", ["again", "late", "short", "fast", "slow", "mirrored"])
def test_a_motion_is_known_when_it_is_estimated_again(change: str) -> None:
    joints, fps = dance(1), 60.0
    other = estimated(joints)
    if change == "late":
        other = other[:, 95:]
    if change == "short":
        other = other[:, 200 : 200 + 270]
    if change == "fast":
        fps = 60 / 1.03
    if change == "slow":
        fps = 60 / 0.97
    if change == "mirrored":
        other = (other * [-1, 1, 1])[:, :, mirror_index()]
    one, two = tracks(joints), tracks(other, fps)
    assert are_twins(one, two)
    assert are_twins(two, one)
    others = [tracks(dance(seed)) for seed in range(2, 7)]
    assert twin_candidates([one, *others, two])[0] == (0, 6)


def test_a_long_dance_at_another_speed_is_found() -> None:
    """Four percent of five minutes are twelve seconds."""
    long = np.concatenate([dance(seed) for seed in range(20, 45)], axis=1)
    one, two = tracks(long), tracks(estimated(long), 60 / 1.04)
    assert are_twins(one, two)
    assert (0, 6) in twin_candidates([one, *(tracks(dance(seed)) for seed in range(2, 7)), two])


def test_other_dances_and_other_takes_of_a_step_are_not_twins() -> None:
    takes = [tracks(dance(seed)) for seed in range(5)] + [
        tracks(dance(seed, step=0)) for seed in range(5, 10)
    ]
    assert not any(are_twins(a, b) for i, a in enumerate(takes) for b in takes[:i])


def test_standing_still_is_nobodys_twin() -> None:
    still = np.repeat(dance(0)[:, :1], FRAMES, axis=1)
    one, two = tracks(estimated(still, 1)), tracks(estimated(still, 2))
    assert not are_twins(one, two)
    assert twin_candidates([tracks(still), tracks(still)]) == []
    assert twin_candidates([]) == []


def test_one_of_two_dancers_is_enough_and_short_ones_are_nobodys() -> None:
    alone, couple = dance(1), np.concatenate([dance(2), dance(1)])
    assert are_twins(tracks(alone), tracks(couple))
    assert not are_twins(tracks(alone), tracks(alone[:, :150]))
    assert not are_twins(tracks(alone), tracks(alone[:, :1]))


def test_the_view_does_not_matter() -> None:
    joints = dance(3)
    cos, sin = np.cos(1.1), np.sin(1.1)
    turned = joints @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]]).T + [1.0, 0.2, -3.0]
    np.testing.assert_allclose(tracks(turned), tracks(joints), atol=1e-5)
    mirror = (joints * [-1, 1, 1])[:, :, mirror_index()]
    np.testing.assert_allclose(tracks(mirror), mirrored(tracks(joints)), atol=1e-5)


@pytest.mark.shared
def test_takes_of_real_salsa_are_not_twins(shared: Path) -> None:
    takes = [tracks(np.load(shared / "data" / "mocap" / f"salsa_{n:02d}.npz")["joints"]) for n in range(1, 5)]
    assert not any(are_twins(a, b) for i, a in enumerate(takes) for b in takes[:i])
    assert are_twins(takes[0], takes[0][:, 40:200])
