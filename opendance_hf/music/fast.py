"""The music features in numpy: the numbers of librosa 0.11, or of 0.8.1, several times faster than either.

Spectra are taken once and serve all features that need them, and nothing is compiled at import. What the steps
are is told where :mod:`opendance_hf.music.features` describes the features; constants are librosa's defaults.
The separation into harmonic and percussive parts is that of Fitzgerald, "Harmonic/Percussive Separation using
Median Filtering" (2010).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from typing import Final, TypeVar

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
_RANGE_DB: Final = np.float32(80)
#: Onsets of librosa 0.8.1 come from mel bands up to this frequency, whether the audio reaches it or not.
_ONSET_HZ_0_8_1: Final = 11025.0
_WINDOW: Final = rhythm.hann(WINDOW)
_FRAMES_AT_A_TIME: Final = 64


class Analysis:
    """What is computed of a piece of audio; what several features share, once."""

    def __init__(self, audio: Floats, sample_rate: int, *, like_0_8_1: bool = False) -> None:
        """Take mono audio (samples,) of at least one window."""
        self._audio = audio
        self._rate = sample_rate
        self._old = like_0_8_1
        self._padding: chroma.Padding = "reflect" if like_0_8_1 else "constant"
        self._onset_hz = _ONSET_HZ_0_8_1 if like_0_8_1 else sample_rate / 2

    def music(self) -> EngineOutput:
        """The 438 features, for 1 + samples // 512 frames."""
        harmonic, percussive = self._separated()

        def tones() -> Floats:
            mfcc = _mfcc(_decibels(self._mel, reference=self._mel.max()))
            pitches = self._chroma(harmonic, _magnitude(_spectra(harmonic, self._padding)))
            return side_by_side(mfcc, _slope(mfcc), chroma.normalised(pitches))

        def rhythms() -> tuple[Floats, float, npt.NDArray[np.integer]]:
            magnitude = _magnitude(_spectra(percussive, self._padding))
            envelope = _onset_envelope(_decibels(_mel(magnitude, self._rate, self._onset_hz)), np.median)
            bpm, beats = rhythm.track_beats(envelope, self._rate, like_0_8_1=self._old)
            lags = rhythm.tempogram(envelope, TEMPOGRAM_LAGS)
            return side_by_side(envelope[:, None], one_hot(beats, len(envelope)), lags), bpm, beats

        left, (right, bpm, beats) = _both(tones, rhythms)
        return EngineOutput(side_by_side(left, right), beats.astype(np.int32), bpm)

    def fact(self, start_bpm: float) -> Floats:
        """The 35 features, for 1 + samples // 512 frames."""
        decibels = _decibels(self._mel)
        onset_decibels = decibels
        if self._old:
            onset_decibels = _decibels(_mel(self._magnitude, self._rate, self._onset_hz))
        envelope = _onset_envelope(onset_decibels, np.mean)
        _, beats = rhythm.track_beats(envelope, self._rate, start_bpm, like_0_8_1=self._old)
        return side_by_side(
            envelope[:, None],
            _mfcc(decibels),
            chroma.cens(self._chroma(self._audio, self._magnitude)),
            one_hot(rhythm.onset_peaks(envelope), len(envelope)),
            one_hot(beats, len(envelope)),
        )

    @cached_property
    def _spectra(self) -> Spectra:
        """(frames, 1025)."""
        return np.concatenate(list(_spectra(self._audio, self._padding)))

    @cached_property
    def _magnitude(self) -> Floats:
        """(frames, 1025)."""
        return np.abs(self._spectra)

    @cached_property
    def _mel(self) -> Floats:
        """(frames, 128), the power in bands up to half the sample rate."""
        return _mel(self._magnitude, self._rate, self._rate / 2)

    def _separated(self) -> Floats:
        """(2, samples), what of the sound lasts and what is broad: harmonic and percussive part."""
        parts = _separate(self._spectra, self._magnitude, self._old)[:, : len(self._audio)]
        if self._old:  # it stops in the middle of the last frame
            parts[:, len(self._audio) // HOP * HOP :] = 0
        return parts

    def _chroma(self, audio: Floats, magnitude: Floats) -> Floats:
        bins_off = chroma.tuning(magnitude, self._rate)
        return chroma.chroma(audio, self._rate, bins_off, like_0_8_1=self._old)


def _both(first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
    """The results of two functions, computed at the same time: numpy lets go of the interpreter while it works."""
    with ThreadPoolExecutor(1) as other:
        result = other.submit(second)
        return first(), result.result()


def _spectra(audio: Floats, padding: chroma.Padding) -> Iterator[Spectra]:
    """(some frames, 1025), piece by piece: the spectrum of the window centred on every 512th sample."""
    windows = sliding_window_view(np.pad(audio, WINDOW // 2, mode=padding), WINDOW)[::HOP]
    for i in range(0, len(windows), _FRAMES_AT_A_TIME):
        yield np.fft.rfft(windows[i : i + _FRAMES_AT_A_TIME] * _WINDOW).astype(np.complex64)


def _magnitude(spectra: Iterable[Spectra]) -> Floats:
    return np.concatenate([np.abs(part) for part in spectra])


def _separate(spectra: Spectra, magnitude: Floats, double: bool) -> Floats:
    """(2, 512 * frames + 512) samples from the middle of the first window on: what lasts, and what is broad.

    Every operation has the precision and the place in the order that it has in librosa. Where one part is
    faint, or resampling spreads rounding errors into silence, other roundings would be other features.
    """
    lasting, broad = _both(
        lambda: running_median(magnitude), lambda: running_median(np.ascontiguousarray(magnitude.T))
    )
    parts = np.zeros((2, len(spectra) + 3, HOP), dtype=np.float32)
    # With librosa 0.8.1 goes a numpy that has only one precision for Fourier transforms.
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
    # Four windows overlap everywhere but in the first and the last three rows.
    weight = np.zeros((7, HOP), dtype=np.float32)
    for k in (3, 2, 1, 0):
        weight[k : k + 4] += _WINDOW[k * HOP : (k + 1) * HOP] ** 2
    weight[0, 0] = 1  # no window reaches this sample
    parts[:, :3] /= weight[:3]
    parts[:, 3:-3] /= weight[3]
    parts[:, -3:] /= weight[4:]
    return parts.reshape(2, -1)[:, WINDOW // 2 :]


def _shares(first: Floats, second: Floats) -> Floats:
    """(2, ...), what of the power belongs to either of two parts; half where there is neither."""
    largest = np.maximum(first, second)
    nothing = largest < np.finfo(np.float32).tiny
    largest[nothing] = 1
    shares = np.stack([first, second])
    shares /= largest
    shares *= shares
    shares /= shares[0] + shares[1] + nothing
    shares[:, nothing] = 0.5
    return shares


def _mel(magnitude: Floats, sample_rate: int, top_hz: float) -> Floats:
    """(frames, 128), the power in each mel band up to a frequency."""
    return magnitude**2 @ _mel_filters(sample_rate, top_hz)


@lru_cache(maxsize=8)
def _mel_filters(sample_rate: int, top_hz: float) -> Floats:
    """(1025, 128) overlapping triangles of equal area, on Slaney's mel scale: linear to 1 kHz, then logarithmic."""
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
    """Level over the reference, nothing more than 80 dB below the loudest."""
    level = 10 * np.log10(np.maximum(_QUIETEST, power))
    level -= 10 * np.log10(np.maximum(_QUIETEST, reference))
    return np.maximum(level, level.max() - _RANGE_DB)


def _mfcc(decibels: Floats) -> Floats:
    """(frames, 20), the first cosine coefficients of the levels of the mel bands."""
    # Apart from the mean, so that a flat spectrum has exactly no other coefficient.
    mean = decibels.mean(axis=1, keepdims=True, dtype=np.float64)
    mfcc = (decibels - mean) @ _cosines()
    mfcc[:, :1] += np.sqrt(_MEL_BANDS) * mean
    return mfcc.astype(np.float32)


@lru_cache(maxsize=1)
def _cosines() -> npt.NDArray[np.float64]:
    """(128, 20), an orthonormal cosine transform."""
    angle = np.pi * (np.arange(_MEL_BANDS)[:, None] + 0.5) * np.arange(_MFCC) / _MEL_BANDS
    waves: npt.NDArray[np.float64] = np.sqrt(2 / _MEL_BANDS) * np.cos(angle)
    waves[:, 0] /= np.sqrt(2)
    return waves


def _slope(values: Floats) -> Floats:
    """Slope of a line through three frames; at either end that of the three frames nearest."""
    inner = (values[2:] - values[:-2]) / 2
    return np.concatenate([inner[:1], inner, inner[-1:]])


def _onset_envelope(decibels: Floats, over_bands: Callable[..., npt.NDArray[np.floating]]) -> Floats:
    """(frames,), by how much levels rise from one frame to the next; half a window later, where it is heard."""
    rise = over_bands(np.maximum(0, decibels[1:] - decibels[:-1]), axis=1)
    delay = 1 + WINDOW // (2 * HOP)
    return np.concatenate([np.zeros(delay, dtype=np.float32), rise])[: len(decibels)].astype(np.float32)
