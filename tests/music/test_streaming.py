"""Sound of any length: blocks give the features of the whole, and memory does not follow the length."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.cases.make_media import RATE, damage, song, write_media
from opendance_hf.apps.music import write_music
from opendance_hf.music import AudioError, annotate_music, chroma, decode_audio, fast, open_song
from opendance_hf.music import song as song_module
from opendance_hf.music.decode import decode_blocks
from opendance_hf.music.streaming import Framer, StreamedAnalysis, streamed_median
from tests.fixtures.make_music_synth import synth_music


def in_blocks(audio: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (audio[i : i + size] for i in range(0, len(audio), size))


@pytest.mark.parametrize("sample_rate", [30_720, 3_840])
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("samples", [0, -333, 512 * 300 + 1])
def test_blocks_give_the_features_of_the_whole(
    tmp_path: Path, sample_rate: int, old: bool, samples: int
) -> None:
    audio = synth_music(sample_rate)
    audio = audio[: samples or len(audio)].astype(np.float32)
    whole = fast.Analysis(audio, sample_rate, like_0_8_1=old)
    expected, expected_fact = whole.music(), whole.fact(120.0)
    streamed = StreamedAnalysis(lambda: in_blocks(audio, 50_001), sample_rate, tmp_path, like_0_8_1=old)
    found = np.concatenate(list(streamed.blocks(len(expected.features))))
    bpm, beats = streamed.beats
    assert streamed.num_samples == len(audio)
    assert bpm == expected.tempogram_bpm
    np.testing.assert_array_equal(beats, expected.beats)
    np.testing.assert_allclose(found, expected.features, atol=1e-5)
    np.testing.assert_allclose(streamed.fact(120.0), expected_fact, atol=1e-5)


def test_cens_of_many_frames_is_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = np.random.default_rng(0).random((500, 12)).astype(np.float32)
    whole = chroma.cens(classes)
    monkeypatch.setattr(chroma, "_FRAMES_AT_A_TIME", 64)
    np.testing.assert_array_equal(chroma.cens(classes), whole)


@pytest.mark.parametrize("count", [1, 2, 7, 1000, 1001])
def test_the_streamed_median_is_the_median(count: int) -> None:
    values = np.random.default_rng(count).normal(0, 3, count).astype(np.float32)
    assert streamed_median(lambda: in_blocks(values, 13), count) == np.median(values)
    same = np.full(count, 0.25, np.float32)
    assert streamed_median(lambda: in_blocks(same, 13), count) == np.float32(0.25)


@pytest.mark.parametrize("padding", ["constant", "reflect"])
def test_windows_of_blocks_are_those_of_the_padded_signal(padding: str) -> None:
    signal = np.arange(1, 1001, dtype=np.float32)
    framer = Framer(64, 16, 32, padding)  # type: ignore[arg-type]
    found = np.concatenate([*(framer.push(block).copy() for block in in_blocks(signal, 37)), framer.finish()])
    padded = np.pad(signal, 32, mode=padding)  # type: ignore[call-overload]
    np.testing.assert_array_equal(found, np.lib.stride_tricks.sliding_window_view(padded, 64)[::16])


@pytest.mark.parametrize("span", [(0.0, None), (1.3, None), (1.3, 3.7), (0.5, 9.0)])
def test_decoded_blocks_are_the_decoded_whole(tmp_path: Path, span: tuple[float, float | None]) -> None:
    path = write_media(tmp_path / "a.m4a", (), song(5.0), options={"sound_start_s": 0.25})
    damage(path, "audio", 60)
    whole = decode_audio(path, 30_720, *span)
    for size in (3_000, 40_000, 1_000_000):
        blocks = list(decode_blocks(path, 30_720, *span, block_samples=size))
        assert max(len(block) for block in blocks) <= size
        np.testing.assert_array_equal(np.concatenate(blocks), whole)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    return write_media(tmp_path / "song.wav", (), song(6.0), codecs=("", "pcm_s16le"))


@pytest.mark.parametrize("engine", ["fast", "librosa-0.8.1"])
def test_a_long_song_has_the_features_of_the_whole(
    wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    short = annotate_music(wav, start_s=0.5, engine=engine)  # type: ignore[arg-type]
    monkeypatch.setattr(song_module, "_WHOLE_S", 3.0)
    write_music(wav, tmp_path / "long.npz", start_s=0.5, engine=engine)
    with np.load(tmp_path / "long.npz", allow_pickle=False) as found:
        for name, expected in vars(short).items():
            assert found[name].dtype == np.asarray(expected).dtype
            np.testing.assert_allclose(found[name], expected, atol=1e-5)
        np.testing.assert_array_equal(found["music_features_tpami"], found["music_features"][:, :55])
        assert found["fps"] == 60


def test_a_long_song_is_read_column_by_column(wav: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(song_module, "_WHOLE_S", 3.0)
    with open_song(wav) as opened:
        blocks = list(opened.blocks("music_features"))
        assert max(len(block) for block in blocks) <= 64
        assert (
            sum(len(block) for block in blocks)
            == opened.num_frames
            == opened.num_rows("music_features")
            == 360
        )
        assert opened.column("music_features", 55).shape == (360, 55)
        assert opened.column("music_features_7p5fps").shape == (45, 438)


def test_what_does_not_fit_is_refused_before_the_work(wav: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(song_module, "_WHOLE_S", 3.0)
    monkeypatch.setattr(song_module, "_LIBROSA_S", 3.0)
    with pytest.raises(AudioError, match="the engine librosa takes at most"):
        annotate_music(wav, engine="librosa")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(AudioError, match=r"GB of temporary space in .*TMPDIR"):
        annotate_music(wav)


def test_a_long_song_that_is_silent_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(song_module, "_WHOLE_S", 3.0)
    path = write_media(tmp_path / "a.wav", (), np.zeros(5 * RATE), codecs=("", "pcm_s16le"))
    with pytest.raises(AudioError, match="no music: the sound is silent"):
        annotate_music(path)
