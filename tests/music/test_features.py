"""Music features against official outputs, against plain librosa calls, and what holds for any audio."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from opendance_hf import schema
from opendance_hf.music import (
    BLOCKS,
    FACT_BLOCKS,
    HOP,
    SAMPLE_RATE_7P5FPS,
    SAMPLE_RATE_60FPS,
    MusicAnnotation,
    extract,
    extract_audio,
    fact_features,
    music_features,
)
from tests.fixtures.make_music_synth import BPM, KEEP, synth_music

RATES = {"60fps": SAMPLE_RATE_60FPS, "7p5fps": SAMPLE_RATE_7P5FPS}
TOLERANCE = 1e-5


def block_errors(found: np.ndarray, expected: np.ndarray, blocks: dict[str, slice]) -> dict[str, float]:
    """Largest error of each block over the largest value of that block."""
    return {
        name: float(
            np.abs(found[:, columns] - expected[:, columns]).max() / np.abs(expected[:, columns]).max()
        )
        for name, columns in blocks.items()
    }


def silent_frames(audio: np.ndarray) -> np.ndarray:
    """Frames whose window holds zeros only: the chroma of nothing amplifies rounding."""
    padded = np.pad(np.abs(audio), 1024)
    return sliding_window_view(padded, 2048)[::HOP].max(axis=1) == 0


def clicks(bpm: float, seconds: float, first_s: float, sample_rate: int = SAMPLE_RATE_60FPS) -> np.ndarray:
    audio = np.zeros(int(seconds * sample_rate), dtype=np.float32)
    burst = np.random.RandomState(0).standard_normal(sample_rate // 50) * np.linspace(1, 0, sample_rate // 50)
    for start in np.arange(first_s, seconds - 0.1, 60 / bpm):
        audio[int(start * sample_rate) :][: len(burst)] = burst
    return audio


@pytest.fixture(scope="module")
def synth(repo: Path) -> dict[str, np.ndarray]:
    with np.load(repo / "tests/fixtures/music_synth.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def official(shared: Path) -> dict[str, np.ndarray]:
    path = shared / "reference/music_features.npz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with np.load(path) as arrays:
        return dict(arrays)


def test_constants_agree_with_the_schema() -> None:
    assert BLOCKS["tempogram"].stop == schema.MUSIC_DIM
    assert FACT_BLOCKS["onset_beat"].stop == schema.FACT_MUSIC_DIM
    assert SAMPLE_RATE_60FPS == schema.FPS * HOP == 30720
    assert SAMPLE_RATE_7P5FPS * schema.FRAMES_PER_CODE == SAMPLE_RATE_60FPS
    for blocks in (BLOCKS, FACT_BLOCKS):
        edges = [0, *(columns.stop for columns in blocks.values())]
        assert [columns.start for columns in blocks.values()] == edges[:-1]


@pytest.mark.shared
@pytest.mark.parametrize("name", RATES)
def test_parity_official_outputs(official: dict[str, np.ndarray], name: str) -> None:
    audio, expected = official[f"audio_{name}"], official[f"features_{name}"]
    found = music_features(audio, RATES[name])
    assert found.features.shape == expected.shape
    assert found.features.dtype == np.float32
    np.testing.assert_array_equal(found.beats, official[f"beat_frames_{name}"])
    assert found.bpm == pytest.approx({"60fps": 156.52173913043478, "7p5fps": 150.0}[name])
    quiet = silent_frames(audio)
    found.features[quiet, BLOCKS["chroma_cqt"]] = expected[quiet, BLOCKS["chroma_cqt"]]
    errors = block_errors(found.features, expected, BLOCKS)
    assert max(errors.values()) <= TOLERANCE, errors


@pytest.mark.shared
def test_parity_official_outputs_from_video(official: dict[str, np.ndarray], shared: Path) -> None:
    found = extract(shared / "data/videos/duo.mp4", 0.0, 12.0, 720)
    for name, features in (("60fps", found.music_features), ("7p5fps", found.music_features_7p5fps)):
        expected = official[f"features_{name}"][: len(features)]
        sounds = ~silent_frames(official[f"audio_{name}"])[: len(features)]
        errors = block_errors(features[sounds], expected[sounds], BLOCKS)
        assert max(errors.values()) <= TOLERANCE, errors
    beats = official["beat_frames_60fps"]
    np.testing.assert_array_equal(found.music_beats, beats[beats < 720])
    assert found.bpm == pytest.approx(156.52173913043478)


@pytest.mark.parametrize("name", RATES)
def test_parity_plain_librosa(synth: dict[str, np.ndarray], name: str) -> None:
    found = music_features(synth_music(RATES[name]), RATES[name])
    step = KEEP if name == "60fps" else 1
    errors = block_errors(found.features[::step], synth[f"features_{name}"], BLOCKS)
    assert max(errors.values()) <= 1e-4, errors
    np.testing.assert_array_equal(found.beats, synth[f"beats_{name}"])
    assert found.bpm == pytest.approx(float(synth[f"bpm_{name}"]))


def test_parity_plain_librosa_fact(synth: dict[str, np.ndarray]) -> None:
    found = fact_features(synth_music(SAMPLE_RATE_60FPS))
    errors = block_errors(found, synth["fact"], FACT_BLOCKS)
    assert max(errors.values()) <= 1e-4, errors


def test_extract_audio_is_the_separate_features_cut_to_the_motion(synth: dict[str, np.ndarray]) -> None:
    audio, slow_audio = synth_music(SAMPLE_RATE_60FPS), synth_music(SAMPLE_RATE_7P5FPS)
    found = extract_audio(audio, slow_audio, 360)
    np.testing.assert_array_equal(found.music_features, music_features(audio).features[:360])
    np.testing.assert_array_equal(
        found.music_features_7p5fps, music_features(slow_audio, SAMPLE_RATE_7P5FPS).features[:45]
    )
    np.testing.assert_array_equal(found.music_features_fact, fact_features(audio)[:360])
    np.testing.assert_array_equal(
        found.music_beats, np.flatnonzero(found.music_features[:, BLOCKS["onset_beat"]])
    )
    assert found.bpm == pytest.approx(BPM, rel=0.02)


def assert_sound(found: MusicAnnotation, num_frames: int) -> None:
    assert found.music_features.shape == (num_frames, 438)
    assert found.music_features_7p5fps.shape == (math.ceil(num_frames / 8), 438)
    assert found.music_features_fact.shape == (num_frames, 35)
    for features in (found.music_features, found.music_features_7p5fps, found.music_features_fact):
        assert features.dtype == np.float32
        assert np.isfinite(features).all()
    assert found.music_beats.dtype == np.int32
    assert ((found.music_beats >= 0) & (found.music_beats < num_frames)).all()
    assert (np.diff(found.music_beats) > 0).all()
    assert math.isfinite(found.bpm)
    assert found.bpm >= 0


@settings(max_examples=20, deadline=None)
@given(
    num_frames=st.integers(1, 100),
    surplus=st.integers(-20 * HOP, 2 * HOP),
    level=st.sampled_from([0.0, 1e-7, 1.0]),
)
def test_features_are_as_long_as_the_motion(num_frames: int, surplus: int, level: float) -> None:
    noise = level * np.random.RandomState(num_frames).standard_normal(max(0, num_frames * HOP + surplus))
    assert_sound(extract_audio(noise, noise[::8], num_frames), num_frames)


@pytest.mark.parametrize(("bpm", "first_s"), [(90.0, 0.4), (120.0, 0.25), (150.0, 0.3)])
def test_click_track_gives_its_tempo_and_beats(bpm: float, first_s: float) -> None:
    found = music_features(clicks(bpm, 10.0, first_s))
    assert found.bpm == pytest.approx(bpm, rel=0.01)
    expected = 60 * np.arange(first_s, 9.9, 60 / bpm)
    nearest = np.abs(found.beats[:, None] - expected).min(axis=1)
    assert nearest.max() <= 2
    assert len(found.beats) >= len(expected) - 3


def test_silence_is_zero() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = extract_audio(np.zeros(120 * HOP), np.zeros(15 * HOP), 120)
    assert_sound(found, 120)
    assert found.bpm == 0.0
    assert len(found.music_beats) == 0
    assert not found.music_features.any()
    assert not found.music_features_7p5fps.any()
    assert not np.delete(found.music_features_fact, FACT_BLOCKS["mfcc"].start, axis=1).any()


def test_audio_that_ends_early_adds_no_beats() -> None:
    audio = clicks(120.0, 5.0, 0.25)
    found = extract_audio(audio, clicks(120.0, 5.0, 0.25, SAMPLE_RATE_7P5FPS), 600)
    assert_sound(found, 600)
    assert found.music_beats.max() <= 300
    assert found.music_features[400:, BLOCKS["onset_beat"]].sum() == 0


def test_refuses_what_has_no_answer() -> None:
    good = np.zeros(4096, dtype=np.float32)
    with pytest.raises(ValueError, match="30720"):
        music_features(good, 22050)
    with pytest.raises(ValueError, match="mono"):
        fact_features(np.zeros((2, 4096)))
    with pytest.raises(ValueError, match="NaN"):
        music_features(np.full(4096, np.nan))
    with pytest.raises(ValueError, match="num_frames"):
        extract_audio(good, good, 0)
    with pytest.raises(ValueError, match="180 frames"):
        extract("unread.mp4", 1.0, 4.0, 90)
