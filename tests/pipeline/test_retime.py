"""Exactly 60 frames a second from any rhythm, by interpolation on the sphere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.motion.skeleton import MEAN_OFFSETS
from opendance_hf.pipeline.clip import Clip, Fit, Landmarks
from opendance_hf.pipeline.stages.retime import Retime
from opendance_hf.schema import Camera

CAMERA = Camera(64, 48, 80.0, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 4.0))


def turning(times: np.ndarray, spin: np.ndarray, velocity: np.ndarray) -> Fit:
    """Joints that turn at constant rates: ``spin`` (D, 24, 3) radians a second; ``velocity`` (D, 3)."""
    since = times - times[0]
    rotations = Rotation.from_rotvec((since[:, None, None] * spin[:, None]).reshape(-1, 3)).as_matrix()
    return Fit(
        times_s=times,
        rotations=rotations.reshape(len(spin), len(times), 24, 3, 3).astype(np.float32),
        transl=(since[:, None] * velocity[:, None]).astype(np.float32),
        rest_offsets=np.stack([MEAN_OFFSETS * (1 + 0.05 * d) for d in range(len(spin))]).astype(np.float32),
        camera=CAMERA,
    )


def random_fit(times: np.ndarray, dancers: int = 1, seed: int = 0) -> Fit:
    rng = np.random.default_rng(seed)
    return turning(times, rng.uniform(-3, 3, (dancers, 24, 3)), rng.uniform(-1, 1, (dancers, 3)))


def sure(fitted: Fit) -> np.ndarray:
    return np.ones(fitted.transl.shape[:2], np.float32)


def check(fitted: Fit) -> None:
    """What holds for every result."""
    motion = Retime().resample(fitted, sure(fitted))
    assert motion.start_s == fitted.times_s[0]
    assert motion.num_frames == round(60 * (motion.end_s - motion.start_s))
    frame_s = float(np.median(np.diff(fitted.times_s)))
    assert motion.end_s == pytest.approx(fitted.times_s[-1] + min(frame_s, 1 / 15), abs=0.5 / 60 + 1e-9)
    again = forward_kinematics(
        motion.poses.astype(np.float64), motion.transl.astype(np.float64), fitted.rest_offsets[:, None]
    )
    assert np.abs(motion.joints - again).max() < 1e-5
    assert (
        motion.joints.dtype
        == motion.poses.dtype
        == motion.transl.dtype
        == motion.confidence.dtype
        == np.float32
    )
    assert motion.joints.shape == (len(fitted.transl), motion.num_frames, 24, 3)
    # Between the first and the last source frame, a constant turn is met exactly.
    clock = motion.start_s + np.arange(motion.num_frames) / 60
    inside = clock <= fitted.times_s[-1]
    since = clock[inside] - motion.start_s
    span = fitted.times_s[-1] - fitted.times_s[0]
    velocity = fitted.transl[:, -1].astype(np.float64) / span
    np.testing.assert_allclose(motion.transl[:, inside], since[:, None] * velocity[:, None], atol=1e-5)
    # Still, not extrapolated, behind it.
    np.testing.assert_allclose(
        motion.transl[:, ~inside], fitted.transl[:, -1:].repeat((~inside).sum(), 1), atol=1e-6
    )


@pytest.mark.parametrize("fps", [24, 25, 24000 / 1001, 30000 / 1001, 30, 60, 120])
def test_usual_rates(fps: float) -> None:
    check(random_fit(1.5 + np.arange(round(2 * fps)) / fps, dancers=2))


@given(st.lists(st.floats(0.005, 0.25), min_size=4, max_size=60), st.floats(0, 100), st.integers(0, 1000))
def test_any_rhythm(steps: list[float], start_s: float, seed: int) -> None:
    check(random_fit(start_s + np.concatenate([[0], np.cumsum(steps)]), seed=seed))


@settings(max_examples=30)
@given(st.lists(st.floats(0.01, 0.1), min_size=10, max_size=40), st.integers(0, 1000))
def test_constant_angular_velocity_is_met_exactly(steps: list[float], seed: int) -> None:
    spin = np.random.default_rng(seed).uniform(-8, 8, (1, 24, 3))
    times = np.concatenate([[0], np.cumsum(steps)])
    motion = Retime().resample(turning(times, spin, np.zeros((1, 3))), np.ones((1, len(times)), np.float32))
    clock = np.arange(motion.num_frames) / 60
    inside = clock <= times[-1]
    truth = Rotation.from_rotvec((clock[inside, None, None] * spin[0]).reshape(-1, 3)).as_matrix()
    found = axis_angle_to_matrix(motion.poses[0, inside].astype(np.float64))
    assert np.abs(found.reshape(-1, 3, 3) - truth).max() < 1e-5


def test_sixty_to_sixty_changes_nothing() -> None:
    fitted = random_fit(np.arange(90) / 60)
    motion = Retime().resample(fitted, sure(fitted))
    assert motion.num_frames == 90
    np.testing.assert_allclose(axis_angle_to_matrix(motion.poses.astype(float)), fitted.rotations, atol=1e-5)
    np.testing.assert_allclose(motion.transl, fitted.transl, atol=1e-6)


def test_no_frame_is_repeated() -> None:
    """25 to 60 by repetition would leave most steps at zero."""
    fitted = random_fit(np.arange(75) / 25)
    steps = np.linalg.norm(np.diff(Retime().resample(fitted, sure(fitted)).transl[0, :-3], axis=0), axis=-1)
    assert np.ptp(steps) < 1e-3 * steps.mean()


def test_confidence_is_interpolated_and_bounded() -> None:
    fitted = random_fit(np.arange(31) / 30)
    ramp = np.linspace(0, 1, 31, dtype=np.float32)[None]
    motion = Retime().resample(fitted, ramp)
    np.testing.assert_allclose(motion.confidence[0, :-1], np.arange(61) / 60, atol=1e-6)
    assert motion.confidence.max() <= 1


def test_a_long_last_gap_is_not_held() -> None:
    """At two frames a second the last frame is not held for half a second."""
    times = np.arange(10) / 2
    motion = Retime().resample(random_fit(times), np.ones((1, 10), np.float32))
    assert motion.end_s <= times[-1] + 1 / 15 + 1 / 120


def test_a_clip_gets_the_span_of_its_motion_and_the_confidence_of_its_landmarks() -> None:
    fitted = random_fit(2.0 + np.arange(31) / 30)
    visibility = np.repeat(np.linspace(0.2, 0.8, 31, dtype=np.float32)[None, :, None], 33, axis=2)
    points = np.zeros((1, 31, 33, 3), np.float32)
    landmarks = Landmarks(fitted.times_s, points[..., :2], points, visibility, points[..., 0, 0])
    clip = Clip(Path("v.mp4"), "0" * 64, start_s=0.0, end_s=9.0, landmarks=landmarks, fit=fitted)
    found = Retime()(clip)
    assert (found.start_s, found.end_s) == (found.motion.start_s, found.motion.end_s)
    assert found.end_s == pytest.approx(3.0 + 1 / 30, abs=1 / 120)
    np.testing.assert_allclose(found.motion.confidence[0, :61], np.linspace(0.2, 0.8, 61), atol=1e-6)


def test_a_mean_that_is_rounded_above_one_is_one() -> None:
    fitted = random_fit(np.arange(31) / 30)
    assert Retime().resample(fitted, sure(fitted) * np.float32(1 + 1e-6)).confidence.max() == 1
