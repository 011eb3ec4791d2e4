"""Music features against official outputs, against plain librosa calls, and what holds for any audio."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from scipy.io import wavfile

from opendance_hf import schema
from opendance_hf.music import (
    BLOCKS,
    FACT_BLOCKS,
    HOP,
    SAMPLE_RATE_7P5FPS,
    SAMPLE_RATE_60FPS,
    AudioError,
    Engine,
    MusicAnnotation,
    MusicFeatures,
    annotate_music,
    extract,
    extract_audio,
    fact_features,
    music_features,
    tpami_features,
)
from opendance_hf.music import fast as fast_engine
from opendance_hf.music.tempo import tempo_from_beats
from tests.fixtures.make_music_synth import BPM, KEEP, synth_music
from tests.fixtures.make_music_synth_081 import LENGTH

RATES = {"60fps": SAMPLE_RATE_60FPS, "7p5fps": SAMPLE_RATE_7P5FPS}
ENGINES: tuple[Engine, ...] = ("fast", "librosa", "librosa-0.8.1")
TOLERANCE = 1e-5
CHROMA_TOLERANCE = 1e-4


def block_errors(found: np.ndarray, expected: np.ndarray, blocks: dict[str, slice]) -> dict[str, float]:
    """Largest error of each block over the largest value of that block."""
    largest = {name: np.abs(expected[:, columns]).max() for name, columns in blocks.items()}
    return {
        name: float(np.abs(found[:, columns] - expected[:, columns]).max() / (largest[name] or 1))
        for name, columns in blocks.items()
    }


def assert_same(
    found: np.ndarray, expected: np.ndarray, blocks: dict[str, slice], tolerance: float = TOLERANCE
) -> None:
    assert found.shape == expected.shape
    errors = block_errors(found, expected, blocks)
    allowed = {name: CHROMA_TOLERANCE if "chroma" in name else tolerance for name in blocks}
    assert all(errors[name] <= allowed[name] for name in blocks), errors


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
def synth_081(repo: Path) -> dict[str, np.ndarray]:
    with np.load(repo / "tests/fixtures/music_synth_081.npz") as arrays:
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
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", RATES)
def test_parity_official_outputs(official: dict[str, np.ndarray], name: str, engine: Engine) -> None:
    audio = official[f"audio_{name}"]
    old = engine == "librosa-0.8.1"
    expected = official[f"features_{name}_librosa081" if old else f"features_{name}"]
    found = music_features(audio, RATES[name], engine=engine)
    assert found.features.dtype == np.float32
    np.testing.assert_array_equal(found.beats, np.flatnonzero(expected[:, BLOCKS["onset_beat"]]))
    tempogram_bpm = {"60fps": 156.52173913043478, "7p5fps": 112.5 if old else 150.0}[name]
    assert found.bpm == tempo_from_beats(found.beats, RATES[name] / HOP, tempogram_bpm)
    if engine == "librosa":
        # A cold librosa call can differ in the last bit, which is much in the chroma of digital silence.
        quiet = silent_frames(audio)
        found.features[quiet, BLOCKS["chroma_cqt"]] = expected[quiet, BLOCKS["chroma_cqt"]]
    assert_same(found.features, expected, BLOCKS)


@pytest.mark.shared
@pytest.mark.parametrize("engine", ["fast", "librosa"])
def test_parity_official_outputs_from_video(
    official: dict[str, np.ndarray], shared: Path, engine: Engine
) -> None:
    found = extract(shared / "data/videos/duo.mp4", 0.0, 12.0, 720, engine=engine)
    for name, features in (("60fps", found.music_features), ("7p5fps", found.music_features_7p5fps)):
        expected = official[f"features_{name}"][: len(features)]
        sounds = ~silent_frames(official[f"audio_{name}"])[: len(features)]
        assert_same(features[sounds], expected[sounds], BLOCKS)
    beats = official["beat_frames_60fps"]
    np.testing.assert_array_equal(found.music_beats, beats[beats < 720])
    assert found.bpm == tempo_from_beats(beats, 60, 156.52173913043478)


@pytest.mark.parametrize("engine", ["fast", "librosa"])
@pytest.mark.parametrize("name", RATES)
def test_parity_plain_librosa(synth: dict[str, np.ndarray], name: str, engine: Engine) -> None:
    found = music_features(synth_music(RATES[name]), RATES[name], engine=engine)
    assert_as_stored(found, synth, name)


@pytest.mark.parametrize("engine", ["fast", "librosa"])
def test_parity_plain_librosa_fact(synth: dict[str, np.ndarray], engine: Engine) -> None:
    found = fact_features(synth_music(SAMPLE_RATE_60FPS), engine=engine)
    assert_same(found, synth["fact"], FACT_BLOCKS)


@pytest.mark.parametrize("name", RATES)
def test_parity_plain_librosa_081(synth_081: dict[str, np.ndarray], name: str) -> None:
    audio = synth_music(RATES[name])[: LENGTH[RATES[name]]]
    assert_as_stored(music_features(audio, RATES[name], engine="librosa-0.8.1"), synth_081, name)


def test_parity_plain_librosa_081_fact(synth_081: dict[str, np.ndarray]) -> None:
    audio = synth_music(SAMPLE_RATE_60FPS)[: LENGTH[SAMPLE_RATE_60FPS]]
    assert_same(fact_features(audio, engine="librosa-0.8.1"), synth_081["fact"], FACT_BLOCKS)


def assert_as_stored(found: MusicFeatures, stored: dict[str, np.ndarray], name: str) -> None:
    step = KEEP if name == "60fps" else 1
    assert_same(found.features[::step], stored[f"features_{name}"], BLOCKS)
    np.testing.assert_array_equal(found.beats, stored[f"beats_{name}"])
    tempogram_bpm = float(stored[f"bpm_{name}"])
    assert found.bpm == tempo_from_beats(stored[f"beats_{name}"], RATES[name] / HOP, tempogram_bpm)


@pytest.mark.parametrize("like_0_8_1", [False, True])
@pytest.mark.parametrize("name", RATES)
def test_parity_tempogram_tempo(
    synth: dict[str, np.ndarray], synth_081: dict[str, np.ndarray], name: str, like_0_8_1: bool
) -> None:
    stored = synth_081 if like_0_8_1 else synth
    audio = synth_music(RATES[name])[: LENGTH[RATES[name]] if like_0_8_1 else None]
    output = fast_engine.Analysis(audio, RATES[name], like_0_8_1=like_0_8_1).music()
    assert output.tempogram_bpm == pytest.approx(float(stored[f"bpm_{name}"]), rel=1e-12)


def test_the_releases_of_librosa_differ() -> None:
    audio = synth_music(SAMPLE_RATE_7P5FPS)
    new, old = (
        music_features(audio, SAMPLE_RATE_7P5FPS, engine=engine) for engine in ("fast", "librosa-0.8.1")
    )
    errors = block_errors(old.features, new.features, BLOCKS)
    assert errors["onset_env"] > 0.1
    assert errors["chroma_cqt"] > 0.01
    assert len(old.beats) < len(new.beats)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    name=st.sampled_from(sorted(RATES)),
    seconds=st.floats(0.05, 4.0),
    level=st.sampled_from([1e-3, 0.1, 1.0]),
    noise=st.sampled_from([1e-3, 0.05, 0.5]),
    tones=st.integers(0, 4),
    bpm=st.one_of(st.none(), st.floats(70, 170)),
)
def test_engines_agree(
    seed: int, name: str, seconds: float, level: float, noise: float, tones: int, bpm: float | None
) -> None:
    rate = RATES[name]
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    sound = noise * rng.standard_normal(len(time))
    for hertz in rng.uniform(60, 1800, tones):
        sound += rng.uniform(0.05, 0.3) * np.sin(2 * np.pi * hertz * time)
    if bpm is not None:
        sound += clicks(bpm, seconds, 0.1, rate)[: len(sound)]
    audio = (level * sound).astype(np.float32)
    fast, plain = (music_features(audio, rate, engine=engine) for engine in ("fast", "librosa"))
    # Even noise has levels that hardly change, so that the largest slope is not much more than rounding.
    assert_same(fast.features, plain.features, BLOCKS, tolerance=1e-4)
    np.testing.assert_array_equal(fast.beats, plain.beats)
    assert fast.bpm == plain.bpm
    if rate == SAMPLE_RATE_60FPS:
        fast_fact, plain_fact = (fact_features(audio, engine=engine) for engine in ("fast", "librosa"))
        assert_same(fast_fact, plain_fact, FACT_BLOCKS, tolerance=1e-4)


@pytest.mark.parametrize("start_bpm", [70.0, 180.0])
def test_engines_agree_on_a_known_tempo(start_bpm: float) -> None:
    audio = clicks(90.0, 6.0, 0.3)
    fast, plain = (fact_features(audio, start_bpm, engine=engine) for engine in ("fast", "librosa"))
    assert_same(fast, plain, FACT_BLOCKS)


def test_tpami_features() -> None:
    features = music_features(synth_music(SAMPLE_RATE_60FPS)).features
    found = tpami_features(features)
    assert found.shape == (len(features), 55)
    np.testing.assert_array_equal(found, features[:, :55])
    np.testing.assert_allclose(found[:, 54], 1, rtol=1e-6)  # lag 0 of the tempogram


def test_runs_without_librosa() -> None:
    code = """
import sys, numpy as np
from opendance_hf.music import extract_audio, fact_features, music_features
noise = np.random.RandomState(0).standard_normal(60 * 512)
extract_audio(noise, noise[::8], 60)
music_features(noise)
music_features(noise, engine="librosa-0.8.1")
fact_features(noise)
heavy = {"librosa", "sklearn", "numba", "scipy.signal", "torch"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("engine", ENGINES)
def test_extract_audio_is_the_separate_features_cut_to_the_motion(engine: Engine) -> None:
    audio, slow_audio = synth_music(SAMPLE_RATE_60FPS), synth_music(SAMPLE_RATE_7P5FPS)
    found = extract_audio(audio, slow_audio, 360, engine=engine)
    np.testing.assert_array_equal(found.music_features, music_features(audio, engine=engine).features[:360])
    slow = music_features(slow_audio, SAMPLE_RATE_7P5FPS, engine=engine)
    np.testing.assert_array_equal(found.music_features_7p5fps, slow.features[:45])
    np.testing.assert_array_equal(found.music_features_fact, fact_features(audio, engine=engine)[:360])
    np.testing.assert_array_equal(
        found.music_beats, np.flatnonzero(found.music_features[:, BLOCKS["onset_beat"]])
    )
    assert found.bpm == pytest.approx(BPM, rel=0.005)


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
    engine=st.sampled_from(ENGINES),
)
def test_features_are_as_long_as_the_motion(
    num_frames: int, surplus: int, level: float, engine: Engine
) -> None:
    noise = level * np.random.RandomState(num_frames).standard_normal(max(0, num_frames * HOP + surplus))
    assert_sound(extract_audio(noise, noise[::8], num_frames, engine=engine), num_frames)


@pytest.mark.parametrize(("bpm", "first_s"), [(90.0, 0.4), (120.0, 0.25), (150.0, 0.3)])
def test_click_track_gives_its_tempo_and_beats(bpm: float, first_s: float) -> None:
    found = music_features(clicks(bpm, 10.0, first_s))
    assert found.bpm == pytest.approx(bpm, rel=0.002)
    expected = 60 * np.arange(first_s, 9.9, 60 / bpm)
    nearest = np.abs(found.beats[:, None] - expected).min(axis=1)
    assert nearest.max() <= 2
    assert len(found.beats) >= len(expected) - 3


@pytest.mark.parametrize("engine", ENGINES)
def test_silence_is_zero(engine: Engine) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = extract_audio(np.zeros(120 * HOP), np.zeros(15 * HOP), 120, engine=engine)
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
    with pytest.raises(ValueError, match="start_bpm"):
        fact_features(good, start_bpm=0)
    for call in (
        lambda: music_features(good, engine="librosa-0.7"),  # type: ignore[arg-type]
        lambda: fact_features(good, engine="quick"),  # type: ignore[arg-type]
        lambda: annotate_music("unread.mp4", engine="quick"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match="engine must be one of fast, librosa"):
            call()
    with pytest.raises(ValueError, match="180 frames"):
        extract("unread.mp4", 1.0, 4.0, 90)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "song.wav"
    wavfile.write(path, 44100, (20000 * clicks(120.0, 3.1, 0.25, 44100)).astype(np.int16))
    return path


@pytest.mark.parametrize("engine", ENGINES)
def test_annotate_a_whole_file(wav: Path, engine: Engine) -> None:
    found = annotate_music(wav, engine=engine)
    assert_sound(found, 186)
    assert_equal(found, extract(wav, 0.0, 3.1, 186, engine=engine))


def test_annotate_a_part_of_a_file(wav: Path) -> None:
    assert_equal(annotate_music(wav, start_s=0.5, end_s=2.0), extract(wav, 0.5, 2.0, 90))
    assert_equal(annotate_music(wav, start_s=0.5), extract(wav, 0.5, 3.1, 156))
    with pytest.raises(AudioError, match="no music"):
        annotate_music(wav, start_s=3.0, end_s=4.0)


def test_annotate_refuses(wav: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no music " * 500)
    with pytest.raises(AudioError, match="cannot be decoded"):
        annotate_music(broken)
    with pytest.raises(FileNotFoundError, match="no such file"):
        annotate_music(tmp_path / "missing.wav")
    with pytest.raises(AudioError, match="no sound after"):
        annotate_music(wav, start_s=5.0)
    with pytest.raises(ValueError, match="later than start_s"):
        annotate_music(wav, start_s=2.0, end_s=1.0)


def assert_equal(found: MusicAnnotation, expected: MusicAnnotation) -> None:
    for name in MusicAnnotation.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
