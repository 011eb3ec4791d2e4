"""Tempo from beats: exact on a grid, close to the truth with rounded, shifted, missing and doubled beats."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opendance_hf.music.tempo import tempo_doubt, tempo_from_beats

FPS = 60.0
Frames = npt.NDArray[np.int64]


def tempogram_bpm(bpm: float, frames_off: int = 0) -> float:
    """The nearest tempo whose period is a whole number of frames, or one some frames from it."""
    return 60 * FPS / (round(60 * FPS / bpm) + frames_off)


@st.composite
def tracked(draw: st.DrawFn, least: int = 40, jitter: float = 1.0) -> tuple[float, Frames]:
    """A tempo, and beats at it that a tracker may find: jittered, rounded, 10% missing, 10% doubled."""
    bpm, count = draw(st.floats(60, 180)), draw(st.integers(least, 300))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    period = 60 * FPS / bpm
    beats = rng.uniform(0, 60) + period * np.arange(count) + rng.uniform(-jitter, jitter, count)
    doubled = (beats + rng.uniform(0.3, 0.7, count) * period)[rng.random(count) < 0.1]
    kept = beats[rng.random(count) >= 0.1]
    return bpm, np.unique(np.round(np.concatenate([kept, doubled])).astype(np.int64))


@given(tracked(), st.integers(-1, 1))
def test_error_with_missing_and_doubled_beats(song: tuple[float, Frames], frames_off: int) -> None:
    bpm, beats = song
    assert tempo_from_beats(beats, FPS, tempogram_bpm(bpm, frames_off)) == pytest.approx(bpm, rel=0.005)


@given(tracked(least=150), st.integers(-1, 1))
def test_error_falls_with_the_number_of_beats(song: tuple[float, Frames], frames_off: int) -> None:
    bpm, beats = song
    assert tempo_from_beats(beats, FPS, tempogram_bpm(bpm, frames_off)) == pytest.approx(bpm, rel=0.001)


@given(st.integers(10, 80), st.integers(5, 300), st.integers(0, 1000))
def test_constant_grid_is_exact(period: int, count: int, first: int) -> None:
    beats = first + period * np.arange(count)
    expected = 60 * FPS / period
    assert tempo_from_beats(beats, FPS, expected * 1.03) == pytest.approx(expected, rel=1e-12)


@given(st.floats(60, 180))
def test_rounding_averages_out(bpm: float) -> None:
    beats = np.round(60 * FPS / bpm * np.arange(60)).astype(np.int64)
    assert tempo_from_beats(beats, FPS, tempogram_bpm(bpm)) == pytest.approx(bpm, rel=0.0015)


@given(tracked(), st.integers(0, 10_000), st.integers(2, 8))
def test_does_not_depend_on_start_direction_or_unit(
    song: tuple[float, Frames], shift: int, factor: int
) -> None:
    bpm, beats = song
    start = tempogram_bpm(bpm)
    found = tempo_from_beats(beats, FPS, start)
    assert tempo_from_beats(beats + shift, FPS, start) == found
    assert tempo_from_beats((beats[-1] - beats)[::-1], FPS, start) == pytest.approx(found, rel=1e-12)
    assert tempo_from_beats(beats * factor, FPS * factor, start) == pytest.approx(found, rel=1e-9)
    assert tempo_from_beats(beats, FPS * factor, start * factor) == pytest.approx(found * factor, rel=1e-9)


def test_a_break_that_shifts_the_phase() -> None:
    beats = np.round(28.5 * np.arange(100)).astype(np.int64)
    beats[60:] += 11
    assert tempo_from_beats(beats, FPS, tempogram_bpm(126.3)) == pytest.approx(60 * FPS / 28.5, rel=0.001)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_few_beats_leave_the_tempo_of_the_tempogram(count: int) -> None:
    assert tempo_from_beats(30 * np.arange(count), FPS, 124.1) == 124.1


def test_silence_has_no_tempo() -> None:
    assert tempo_from_beats(np.zeros(0, dtype=np.int32), FPS, 0.0) == 0.0


@given(st.lists(st.integers(0, 600), min_size=5, unique=True), st.floats(20, 320))
def test_any_beats_give_a_tempo(frames: list[int], start: float) -> None:
    found = tempo_from_beats(np.array(sorted(frames), dtype=np.int32), FPS, start)
    assert np.isfinite(found)
    assert found > 0


@pytest.mark.parametrize(
    ("bpm", "likely"),
    [
        (211.8, "105.9 BPM, half"),
        (55.0, "110.0 BPM, double"),
        (60.0, None),
        (126.0, None),
        (200.0, None),
        (0.0, None),
    ],
)
def test_an_unusual_tempo_is_doubted(bpm: float, likely: str | None) -> None:
    doubt = tempo_doubt(bpm)
    assert (doubt is None) == (likely is None)
    assert doubt is None or (likely is not None and likely in doubt and f"{bpm:.1f} BPM" in doubt)
