"""Which frames can be used, and how short gaps are filled."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opendance_hf.pipeline.stages.complete import MAX_GAP_S, complete, usable_runs
from opendance_hf.pipeline.stages.pose import Landmarks
from opendance_hf.pipeline.stages.segment import MIN_SPAN_S

FPS = 30


def landmarks(length_s: float, *hidden: list[tuple[float, float]]) -> Landmarks:
    """Dancers who move at constant speed, each not seen at all during the given seconds."""
    times = 5.0 + np.arange(round(length_s * FPS)) / FPS
    shape = (len(hidden), len(times), 33)
    visibility = np.full(shape, 0.9, np.float32)
    for dancer, spans in enumerate(hidden):
        for a, b in spans:
            visibility[dancer, (times >= 5 + a - 1e-6) & (times < 5 + b - 1e-6)] = 0
    line = np.broadcast_to(times[None, :, None, None], (*shape, 3))
    return Landmarks(
        times_s=times,
        image=(100 * line[..., :2]).astype(np.float32),
        world=line.astype(np.float32),
        visibility=visibility,
        regions_px=np.full(shape[:2], 300, np.float32),
    )


def seconds(found: Landmarks, run: slice) -> tuple[float, float]:
    return float(found.times_s[run.start]), float(found.times_s[run.stop - 1]) + 1 / FPS


def test_all_seen_is_one_run() -> None:
    runs, dropped = usable_runs(landmarks(6, [], []))
    assert runs == [slice(0, 180)]
    assert not dropped


def test_short_gaps_stay_inside_a_run_and_long_ones_end_it() -> None:
    runs, dropped = usable_runs(landmarks(12, [(5, 5.8)], [(6.5, 7.2)]))
    assert runs == [slice(0, 360)]
    assert not dropped
    found = landmarks(12, [(5, 6.5)], [])
    runs, (gap,) = usable_runs(found)
    assert [seconds(found, run) for run in runs] == [pytest.approx((5, 10)), pytest.approx((11.5, 17))]
    assert "hidden" in gap.reason


def test_a_run_needs_every_dancer() -> None:
    found = landmarks(12, [(0, 4)], [(9, 12)])
    ((start, stop),) = [(run.start, run.stop) for run in usable_runs(found)[0]]
    assert found.times_s[start] == pytest.approx(9, abs=0.3)
    assert found.times_s[stop - 1] == pytest.approx(14, abs=0.3)
    # No frame inside is one where somebody is gone at the edge.
    assert found.visibility[:, [start, stop - 1]].min() > 0


def test_hidden_feet_are_no_reason_to_stop() -> None:
    found = landmarks(6, [])
    found.visibility[:, :, 27:] = 0.0
    assert usable_runs(found)[0] == [slice(0, 180)]


def test_too_short_and_nobody() -> None:
    runs, dropped = usable_runs(landmarks(8, [(3.5, 5)]))
    assert not runs
    assert "at least 4 s needed" in dropped[0].reason
    runs, (dropped_all,) = usable_runs(landmarks(8, [(0, 8)]))
    assert not runs
    assert dropped_all.reason == "no frame shows every dancer's body"


@given(
    st.lists(st.lists(st.tuples(st.floats(0, 20), st.floats(0.05, 5)), max_size=5), min_size=1, max_size=2),
    st.floats(4.5, 20),
)
def test_runs_are_long_and_their_gaps_short(spans: list[list[tuple[float, float]]], length_s: float) -> None:
    found = landmarks(length_s, *[[(a, a + b) for a, b in dancer] for dancer in spans])
    runs, dropped = usable_runs(found)
    assert runs or dropped
    for before, after in pairwise(runs):
        assert before.stop <= after.start
    for run in runs:
        start, end = seconds(found, run)
        assert end - start >= MIN_SPAN_S - 1e-6
        seen = found.visibility[:, run].min(axis=(0, 2)) > 0
        assert seen[0]
        assert seen[-1]
        assert np.diff(found.times_s[run][seen]).max() <= MAX_GAP_S + 1e-6
        filled = complete(found, run)
        assert np.isfinite(filled.image).all()
        np.testing.assert_array_equal(filled.visibility, found.visibility[:, run])


def test_gap_is_filled_on_a_straight_line_in_time() -> None:
    found = landmarks(6, [(2, 2.7)])
    found.times_s = found.times_s + np.random.default_rng(0).uniform(0, 0.01, 180)
    found.image[0, :, :, 0] = 100 * found.times_s[:, None]
    truth = found.image.copy()
    found.image[found.visibility == 0] = 12345
    found.world[found.visibility == 0] = 12345
    filled = complete(found, slice(10, 170))
    np.testing.assert_allclose(filled.image[..., 0], truth[:, 10:170, :, 0], rtol=1e-5)
    assert filled.world.max() < 20
    assert filled.confidence()[0, 55] == 0
    assert found.image.max() == 12345, "the input is left as it was"


def test_a_hidden_limb_keeps_the_estimators_guess() -> None:
    found = landmarks(6, [])
    found.visibility[0, 60:80, 15] = 0
    found.image[0, 60:80, 15] = 77
    np.testing.assert_array_equal(complete(found, slice(0, 180)).image, found.image)
