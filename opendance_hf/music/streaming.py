"""The features of the fast engine for sound of any length, in bounded memory: hours are analysed in blocks.

What depends on the whole piece (the loudest moment, the tuning) is collected in a first pass; signals of the length of
the piece are kept in temporary files. Except for the rounding of matrix products, whose order of summation depends on
the number of rows, the numbers are those of :class:`opendance_hf.music.fast.Analysis`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from opendance_hf.music import chroma, fast, rhythm
from opendance_hf.music.layout import (
    CHROMA_OCTAVES,
    HOP,
    TEMPOGRAM_LAGS,
    WINDOW,
    Floats,
    Ints,
    one_hot,
    side_by_side,
)
from opendance_hf.music.median import running_median

#: Samples that are processed at a time; frames at a time are a 512th of it.
BLOCK: Final = 2048 * HOP
#: Frames on either side that a median over time needs.
_CONTEXT: Final = 15
_MEL_BANDS: Final = 128
Blocks = Callable[[], Iterator[Floats]]


class StreamedAnalysis:
    """Analyse a long piece of audio like :class:`opendance_hf.music.fast.Analysis`.

    Args:
        audio: called for each pass, returns mono audio in blocks (samples,), together at least one window.
        sample_rate: of the audio, 30,720 or 3,840 Hz.
        folder: folder for temporary files, about 8 bytes per sample.
        like_0_8_1: compute the numbers of librosa 0.8.1.
    """

    def __init__(self, audio: Blocks, sample_rate: int, folder: Path, *, like_0_8_1: bool = False) -> None:
        self._audio, self._rate, self._folder, self._old = audio, sample_rate, folder, like_0_8_1
        self._padding: chroma.Padding = "reflect" if like_0_8_1 else "constant"
        self._onset_hz = fast.ONSET_HZ_0_8_1 if like_0_8_1 else sample_rate / 2

    def blocks(self, num_frames: int) -> Iterator[Floats]:
        """Yield the first ``num_frames`` rows of the 438 features, (some frames, 438)."""
        mfcc = _mfcc(self._first.levels, relative=True)
        left = side_by_side(mfcc, fast.slope(mfcc), chroma.normalised(self._harmonic_chroma()))
        envelope, (_, beats) = self._envelope, self._beats
        column, start = one_hot(beats, len(envelope)), 0
        for lags in rhythm.tempogram_blocks(envelope, TEMPOGRAM_LAGS):
            part = slice(start, min(start + len(lags), num_frames))
            if start >= num_frames:
                return
            yield side_by_side(left[part], envelope[part, None], column[part], lags[: part.stop - start])
            start = part.stop

    def fact(self, start_bpm: float) -> Floats:
        """Compute the 35 features, for 1 + samples // 512 frames."""
        levels = self._first.onset_levels if self._old else self._first.levels
        envelope = _envelope(levels, np.mean)
        _, beats = rhythm.track_beats(envelope, self._rate, start_bpm, like_0_8_1=self._old)
        tuning = self._first.peaks.tuning()
        return side_by_side(
            envelope[:, None],
            _mfcc(self._first.levels, relative=False),
            chroma.cens(self._chroma(self._audio, tuning)),
            one_hot(rhythm.onset_peaks(envelope), len(envelope)),
            one_hot(beats, len(envelope)),
        )

    @property
    def num_samples(self) -> int:
        """Number of samples of the audio."""
        return self._first.num_samples

    @property
    def beats(self) -> tuple[float, Ints]:
        """Return the tempo of the tempogram in beats per minute, and the frames of the beats."""
        bpm, beats = self._beats
        return bpm, beats.astype(np.int32)

    @cached_property
    def _envelope(self) -> Floats:
        return _envelope(self._first.percussive_levels, np.median)

    @cached_property
    def _beats(self) -> tuple[float, npt.NDArray[np.intp]]:
        return rhythm.track_beats(self._envelope, self._rate, like_0_8_1=self._old)

    def _harmonic_chroma(self) -> Floats:
        return self._chroma(self._first.harmonic.blocks, self._first.harmonic_peaks.tuning())

    def _chroma(self, audio: Blocks, bins_off: float) -> Floats:
        stream = _ChromaStream(self._rate, bins_off, self._old, self._first.num_frames)
        for block in audio():
            stream.push(block)
        return stream.finish()

    @cached_property
    def _first(self) -> _FirstPass:
        return _FirstPass(self._audio(), self._rate, self._onset_hz, self._padding, self._folder)


def _mfcc(levels: _Levels, *, relative: bool) -> Floats:
    """Compute the MFCCs, (frames, 20), in decibels or relative to the loudest moment."""
    reference = levels.loudest if relative else np.float32(0)
    floor = (levels.loudest - reference) - fast.RANGE_DB
    parts = [fast.mfcc_of(np.maximum(block - reference, floor)) for block in levels.blocks()]
    return np.concatenate(parts)


def _envelope(levels: _Levels, over_bands: Callable[..., npt.NDArray[np.floating]]) -> Floats:
    """Compute the onset envelope, (frames,)."""
    floor = levels.loudest - fast.RANGE_DB
    delay = 1 + WINDOW // (2 * HOP)
    parts, last = [np.zeros(delay, dtype=np.float32)], None
    for block in levels.blocks():
        clipped = np.maximum(block, floor)
        joined = clipped if last is None else np.concatenate([last, clipped])
        rise = np.maximum(0, joined[1:] - joined[:-1])
        parts.append(np.asarray(over_bands(rise, axis=1), dtype=np.float32))
        last = clipped[-1:]
    return np.concatenate(parts)[: levels.count]


class _FirstPass:
    """Everything that one pass over the audio gives: levels, peaks of the spectra, and the harmonic part.

    Attributes:
        num_samples: number of samples.
        num_frames: number of frames, 1 + samples // 512.
        levels: mel levels of the whole.
        onset_levels: mel levels up to the frequency for onsets.
        percussive_levels: those of the percussive part.
        peaks: peaks of the spectra of the whole.
        harmonic_peaks: those of the harmonic part.
        harmonic: samples of the harmonic part.
    """

    def __init__(
        self, audio: Iterator[Floats], rate: int, onset_hz: float, padding: chroma.Padding, folder: Path
    ) -> None:
        self._rate, self._old = rate, padding == "reflect"
        self.levels = _Levels(folder / "levels", rate, rate / 2)
        self.onset_levels = _Levels(folder / "onset_levels", rate, onset_hz) if self._old else self.levels
        self.percussive_levels = _Levels(folder / "percussive", rate, onset_hz)
        self.peaks, self.harmonic_peaks = (
            _Peaks(folder / "peaks", rate),
            _Peaks(folder / "harmonic_peaks", rate),
        )
        self.harmonic = Spill(folder / "harmonic", 1)
        frames, harmonic, percussive = (Framer(WINDOW, HOP, WINDOW // 2, padding) for _ in range(3))
        samples = 0

        def spectra() -> Iterator[fast.Spectra]:
            nonlocal samples
            for block in audio:
                samples += len(block)
                yield fast.spectra_of(frames.push(block))
            yield fast.spectra_of(frames.finish())

        written = 0
        pending = np.zeros((2, 0), np.float32)

        def separated(parts: Floats, limit: int | None) -> None:
            """Add samples of both parts; the last ones are known to belong to the piece only when it ends."""
            nonlocal written, pending
            pending = np.concatenate([pending, parts], axis=1)
            # The overlapping windows end less than this many samples after the audio.
            count = pending.shape[1] - 2 * WINDOW if limit is None else limit - written
            if count > 0:
                found, pending = pending[:, :count], pending[:, count:]
                written += count
                if self._old and limit is not None:  # librosa 0.8.1 stops in the middle of the last frame
                    silent = max(0, limit % HOP)
                    found[:, max(0, count - silent) :] = 0
                self.harmonic.append(found[0][:, None])
                self._add_parts(harmonic.push(found[0]), percussive.push(found[1]))

        for parts in _separate(self._measured(spectra()), self._old):
            separated(parts, None)
        separated(np.zeros((2, 0), np.float32), samples)
        self._add_parts(harmonic.finish(), percussive.finish())
        self.num_samples, self.num_frames = samples, 1 + samples // HOP

    def _measured(self, spectra: Iterator[fast.Spectra]) -> Iterator[tuple[fast.Spectra, Floats]]:
        """Yield spectra with their magnitudes, after their levels and peaks are measured."""
        for block in spectra:
            if len(block):
                magnitude = np.abs(block)
                self.levels.add(magnitude)
                if self._old:
                    self.onset_levels.add(magnitude)
                self.peaks.add(magnitude)
                yield block, magnitude

    def _add_parts(self, harmonic: Floats, percussive: Floats) -> None:
        if len(harmonic):
            self.harmonic_peaks.add(np.abs(fast.spectra_of(harmonic)))
        if len(percussive):
            self.percussive_levels.add(np.abs(fast.spectra_of(percussive)))


def _separate(spectra: Iterator[tuple[fast.Spectra, Floats]], double: bool) -> Iterator[Floats]:
    """Yield the harmonic and the percussive samples, (2, some samples), from the middle of the first window on."""
    weight = fast.overlap_weight()
    kept_spectra = np.zeros((0, WINDOW // 2 + 1), np.complex64)
    kept = np.zeros((0, WINDOW // 2 + 1), np.float32)
    tail = np.zeros((2, 3, HOP), np.float32)
    left = 0  # rows at the start of `kept` that are context only
    first = True

    def rows(last: int, end: bool) -> Floats:
        nonlocal kept_spectra, kept, tail, left, first
        some = slice(left, last)
        lasting = running_median(kept)[some]
        broad = running_median(np.ascontiguousarray(kept[some].T))
        parts = np.zeros((2, last - left + 3, HOP), np.float32)
        parts[:, :3] = tail
        fast.add_parts(parts, kept_spectra[some], kept[some], lasting, broad, double)
        done, tail = (parts, tail) if end else (parts[:, :-3].copy(), parts[:, -3:].copy())
        divisor = np.broadcast_to(weight[3], done.shape[1:]).copy()
        if first:
            divisor[:3] = weight[:3]
        if end:
            divisor[-3:] = weight[4:]
        done /= divisor
        keep = max(0, last - _CONTEXT)
        kept_spectra, kept, left = kept_spectra[keep:], kept[keep:], last - keep
        samples = done.reshape(2, -1)
        samples, first = samples[:, WINDOW // 2 :] if first else samples, False
        return samples

    for block, magnitude in spectra:
        kept_spectra, kept = np.concatenate([kept_spectra, block]), np.concatenate([kept, magnitude])
        # Keep as many frames as the medians need, and enough for the end.
        if len(kept) >= left + 4 * _CONTEXT:
            yield rows(len(kept) - 2 * _CONTEXT, False)
    yield rows(len(kept), True)


class Framer:
    """Cut a signal that arrives in blocks into overlapping windows, padded at both ends.

    Args:
        size: of the windows.
        hop: distance of the windows.
        pad: number of samples added at both ends.
        padding: zeros, or the mirrored signal.
    """

    def __init__(self, size: int, hop: int, pad: int, padding: chroma.Padding) -> None:
        self._size, self._hop, self._pad, self._mirror = size, hop, pad, padding == "reflect"
        self._buffer = np.zeros(0, np.float32)
        self._tail = np.zeros(0, np.float32)
        self._started = False

    def push(self, samples: Floats) -> Floats:
        """Return the windows that are complete after some samples, (windows, size)."""
        self._buffer = np.concatenate([self._buffer, samples])
        self._tail = np.concatenate([self._tail, samples])[-self._pad - 1 :]
        if not self._started:
            if len(self._buffer) <= self._pad:
                return np.zeros((0, self._size), np.float32)
            start = self._buffer[self._pad : 0 : -1] if self._mirror else np.zeros(self._pad, np.float32)
            self._buffer, self._started = np.concatenate([start, self._buffer]), True
        return self._take()

    def finish(self) -> Floats:
        """Return the windows that the end of the signal completes."""
        end = self._tail[-2 : -self._pad - 2 : -1] if self._mirror else np.zeros(self._pad, np.float32)
        self._buffer = np.concatenate([self._buffer, end])
        return self._take()

    def _take(self) -> Floats:
        count = max(0, (len(self._buffer) - self._size) // self._hop + 1)
        if count == 0:
            return np.zeros((0, self._size), np.float32)
        windows = sliding_window_view(self._buffer, self._size)[:: self._hop][:count]
        self._buffer = self._buffer[count * self._hop :].copy()
        return windows


class _ChromaStream:
    """Compute :func:`opendance_hf.music.chroma.chroma` of a signal that arrives in blocks."""

    def __init__(self, rate: int, bins_off: float, old: bool, num_frames: int) -> None:
        self._kernel = chroma.octave_kernel(rate, bins_off, old)
        size, octaves = len(self._kernel), CHROMA_OCTAVES[rate]
        padding: chroma.Padding = "reflect" if old else "constant"
        self._framers = [Framer(size, HOP >> octave, size // 2, padding) for octave in range(octaves)]
        self._halvers = [(_HalfRateLike081 if old else _HalfRate)() for _ in range(octaves - 1)]
        self._total = np.zeros((num_frames, chroma.BINS), np.float32)
        self._done = [0] * octaves

    def push(self, samples: Floats) -> None:
        """Add samples."""
        for octave, framer in enumerate(self._framers):
            if octave > 0:
                samples = self._halvers[octave - 1].push(samples)
            self._add(octave, framer.push(samples))

    def finish(self) -> Floats:
        """Return the chroma, (frames, 12)."""
        samples = np.zeros(0, np.float32)
        for octave, framer in enumerate(self._framers):
            if octave > 0:
                halver = self._halvers[octave - 1]
                samples = np.concatenate([halver.push(samples), halver.finish()])
            self._add(octave, framer.push(samples))
            self._add(octave, framer.finish())
        steps = range(0, len(self._total), BLOCK // HOP)
        return np.concatenate([chroma.pitch_classes(self._total[i : i + BLOCK // HOP]) for i in steps])

    def _add(self, octave: int, windows: Floats) -> None:
        start = self._done[octave]
        windows = windows[: len(self._total) - start]
        if len(windows):
            bins = (windows @ self._kernel).view(np.complex64)
            self._total[start : start + len(windows)] += np.abs(bins)
            self._done[octave] += len(windows)


class _HalfRate:
    """Halve the sample rate of a signal that arrives in blocks, like librosa 0.11."""

    def __init__(self) -> None:
        import soxr

        self._stream = soxr.ResampleStream(2, 1, 1, dtype="float32", quality="soxr_hq")
        self._read = self._written = 0

    def push(self, samples: Floats) -> Floats:
        """Return the samples that are complete."""
        self._read += len(samples)
        return self._scaled(self._stream.resample_chunk(np.ascontiguousarray(samples)))

    def finish(self) -> Floats:
        """Return the rest: half of all samples are returned in the end, rounded up."""
        rest = self._scaled(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
        length = -(-self._read // 2) - (self._written - len(rest))
        return np.pad(rest[:length], (0, max(0, length - len(rest))))

    def _scaled(self, samples: Floats) -> Floats:
        self._written += len(samples)
        return (samples / np.sqrt(0.5)).astype(np.float32)


class _HalfRateLike081:
    """Halve the sample rate of a signal that arrives in blocks, like librosa 0.8.1."""

    def __init__(self) -> None:
        taps = chroma.taps_like_0_8_1()
        self._even_taps, self._odd_taps = taps[1::2], taps[::2]
        self._reach = (len(taps) - 1) // 4
        self._history = len(self._odd_taps) - 1
        # Even and odd samples, the first ones zeros before the signal.
        self._even = self._odd = np.zeros(self._history, np.float32)
        self._left = np.zeros(0, np.float32)
        self._read = self._written = 0

    def push(self, samples: Floats) -> Floats:
        """Return the samples that are complete."""
        self._read += len(samples)
        samples = np.concatenate([self._left, samples])
        pairs = len(samples) // 2 * 2
        self._left = samples[pairs:]
        return self._filtered(samples[:pairs:2], samples[1:pairs:2])

    def finish(self) -> Floats:
        """Return the rest: half of all samples are returned in the end, rounded up."""
        length = self._read // 2 - self._written
        zeros = np.zeros(self._reach + 2, np.float32)
        rest = self._filtered(np.concatenate([self._left, zeros]), zeros)[:length]
        return np.pad(rest, (0, self._read % 2))

    def _filtered(self, even: Floats, odd: Floats) -> Floats:
        self._even, self._odd = np.concatenate([self._even, even]), np.concatenate([self._odd, odd])
        # Sample j of the result ends at even and odd sample j + reach.
        count = min(len(self._even), len(self._odd)) - self._history - self._reach
        if count <= 0:
            return np.zeros(0, np.float32)
        first = self._reach
        even_part = np.convolve(
            self._even[first + 1 : first + count + self._history], self._even_taps, "valid"
        )
        odd_part = np.convolve(self._odd[first : first + count + self._history], self._odd_taps, "valid")
        self._even, self._odd = self._even[count:], self._odd[count:]
        self._written += count
        return ((even_part + odd_part) / np.sqrt(0.5)).astype(np.float32)


class Spill:
    """Rows of float32 in a temporary file.

    Args:
        path: of the file; it is overwritten.
        width: numbers in a row.
    """

    def __init__(self, path: Path, width: int) -> None:
        self._path, self._width = path, width
        self.count = 0
        self._file: Any = path.open("wb")

    def append(self, rows: Floats) -> None:
        """Add rows (N, width)."""
        self.count += len(rows)
        np.ascontiguousarray(rows, np.float32).tofile(self._file)

    def blocks(self) -> Iterator[Floats]:
        """Yield the rows in blocks (some rows, width); of width 1 (some rows,)."""
        self._file.flush()
        rows = max(1, BLOCK // self._width)
        with self._path.open("rb") as file:
            while len(values := np.fromfile(file, np.float32, rows * self._width)):
                yield values.reshape(-1, self._width) if self._width > 1 else values


class _Levels(Spill):
    """Levels in decibels of all mel bands and frames, (frames, 128), and the loudest."""

    def __init__(self, path: Path, rate: int, top_hz: float) -> None:
        super().__init__(path, _MEL_BANDS)
        self._rate, self._top_hz = rate, top_hz
        self.loudest = np.float32(-np.inf)

    def add(self, magnitude: Floats) -> None:
        """Add the levels of some spectra."""
        levels = fast.level_db(fast.mel_power(magnitude, self._rate, self._top_hz))
        self.loudest = np.maximum(self.loudest, levels.max())
        self.append(levels)


class _Peaks(Spill):
    """Pitch and loudness of spectral peaks."""

    def __init__(self, path: Path, rate: int) -> None:
        super().__init__(path, 2)
        self._rate = rate

    def add(self, magnitude: Floats) -> None:
        """Add the peaks of some spectra."""
        self.append(np.stack(chroma.spectral_peaks(magnitude, self._rate), axis=1))

    def tuning(self) -> float:
        """Estimate the tuning like :func:`opendance_hf.music.chroma.tuning`."""
        if self.count == 0:
            return 0.0
        median = streamed_median(lambda: (block[:, 1] for block in self.blocks()), self.count)
        counts = [chroma.count_tunings(block[block[:, 1] >= median, 0]) for block in self.blocks()]
        return chroma.most_common_tuning(np.sum(counts, axis=0))


def streamed_median(blocks: Blocks, count: int) -> np.floating:
    """Return the exact median of ``count`` float32 values that come in blocks; they are read two or three times."""
    middle = {rank: _ranked(blocks, rank) for rank in {(count - 1) // 2, count // 2}}
    return np.mean(np.array([middle[(count - 1) // 2], middle[count // 2]], np.float32))


def _ranked(blocks: Blocks, rank: int) -> np.float32:
    """Return the value with a rank (from 0) in ascending order, by counting the upper and then the lower 16 bits."""
    upper = np.zeros(1 << 16, np.int64)
    for block in blocks():
        upper += np.bincount(_ordered(block) >> 16, minlength=1 << 16)
    high = int(np.searchsorted(np.cumsum(upper), rank, side="right"))
    rank -= int(upper[:high].sum())
    lower = np.zeros(1 << 16, np.int64)
    for block in blocks():
        keys = _ordered(block)
        lower += np.bincount(keys[keys >> 16 == high] & 0xFFFF, minlength=1 << 16)
    key = np.uint32(high << 16 | int(np.searchsorted(np.cumsum(lower), rank, side="right")))
    bits = key ^ np.uint32(0x80000000) if key >> np.uint32(31) else ~key
    return np.array([bits], np.uint32).view(np.float32)[0]


def _ordered(values: Floats) -> npt.NDArray[np.uint32]:
    """Return integers in the order of the values."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return np.where(bits >> 31 == 1, ~bits, bits | np.uint32(0x80000000))
