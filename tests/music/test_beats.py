"""Beats of synthesised songs: within 25 ms, on the beat, at the right octave, and doubtful where nothing can be known."""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import resample_poly

from opendance_hf.music import SAMPLE_RATE_60FPS, fact_features
from opendance_hf.music.beats import BeatGrid, find_beats
from opendance_hf.synthetic.music import SAMPLE_RATE, Difficulty, Music, make_music, random_hits

Audio = npt.NDArray[np.floating]


def resampled(samples: Audio) -> Audio:
    common = gcd(SAMPLE_RATE, SAMPLE_RATE_60FPS)
    return resample_poly(samples, SAMPLE_RATE_60FPS // common, SAMPLE_RATE // common)


def grid_of(audio: Audio) -> BeatGrid:
    return find_beats(fact_features(audio))


@lru_cache(maxsize=8)
def song(difficulty: Difficulty = Difficulty(), seed: int = 117) -> tuple[Music, BeatGrid]:  # noqa: B008
    music = make_music(seed, 24.0, difficulty)
    return music, grid_of(resampled(music.samples))


def errors_s(grid: BeatGrid, beats_s: Audio) -> Audio:
    """Return the distance from every known beat to the nearest one found."""
    return np.abs(beats_s[:, None] - grid.beats / 60).min(axis=1)


@pytest.mark.parametrize(
    "difficulty",
    [
        Difficulty(),
        Difficulty(swing=0.65),
        Difficulty(offbeat_hats=0.9),
        Difficulty(drift=0.04),
        Difficulty(drums=0.0),
        Difficulty(soft_start_s=8.0),
        Difficulty(tempo=0.75),
        Difficulty(tempo=1.4),
    ],
    ids=["plain", "swing", "hats", "drift", "no drums", "soft start", "slow", "fast"],
)
def test_beats_are_found_within_25_ms(difficulty: Difficulty) -> None:
    music, grid = song(difficulty)
    assert errors_s(grid, music.beats_s).max() < 0.025
    assert abs(len(grid.beats) - len(music.beats_s)) <= 1  # nor any between them
    assert grid.bpm == pytest.approx(music.bpm, rel=0.02)
    assert grid.confidence > 0.5


def test_a_steady_song_has_steady_beats() -> None:
    music, grid = song()
    assert errors_s(grid, music.beats_s).max() < 0.005
    assert np.ptp(np.diff(grid.beats)) < 0.05


@pytest.mark.parametrize("seed", [117, 118, 120])
def test_hats_louder_than_the_drums_do_not_take_the_beat(seed: int) -> None:
    music, grid = song(Difficulty(offbeat_hats=1.0, drums=0.3), seed)
    assert errors_s(grid, music.beats_s).max() < 0.025
    halves = (music.beats_s[1:] + music.beats_s[:-1]) / 2
    assert np.median(errors_s(grid, halves)) > 0.1


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_downbeats_wherever_the_song_begins(cut: int) -> None:
    music, _ = song()
    first = music.beats_s[cut] - 0.2
    grid = grid_of(resampled(music.samples[round(first * SAMPLE_RATE) :]))
    downbeats_s = music.beats_s[4::4] - first
    assert errors_s(BeatGrid(grid.beats[grid.downbeat :: 4], 0, 0, 0), downbeats_s).max() < 0.025


def test_a_later_song_has_later_beats() -> None:
    music, grid = song()
    later = grid_of(np.concatenate([np.zeros(40 * 512), resampled(music.samples)]))
    common = later.beats[later.beats >= grid.beats[0] + 39]
    np.testing.assert_allclose(common[: len(grid.beats)], grid.beats[: len(common)] + 40, atol=0.3)


@pytest.mark.parametrize("gain", [0.05, 0.5, 8.0])
def test_loudness_changes_nothing(gain: float) -> None:
    music, grid = song()
    scaled = grid_of(gain * resampled(music.samples))
    np.testing.assert_allclose(scaled.beats, grid.beats, atol=0.02)
    assert scaled.downbeat == grid.downbeat
    assert scaled.confidence == pytest.approx(grid.confidence, abs=0.02)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_without_a_beat_there_is_no_confidence(seed: int) -> None:
    grid = grid_of(resampled(random_hits(seed, 24.0)))
    assert grid.confidence < 0.5


def test_silence_has_no_beats() -> None:
    grid = grid_of(np.zeros(10 * SAMPLE_RATE_60FPS))
    assert (len(grid.beats), grid.bpm, grid.confidence) == (0, 0.0, 0.0)


def test_a_tone_has_no_confidence() -> None:
    clock = np.arange(10 * SAMPLE_RATE_60FPS) / SAMPLE_RATE_60FPS
    assert grid_of(np.sin(880 * np.pi * clock)).confidence < 0.1


@pytest.mark.parametrize("seconds", [0.1, 1.0, 2.1, 3.0, 5.0])
def test_short_sound_has_beats_within_it_and_little_confidence(seconds: float) -> None:
    music, _ = song()
    grid = grid_of(resampled(music.samples[: round(seconds * SAMPLE_RATE)]))
    assert grid.confidence < 0.7
    assert (np.diff(grid.beats) > 0).all()
    assert ((grid.beats >= 0) & (grid.beats <= 60 * seconds + 1)).all()
    assert 0 <= grid.downbeat < 4


def test_beats_of_five_seconds_are_right_already() -> None:
    music, _ = song()
    grid = grid_of(resampled(music.samples[: 5 * SAMPLE_RATE]))
    assert errors_s(grid, music.beats_s[music.beats_s < 4.8]).max() < 0.025


def late_by_half_a_beat(music: Music) -> Audio:
    silence = np.zeros(round(30 / music.bpm * SAMPLE_RATE))
    return np.concatenate([silence, music.samples])[: len(music.samples)]


def test_a_part_off_the_beat_does_not_move_a_steady_song() -> None:
    music = make_music(103, 42.0)
    clock = np.arange(len(music.samples)) / SAMPLE_RATE
    off = (clock // 7) % 3 == 1
    grid = grid_of(resampled(np.where(off, late_by_half_a_beat(music), music.samples)))
    assert errors_s(grid, music.beats_s).max() < 0.025


def test_a_break_moves_the_beats_after_it_and_is_doubted() -> None:
    music = make_music(103, 42.0)
    clock = np.arange(len(music.samples)) / SAMPLE_RATE
    grid = grid_of(resampled(np.where(clock > 20, late_by_half_a_beat(music), music.samples)))
    later_s = music.beats_s + 30 / music.bpm
    known_s = np.concatenate([music.beats_s[music.beats_s < 18], later_s[(later_s > 22) & (later_s < 42)]])
    assert errors_s(grid, known_s).max() < 0.05
    assert grid.confidence < 0.7
