"""Decode the audio of any file that FFmpeg reads to mono samples, synchronous with its video."""

from __future__ import annotations

import math
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.errors import OpenDanceError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer

Floats = npt.NDArray[np.float32]

# A timestamp this far from the end of the previous samples is a jump; a smaller difference is rounding.
_JUMP_S: Final = 0.05
# Decode this much past the end: the resampling filter needs the samples after the last one.
_LOOKAHEAD_S: Final = 0.5
# FFmpeg also accepts playlists (hls, dash) and scripts (concat, ffmetadata). Through them, a text file named like a
# video could read other files from disk or network.
_FORMATS: Final = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,h264,hevc,asf,ogg,wav,w64,mp3,aac,ac3,eac3,flac,"
    "aiff,amr,ape,au,caf,dv,gxf,ivf,m4v,mxf,nut,obu,rm,tta,wv,yuv4mpegpipe,gif,"
    "image2,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,gif_pipe"
)


class AudioError(OpenDanceError, ValueError):
    """Raised for a file whose audio cannot be read; the message names the file, the cause and the remedy."""


class NoAudioError(AudioError):
    """Raised for a readable file without an audio track."""


def decode_audio(
    path: str | PathLike[str], sample_rate: int, start_s: float = 0.0, end_s: float | None = None
) -> Floats:
    """Decode the sound of a file, mixed to mono and resampled, between two times of its clock.

    Time 0 is the start of the earliest audio or video stream of the file (see :func:`clock_origin`), so that
    audio and video cut at the same times are synchronous. Where the audio starts later than the video, or has a gap, the
    samples are zero. A span equals the slice of the whole: decoding runs from the beginning of the file, since seeking
    is inexact in some formats (MP3 of variable bit rate).

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
        AudioError: the file, or its audio track, cannot be decoded.
        ValueError: an impossible span or sample rate.
    """
    import av

    if sample_rate < 1:
        raise ValueError(f"sample_rate must be a positive number of Hz, got {sample_rate}")
    if not (math.isfinite(start_s) and start_s >= 0):
        raise ValueError(f"start_s must be finite and not negative, got {start_s}")
    if end_s is not None and not (math.isfinite(end_s) and end_s > start_s):
        raise ValueError(f"end_s must be finite and later than start_s = {start_s}, got {end_s}")
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}")

    first = round(start_s * sample_rate)
    chunks: list[tuple[int, Floats]] = []
    heard = False
    try:
        with open_media(path) as container:
            stream = container.streams.best("audio")
            if not isinstance(stream, av.AudioStream):
                raise NoAudioError(f"{path}: no audio track; use a file with sound, or mux the music into it")
            stop_s = math.inf if end_s is None else end_s + _LOOKAHEAD_S
            for index, samples in _resampled(container, stream, sample_rate, stop_s):
                heard = True
                if index + len(samples) > first:
                    chunks.append((index - first, samples))
    except av.FFmpegError as error:
        raise AudioError(
            f"{path}: cannot be decoded as audio ({error.strerror or error}); "
            f"check that it plays, or convert it with: ffmpeg -i FILE -c:v copy -c:a aac REPAIRED.mp4"
        ) from error
    if not heard:
        raise AudioError(f"{path}: the audio track is empty; use a file with sound")

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


def open_media(path: str | PathLike[str]) -> InputContainer:
    """Open a media file; playlists and scripts that refer to other files are refused.

    Raises:
        av.FFmpegError: if the file is not a media file, or damaged.
    """
    import av

    return av.open(
        str(path),
        # Accept files with broken tags, such as a title that is not UTF-8.
        metadata_errors="ignore",
        options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"},
    )


def clock_origin(container: InputContainer) -> float:
    """Return the timestamp, in seconds, of time 0 of an open file: the earliest start of its streams.

    Audio and video streams count, cover pictures do not. Readers of the frames of the same file must subtract the same
    number from their timestamps.
    """
    from av.stream import Disposition

    starts = [
        float(stream.start_time * stream.time_base)
        for stream in (*container.streams.audio, *container.streams.video)
        if stream.start_time is not None
        and stream.time_base is not None
        and not stream.disposition & Disposition.attached_pic
    ]
    return min(starts, default=0.0)


def _resampled(
    container: InputContainer, stream: AudioStream, sample_rate: int, stop_s: float
) -> Iterator[tuple[int, Floats]]:
    """Yield mono chunks at ``sample_rate``, each with the index of its first sample since time 0 of the file.

    One resampler is used for as long as timestamps and format are continuous. After a jump a new resampler starts at
    the new timestamp, which turns gaps into silence and prevents drift.
    """
    from av import AudioResampler

    origin = clock_origin(container)
    resampler: AudioResampler | None = None
    setup: tuple[str, str, int] | None = None
    expected_s = 0.0
    index = 0

    def drained() -> Iterator[tuple[int, Floats]]:
        if resampler is not None:
            offset = index
            for piece in resampler.resample(None):
                yield offset, piece.to_ndarray()[0]
                offset += piece.samples

    for frame in container.decode(stream):
        time_s = expected_s if frame.time is None else frame.time - origin
        frame_setup = (frame.format.name, frame.layout.name, frame.sample_rate)
        if resampler is None or frame_setup != setup or abs(time_s - expected_s) > _JUMP_S:
            yield from drained()
            resampler, setup = AudioResampler(format="flt", layout="mono", rate=sample_rate), frame_setup
            segment_s, seen = time_s, 0
            index = round(time_s * sample_rate)
        seen += frame.samples
        expected_s = segment_s + seen / frame.sample_rate
        for piece in resampler.resample(frame):
            yield index, piece.to_ndarray()[0]
            index += piece.samples
        if time_s > stop_s:
            break
    yield from drained()
