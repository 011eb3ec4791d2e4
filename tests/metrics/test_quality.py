from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opendance_hf.metrics.quality import (
    CONTACT_HEIGHT,
    TOE_HEIGHT,
    floor_height,
    foot_skate_ratio,
    ground_penetration,
    jitter,
    physical_foot_contact,
    still_ratio,
)
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, PARENTS

ALL = {
    "floor": floor_height,
    "skate": foot_skate_ratio,
    "contact": physical_foot_contact,
    "penetration": lambda joints: ground_penetration(joints, floor=0),
    "jitter": jitter,
    "still": still_ratio,
}
PELVIS, ANKLE, TOE = (JOINT_INDEX[name] for name in ("pelvis", "left_ankle", "left_foot"))
LEFT, RIGHT = [ANKLE, TOE], [JOINT_INDEX["right_ankle"], JOINT_INDEX["right_foot"]]


def standing(frames: int = 101) -> np.ndarray:
    """A body in rest pose whose lower toe joint is TOE_HEIGHT above y = 0: (frames, 24, 3)."""
    body = np.zeros((24, 3))
    for joint in range(1, 24):
        body[joint] = body[PARENTS[joint]] + MEAN_OFFSETS[joint]
    body[:, 1] += TOE_HEIGHT - body[:, 1].min()
    return np.repeat(body[None], frames, axis=0)


def moved(speed: np.ndarray, fps: float = 60.0, axis: int = 0) -> np.ndarray:
    """A standing body that moves as a whole by speed (T-1,), m/s, along an axis."""
    joints = standing(len(speed) + 1)
    joints[1:, :, axis] += np.cumsum(speed)[:, None] / fps
    return joints


def turned(joints: np.ndarray, around: int, degrees_a_frame: float) -> np.ndarray:
    """The body spun about the vertical through one of its joints."""
    angle = np.radians(degrees_a_frame) * np.arange(len(joints))
    pivot = joints[:, [around]]
    x, y, z = np.moveaxis(joints - pivot, -1, 0)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    return np.stack([cos * x + sin * z, y, cos * z - sin * x], axis=-1) + pivot


def mocap(shared: Path, kind: str) -> list[tuple[np.ndarray, float]]:
    found = []
    for path in sorted((shared / "data/mocap").glob(f"{kind}_*.npz")):
        with np.load(path) as arrays:
            found += [(dancer.astype(np.float64), float(arrays["fps"])) for dancer in arrays["joints"]]
    return found


# Foot skate


def test_skate_by_hand() -> None:
    assert foot_skate_ratio(standing()) == 0
    assert foot_skate_ratio(moved(np.full(100, 1.0))) == 1
    speed = np.zeros(100)
    speed[40:70] = 1.0
    assert foot_skate_ratio(moved(speed)) == pytest.approx(0.3)
    assert foot_skate_ratio(moved(speed, axis=2)) == pytest.approx(0.3)
    assert foot_skate_ratio(moved(speed), floor=0.0) == pytest.approx(0.3)


def test_still_by_hand() -> None:
    body = standing(901)
    walk = body + np.linspace(0, 3, 901)[:, None, None] * [1, 0, 0]  # 0.2 m/s
    slow = body + np.linspace(0, 1.5, 901)[:, None, None] * [1, 0, 0]
    assert still_ratio(body) == still_ratio(slow) == 1
    assert still_ratio(walk) == 0
    assert still_ratio(walk, fps=30) == 1
    assert still_ratio(slow[:4]) == 1
    # Five seconds of standing, then a walk: a window counts until three quarters of it, 0.15 of 0.2 m/s, are walked.
    both = np.concatenate([body[:300], walk[:600]])
    assert still_ratio(both) == pytest.approx((300 - 120 + 90) / (899 - 120 + 1), abs=2 / 780)


@pytest.mark.parametrize("fps", [20, 30, 60, 120])
def test_skate_threshold_is_a_speed(fps: float) -> None:
    assert foot_skate_ratio(moved(np.full(100, 0.45), fps), fps=fps) == 0
    assert foot_skate_ratio(moved(np.full(100, 0.55), fps), fps=fps) == 1
    assert foot_skate_ratio(moved(np.full(100, 0.45), fps), fps=fps, speed=0.4) == 1


def test_one_standing_foot_suffices() -> None:
    joints = standing()
    joints[:, LEFT] += np.linspace(0, 2, 101)[:, None, None] * [1, 0, 0]  # 1.2 m/s
    assert foot_skate_ratio(joints) == 0
    joints[:, RIGHT, 1] += CONTACT_HEIGHT  # now the gliding foot is the only one on the ground
    assert foot_skate_ratio(joints) == 1


@pytest.mark.parametrize("pivot", ["left_ankle", "left_foot"])
def test_turning_on_a_foot_is_no_sliding(pivot: str) -> None:
    joints = standing()
    joints[:, RIGHT, 1] += 0.3
    spun = turned(joints, JOINT_INDEX[pivot], 8)  # 480° a second: the other end of the foot moves at 1.1 m/s
    other = TOE if pivot == "left_ankle" else ANKLE
    assert np.linalg.norm(np.diff(spun[:, other], axis=0), axis=-1).min() * 60 > 1
    assert foot_skate_ratio(spun) == 0
    # About a point that is no part of the foot it is one.
    assert foot_skate_ratio(turned(joints, JOINT_INDEX["right_hip"], 24)) == 1


def test_turning_on_the_middle_of_the_foot_is_no_sliding() -> None:
    joints = standing()
    joints[:, RIGHT, 1] += 0.3
    joints[:, PELVIS] = (joints[:, ANKLE] + joints[:, TOE]) / 2
    assert foot_skate_ratio(turned(joints, PELVIS, 24)) == 0


def test_in_the_air_nothing_slides() -> None:
    flying = moved(np.full(100, 3.0))
    flying[:, :, 1] += CONTACT_HEIGHT
    assert foot_skate_ratio(flying, floor=0.0) == 0
    # Contact needs both frames of a step: 21 frames on the ground have 20 steps.
    landing = moved(np.full(100, 3.0))
    landing[:40, :, 1] += 1
    landing[61:, :, 1] += 1
    assert foot_skate_ratio(landing, floor=0.0) == pytest.approx(0.2)


def test_floor_is_found_despite_jumps_and_glitches() -> None:
    rng = np.random.default_rng(0)
    joints = standing(200) + np.array([3, 0.7, -2])
    assert floor_height(joints) == pytest.approx(0.7)
    joints[:120, :, 1] += rng.uniform(0, 0.5, 120)[:, None]
    joints[[150, 160], :, 1] -= 1
    assert floor_height(joints) == pytest.approx(0.7, abs=0.01)
    assert foot_skate_ratio(moved(np.full(100, 1.0)) - np.array([0, 5, 0])) == 1


@pytest.mark.shared
def test_skate_of_real_dances(shared: Path) -> None:
    salsa = [foot_skate_ratio(joints, fps=fps) for joints, fps in mocap(shared, "salsa")]
    assert np.median(salsa) < 0.01
    assert max(salsa) < 0.03
    for joints, fps in mocap(shared, "modern"):
        whole, half = foot_skate_ratio(joints, fps=fps), foot_skate_ratio(joints[::2], fps=fps / 2)
        assert whole < 0.07
        assert whole == pytest.approx(half, abs=0.015)
    joints, fps = mocap(shared, "salsa")[0]
    drift = joints + np.arange(len(joints))[:, None, None] / fps * [1, 0, 0]
    assert foot_skate_ratio(drift, fps=fps) > 0.6


# Physical foot contact


def skating(frames: int = 61, fps: float = 30.0) -> np.ndarray:
    """Feet at 0.6 and 0.9 m/s sideways, pelvis accelerated by 3 m/s² along x."""
    seconds = np.arange(frames) / fps
    joints = standing(frames)
    joints[:, LEFT, 2] += 0.6 * seconds[:, None]
    joints[:, RIGHT, 2] += 0.9 * seconds[:, None]
    joints[:, PELVIS, 0] += 1.5 * seconds**2
    return joints


@pytest.mark.parametrize("fps", [24, 30, 50, 60, 120])
def test_foot_contact_by_hand(fps: float) -> None:
    joints = skating(fps=fps)
    feet = 10_000 * (0.6 / 30) * (0.9 / 30)  # = 6
    assert physical_foot_contact(joints, fps=fps) == pytest.approx(feet * 3 / 9.81)
    assert physical_foot_contact(joints, fps=fps, acceleration_scale=3) == pytest.approx(feet)
    assert physical_foot_contact(joints, fps=fps, acceleration_scale=None) == pytest.approx(feet)


def test_foot_contact_needs_both_feet_and_the_slower_end_of_each() -> None:
    one_stands = skating()
    one_stands[:, LEFT] = one_stands[0, LEFT]
    assert physical_foot_contact(one_stands, fps=30) == 0
    on_its_toe = skating()
    on_its_toe[:, TOE] = on_its_toe[0, TOE]
    assert physical_foot_contact(on_its_toe, fps=30) == 0
    hopping = skating()
    hopping[:, LEFT + RIGHT, 1] += np.arange(61)[:, None]  # vertical steps of the feet do not count
    assert physical_foot_contact(hopping, fps=30) == pytest.approx(physical_foot_contact(skating(), fps=30))


def test_falling_is_free_but_rising_is_not() -> None:
    joints = skating()
    joints[:, PELVIS, 0] = 0
    seconds = np.arange(61) / 30
    joints[:, PELVIS, 1] -= 9.81 / 2 * seconds**2
    assert physical_foot_contact(joints, fps=30) == pytest.approx(0, abs=1e-9)
    joints[:, PELVIS, 1] += 9.81 * seconds**2
    assert physical_foot_contact(joints, fps=30) == pytest.approx(6)


def test_foot_contact_of_a_steady_body() -> None:
    steady = moved(np.full(100, 1.0)).astype(np.float32)
    assert physical_foot_contact(steady, acceleration_scale=None) is None
    assert physical_foot_contact(steady) == pytest.approx(0, abs=0.01)


@pytest.mark.shared
def test_foot_contact_does_not_depend_on_length_or_rate(shared: Path) -> None:
    by_maximum = []
    for joints, fps in mocap(shared, "salsa"):
        parts = np.split(joints[: len(joints) // 300 * 300], len(joints) // 300)
        for scale in (9.81, None):
            whole, *of_parts = (
                physical_foot_contact(clip, fps=fps, acceleration_scale=scale)
                for clip in (np.concatenate(parts), *parts)
            )
            if scale is None:
                by_maximum.append(np.mean(of_parts) / whole)
            else:
                assert np.mean(of_parts) == pytest.approx(whole, rel=0.05)
    assert np.median(by_maximum) > 1.2  # the clip's own maximum makes short clips look worse
    for joints, fps in mocap(shared, "modern"):
        at_half = physical_foot_contact(joints[::2], fps=fps / 2)
        assert physical_foot_contact(joints, fps=fps) == pytest.approx(at_half, rel=0.15)


# Ground and jitter


def test_penetration_by_hand() -> None:
    joints = standing(100)
    assert ground_penetration(joints, floor=0.0) == (0, 0)
    joints[:10, :, 1] -= TOE_HEIGHT + 0.05
    joints[10:30, TOE, 1] = -0.005
    mean, share = ground_penetration(joints, floor=0.0)
    assert mean == pytest.approx((10 * 0.05 + 20 * 0.005) / 100)
    assert share == pytest.approx(0.1)
    assert ground_penetration(joints + np.array([0, 2, 0]), floor=2.0) == pytest.approx((mean, share))
    with pytest.raises(ValueError, match="floor"):
        ground_penetration(joints, floor=np.nan)


@pytest.mark.parametrize("fps", [30, 60, 120])
def test_jitter_by_hand(fps: float) -> None:
    seconds = np.arange(50) / fps
    joints = standing(50)
    joints[:, :, 1] += 7 * seconds[:, None] ** 2  # acceleration is no jerk
    assert jitter(joints, fps=fps) == pytest.approx(0, abs=1e-6)
    joints[:, :12, 0] += 4 * seconds[:, None] ** 3  # 24 m/s³ of half of the joints
    assert jitter(joints, fps=fps) == pytest.approx(12, rel=1e-6)


# All


@settings(max_examples=20)
@given(st.sampled_from(sorted(ALL)), st.floats(-50, 50), st.floats(-50, 50), st.integers(0, 100))
def test_where_a_dance_takes_place_does_not_matter(name: str, x: float, z: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    joints = standing(40) + np.cumsum(rng.normal(0, 0.01, (40, 24, 3)), axis=0)
    here, there = ALL[name](joints), ALL[name](joints + np.array([x, 0, z]))
    np.testing.assert_allclose(there, here, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", sorted(ALL))
@pytest.mark.parametrize("shape", [(10, 23, 3), (10, 24, 2), (24, 3), (2, 24, 3), (2, 10, 24, 3), (0, 24, 3)])
def test_bad_shape(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="joints must"):
        ALL[name](np.zeros(shape))


@settings(max_examples=20)
@given(
    st.sampled_from(sorted(ALL)),
    st.sampled_from([np.nan, np.inf]),
    st.integers(0, 9),
    st.integers(0, 23),
    st.integers(0, 2),
)
def test_not_a_number(name: str, bad: float, frame: int, joint: int, axis: int) -> None:
    joints = standing(10)
    joints[frame, joint, axis] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        ALL[name](joints)


@pytest.mark.parametrize("measure", [foot_skate_ratio, physical_foot_contact, jitter])
@pytest.mark.parametrize("fps", [0, -60, np.nan])
def test_bad_rate(measure, fps: float) -> None:
    with pytest.raises(ValueError, match="fps"):
        measure(standing(10), fps=fps)


def test_too_short_and_bad_scale() -> None:
    with pytest.raises(ValueError, match="at least 4 frames"):
        jitter(standing(3))
    with pytest.raises(ValueError, match="at least 5 frames"):
        physical_foot_contact(standing(4), fps=60)
    with pytest.raises(ValueError, match="acceleration_scale"):
        physical_foot_contact(standing(), acceleration_scale=0)
