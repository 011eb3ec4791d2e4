"""What models hear: columns of features and of the beat."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opendance_hf.music.beat_file import BeatFileError, steady_beats
from opendance_hf.music.inputs import full_width, input_of, phase_columns, read_input

tempi = st.floats(40, 240)


@given(tempi, st.floats(-60, 60), st.sampled_from([1, 2, 4, 8]))
def test_columns_say_where_in_the_beat_a_row_is(bpm: float, first: float, hop: int) -> None:
    beats = first + np.arange(1200 // int(3600 / bpm) + 4) * 3600 / bpm
    rows = phase_columns(beats, 1001, hop)
    assert rows.shape == (-(-1001 // hop), 5)
    assert rows.dtype == np.float32
    phase = (np.arange(len(rows)) * hop - first) / (3600 / bpm)
    for columns, turns in ((rows[:, 0:2], phase), (rows[:, 2:4], phase / 4)):
        expected = np.stack([np.sin(2 * np.pi * turns), np.cos(2 * np.pi * turns)], axis=1)
        np.testing.assert_allclose(columns, expected, atol=1e-4)
    np.testing.assert_allclose(rows[:, 4], np.log2(bpm / 120), atol=1e-5)


def test_the_tempo_follows_a_song_that_gets_faster() -> None:
    beats = np.cumsum(np.concatenate([np.full(20, 36.0), np.full(20, 24.0)]))
    tempo = phase_columns(beats, 1200, 4)[:, 4]
    np.testing.assert_allclose(2 ** tempo[[10, -10]] * 120, [100, 150], rtol=1e-6)


@pytest.mark.parametrize("beats", [(), (30,)])
def test_without_beats_there_is_nothing_to_hear(beats: tuple[int, ...]) -> None:
    assert not phase_columns(beats, 61, 4).any()


def test_columns_side_by_side() -> None:
    features = np.random.default_rng(0).normal(size=(16, 438)).astype(np.float32)
    beats = np.arange(0, 120, 30)
    column, size = input_of("music_features_7p5fps", 438, "both", 8)
    assert size == full_width(column) == 443
    found = read_input(column, 60, lambda name, width: features[:, :width], beats, 121)
    np.testing.assert_array_equal(found[:, :55], features[:, :55])
    np.testing.assert_array_equal(found[:, 55:], phase_columns(beats, 121, 8))


def test_what_cannot_be_heard_is_refused() -> None:
    assert input_of("music_features_fact", 35, "features", 1) == ("music_features_fact", 35)
    assert input_of("music_features_7p5fps", 438, "beats", 4) == ("beat_phase_15fps", 5)
    with pytest.raises(ValueError, match="rows of music_features_7p5fps last 8 frames, the model's 4"):
        input_of("music_features_7p5fps", 438, "both", 4)
    with pytest.raises(ValueError, match="hears 'noise'"):
        input_of("music_features_7p5fps", 438, "noise", 8)
    with pytest.raises(ValueError, match="rows of 16 frames"):
        input_of("music_features_7p5fps", 438, "beats", 16)
    with pytest.raises(ValueError, match="unknown column 'beat'"):
        full_width("music_features+beat")


@given(st.floats(20, 400), st.floats(-20, 20), st.floats(1, 300))
def test_steady_beats_reach_over_both_ends(bpm: float, first: float, seconds: float) -> None:
    beats = steady_beats(bpm, first, seconds)
    assert beats[0] <= 1e-6
    assert beats[-1] >= seconds - 1e-6
    np.testing.assert_allclose(np.diff(beats), 60 / bpm, rtol=1e-6)
    assert np.abs(beats - first).min() < 1e-6 or not beats[0] <= first <= beats[-1]


@pytest.mark.parametrize(("bpm", "first"), [(0.0, 0.0), (1000.0, 0.0), (120.0, float("nan"))])
def test_impossible_tempi_are_refused(bpm: float, first: float) -> None:
    with pytest.raises(BeatFileError, match="20 to 400"):
        steady_beats(bpm, first, 10)
