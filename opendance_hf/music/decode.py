"""Decode the audio of any file that FFmpeg reads to mono samples, synchronous with its video."""

from __future__ import annotations

import math
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.music.media import audio_stream, open_media
from opendance_hf.music.sound import Samples, SoundFrames, measure_sound

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.container import InputContainer

Floats = npt.NDArray[np.float32]

# Decode this much past the end: the resampling filter needs the samples after the last one.
_LOOKAHEAD_S: Final = 0.5


def decode_audio(
    path: str | PathLike[str], sample_rate: int, start_s: float = 0.0, end_s: float | None = None
) -> Floats:
    """Decode the sound of a file, mixed to mono and resampled, between two times of its clock.

    Time 0 is the start of the earliest audio or video stream of the file (see :func:`clock_origin`), so that
    audio and video cut at the same times are synchronous. Where the audio starts later than the video, or has a gap, the
    samples are zero. A span equals the slice of the whole: decoding runs from the beginning of the file, since seeking
    is inexact in some formats (MP3 of variable bit rate).

    The mix to mono is FFmpeg's. Where channels in opposite phase cancel in it, anywhere in the file, the loudest channel is
    used instead. Damaged packets become silence.

    Args:
        path: an audio or video file.
        sample_rate: of the result, in Hz.
        start_s: time of the first sample, in seconds.
        end_s: time where the result ends, in seconds; by default the end of the sound.

    Returns:
        (samples,) float32, full scale 1. With ``end_s`` exactly ``round((end_s - start_s) * sample_rate)``
        samples, zero beyond the end of the sound; without, none at all if the sound ends before ``start_s``.

    Raises:
        FileNotFoundError: no such file.
        NoAudioError: the file has no audio track.
        AudioError, ReadError: see :func:`~opendance_hf.music.sound.measure_sound`.
        ValueError: an impossible span or sample rate.
    """
    if sample_rate < 1:
        raise ValueError(f"sample_rate must be a positive number of Hz, got {sample_rate}")
    if not (math.isfinite(start_s) and start_s >= 0):
        raise ValueError(f"start_s must be finite and not negative, got {start_s}")
    if end_s is not None and not (math.isfinite(end_s) and end_s > start_s):
        raise ValueError(f"end_s must be finite and later than start_s = {start_s}, got {end_s}")
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}")

    channels = measure_sound(path).channels
    first = round(start_s * sample_rate)
    stop_s = math.inf if end_s is None else end_s + _LOOKAHEAD_S
    with open_media(path) as container:
        pieces = _resampled(container, sample_rate, stop_s, channels)
        chunks = [(index - first, samples) for index, samples in pieces if index + len(samples) > first]

    if end_s is not None:
        length = round((end_s - start_s) * sample_rate)
    else:
        length = max((index + len(samples) for index, samples in chunks), default=0)
    audio = np.zeros(length, dtype=np.float32)
    for index, samples in chunks:
        start, stop = max(index, 0), min(index + len(samples), length)
        if stop > start:
            audio[start:stop] = samples[start - index : stop - index]
    return audio


def decode_blocks(
    path: str | PathLike[str],
    sample_rate: int,
    start_s: float = 0.0,
    end_s: float | None = None,
    block_samples: int = 1 << 20,
) -> Iterator[Floats]:
    """Yield the samples of :func:`decode_audio` in blocks of at most ``block_samples``, for sound that does not fit in memory.

    Raises:
        AudioError, NoAudioError, ReadError: see :func:`decode_audio`.
    """
    channels = measure_sound(path).channels
    first = round(start_s * sample_rate)
    length = None if end_s is None else round((end_s - start_s) * sample_rate)
    stop_s = math.inf if end_s is None else end_s + _LOOKAHEAD_S
    # A chunk may overwrite the end of the one before, so as much is held back as time stamps may go back.
    late = sample_rate
    held = np.zeros(block_samples + 2 * late, np.float32)
    done = count = 0  # samples before `held`, and samples in it
    with open_media(path) as container:
        for index, chunk in _resampled(container, sample_rate, stop_s, channels):
            offset = index - first - done
            samples, offset = chunk[max(0, -offset) :], max(0, offset)
            if not len(samples):
                continue
            count = max(count, offset + len(samples))
            if count > len(held):
                held = np.pad(held, (0, count - len(held) + late))
            held[offset : offset + len(samples)] = samples
            while count >= block_samples + late:
                yield held[: block_samples if length is None else min(block_samples, length - done)].copy()
                held = np.pad(held[block_samples:], (0, block_samples))
                done, count = done + block_samples, count - block_samples
                if length is not None and done >= length:
                    return
    # Beyond the end of the sound the samples are zero.
    rest = held[:count]
    for i in range(0, count if length is None else length - done, block_samples):
        block = rest[i : i + block_samples]
        size = len(block) if length is None else min(block_samples, length - done - i)
        yield np.pad(block[:size], (0, size - len(block[:size])))


def _resampled(
    container: InputContainer, sample_rate: int, stop_s: float, channels: dict[str, int]
) -> Iterator[tuple[int, Floats]]:
    """Yield mono chunks at ``sample_rate``, each with the index of its first sample since time 0 of the file.

    One resampler is used for as long as timestamps and format are continuous. After a jump a new resampler starts at
    the new timestamp, which turns gaps into silence and prevents drift.

    Args:
        container: an open file with sound.
        sample_rate: of the result, Hz.
        stop_s: decoding stops after this time.
        channels: channel to use instead of the mono mix, by channel layout.
    """
    from av import AudioResampler

    stream = audio_stream(container)
    assert stream is not None
    resampler: AudioResampler | None = None
    samples_of = Samples()
    index = 0

    def drained() -> Iterator[tuple[int, Floats]]:
        if resampler is not None:
            offset = index
            for piece in resampler.resample(None):
                yield offset, piece.to_ndarray()[0]
                offset += piece.samples

    for sound in SoundFrames(container, stream):
        if sound.jump:
            yield from drained()
            resampler = AudioResampler(format="flt", layout="mono", rate=sample_rate)
            index = round(sound.time_s * sample_rate)
        assert resampler is not None
        channel = channels.get(sound.frame.layout.name)
        frame = (
            sound.frame if channel is None else _one_channel(sound.frame, samples_of(sound.frame)[channel])
        )
        for piece in resampler.resample(frame):
            yield index, piece.to_ndarray()[0]
            index += piece.samples
        if sound.time_s > stop_s:
            break
    yield from drained()


def _one_channel(frame: AudioFrame, samples: Floats) -> AudioFrame:
    """Return a mono frame of some samples (samples,), with the time of another frame."""
    from av import AudioFrame

    found = AudioFrame.from_ndarray(np.ascontiguousarray(samples)[None], format="flt", layout="mono")
    found.sample_rate, found.time_base, found.pts = frame.sample_rate, frame.time_base, frame.pts
    return found
