from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opendance_hf.motion.phase import phase_score
from opendance_hf.motion.retiming import GRID_S, KNOT_S, Warp, fit_warp

SLOPES = 0.88, 1.12


def worth_of(period_s: float, seconds: float, first_s: float = 0.2) -> np.ndarray:
    times = np.arange(round(seconds / GRID_S) + 1) * GRID_S
    return phase_score((times - first_s) / period_s)


def gain_of(warp: Warp, events_s: np.ndarray, period_s: float, first_s: float = 0.2) -> float:
    return float(phase_score((warp.song_time(events_s) - first_s) / period_s).mean())


def test_the_kernel_is_1_on_a_beat_and_0_on_average() -> None:
    assert phase_score(3.0) == pytest.approx(1)
    assert phase_score(np.arange(1000) / 1000).mean() == pytest.approx(0, abs=1e-12)
    assert phase_score(0.25) < 0


def test_even_steps_of_another_tempo_fall_on_the_beats() -> None:
    events = np.arange(0.3, 12, 0.55)
    warp = fit_warp(events, 12.0, worth_of(0.5, 20), SLOPES)
    assert warp is not None
    assert gain_of(warp, events, 0.5) > 0.97
    assert warp.slopes[4:-4] == pytest.approx(0.5 / 0.55, abs=0.03)


def test_a_motion_without_events_is_not_warped() -> None:
    warp = fit_warp(np.zeros(0), 5.0, worth_of(0.5, 20), SLOPES)
    assert warp is not None
    assert warp.slopes == pytest.approx(1)


def test_steps_that_change_their_tempo_are_followed() -> None:
    events = np.cumsum(np.linspace(0.46, 0.55, 24))
    warp = fit_warp(events, float(events[-1]) + 0.3, worth_of(0.5, 20), SLOPES)
    assert warp is not None
    assert gain_of(warp, events, 0.5) > 0.9
    assert warp.slopes[3] > 1.02
    assert warp.slopes[-3] < 0.98


def test_no_start_of_the_best_warp_is_beaten_by_a_constant_slope() -> None:
    rng = np.random.default_rng(0)
    events = np.sort(rng.uniform(0, 8, 25))
    worth = worth_of(0.47, 14)
    warp = fit_warp(events, 8.0, worth, SLOPES)
    assert warp is not None
    found = worth[np.round(np.interp(events, warp.source_s, warp.song_s) / GRID_S).astype(int)].sum()
    for start_s in np.arange(0, 5, GRID_S):
        assert found > worth[np.round((events + start_s) / GRID_S).astype(int)].sum() - 0.5


def test_a_song_that_is_too_short_has_no_warp() -> None:
    assert fit_warp(np.array([1.0]), 10.0, worth_of(0.5, 8), SLOPES) is None
    assert fit_warp(np.array([1.0]), 10.0, worth_of(0.5, 8.9), SLOPES) is not None


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    seconds=st.floats(4, 15),
    spare_s=st.floats(0, 4),
    warp_limit=st.sampled_from([0.0, 0.05, 0.12, 0.3]),
    period_s=st.floats(0.35, 0.9),
)
def test_a_warp_is_smooth_and_within_its_limits(
    seed: int, seconds: float, spare_s: float, warp_limit: float, period_s: float
) -> None:
    rng = np.random.default_rng(seed)
    events = np.sort(rng.uniform(0, seconds, rng.integers(0, 60)))
    worth = worth_of(period_s, seconds + spare_s + 0.1)
    warp = fit_warp(events, seconds, worth, (1 - warp_limit, 1 + warp_limit))
    assert warp is not None
    assert (np.abs(warp.slopes - 1) <= warp_limit + 1e-9).all()
    assert (np.abs(np.diff(warp.slopes)) <= 0.04 + 1e-9).all()
    fine = np.arange(0, seconds, 1 / 240)
    song = warp.song_time(fine)
    assert song[0] >= -1e-9
    assert warp.song_time(seconds) <= (len(worth) - 1) * GRID_S + 0.005
    speed = np.diff(song) * 240
    assert speed.min() >= 1 - warp_limit - 1e-6
    assert speed.max() <= 1 + warp_limit + 1e-6
    # A slope changes by 0.04 within one piece at the fastest; the factor is for the 600 Hz of the curve.
    assert np.abs(np.diff(speed)).max(initial=0) <= 1.5 * 0.04 / (KNOT_S * 240)
    assert warp.source_time(song) == pytest.approx(fine, abs=1e-6)
    assert np.abs(warp.song_time(warp.source_s) - warp.song_s).max() < 0.0051
