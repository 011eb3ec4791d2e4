from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.pipeline.clip import CameraMotion, CameraPath, Clip, Fit, Motion
from opendance_hf.pipeline.stage import Dropped
from opendance_hf.pipeline.stages.gate import Gate
from opendance_hf.pipeline.stages.shots import ShiftMeter, Shots
from tests.pipeline.truth import VIDEO, camera_at, dance

FRAMES = 360
#: With the limit of the paper's profile for backs, which the default has not.
GATE = Gate(max_back_to_camera=0.95)
#: Score to the field that limits it.
LIMITS = {
    "upside_down": "max_upside_down",
    "jitter_mps2": "max_jitter_mps2",
    "mean_speed_mps": "min_mean_speed_mps",
    "repetition": "max_repetition",
    "back_to_camera": "max_back_to_camera",
    "camera_motion": "max_camera_motion",
    "missing_picture": "max_missing_picture",
    "missing_sound": "max_missing_sound",
}


def motion(joints: np.ndarray) -> Motion:
    joints = joints.astype(np.float32)
    shape = joints.shape[:2]
    return Motion(0.0, FRAMES / 60, joints, joints[:, :, 0], joints, np.ones(shape, np.float32))


def danced(seed: int = 0, facing_deg: float = 0.0) -> np.ndarray:
    poses, transl, offsets = dance(seed, FRAMES, 60.0, facing_deg=facing_deg)
    return np.asarray(forward_kinematics(poses, transl, offsets))


def scores_of(*dancers: np.ndarray, camera_motion: float = 0.0) -> dict[str, float]:
    measured = GATE.measure(motion(np.stack(dancers)), camera_at(), camera_motion)
    return {**measured, "missing_picture": 0.0, "missing_sound": 0.0}


def test_a_dance_passes_and_every_score_is_there() -> None:
    scores = scores_of(danced())
    assert GATE.first_broken(scores) is None
    assert set(scores) == set(LIMITS)


def test_what_is_wrong_is_said_with_its_number() -> None:
    fine = danced()
    rng = np.random.default_rng(0)
    upside_down = fine @ axis_angle_to_matrix(np.array([np.pi, 0, 0])).T
    still = np.repeat(fine[:1], FRAMES, axis=0)
    wrong = {
        "upside_down": scores_of(upside_down),
        "jitter_mps2": scores_of(fine + rng.normal(0, 0.02, fine.shape)),
        "mean_speed_mps": scores_of(still),
        "back_to_camera": scores_of(danced(facing_deg=180)),
        "camera_motion": scores_of(fine, camera_motion=0.5),
    }
    for name, scores in wrong.items():
        _, detail = GATE.first_broken(scores) or ("", "")
        assert f"{scores[name]:.2f}" in detail
        assert f" {getattr(GATE, LIMITS[name]):g} " in detail
        wider = {LIMITS[name]: 0.0 if LIMITS[name].startswith("min") else 1e9}
        assert replace(GATE, **wider).first_broken(scores) is None, "the only limit it breaks"


def test_backs_are_left_to_annotators_by_default() -> None:
    scores = scores_of(danced(facing_deg=180))
    assert scores["back_to_camera"] == 1
    assert Gate().first_broken(scores) is None


def test_one_bad_dancer_of_two_is_enough() -> None:
    fine = danced()
    assert GATE.first_broken(scores_of(fine, danced(1) + np.array([1.5, 0, 0]))) is None
    flip = axis_angle_to_matrix(np.array([np.pi, 0, 0])).T
    bad = {
        "upside_down": fine @ flip,
        "jitter_mps2": fine + np.random.default_rng(0).normal(0, 0.02, fine.shape),
        "mean_speed_mps": np.repeat(fine[:1], FRAMES, axis=0),
        "repetition": np.tile(np.concatenate([fine[:60], fine[:60][::-1]]), (3, 1, 1)),
        "back_to_camera": danced(facing_deg=180),
    }
    for name, dancer in bad.items():
        alone = scores_of(dancer)[name]
        assert scores_of(dancer, fine)[name] == scores_of(fine, dancer)[name] == alone
        assert alone != scores_of(fine)[name]


def test_repetition_is_what_comes_again() -> None:
    fine = danced()
    loop = np.concatenate([fine[:60], fine[:60][::-1]])
    assert GATE.repetition(np.tile(loop, (3, 1, 1))) > 0.9
    assert GATE.repetition(fine) < 0.6
    walking = np.tile(loop, (3, 1, 1)) + np.linspace(0, 5, FRAMES)[:, None, None] * (1.0, 0.0, 0.0)
    assert GATE.repetition(walking) > 0.9, "wherever the dancer is"
    with np.errstate(all="raise"):
        assert GATE.repetition(np.repeat(fine[:1], FRAMES, axis=0)) == 0


def test_a_movement_that_has_not_come_back_yet_is_not_repetition() -> None:
    """After four of its five seconds poses are more alike than halfway, and still go on getting more so."""
    times = np.arange(20 * 60) / 60
    joints = np.zeros((len(times), 24, 3))
    joints[:, 1:, 0], joints[:, 1:, 1] = (f(2 * np.pi * times / 5)[:, None] for f in (np.sin, np.cos))
    assert GATE.repetition(joints) == 0
    assert replace(GATE, max_period_s=6.0).repetition(joints) > 0.9


def test_slow_motion_is_no_repetition() -> None:
    times = np.arange(20 * 60) / 60
    waves = np.stack([np.sin(2 * np.pi * times / period) for period in (15.3, 16.7, 18.1)], axis=1)
    joints = np.repeat(waves[:, None] * 0.3, 24, axis=1)
    joints[:, ::2] *= -1
    assert GATE.repetition(joints) < 0.5
    joints[:, ::2] += np.sin(2 * np.pi * times / 2.0)[:, None, None]
    assert GATE.repetition(joints) > 0.5, "a quick one on top of it is"


def room(shift: int) -> np.ndarray:
    pattern = np.random.default_rng(0).integers(0, 255, (12, 40), np.uint8).repeat(10, 0).repeat(10, 1)
    return np.repeat(pattern[:, shift : shift + 200, None], 3, axis=2)


def test_a_camera_that_pans_is_told_from_one_that_stands() -> None:
    times = np.arange(20) / 20
    for step, expected in ((0, 0.0), (6, 6 * 20 / 120)):
        camera = ShiftMeter(Shots())
        for t in range(20):
            picture = room(step * t).copy()
            picture[40:100, 20 + 3 * t : 60 + 3 * t] = (200, 30, 30)  # somebody walks
            camera.add(picture)
        assert CameraMotion(times, np.array(camera.shifts)).speed() == pytest.approx(
            expected, rel=0.15, abs=0.08
        )


def test_a_flash_and_a_blackout_are_no_camera_motion() -> None:
    camera = ShiftMeter(Shots())
    for level in (None, 0, 0, None, 255, None):
        camera.add(room(0) if level is None else np.full_like(room(0), level))
    assert max(camera.shifts) == 0


def filmed(joints: np.ndarray, speed: float = 0.0) -> Clip:
    """A clip from second 2 on, before a camera that moves at this speed then, and stood before."""
    times = np.arange(60 * 10) / 60
    shifts = np.where(times < 2, 0.0, speed / 60)
    moved = replace(motion(joints[None]), start_s=2.0, end_s=2.0 + FRAMES / 60)
    fit = Fit(times, moved.poses, moved.transl, np.zeros((1, 24, 3), np.float32), camera_at())
    return Clip(
        Path("v.mp4"), "0" * 64, start_s=2.0, end_s=2.0 + FRAMES / 60, camera_motion=CameraMotion(times, shifts),
        fit=fit, motion=moved, scores={"earlier": 1.0}, video=VIDEO,
    )  # fmt: skip


def test_a_sequence_beyond_a_limit_is_dropped_and_one_within_them_keeps_its_scores() -> None:
    kept = GATE(filmed(danced(), speed=0.39))
    assert isinstance(kept, Clip)
    assert kept.scores == {"earlier": 1.0, **scores_of(danced(), camera_motion=kept.scores["camera_motion"])}
    assert kept.scores["camera_motion"] == pytest.approx(0.39)
    dropped = GATE(filmed(danced(), speed=0.5))
    reason = "the camera moves too much: image heights per second"
    assert dropped == Dropped(2.0, 8.0, reason, "0.50, at most 0.4 allowed")
    still = GATE(filmed(np.repeat(danced()[:1], FRAMES, axis=0)))
    assert str(still) == "standing still: mean speed of the joints in m/s (0.00, at least 0.15 required)"


def test_a_camera_whose_turn_and_zoom_are_taken_out_may_move_more_but_not_wildly() -> None:
    times = np.arange(60 * 10) / 60
    path = CameraPath(times, np.zeros((600, 3)), np.ones(600), np.zeros(600), np.zeros(600, int))
    shaken = replace(filmed(danced(), speed=0.7), steadied=path)
    kept = GATE(shaken)
    assert isinstance(kept, Clip)
    assert kept.scores["camera_motion"] == pytest.approx(0.7)
    assert isinstance(GATE(filmed(danced(), speed=0.7)), Dropped)
    wild = GATE(replace(filmed(danced(), speed=1.2), steadied=path))
    reason = "the camera moves too much: image heights per second"
    assert wild == Dropped(2.0, 8.0, reason, "1.20, at most 1 allowed")


def test_missing_frames_and_missing_sound_are_measured_and_limited() -> None:
    clip = filmed(danced())
    frames = np.flatnonzero((clip.fit.times_s < 3) | (clip.fit.times_s >= 3.9))
    times = clip.fit.times_s[frames]
    gap = replace(clip, fit=replace(clip.fit, times_s=times))
    dropped = replace(GATE, max_missing_picture=0.1)(gap)
    reason = "frames are missing: share of the time without a picture"
    assert dropped == Dropped(2.0, 8.0, reason, "0.15, at most 0.1 allowed")
    measured = GATE(gap)
    assert isinstance(measured, Clip)
    assert measured.scores["missing_picture"] == pytest.approx((0.9 + 1 / 60) / 6)
    deaf = replace(clip, video=replace(VIDEO, sound_gaps_s=((1.0, 2.3), (5.0, 5.27), (8.0, 9.0))))
    measured = GATE(deaf)
    assert isinstance(measured, Clip)
    assert measured.scores["missing_sound"] == pytest.approx(0.57 / 6)
    assert isinstance(replace(GATE, max_missing_sound=0.05)(deaf), Dropped)


def test_a_gate_that_only_measures_drops_nothing() -> None:
    measured = replace(GATE, reject=False)(filmed(danced(), speed=0.5))
    assert isinstance(measured, Clip)
    assert measured.scores["camera_motion"] == pytest.approx(0.5)
    assert set(measured.scores) == {"earlier", *LIMITS}


def test_what_happens_in_every_dance_is_allowed() -> None:
    """A short handstand, a turn of the back to the camera, a hand-held camera."""
    turned = danced(facing_deg=180)
    half_turned = np.concatenate([turned[: FRAMES // 2], danced()[FRAMES // 2 :]])
    assert 0.4 < scores_of(half_turned)["back_to_camera"] < 0.6
    handstand = danced()
    handstand[:60] = handstand[:60] @ axis_angle_to_matrix(np.array([np.pi, 0, 0])).T
    assert 0.1 < scores_of(handstand)["upside_down"] < 0.2
    assert 0.1 < scores_of(danced())["repetition"] < 0.8
    for scores in (scores_of(half_turned), scores_of(handstand), scores_of(danced(), camera_motion=0.1)):
        broken = {name: scores[name] for name in LIMITS if name != "jitter_mps2"}
        assert GATE.first_broken({**broken, "jitter_mps2": 10.0}) is None


def test_the_same_bars_over_and_over_are_rejected() -> None:
    loop = np.concatenate([danced()[:60], danced()[:60][::-1]])
    reason, detail = GATE.first_broken(scores_of(np.tile(loop, (3, 1, 1)))) or ("", "")
    assert "repeated" in reason
    assert "at most 0.85 allowed" in detail


def test_a_chorus_that_comes_back_is_not_the_same_movement_again() -> None:
    """Only what returns within four seconds and fits three times into the dance counts."""
    chorus = np.concatenate([danced(seed, 0)[:120] for seed in (3, 4, 5)])
    song = np.tile(chorus, (3, 1, 1))
    assert GATE.repetition(song) < 0.85
    assert replace(GATE, max_period_s=7.0).repetition(song) > 0.9
    twice = song[: 2 * 360 : 2]
    assert GATE.repetition(twice) < 0.85, "three seconds, but only twice"
