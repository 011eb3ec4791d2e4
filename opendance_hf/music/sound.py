"""Measure the sound of a file as a whole: its level, its gaps, its damage, and whether its channels cancel when mixed."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from os import PathLike, stat
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import numpy.typing as npt

from opendance_hf.errors import OpenDanceError
from opendance_hf.music.media import Clock, audio_stream, clock_origin, demux, open_media

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler
    from av.audio.stream import AudioStream
    from av.container import InputContainer

Floats = npt.NDArray[np.float32]

#: A time stamp this far from the end of the previous samples is a jump; a smaller difference is rounding.
JUMP_S: Final = 0.05
#: Where packets could not be decoded, a smaller difference is already a gap.
_JUMP_AFTER_DAMAGE_S: Final = 0.002
#: Longest gap in the sound, and total length of gaps allowed beside as much sound.
_MAX_GAP_S: Final = 60.0
#: Latest time at which sound begins. Decoded sound starts at time 0, so a false time stamp could take gigabytes of silence.
_MAX_START_S: Final = 3600.0
#: Level of music: quieter windows are silence, such as dither (-90 dBFS) or the noise of an open microphone.
SILENT_DBFS: Final = -60.0
#: Sound for a smaller share of the time is not music but a few clicks.
_MIN_SOUNDING: Final = 0.05
_WINDOW_S: Final = 0.04
_LOUDEST: Final = 1e6
#: Time over which the channels are compared.
_BLOCK_S: Final = 1.0
#: The channels cancel if the mono mix has less than this share of the power of its parts (a correlation of -0.5) ...
_CANCELLED: Final = 0.5
#: ... in blocks with this share of the power of the file. Recordings of music are far from both.
_CANCELLED_POWER: Final = 0.2


class AudioError(OpenDanceError, ValueError):
    """Raised for a file whose audio cannot be read; the message names the file, the cause and the remedy."""


class NoAudioError(AudioError):
    """Raised for a readable file without an audio track."""


@dataclass(frozen=True)
class Sound:
    """Measurements of the sound of a file; times are seconds since time 0 of the file.

    Attributes:
        starts_s: (N,) start of each window of about 0.04 s that has sound in the file.
        ends_s: (N,) end of each window.
        levels_dbfs: (N,) level of the loudest channel without its mean, dB below a full-scale square wave.
        gaps: (start, end) of each time without sound in the file, or with sound that cannot be decoded.
        channels: channel to use instead of the mono mix, by channel layout; empty if the mix does not cancel.
    """

    starts_s: npt.NDArray[np.float64]
    ends_s: npt.NDArray[np.float64]
    levels_dbfs: npt.NDArray[np.float64]
    gaps: tuple[tuple[float, float], ...]
    channels: dict[str, int]

    def silence(self, start_s: float = 0.0, end_s: float = math.inf) -> str:
        """Return the measured level if the sound between two times is silent; empty if it has music."""
        inside = (self.ends_s > start_s) & (self.starts_s < end_s)
        levels = self.levels_dbfs[inside]
        if not len(levels):
            return "the file has no sound there"
        sounding = float(np.mean(levels > SILENT_DBFS))
        if sounding >= _MIN_SOUNDING:
            return ""
        level = float(np.percentile(levels, 95))
        return (
            f"{max(level, -200):.1f} dBFS, and above {SILENT_DBFS:g} dBFS for {100 * sounding:.1f}% of the time; at least "
            f"{100 * _MIN_SOUNDING:g}% needed"
        )

    def music(self, max_silence_s: float, duration_s: float) -> tuple[tuple[float, float], ...]:
        """Return the times (start, end) with music: silence of at most ``max_silence_s`` is a part of it.

        Args:
            max_silence_s: longest silence within the music, or before or after it.
            duration_s: duration of the file.
        """
        loud = self.levels_dbfs > SILENT_DBFS
        found: list[tuple[float, float]] = []
        for start_s, end_s in zip(self.starts_s[loud].tolist(), self.ends_s[loud].tolist(), strict=True):
            if found and start_s - found[-1][1] <= max_silence_s:
                found[-1] = found[-1][0], max(end_s, found[-1][1])
            else:
                found.append((start_s, end_s))
        if found and found[0][0] <= max_silence_s:
            found[0] = 0.0, found[0][1]
        if found and duration_s - found[-1][1] <= max_silence_s:
            found[-1] = found[-1][0], math.inf
        return tuple(found)


@dataclass(frozen=True)
class SoundFrame:
    """Decoded frame with its time since time 0 of the file, and True where it does not continue the previous one."""

    frame: AudioFrame
    time_s: float
    jump: bool


class SoundFrames:
    """Iterate over the frames of an audio stream; packets that cannot be decoded are skipped.

    Attributes:
        packets: number of packets read so far.
        damaged: number of those that could not be decoded.
        error: the last error.
        clock: check of the time stamps.
    """

    def __init__(self, container: InputContainer, stream: AudioStream) -> None:
        self._container, self._stream = container, stream
        self.packets = self.damaged = 0
        self.error = ""
        self.clock = Clock(_MAX_GAP_S)

    def __iter__(self) -> Iterator[SoundFrame]:
        origin_s = clock_origin(self._container)
        setup: tuple[str, str, int] | None = None
        segment_s = expected_s = 0.0
        seen, allowed_s = 0, JUMP_S
        for frame in self._decoded():
            if frame is None:
                allowed_s = _JUMP_AFTER_DAMAGE_S
                continue
            time_s = expected_s if frame.time is None else frame.time - origin_s
            last, setup = setup, (frame.format.name, frame.layout.name, frame.sample_rate)
            jump = setup != last or abs(time_s - expected_s) > allowed_s
            if jump:
                segment_s, seen = time_s, 0
            allowed_s = JUMP_S
            seen += frame.samples
            expected_s = segment_s + seen / frame.sample_rate
            yield SoundFrame(frame, time_s, jump)

    def _decoded(self) -> Iterator[AudioFrame | None]:
        """Yield the frames, and None where one is missing. Damage that FFmpeg cannot read past ends the file."""
        import av

        try:
            for packet in demux(self._container, self._stream):
                self.packets += packet.size > 0
                self.clock.add(packet)
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    self.damaged += 1
                    self.error = error.strerror or str(error)
                    yield None
                    continue
                for frame in cast("list[AudioFrame]", frames):
                    yield None if frame.is_corrupt else frame
        except av.FFmpegError as error:
            self.error = error.strerror or str(error)


def measure_sound(path: str | PathLike[str]) -> Sound:
    """Decode all sound of a file, and measure it; the result is remembered for as long as the file does not change.

    Raises:
        NoAudioError: the file has no audio track.
        AudioError: the file, or its audio track, cannot be decoded, is mostly damaged, begins after more than an hour, has
            gaps longer than a minute or more gaps than sound, or its clock restarts.
        ReadError: its disk fails.
    """
    found = stat(path)
    return _measure_sound(str(path), found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=256)
def _measure_sound(path: str, _mtime_ns: int, _size: int) -> Sound:
    import av

    meter = _Meter()
    try:
        with open_media(path) as container:
            stream = audio_stream(container)
            if stream is None:
                raise NoAudioError(f"{path}: no audio track; use a file with sound, or mux the music into it")
            frames = SoundFrames(container, stream)
            for sound in frames:
                meter.add(sound)
                _refuse(path, frames.clock.fault)
            _refuse(path, frames.clock.fault)
            result = meter.result()
    except av.FFmpegError as error:
        raise AudioError(_undecodable(path, error.strerror or str(error))) from error
    if not meter.heard:
        if frames.error:
            raise AudioError(_undecodable(path, frames.error))
        raise AudioError(f"{path}: the audio track is empty; use a file with sound")
    if 2 * frames.damaged > frames.packets:
        _refuse(
            path,
            f"the sound is mostly damaged: {frames.damaged} of {frames.packets} packets cannot be decoded; "
            "use another copy of the file",
        )
    if (start_s := float(result.starts_s[0])) > _MAX_START_S:
        _refuse(
            path,
            f"the sound begins {start_s:.0f} s after the picture (at most {_MAX_START_S:.0f} s allowed), as where time stamps are "
            "damaged; use another copy of the file",
        )
    missing_s = sum(end_s - start_s for start_s, end_s in result.gaps)
    sound_s = float(np.sum(result.ends_s - result.starts_s))
    if missing_s > max(_MAX_GAP_S, sound_s):
        _refuse(
            path,
            f"{sound_s:.1f} s of sound with gaps of {missing_s:.1f} s in all; use another copy of the file",
        )
    return result


def _refuse(path: str, fault: str) -> None:
    if fault:
        raise AudioError(f"{path}: {fault}")


def _undecodable(path: str, cause: str) -> str:
    return (
        f"{path}: cannot be decoded as audio ({cause}); "
        "check that it plays, or convert it with: ffmpeg -i FILE -c:v copy -c:a aac REPAIRED.mp4"
    )


@dataclass
class _Power:
    """Power of the channels of one layout: of all blocks, and of the mono mix of each."""

    channels: npt.NDArray[np.float64]
    parts: float = 0.0
    cancelled: float = 0.0


@dataclass
class _Meter:
    """Measure frames in blocks of about a second."""

    heard: bool = False
    _samples: Samples = field(default_factory=lambda: Samples())
    _pieces: list[Floats] = field(default_factory=list)
    _start_s: float = 0.0
    _rate: int = 1
    _layout: str = ""
    _end_s: float = 0.0
    _times: array[float] = field(default_factory=lambda: array("d"))
    _gaps: list[tuple[float, float]] = field(default_factory=list)
    # By layout: first of the samples, then of their differences, where treble outweighs bass.
    _power: dict[tuple[str, bool], _Power] = field(default_factory=dict)

    def add(self, sound: SoundFrame) -> None:
        """Add the next frame."""
        frame = sound.frame
        if sound.jump:
            self._close()
            if self.heard and sound.time_s - self._end_s > _JUMP_AFTER_DAMAGE_S:
                self._gaps.append((self._end_s, sound.time_s))
            self._start_s, self._rate, self._layout = sound.time_s, frame.sample_rate, frame.layout.name
        self.heard = True
        self._pieces.append(self._samples(frame))
        if sum(piece.shape[1] for piece in self._pieces) >= _BLOCK_S * self._rate:
            self._close()

    def result(self) -> Sound:
        """Return the measurements."""
        self._close()
        starts_s, ends_s, levels = np.array(self._times, np.float64).reshape(-1, 3).T
        channels = {
            layout: int(np.argmax(power.channels))
            for (layout, _), power in self._power.items()
            if power.cancelled > _CANCELLED_POWER * power.parts
        }
        return Sound(starts_s, ends_s, levels, tuple(self._gaps), channels)

    def _close(self) -> None:
        """Measure the collected samples."""
        if not self._pieces:
            return
        samples = np.concatenate(self._pieces, axis=1).astype(np.float64)
        self._pieces = []
        count = samples.shape[1]
        self._end_s = self._start_s + count / self._rate
        size = max(1, round(_WINDOW_S * self._rate))
        edges = np.append(np.arange(0, max(count - size // 2, 1), size), count)
        for first, last in pairwise(edges.tolist()):
            level = _level_dbfs(samples[:, first:last])
            self._times.extend((self._start_s + first / self._rate, self._start_s + last / self._rate, level))
        if len(samples) > 1 and np.isfinite(samples).all():
            self._compare(samples - samples.mean(axis=1, keepdims=True), False)
            self._compare(np.diff(samples), True)
        self._start_s = self._end_s

    def _compare(self, samples: npt.NDArray[np.float64], differences: bool) -> None:
        weights = mono_weights(self._layout)
        each = (samples**2).sum(axis=1)
        parts, mix = float(weights**2 @ each), float(((weights @ samples) ** 2).sum())
        power = self._power.setdefault((self._layout, differences), _Power(np.zeros(len(samples))))
        power.channels += np.where(weights > 0, each, 0)
        power.parts += parts
        power.cancelled += parts if mix < _CANCELLED * parts else 0.0


def _level_dbfs(samples: npt.NDArray[np.float64]) -> float:
    """Return the level of the loudest channel; infinite for NaN and absurd numbers, which the features refuse."""
    if not np.abs(samples).max() <= _LOUDEST:
        return math.inf
    return 10 * math.log10(max(float(samples.var(axis=1).max()), 1e-20))


class Samples:
    """Convert frames to arrays of float samples; full scale is 1."""

    def __init__(self) -> None:
        self._resampler: AudioResampler | None = None
        self._setup: tuple[str, str, int] | None = None

    def __call__(self, frame: AudioFrame) -> Floats:
        """Return the samples of a frame, (channels, samples)."""
        from av import AudioResampler

        setup = frame.format.name, frame.layout.name, frame.sample_rate
        if self._resampler is None or setup != self._setup:
            self._resampler, self._setup = AudioResampler(format="flt"), setup
        # PyAV 18.1 crashes when it makes an array of eight planes, so channels are interleaved first.
        pieces = [piece.to_ndarray() for piece in self._resampler.resample(frame)]
        packed = np.concatenate(pieces, axis=1).astype(np.float32, copy=False)
        return packed.reshape(-1, len(frame.layout.channels)).T


@lru_cache(maxsize=32)
def mono_weights(layout: str) -> npt.NDArray[np.float64]:
    """Return the weight of each channel of a layout in FFmpeg's mono mix, (channels,)."""
    from av import AudioFrame, AudioResampler

    count = len(AudioFrame(format="flt", layout=layout, samples=1).layout.channels)
    impulses = np.eye(count, dtype=np.float32).reshape(1, -1)
    frame = AudioFrame.from_ndarray(impulses, format="flt", layout=layout)
    frame.sample_rate = 48_000
    resampler = AudioResampler(format="flt", layout="mono", rate=48_000)
    pieces = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([piece.to_ndarray()[0] for piece in pieces]).astype(np.float64)
