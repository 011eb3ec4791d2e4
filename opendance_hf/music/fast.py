"""Music features in numpy, equal to those of librosa 0.11 or 0.8.1 and several times as fast.

It is our own code because importing and compiling librosa takes 9 s in a new process, and its next release may change
the numbers. Spectra are computed once for all features that need them. :mod:`opendance_hf.music.features` describes
the features; constants are the defaults of librosa.
The separation into harmonic and percussive parts is that of Fitzgerald, "Harmonic/Percussive Separation using
Median Filtering" (2010).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from opendance_hf.music import chroma, rhythm
from opendance_hf.music.layout import (
    HOP,
    TEMPOGRAM_LAGS,
    WINDOW,
    EngineOutput,
    Floats,
    one_hot,
    side_by_side,
)
from opendance_hf.music.median import running_median

Spectra = npt.NDArray[np.complex64]
First = TypeVar("First")
Second = TypeVar("Second")

_MEL_BANDS: Final = 128
_MFCC: Final = 20
_QUIETEST: Final = np.float32(1e-10)
RANGE_DB: Final = np.float32(80)
#: Onsets of librosa 0.8.1 come from mel bands up to this frequency, whether the audio reaches it or not.
ONSET_HZ_0_8_1: Final = 11025.0
_WINDOW: Final = rhythm.hann(WINDOW)
_FRAMES_AT_A_TIME: Final = 64


class Analysis:
    """Analyse a piece of audio; intermediate results that several features share are computed once."""

    def __init__(self, audio: Floats, sample_rate: int, *, like_0_8_1: bool = False) -> None:
        """Take mono audio (samples,) of at least one window."""
        self._audio = audio
        self._rate = sample_rate
        self._old = like_0_8_1
        self._padding: chroma.Padding = "reflect" if like_0_8_1 else "constant"
        self._onset_hz = ONSET_HZ_0_8_1 if like_0_8_1 else sample_rate / 2

    def music(self) -> EngineOutput:
        """Compute the 438 features, for 1 + samples // 512 frames."""
        harmonic, percussive = self._separated()

        def tones() -> Floats:
            mfcc = mfcc_of(_decibels(self._mel, reference=self._mel.max()))
            pitches = self._chroma(harmonic, _magnitude(_spectra(harmonic, self._padding)))
            return side_by_side(mfcc, slope(mfcc), chroma.normalised(pitches))

        def rhythms() -> tuple[Floats, float, npt.NDArray[np.integer]]:
            magnitude = _magnitude(_spectra(percussive, self._padding))
            envelope = onset_envelope(_decibels(mel_power(magnitude, self._rate, self._onset_hz)), np.median)
            bpm, beats = rhythm.track_beats(envelope, self._rate, like_0_8_1=self._old)
            lags = rhythm.tempogram(envelope, TEMPOGRAM_LAGS)
            return side_by_side(envelope[:, None], one_hot(beats, len(envelope)), lags), bpm, beats

        left, (right, bpm, beats) = _both(tones, rhythms)
        return EngineOutput(side_by_side(left, right), beats.astype(np.int32), bpm)

    def fact(self, start_bpm: float) -> Floats:
        """Compute the 35 features, for 1 + samples // 512 frames."""
        decibels = _decibels(self._mel)
        onset_decibels = decibels
        if self._old:
            onset_decibels = _decibels(mel_power(self._magnitude, self._rate, self._onset_hz))
        envelope = onset_envelope(onset_decibels, np.mean)
        _, beats = rhythm.track_beats(envelope, self._rate, start_bpm, like_0_8_1=self._old)
        return side_by_side(
            envelope[:, None],
            mfcc_of(decibels),
            chroma.cens(self._chroma(self._audio, self._magnitude)),
            one_hot(rhythm.onset_peaks(envelope), len(envelope)),
            one_hot(beats, len(envelope)),
        )

    @cached_property
    def _spectra(self) -> Spectra:
        """Return the spectra, (frames, 1025)."""
        return np.concatenate(list(_spectra(self._audio, self._padding)))

    @cached_property
    def _magnitude(self) -> Floats:
        """Return the magnitudes of the spectra, (frames, 1025)."""
        return np.abs(self._spectra)

    @cached_property
    def _mel(self) -> Floats:
        """Return the power in mel bands up to half the sample rate, (frames, 128)."""
        return mel_power(self._magnitude, self._rate, self._rate / 2)

    def _separated(self) -> Floats:
        """Return the harmonic and the percussive part, (2, samples)."""
        parts = _separate(self._spectra, self._magnitude, self._old)[:, : len(self._audio)]
        if self._old:  # librosa 0.8.1 stops in the middle of the last frame
            parts[:, len(self._audio) // HOP * HOP :] = 0
        return parts

    def _chroma(self, audio: Floats, magnitude: Floats) -> Floats:
        bins_off = chroma.tuning(magnitude, self._rate)
        return chroma.chroma(audio, self._rate, bins_off, like_0_8_1=self._old)


def _both(first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
    """Return the results of two functions, run in two threads: numpy releases the interpreter lock."""
    with ThreadPoolExecutor(1) as other:
        result = other.submit(second)
        return first(), result.result()


def _spectra(audio: Floats, padding: chroma.Padding) -> Iterator[Spectra]:
    """Yield the spectra of the windows centred on every 512th sample, (some frames, 1025)."""
    windows = sliding_window_view(np.pad(audio, WINDOW // 2, mode=padding), WINDOW)[::HOP]
    for i in range(0, len(windows), _FRAMES_AT_A_TIME):
        yield _spectrum(windows[i : i + _FRAMES_AT_A_TIME])


def spectra_of(windows: Floats) -> Spectra:
    """Return the spectra, (frames, 1025), of windows (frames, 2048)."""
    found = np.empty((len(windows), WINDOW // 2 + 1), np.complex64)
    for i in range(0, len(windows), _FRAMES_AT_A_TIME):
        found[i : i + _FRAMES_AT_A_TIME] = _spectrum(windows[i : i + _FRAMES_AT_A_TIME])
    return found


def _spectrum(windows: Floats) -> Spectra:
    return np.fft.rfft(windows * _WINDOW).astype(np.complex64)


def _magnitude(spectra: Iterable[Spectra]) -> Floats:
    return np.concatenate([np.abs(part) for part in spectra])


def _separate(spectra: Spectra, magnitude: Floats, double: bool) -> Floats:
    """Separate harmonic and percussive samples, (2, 512 * frames + 512), from the middle of the first window on.

    Every operation has the precision and order that it has in librosa. Where one part is faint, or resampling spreads
    rounding errors into silence, other rounding would change the features.
    """
    lasting, broad = _both(
        lambda: running_median(magnitude), lambda: running_median(np.ascontiguousarray(magnitude.T))
    )
    parts = np.zeros((2, len(spectra) + 3, HOP), dtype=np.float32)
    add_parts(parts, spectra, magnitude, lasting, broad, double)
    weight = overlap_weight()
    parts[:, :3] /= weight[:3]
    parts[:, 3:-3] /= weight[3]
    parts[:, -3:] /= weight[4:]
    return parts.reshape(2, -1)[:, WINDOW // 2 :]


def overlap_weight() -> Floats:
    """Return the weight of overlapping windows, (7, 512): in the first three rows, in the middle, in the last three."""
    # Four windows overlap everywhere but in the first and the last three rows.
    weight = np.zeros((7, HOP), dtype=np.float32)
    for k in (3, 2, 1, 0):
        weight[k : k + 4] += _WINDOW[k * HOP : (k + 1) * HOP] ** 2
    weight[0, 0] = 1  # all windows are zero at this sample
    return weight


def add_parts(
    parts: Floats, spectra: Spectra, magnitude: Floats, lasting: Floats, broad: Floats, double: bool
) -> None:
    """Add the windows of the harmonic and the percussive part to their rows of samples, where they overlap.

    Args:
        parts: (2, frames + 3, 512) rows of samples, which the windows are added to.
        spectra: (frames, 1025).
        magnitude: (frames, 1025) of the spectra.
        lasting: (frames, 1025) medians over time.
        broad: (1025, frames) medians over frequency.
        double: with double precision.
    """
    # The numpy of librosa 0.8.1 computes Fourier transforms in double precision only.
    kept = np.empty((_FRAMES_AT_A_TIME, WINDOW // 2 + 1), np.complex128 if double else np.complex64)
    for i in range(0, len(spectra), _FRAMES_AT_A_TIME):
        some = slice(i, i + _FRAMES_AT_A_TIME)
        level = magnitude[some]
        divisor = np.where(level == 0, 1, level)
        real, imag = spectra.real[some] / divisor, spectra.imag[some] / divisor
        for part, share in zip(
            parts, _shares(lasting[some], np.ascontiguousarray(broad[:, some].T)), strict=True
        ):
            share *= level
            kept.real[: len(level)] = share * real
            kept.imag[: len(level)] = share * imag
            windows = np.fft.irfft(kept[: len(level)], WINDOW) * _WINDOW
            for k in (3, 2, 1, 0):
                part[i + k : i + k + len(level)] += windows[:, k * HOP : (k + 1) * HOP]


def _shares(first: Floats, second: Floats) -> Floats:
    """Return the shares of two parts in the power, (2, ...); half each where both are zero."""
    largest = np.maximum(first, second)
    nothing = largest < np.finfo(np.float32).tiny
    largest[nothing] = 1
    shares = np.stack([first, second])
    shares /= largest
    shares *= shares
    shares /= shares[0] + shares[1] + nothing
    shares[:, nothing] = 0.5
    return shares


def mel_power(magnitude: Floats, sample_rate: int, top_hz: float) -> Floats:
    """Compute the power in each mel band up to a frequency, (frames, 128)."""
    return magnitude**2 @ _mel_filters(sample_rate, top_hz)


@lru_cache(maxsize=8)
def _mel_filters(sample_rate: int, top_hz: float) -> Floats:
    """Return triangular filters of equal area, (1025, 128), on Slaney's mel scale: linear to 1 kHz, then logarithmic."""
    mel_per_hz, bend_hz = 3 / 200, 1000.0
    bend_mel, mel_per_log = bend_hz * mel_per_hz, 27 / np.log(6.4)
    top_mel = top_hz * mel_per_hz
    if top_hz >= bend_hz:
        top_mel = bend_mel + np.log(top_hz / bend_hz) * mel_per_log
    mels = np.linspace(0, top_mel, _MEL_BANDS + 2)
    corners = np.where(mels < bend_mel, mels / mel_per_hz, bend_hz * np.exp((mels - bend_mel) / mel_per_log))
    hertz = np.arange(WINDOW // 2 + 1)[:, None] * (sample_rate / WINDOW)
    low, centre, high = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (hertz - low) / (centre - low), (high - hertz) / (high - centre)
    filters = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    return (filters * (2 / (high - low))).astype(np.float32)


def _decibels(power: Floats, reference: float | np.float32 = 1.0) -> Floats:
    """Convert power to decibels over the reference, clipped at 80 dB below the loudest."""
    level = level_db(power)
    level -= level_db(reference)
    return np.maximum(level, level.max() - RANGE_DB)


def level_db(power: Any) -> Any:
    """Convert power to decibels, at least -100."""
    return 10 * np.log10(np.maximum(_QUIETEST, power))


def mfcc_of(decibels: Floats) -> Floats:
    """Compute the first cosine coefficients of the mel levels, (frames, 20)."""
    # Without the mean, so that all other coefficients of a flat spectrum are exactly zero.
    mean = decibels.mean(axis=1, keepdims=True, dtype=np.float64)
    mfcc = (decibels - mean) @ _cosines()
    mfcc[:, :1] += np.sqrt(_MEL_BANDS) * mean
    return mfcc.astype(np.float32)


@lru_cache(maxsize=1)
def _cosines() -> npt.NDArray[np.float64]:
    """Return an orthonormal cosine transform, (128, 20)."""
    angle = np.pi * (np.arange(_MEL_BANDS)[:, None] + 0.5) * np.arange(_MFCC) / _MEL_BANDS
    waves: npt.NDArray[np.float64] = np.sqrt(2 / _MEL_BANDS) * np.cos(angle)
    waves[:, 0] /= np.sqrt(2)
    return waves


def slope(values: Floats) -> Floats:
    """Compute the slope of a line through three frames; the end frames take the slope of their neighbours."""
    inner = (values[2:] - values[:-2]) / 2
    return np.concatenate([inner[:1], inner, inner[-1:]])


def onset_envelope(decibels: Floats, over_bands: Callable[..., npt.NDArray[np.floating]]) -> Floats:
    """Compute the rise of levels from frame to frame, (frames,), delayed by half a window to the centred frame."""
    rise = over_bands(np.maximum(0, decibels[1:] - decibels[:-1]), axis=1)
    delay = 1 + WINDOW // (2 * HOP)
    return np.concatenate([np.zeros(delay, dtype=np.float32), rise])[: len(decibels)].astype(np.float32)
