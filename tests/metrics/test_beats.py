from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opendance_hf.metrics import (
    beat_alignment,
    joint_speed,
    mean_mutual_beat_alignment,
    motion_beats,
    motion_motion_score,
    music_motion_score,
    mutual_beat_alignment,
    speed_minima,
)
from tests.fixtures.make_metrics_small import SCORED, SETS, synth_motion, synth_music_beats

SETTINGS = settings(max_examples=25)
BEATS = st.lists(st.integers(0, 1000), min_size=1, max_size=30)


def stop_and_go(period: int = 30, frames: int = 240) -> np.ndarray:
    """A body that slows down to nothing every ``period`` frames: (frames, 24, 3)."""
    speed = 1 - np.cos(2 * np.pi * np.arange(frames) / period)
    joints = np.zeros((frames, 24, 3))
    joints[:, :, 0] = np.cumsum(speed)[:, None] / 60
    return joints


def test_parity_with_plain_loops(repo: Path) -> None:
    motions = [synth_motion(SETS["predictions"][1] + i) for i in range(SCORED)]
    with np.load(repo / "tests/fixtures/metrics_small.npz") as arrays:
        ends = np.cumsum(arrays["num_beats"])
        for i, motion in enumerate(motions):
            expected = arrays["beats"][ends[i] - arrays["num_beats"][i] : ends[i]]
            np.testing.assert_array_equal(motion_beats(motion), expected)
            score = music_motion_score(motion, synth_music_beats(i, len(motion)))
            assert score == pytest.approx(arrays["music_motion"][i], abs=1e-6)
        for i in range(SCORED // 2):
            score = motion_motion_score(motions[2 * i : 2 * i + 2])
            assert score == pytest.approx(arrays["motion_motion"][i], abs=1e-6)


@pytest.mark.shared
def test_parity_with_the_official_code(shared: Path) -> None:
    facts = json.loads((shared / "reference/metrics.json").read_text())["results"]["beat_align_score"]
    with np.load(shared / "reference/metrics.npz") as arrays:
        for i in range(8):
            motion = arrays[f"motion{i}"]
            np.testing.assert_allclose(
                joint_speed(motion, sigma=0), arrays[f"kinetic_velocity{i}"], atol=1e-6
            )
            np.testing.assert_allclose(joint_speed(motion), arrays[f"kinetic_velocity_smooth{i}"], atol=1e-6)
            np.testing.assert_array_equal(motion_beats(motion), arrays[f"motion_beats{i}"])
            score = music_motion_score(motion, arrays[f"music_beats{i}"])
            assert score == pytest.approx(facts[f"motion{i}"], abs=1e-6)


def test_equation_1_by_hand() -> None:
    one_off, three_off = math.exp(-1 / 18), math.exp(-9 / 18)
    assert beat_alignment([10], [10]) == 1
    assert beat_alignment([10], [13]) == pytest.approx(three_off)  # 0.6065
    assert beat_alignment([10, 40], [9, 43]) == pytest.approx((one_off + three_off) / 2)
    assert beat_alignment([10, 40], [40]) == pytest.approx((math.exp(-900 / 18) + 1) / 2)
    assert beat_alignment([10], [12, 30], sigma=2) == pytest.approx(math.exp(-4 / 8))
    # Not symmetric, and extra beats in the second list cost nothing.
    assert beat_alignment([10], [0, 10, 100]) == 1
    assert beat_alignment([0, 10, 100], [10]) == pytest.approx(
        (math.exp(-100 / 18) + 1 + math.exp(-8100 / 18)) / 3
    )


def test_equation_2_by_hand() -> None:
    forward, backward = 1.0, (math.exp(-100 / 18) + 1 + math.exp(-8100 / 18)) / 3
    assert mutual_beat_alignment([10], [0, 10, 100]) == pytest.approx((forward + backward) / 2)  # 0.6673
    assert mutual_beat_alignment([0, 10, 100], [10]) == pytest.approx((forward + backward) / 2)
    three_off, six_off = math.exp(-0.5), math.exp(-2)
    trio = mean_mutual_beat_alignment([[10], [13], [16]])
    assert trio == pytest.approx((three_off + six_off + three_off) / 3)


def test_empty_lists_have_no_score() -> None:
    for pair in (([], [1]), ([1], []), ([], [])):
        assert beat_alignment(*pair) is None
        assert mutual_beat_alignment(*pair) is None
    assert mean_mutual_beat_alignment([[1], [1], []]) is None
    still = np.zeros((60, 24, 3))
    assert len(motion_beats(still)) == 0
    assert music_motion_score(still, [10, 20]) is None
    assert music_motion_score(stop_and_go(), []) is None
    assert motion_motion_score([still, stop_and_go()]) is None


def test_beats_are_where_the_body_stops() -> None:
    # Speed number t is the step from frame t to t+1, and is zero at multiples of 30 minus one.
    np.testing.assert_array_equal(motion_beats(stop_and_go()), np.arange(29, 238, 30))
    np.testing.assert_array_equal(speed_minima(joint_speed(stop_and_go(), sigma=0)), np.arange(29, 238, 30))


def test_the_motion_anchored_score_by_hand() -> None:
    motion = stop_and_go(frames=100)  # beats at 29, 59 and 89
    np.testing.assert_array_equal(motion_beats(motion), [29, 59, 89])
    three_off = math.exp(-0.5)
    # Both music beats are danced to, but one motion beat in three is off the music, by 27 frames.
    assert music_motion_score(motion, [29, 62]) == pytest.approx((1 + three_off) / 2)
    by_motion = music_motion_score(motion, [29, 62], anchor="motion")
    assert by_motion == pytest.approx((1 + three_off + math.exp(-(27**2) / 18)) / 3)  # 0.5355
    # Beats of the music that nobody dances to are free.
    assert music_motion_score(motion, [29, 45, 59, 75, 89], anchor="motion") == 1
    assert music_motion_score(motion, [29, 45, 59, 75, 89]) == pytest.approx(0.6, abs=1e-3)
    with pytest.raises(ValueError, match="anchor must be 'music' or 'motion', got 'both'"):
        music_motion_score(motion, [29], anchor="both")  # type: ignore[arg-type]


def test_times_scale_with_the_frame_rate() -> None:
    twice = np.repeat(stop_and_go(frames=100), 2, axis=0)  # 120 FPS, each frame held
    beats = motion_beats(twice, fps=120)
    np.testing.assert_allclose(beats / 2, [29, 59, 89], atol=1)
    off = beats[:1] + 6  # 50 ms
    assert music_motion_score(twice, off, fps=120) == pytest.approx(math.exp(-0.5))
    assert motion_motion_score([twice, twice], fps=120) == 1


def test_beats_past_the_motion_do_not_count() -> None:
    motion = stop_and_go(frames=100)  # 99 speeds
    assert music_motion_score(motion, [29, 59]) == 1
    assert music_motion_score(motion, [-3, 29, 59, 99, 500]) == 1
    assert music_motion_score(motion, [98]) == pytest.approx(math.exp(-81 / 18))


@SETTINGS
@given(BEATS, BEATS, st.randoms(use_true_random=False))
def test_scores_of_beats(b1: list[int], b2: list[int], random: object) -> None:
    for score in (beat_alignment, mutual_beat_alignment):
        value = score(b1, b2)
        assert value is not None
        assert 0 <= value <= 1
        assert score(b1, b1) == 1
        mixed = (random.sample(b1, len(b1)), random.sample(b2, len(b2)))  # type: ignore[attr-defined]
        assert score(*mixed) == pytest.approx(value)
        assert score(np.add(b1, 7), np.add(b2, 7)) == pytest.approx(value)
    assert mutual_beat_alignment(b1, b2) == mutual_beat_alignment(b2, b1)


@SETTINGS
@given(seed=st.integers(0, 1000), shift=st.tuples(*[st.floats(-10, 10)] * 3), turn=st.floats(0, 6))
def test_beats_do_not_depend_on_place_or_heading(
    seed: int, shift: tuple[float, float, float], turn: float
) -> None:
    motion = synth_motion(seed).astype(np.float64)
    about_y = np.array([[math.cos(turn), 0, math.sin(turn)], [0, 1, 0], [-math.sin(turn), 0, math.cos(turn)]])
    np.testing.assert_allclose(joint_speed(motion @ about_y.T + shift), joint_speed(motion), atol=1e-10)


@pytest.mark.parametrize("num_dancers", [2, 3])
def test_identical_dancers_move_as_one(num_dancers: int) -> None:
    assert motion_motion_score([stop_and_go()] * num_dancers) == 1
    assert motion_motion_score(np.stack([stop_and_go()] * num_dancers)) == 1


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="at least two dancers, got 1"):
        motion_motion_score([stop_and_go()])
    with pytest.raises(ValueError, match="finite vector of times"):
        beat_alignment([float("nan")], [1])
    with pytest.raises(ValueError, match=r"finite vector of times, got shape \(2, 2\)"):
        beat_alignment([[1, 2], [3, 4]], [1])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="sigma must be positive, got 0"):
        beat_alignment([1], [1], sigma=0)
    with pytest.raises(ValueError, match=r"must be \(frames, joints, 3\), got \(2, 9, 24, 3\)"):
        motion_beats(np.zeros((2, 9, 24, 3)))
    with pytest.raises(ValueError, match="at least 2 frames, got 1"):
        motion_beats(np.zeros((1, 24, 3)))
