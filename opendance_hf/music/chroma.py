"""Chroma of a constant-Q transform, and its smoothed statistics (CENS), as librosa computes them.

The transform is that of Schoerkhuber and Klapuri, "Constant-Q transform toolbox" (2010): one kernel for the top
octave, which the signal at half the rate takes an octave down, and so on. CENS are those of Mueller and Ewert,
"Chroma Toolbox" (2011).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from opendance_hf.music.layout import CHROMA_OCTAVES, HOP, WINDOW, Floats
from opendance_hf.music.rhythm import hann

#: How a signal continues beyond its ends: with zeros, or mirrored.
Padding = Literal["constant", "reflect"]

_C1_HZ: Final = 440.0 * 2 ** (-45 / 12)
BINS: Final = 36  # per octave
_CHROMA: Final = 12
#: The smallest bins of a filter's spectrum that add up to less than this share of it are set to zero.
_NEGLIGIBLE: Final = 0.01
# Few and large matrix products: each one may wait for all its threads where processes compete for cores.
_FRAMES_AT_A_TIME: Final = 4096

_PITCH_RANGE_HZ: Final = (150.0, 4000.0)
_PEAK_SHARE: Final = 0.1  # peaks below this share of the loudest bin are ignored
_TUNING_STEPS: Final = np.linspace(-0.5, 0.5, 101)

_CENS_STEPS: Final = (0.4, 0.2, 0.1, 0.05)
_CENS_FRAMES: Final = 41

# The filter "kaiser_fast" of resampy 0.3 and later: a sinc under a Kaiser window.
_FAST_ROLLOFF: Final = 0.8682120388377784
_FAST_BETA: Final = 9.903224360163863
_FAST_ZEROS: Final = 24


def tuning(magnitude: Floats, sample_rate: int) -> float:
    """Estimate the tuning relative to A = 440 Hz, in bins of a third of a semitone, in [-0.5, 0.5).

    Args:
        magnitude: (frames, 1025) of the short-time spectrum.
        sample_rate: of the audio, in Hz.
    """
    pitch, loudness = spectral_peaks(magnitude, sample_rate)
    if len(pitch) == 0:
        return 0.0
    return most_common_tuning(count_tunings(pitch[loudness >= np.median(loudness)]))


def spectral_peaks(magnitude: Floats, sample_rate: int) -> tuple[Floats, Floats]:
    """Return pitch in Hz and magnitude of the peaks of all spectra, (peaks,); arguments as of :func:`tuning`."""
    hertz = sample_rate / WINDOW
    low = int(np.ceil(_PITCH_RANGE_HZ[0] / hertz))
    high = min(int(np.ceil(_PITCH_RANGE_HZ[1] / hertz)), WINDOW // 2)
    floor = _PEAK_SHARE * magnitude.max(axis=1, keepdims=True)
    below, here, above = (magnitude[:, low + k : high + k] for k in (-1, 0, 1))
    peak = (here > floor) & (here > below) & (here >= above)
    frames, bins = np.nonzero(peak)
    before, top, after = below[frames, bins], here[frames, bins], above[frames, bins]
    # Interpolate the frequency and magnitude of a peak with a parabola through three bins.
    slope, bend = (after - before) / 2, after + before - 2 * top
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(np.abs(slope) < np.abs(bend), -slope / bend, np.float32(0))
    pitch = ((low + bins + shift) * hertz).astype(np.float32)
    return pitch, np.asarray(top + slope / 2 * shift, dtype=np.float32)


def count_tunings(pitch: Floats) -> npt.NDArray[np.integer]:
    """Count pitches in Hz, (peaks,), by their distance from the nearest bin, (100,)."""
    steps = np.mod(BINS * np.log2(pitch / np.float32(440 / 16)), np.float32(1))
    steps[steps >= 0.5] -= 1
    return np.histogram(steps, _TUNING_STEPS)[0]


def most_common_tuning(counts: npt.NDArray[np.integer]) -> float:
    """Return the tuning with the largest of the counts of :func:`count_tunings`."""
    return float(_TUNING_STEPS[counts.argmax()])


def chroma(audio: Floats, sample_rate: int, bins_off: float, *, like_0_8_1: bool = False) -> Floats:
    """Compute the magnitude of each pitch class from C to B, (frames, 12), not normalised.

    Args:
        audio: (samples,) mono.
        sample_rate: 30,720 or 3,840 Hz.
        bins_off: what :func:`tuning` finds.
        like_0_8_1: filters, resampling and padding of librosa 0.8.1 instead of 0.11.
    """
    octaves = CHROMA_OCTAVES[sample_rate]
    kernel = octave_kernel(sample_rate, bins_off, like_0_8_1)
    size = len(kernel)
    padding: Padding = "reflect" if like_0_8_1 else "constant"
    num_frames = 1 + len(audio) // HOP
    total = np.zeros((num_frames, BINS), dtype=np.float32)
    for octave in range(octaves):
        if octave > 0:
            audio = _half_rate_like_0_8_1(audio) if like_0_8_1 else _half_rate(audio)
        windows = sliding_window_view(np.pad(audio, size // 2, mode=padding), size)[:: HOP >> octave]
        for i in range(0, num_frames, _FRAMES_AT_A_TIME):
            part = slice(i, min(i + _FRAMES_AT_A_TIME, num_frames))
            total[part] += np.abs((windows[part] @ kernel).view(np.complex64))
    return pitch_classes(total)


def pitch_classes(bins: Floats) -> Floats:
    """Sum the bins of an octave, (frames, 36), to pitch classes, (frames, 12): the bin in tune and its two neighbours."""
    return np.roll(bins, 1, axis=1).reshape(len(bins), _CHROMA, -1).sum(axis=2)


def normalised(chroma: Floats) -> Floats:
    """Scale chroma so that the largest value of every frame is 1."""
    return chroma / _unless_tiny(chroma.max(axis=1, keepdims=True))


def cens(chroma: Floats) -> Floats:
    """Compute chroma energy normalised statistics, (frames, 12): quantised shares, smoothed over 41 frames."""
    half = _CENS_FRAMES // 2
    found = np.empty(chroma.shape, dtype=np.float32)
    # The windows of hours do not fit in memory.
    for first in range(0, len(chroma), _FRAMES_AT_A_TIME):
        begin, end = max(0, first - half), min(first + _FRAMES_AT_A_TIME + half, len(chroma))
        smooth = _cens_at_once(chroma[begin:end])
        found[first : first + _FRAMES_AT_A_TIME] = smooth[first - begin :][:_FRAMES_AT_A_TIME]
    return found


def _cens_at_once(chroma: Floats) -> Floats:
    total = chroma.sum(axis=1, keepdims=True, dtype=np.float64)
    shares = (chroma / _unless_tiny(total)).astype(np.float32)
    steps = np.zeros(shares.shape, dtype=np.float32)
    for share in _CENS_STEPS:
        steps += np.float32(0.25) * (shares > share)
    window = hann(_CENS_FRAMES + 1)[1:]
    window /= window.sum()
    half = _CENS_FRAMES // 2
    smooth = sliding_window_view(np.pad(steps, ((half, half), (0, 0))), _CENS_FRAMES, axis=0) @ window
    return (smooth / _unless_tiny(np.sqrt((smooth**2).sum(axis=1, keepdims=True)))).astype(np.float32)


def _unless_tiny(length: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Replace near-zero norms by 1 to avoid dividing by zero."""
    return np.where(length < np.finfo(np.float32).tiny, 1, length)


@lru_cache(maxsize=32)
def octave_kernel(sample_rate: int, bins_off: float, like_0_8_1: bool) -> Floats:
    """Compute the 36 filters of the top octave, (window, 72), each as a real and an imaginary column.

    A frame of audio times the kernel gives the bins of the octave. One octave down, filters are twice as long at half
    the frequency, so the same kernel is used on the signal at half the sample rate.
    """
    step = 2.0 ** (1 / BINS)
    quality = 1 / (step - 1) if like_0_8_1 else (step**2 + 1) / (step**2 - 1)
    top = BINS * (CHROMA_OCTAVES[sample_rate] - 1)
    hertz = _C1_HZ * 2.0 ** (bins_off / BINS) * 2.0 ** ((top + np.arange(BINS)) / BINS)
    lengths = quality * sample_rate / hertz
    size = 2 ** int(np.ceil(np.log2(lengths.max())))
    filters = np.zeros((BINS, size), dtype=np.complex64)
    for row, length, pitch in zip(filters, lengths, hertz, strict=True):
        time = np.arange(-length // 2, length // 2)
        wave = np.exp(2j * np.pi * pitch / sample_rate * time) * hann(len(time))
        start = (size - len(wave)) // 2
        row[start : start + len(wave)] = wave / np.abs(wave).sum() * length / size
    spectra = np.fft.fft(filters.astype(np.complex128) if like_0_8_1 else filters)[:, : size // 2 + 1]
    size_of = np.abs(spectra)
    ascending = np.sort(size_of, axis=1)
    too_little = np.cumsum(ascending / size_of.sum(axis=1, keepdims=True), axis=1) < _NEGLIGIBLE
    least = np.take_along_axis(ascending, too_little.argmin(axis=1)[:, None], axis=1)
    spectra[size_of < least] = 0
    # The Fourier transform of weights for a frame's spectrum gives the weights for its samples.
    kernel = np.fft.fft(spectra, size) / np.sqrt(lengths)[:, None]
    return kernel.T.astype(np.complex64, order="C").view(np.float32)


def _half_rate(audio: Floats) -> Floats:
    """Resample to half the rate; the energy stays the same."""
    import soxr

    halved = _with_length(soxr.resample(audio, 2, 1, quality="soxr_hq"), -(-len(audio) // 2))
    return (halved / np.sqrt(0.5)).astype(np.float32)


def _half_rate_like_0_8_1(audio: Floats) -> Floats:
    """Resample to half the rate with the filter of librosa 0.8.1, which ends one sample before its width."""
    taps = taps_like_0_8_1()
    # Compute every second sample of the filtered signal only, as a sum over even and over odd samples and taps.
    even, odd = np.convolve(audio[::2], taps[1::2]), np.convolve(audio[1::2], taps[::2])
    first = (len(taps) - 1) // 4
    length = len(audio) // 2
    halved = even[first : first + length] + _with_length(odd[first:], length)
    return _with_length((halved / np.sqrt(0.5)).astype(np.float32), -(-len(audio) // 2))


def taps_like_0_8_1() -> npt.NDArray[np.float64]:
    """Return the filter with which librosa 0.8.1 halves the sample rate, (95,)."""
    width = 2 * _FAST_ZEROS - 1
    zeros = np.arange(-width, width + 1) / 2
    taper = np.i0(_FAST_BETA * np.sqrt(1 - (zeros / _FAST_ZEROS) ** 2)) / np.i0(_FAST_BETA)
    return 0.5 * _FAST_ROLLOFF * np.sinc(_FAST_ROLLOFF * zeros) * taper


def _with_length(audio: npt.NDArray[np.floating], length: int) -> npt.NDArray[np.floating]:
    return np.pad(audio[:length], (0, max(0, length - len(audio))))
