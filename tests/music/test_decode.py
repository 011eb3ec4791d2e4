"""Decoding against the reference samples, and the clock: late starts, holes, spans, files without sound."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from opendance_hf.music import AudioError, NoAudioError, clock_origin, decode_audio

RATE = 16000


def tone(seconds: float, sample_rate: int = RATE) -> np.ndarray:
    """A 300 Hz tone at half of full scale."""
    return (0.5 * np.sin(2 * np.pi * 300 * np.arange(round(seconds * sample_rate)) / sample_rate)).astype(
        np.float32
    )


def write_video(
    path: Path,
    pieces: list[tuple[float, np.ndarray]],
    audio_codec: str | None = "pcm_s16le",
    video_start_s: float = 0.0,
    video_s: float = 2.0,
) -> Path:
    """A grey video with pieces of mono sound at 16 kHz, each at its time on the same clock."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=20)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        audio: Any = container.add_stream(audio_codec, rate=RATE, layout="mono") if audio_codec else None
        for number in range(round(20 * video_s)):
            image = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 128, np.uint8), format="rgb24")
            image.pts, image.time_base = number + round(20 * video_start_s), Fraction(1, 20)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
        if audio is not None:
            size = 1024
            for start_s, samples in pieces:
                for offset in range(0, len(samples), size):
                    pcm = (samples[offset : offset + size] * 32767).astype(np.int16)
                    frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
                    frame.sample_rate = RATE
                    frame.pts, frame.time_base = round(start_s * RATE) + offset, Fraction(1, RATE)
                    container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def onset_s(audio: np.ndarray, sample_rate: int = RATE) -> float:
    return float(np.flatnonzero(np.abs(audio) > 0.1)[0]) / sample_rate


@pytest.mark.shared
@pytest.mark.parametrize(("name", "sample_rate"), [("60fps", 30720), ("7p5fps", 3840)])
def test_parity_reference_samples(shared: Path, name: str, sample_rate: int) -> None:
    with np.load(shared / "reference/music_features.npz") as arrays:
        expected = arrays[f"audio_{name}"]
    audio = decode_audio(shared / "data/videos/duo.mp4", sample_rate, 0.0, 12.0)
    assert audio.dtype == np.float32
    assert audio.shape == expected.shape == (12 * sample_rate,)
    assert np.abs(audio - expected).max() <= 1e-5


def test_samples_of_a_lossless_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mkv", [(0.0, tone(2.0))])
    audio = decode_audio(path, RATE)
    assert audio.dtype == np.float32
    np.testing.assert_allclose(audio, tone(2.0), atol=1e-4)
    half = decode_audio(path, RATE // 2)
    assert abs(len(half) - RATE) <= 16
    np.testing.assert_allclose(half[1000:-1000], tone(2.0, RATE // 2)[1000 : len(half) - 1000], atol=2e-3)


def test_span_is_a_slice_of_the_whole(tmp_path: Path) -> None:
    noise = (0.2 * np.random.RandomState(1).standard_normal(3 * RATE)).clip(-1, 1).astype(np.float32)
    path = write_video(tmp_path / "clip.mkv", [(0.25, noise)], video_s=3.0)
    for sample_rate in (30720, 3840):
        whole = decode_audio(path, sample_rate)
        for start_s, end_s in ((0.0, 0.1), (0.7, 1.31), (1.0, 3.0)):
            span = decode_audio(path, sample_rate, start_s, end_s)
            first = round(start_s * sample_rate)
            assert len(span) == round((end_s - start_s) * sample_rate)
            np.testing.assert_array_equal(span, whole[first : first + len(span)])


@pytest.mark.parametrize(("container", "codec"), [("mkv", "pcm_s16le"), ("mov", "pcm_s16le"), ("mp4", "aac")])
def test_late_sound_is_padded(tmp_path: Path, container: str, codec: str) -> None:
    path = write_video(tmp_path / f"late.{container}", [(0.5, tone(1.5))], audio_codec=codec)
    audio = decode_audio(path, RATE, 0.0, 2.0)
    assert len(audio) == 2 * RATE
    assert onset_s(audio) == pytest.approx(0.5, abs=0.005)
    assert onset_s(decode_audio(path, RATE, 0.3, 1.0)) == pytest.approx(0.2, abs=0.005)


def test_span_before_the_sound_is_silent(tmp_path: Path) -> None:
    path = write_video(tmp_path / "late.mkv", [(1.5, tone(0.5))])
    assert decode_audio(path, RATE, 0.0, 0.5).tolist() == [0.0] * (RATE // 2)


def test_clock_starts_with_the_earliest_stream(tmp_path: Path) -> None:
    path = write_video(tmp_path / "offset.mkv", [(1.5, tone(1.0))], video_start_s=1.0)
    with av.open(str(path)) as container:
        assert clock_origin(container) == pytest.approx(1.0, abs=0.002)
    assert onset_s(decode_audio(path, RATE)) == pytest.approx(0.5, abs=0.003)


def test_hole_is_silent_and_what_follows_stays_in_time(tmp_path: Path) -> None:
    path = write_video(tmp_path / "hole.mkv", [(0.0, tone(0.5)), (1.5, tone(0.5))])
    audio = decode_audio(path, RATE, 0.0, 2.0)
    assert not audio[round(0.55 * RATE) : round(1.45 * RATE)].any()
    assert onset_s(audio[RATE:]) == pytest.approx(0.5, abs=0.005)


def test_end_beyond_the_sound_is_padded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "short.mkv", [(0.0, tone(1.0))])
    audio = decode_audio(path, RATE, 0.5, 2.125)
    assert len(audio) == round(1.625 * RATE)
    assert np.abs(audio[: RATE // 4]).max() > 0.4
    assert not audio[round(0.55 * RATE) :].any()
    assert len(decode_audio(path, RATE, start_s=5.0)) == 0
    assert decode_audio(path, RATE, 5.0, 6.0).tolist() == [0.0] * RATE


def test_no_audio_track(tmp_path: Path) -> None:
    path = write_video(tmp_path / "mute.mp4", [], audio_codec=None)
    with pytest.raises(NoAudioError, match=r"mute\.mp4.*no audio track"):
        decode_audio(path, RATE)


def test_not_a_media_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("buy milk\n" * 50)
    with pytest.raises(AudioError, match=r"notes\.mp4.*ffmpeg"):
        decode_audio(path, RATE)


def test_truncated_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "whole.mp4", [(0.0, tone(2.0))], audio_codec="aac")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(AudioError, match=r"cut\.mp4"):
        decode_audio(cut, RATE)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        decode_audio(tmp_path / "absent.mp4", RATE)


@pytest.mark.parametrize(
    ("sample_rate", "start_s", "end_s"),
    [
        (0, 0.0, None),
        (RATE, -1.0, None),
        (RATE, float("nan"), None),
        (RATE, 2.0, 2.0),
        (RATE, 0.0, float("inf")),
    ],
)
def test_impossible_span(tmp_path: Path, sample_rate: int, start_s: float, end_s: float | None) -> None:
    with pytest.raises(ValueError, match=r"sample_rate|start_s|end_s"):
        decode_audio(tmp_path / "any.mp4", sample_rate, start_s, end_s)
