from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opendance_hf.data.windows import mirrored_joints
from opendance_hf.metrics.steps import (
    FootEvents,
    beat_phase,
    duet_step_beat,
    foot_events,
    partner_steps,
    phase_score,
    step_beat,
)

SETTINGS = settings(max_examples=25, deadline=None)
TOES = (10, 11)


def stepping(starts_s: list[float], *, fps: float = 60, seconds: float = 10.0) -> np.ndarray:
    """A body whose feet take turns in stepping: each step takes 0.3 s and 0.4 m; (T, 24, 3)."""
    time = np.arange(round(seconds * fps)) / fps
    joints = np.zeros((len(time), 24, 3))
    joints[:, :, 1] = np.linspace(1.6, 0, 24)
    for number, start in enumerate(starts_s):
        share = np.clip((time - start) / 0.3, 0, 1)
        joints[:, TOES[number % 2], 2] += 0.2 * (1 - np.cos(np.pi * share))
    return joints


REGULAR = np.arange(0.5, 9.5, 0.5)


@pytest.mark.shared
def test_parity_with_the_reference_values(shared: Path) -> None:
    rows = json.loads((shared / "reference/step_beat.json").read_text())["rows"]
    dances = {path.stem: path for path in (shared / "data/pairs").glob("*.npz")}
    if not dances:
        pytest.skip(f"no dances in {shared / 'data/pairs'}")
    assert sorted(dances) == sorted(rows)
    for name, row in rows.items():
        with np.load(dances[name]) as arrays:
            found = step_beat(arrays["joints"][0], arrays["beat_frames"])
        assert found is not None
        assert found == pytest.approx(tuple(row.values()), abs=1e-4), name


def test_every_step_is_one_landing_and_one_take_off() -> None:
    events = foot_events(stepping(REGULAR.tolist()))
    assert len(events.landings) == len(events.take_offs) == len(REGULAR)
    np.testing.assert_allclose(events.take_offs / 60, REGULAR, atol=0.05)
    np.testing.assert_allclose(events.landings / 60, REGULAR + 0.3, atol=0.05)


def test_a_foot_that_slows_down_but_does_not_stop_has_not_landed() -> None:
    time = np.arange(600) / 60
    joints = np.zeros((600, 24, 3))
    joints[:, 10, 2] = time + 0.08 * np.sin(2 * np.pi * time)  # 0.5 to 1.5 m/s
    assert [len(found) for found in foot_events(joints)] == [0, 0]
    joints[:, 10, 2] = 0.5 * time + 0.02 * np.sin(2 * np.pi * time)  # 0.37 to 0.63 m/s: never swings
    assert [len(found) for found in foot_events(joints)] == [0, 0]


def test_landings_on_the_beat_score_one_and_say_how_late_they_are() -> None:
    joints = stepping(REGULAR.tolist())
    landings = foot_events(joints).landings
    on_beat, late = step_beat(joints, landings), step_beat(joints, landings - 6)
    assert on_beat is not None
    assert late is not None
    assert on_beat.landings == pytest.approx(1)
    assert on_beat.take_offs < 0.5
    assert late.landings == pytest.approx(float(phase_score(6 / 30)))
    assert late.lead_s == pytest.approx(on_beat.lead_s - 0.1, abs=1e-6)
    assert late.lock == pytest.approx(on_beat.lock)
    assert on_beat.events_per_s == pytest.approx(on_beat.num / 10)


@SETTINGS
@given(st.lists(st.floats(0.1, 1.0), min_size=2, max_size=20), st.floats(0, 1), st.floats(-40, 40))
def test_phase_is_linear_between_beats_and_goes_on_at_the_ends(
    gaps: list[float], part: float, beyond: float
) -> None:
    beats = np.cumsum(gaps)
    middle = beats[:-1] + part * np.diff(beats)
    np.testing.assert_allclose(beat_phase(middle, beats), np.arange(len(middle)) + part, atol=1e-9)
    interval = float(np.median(np.diff(beats)))
    ends = [beats[0] - abs(beyond) * interval, beats[-1] + abs(beyond) * interval]
    np.testing.assert_allclose(
        beat_phase(ends, beats[::-1]), [-abs(beyond), len(beats) - 1 + abs(beyond)], atol=1e-6
    )


@SETTINGS
@given(st.integers(0, 2**32 - 1))
def test_events_do_not_depend_on_place_heading_and_side(seed: int) -> None:
    rng = np.random.default_rng(seed)
    joints = stepping(np.sort(rng.uniform(0, 9, 15)).tolist()) + rng.uniform(-5, 5, 3)
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    events = foot_events(joints)
    for other in (joints @ turn.T + rng.uniform(-5, 5, 3), mirrored_joints(joints)):
        for found, expected in zip(foot_events(other), events, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_chance_is_zero_at_any_density_of_events() -> None:
    rng = np.random.default_rng(0)
    for gap in (0.35, 0.5, 1.1):
        joints = stepping(np.arange(0.2, 59, gap).tolist(), seconds=60)
        beats = [np.arange(-1, 130) * 28.3 + rng.uniform(0, 28.3) for _ in range(200)]
        scores = [found.score for b in beats if (found := step_beat(joints, b)) is not None]
        assert np.mean(scores) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("frames", [3, 10, 600])
def test_a_frozen_dancer_scores_zero(frames: int) -> None:
    found = step_beat(np.ones((frames, 24, 3)), [0, 30, 60])
    assert found == (0, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("beats", [[], [30], [30, 30]])
def test_no_score_without_two_beats(beats: list[int]) -> None:
    joints = stepping(REGULAR.tolist())
    assert step_beat(joints, beats) is None
    with pytest.raises(ValueError, match="two different beats"):
        beat_phase([1.0], beats)


@pytest.mark.parametrize("fps", [20, 30, 120])
def test_frame_rates_agree(fps: int) -> None:
    starts = np.cumsum(np.random.default_rng(3).choice([0.4, 0.5, 0.6], 18)).tolist()
    at_60 = step_beat(stepping(starts), np.arange(0.3, 10, 0.5) * 60)
    found = step_beat(stepping(starts, fps=fps), np.arange(0.3, 10, 0.5) * fps, fps=fps)
    assert at_60 is not None
    assert found is not None
    assert found.num == at_60.num == 2 * len(starts)
    assert found.score == pytest.approx(at_60.score, abs=0.06)
    assert found.lead_s == pytest.approx(at_60.lead_s, abs=1 / fps)


def test_what_is_not_a_motion_or_a_beat_is_refused() -> None:
    joints = stepping(REGULAR.tolist())
    broken = joints.copy()
    broken[100, 3, 1] = np.nan
    for wrong in (broken, joints[:2], joints[:, :20], joints[None]):
        with pytest.raises(ValueError, match="joints"):
            step_beat(wrong, [0, 30])
    for beats in ([0, np.nan], [[0, 30]]):
        with pytest.raises(ValueError, match="beats"):
            step_beat(joints, beats)
    for fps in (0, -60, np.inf, np.nan):
        with pytest.raises(ValueError, match="fps"):
            foot_events(joints, fps)


EVENTS = st.lists(st.integers(0, 600), max_size=20).map(
    lambda frames: np.array(sorted(frames), dtype=np.intp)
)
DANCERS = st.builds(FootEvents, EVENTS, EVENTS)


@SETTINGS
@given(DANCERS, DANCERS)
def test_partner_steps_are_symmetric_and_a_clone_wins(one: FootEvents, two: FootEvents) -> None:
    score = partner_steps(one, two)
    assert score == pytest.approx(partner_steps(two, one), abs=1e-12)
    assert -0.5 <= score <= 1
    clone = partner_steps(one, one)
    assert clone == (1 if any(len(np.unique(frames)) > 1 for frames in one) else 0)


def test_couples_stand_between_strangers_and_clones() -> None:
    rng = np.random.default_rng(5)
    starts = np.cumsum(rng.choice([0.4, 0.5, 0.6, 0.7], 15))
    lead = stepping(starts.tolist())
    follow = stepping((starts + rng.normal(0, 0.03, len(starts))).tolist())
    strangers = [
        foot_events(stepping(np.cumsum(rng.choice([0.4, 0.5, 0.6, 0.7], 15)).tolist())) for _ in range(40)
    ]
    found = duet_step_beat(lead, follow, strangers=strangers)
    assert found.clone == found.mirrored == 1
    assert found.shuffled == pytest.approx(0, abs=0.05)
    assert 0.4 < found.score < 1
    assert duet_step_beat(lead, follow).shuffled is None


def test_a_partner_who_stands_still_earns_nothing() -> None:
    joints = stepping(REGULAR.tolist())
    assert duet_step_beat(joints, np.ones_like(joints))[:3] == (0, 0.5, 0.5)
    with pytest.raises(ValueError, match="one length, got 600 and 599"):
        duet_step_beat(joints, joints[1:])
