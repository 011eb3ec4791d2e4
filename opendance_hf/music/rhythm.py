"""Tempogram, tempo, beats and onset peaks of an onset envelope, as librosa computes them.

The beat tracker is the dynamic programme of Ellis, "Beat Tracking by Dynamic Programming" (2007); tempogram and
tempo follow Grosche, Mueller and Kurth, "Cyclic Tempogram" (2010). librosa 0.8.1 and 0.11 differ only at the ends of
the programme: in what may precede the first beat, and in which last beats are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from opendance_hf.music.layout import HOP, Floats

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_TEMPO_WINDOW_S: Final = 8
_MAX_BPM: Final = 320.0
_TIGHTNESS: Final = 100.0
_FRAMES_AT_A_TIME: Final = 64


def hann(length: int) -> Doubles:
    """Return one period of a raised cosine that starts at zero."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


def tempogram(envelope: Floats, lags: int) -> Doubles:
    """Compute the autocorrelation of the envelope around each frame, (frames, lags), divided by that of lag 0."""
    return np.concatenate(list(tempogram_blocks(envelope, lags)))


def tempogram_blocks(envelope: Floats, lags: int) -> Iterator[Doubles]:
    """Yield the rows of :func:`tempogram`, (some frames, lags)."""
    for power in _power_spectra(envelope, lags):
        yield np.fft.irfft(power, 2 * lags)[:, :lags]


def track_beats(
    envelope: Floats, sample_rate: int, start_bpm: float = 120.0, *, like_0_8_1: bool = False
) -> tuple[float, Indices]:
    """Return the tempo of the tempogram in beats per minute, and the frames of the beats tracked with it.

    An envelope of zeros has tempo 0 and no beats.
    """
    if not envelope.any():
        return 0.0, np.zeros(0, dtype=np.intp)
    frame_rate = sample_rate / HOP
    bpm = _tempo(envelope, frame_rate, start_bpm)
    period = round(frame_rate * 60 / bpm)
    score = _local_score(envelope, period)
    total, previous = _best_paths(score, period, like_0_8_1)
    beats = [_last_beat(total, like_0_8_1)]
    while previous[beats[-1]] >= 0:
        beats.append(previous[beats[-1]])
    trim = _trim_like_0_8_1 if like_0_8_1 else _trim
    return bpm, trim(score, np.array(beats[::-1], dtype=np.intp))


def onset_peaks(envelope: Floats) -> Indices:
    """Return the frames at 60 FPS where the envelope rises well above its surroundings.

    A peak is no lower than the frame before it, exceeds the mean of the six frames on either side by 0.07 of
    the envelope's range, and does not follow directly on another peak.
    """
    shifted = envelope - envelope.min()
    shifted /= shifted.max() + np.finfo(np.float32).tiny
    if not shifted.any():
        return np.zeros(0, dtype=np.intp)
    sums = np.concatenate([[0.0], np.cumsum(shifted, dtype=np.float64)])
    frames = np.arange(len(shifted))
    begin, end = np.maximum(frames - 6, 0), np.minimum(frames + 7, len(shifted))
    high = shifted >= (sums[end] - sums[begin]) / (end - begin) + 0.07
    high[1:] &= shifted[1:] >= shifted[:-1]
    peaks: list[int] = []
    for frame in np.flatnonzero(high):
        if not peaks or frame > peaks[-1] + 1:
            peaks.append(int(frame))
    return np.array(peaks, dtype=np.intp)


def _tempo(envelope: Floats, frame_rate: float, start_bpm: float) -> float:
    """Return the lag of the strongest mean autocorrelation as beats per minute, with a preference for ``start_bpm``."""
    lags = int(_TEMPO_WINDOW_S * frame_rate)
    # The mean of the spectra is the spectrum of the mean autocorrelation: one inverse transform is enough.
    power = sum(power.sum(axis=0) for power in _power_spectra(envelope, lags)) / len(envelope)
    strength = np.fft.irfft(power, 2 * lags)[1:lags]
    bpm = 60 * frame_rate / np.arange(1, lags)
    preference = -0.5 * (np.log2(bpm) - np.log2(start_bpm)) ** 2
    preference[bpm >= _MAX_BPM] = -np.inf
    return float(bpm[np.argmax(np.log1p(1e6 * strength) + preference)])


def _power_spectra(envelope: Floats, lags: int) -> Iterator[Doubles]:
    """Yield spectra of the autocorrelation around each frame, (some frames, lags + 1).

    They are divided by the autocorrelation of lag 0, which is the energy of the window.
    """
    ramped = np.pad(envelope, lags // 2, mode="linear_ramp", end_values=0)
    windows = sliding_window_view(ramped, lags)[: len(envelope)]
    for i in range(0, len(windows), _FRAMES_AT_A_TIME):
        weighted = windows[i : i + _FRAMES_AT_A_TIME] * hann(lags)
        energy = np.einsum("ij,ij->i", weighted, weighted)
        energy[energy < np.finfo(np.float64).tiny] = 1
        spectrum = np.fft.rfft(weighted, 2 * lags)
        yield (spectrum.real**2 + spectrum.imag**2) / energy[:, None]


def _local_score(envelope: Floats, period: int) -> Doubles:
    """Compute how well a beat fits on each frame: the envelope in standard deviations, smoothed."""
    deviation = envelope.std(ddof=1)
    scaled = (envelope / (deviation + np.finfo(np.float32).tiny)).astype(np.float64)
    padded = np.pad(scaled, period)
    score = np.zeros(len(scaled))
    # Sum in the order of a plain convolution, so that equal beats have bitwise equal scores.
    for k in range(2 * period + 1):
        weight = np.exp(-0.5 * ((k - period) * 32.0 / period) ** 2)
        score += weight * padded[2 * period - k : 2 * period - k + len(scaled)]
    return score


def _best_paths(score: Doubles, period: int, like_0_8_1: bool) -> tuple[Doubles, Indices]:
    """Return for each frame the total score of the best beats up to it, and the previous beat (negative: none).

    In librosa 0.8.1 a beat may lie before the first frame: it adds no score, but its distance counts.
    """
    nearest = round(period / 2)
    lags = np.arange(nearest, 2 * period + 1)
    if like_0_8_1:
        lags = lags[::-1]  # of equal predecessors the first one found is taken
    penalty = _TIGHTNESS * (np.log(lags) - np.log(period)) ** 2
    before_start = 0.0 if like_0_8_1 else -np.inf
    total = np.concatenate([np.full(2 * period, before_start), np.empty(len(score))])
    best = np.empty(len(score), dtype=np.intp)
    # No frame depends on one less than `nearest` frames before it, so that many are computed together.
    for first in range(0, len(score), nearest):
        frames = np.arange(first, min(first + nearest, len(score)))
        candidates = total[2 * period + frames[:, None] - lags] - penalty
        choice = candidates.argmax(axis=1)
        gain = candidates[np.arange(len(frames)), choice]
        best[frames] = np.where(np.isfinite(gain), frames - lags[choice], -1)
        total[2 * period + frames] = score[frames] + np.where(np.isfinite(gain), gain, 0)
    # No beat precedes the first sound.
    loud = np.flatnonzero(score >= 0.01 * score.max())
    best[: loud[0]] = -1
    return total[2 * period :], best


def _last_beat(total: Doubles, like_0_8_1: bool) -> int:
    """Return the last local maximum that reaches half the median of all local maxima."""
    rises = total[1:] > total[:-1]
    falls = np.append(total[1:-1] >= total[2:], True)
    peaks = 1 + np.flatnonzero(rises & falls)
    if len(peaks) == 0:
        return len(total) - 1
    half = 0.5 * np.median(total[peaks])
    high = peaks[total[peaks] > half] if like_0_8_1 else peaks[total[peaks] >= half]
    return int(high[-1]) if len(high) else len(total) - 1


def _smoothed(values: Doubles) -> Doubles:
    return np.convolve(values, [0.0, 0.5, 1.0, 0.5, 0.0])[2:]


def _trim(score: Doubles, beats: Indices) -> Indices:
    """Drop the beats before the first and after the last frame whose score exceeds half the level at the beats."""
    level = np.sqrt(np.mean(_smoothed(score[beats])[: len(score)] ** 2))
    loud = np.flatnonzero(score > 0.5 * level)
    if len(loud) == 0:
        return beats[:0]
    return beats[(beats >= loud[0]) & (beats <= loud[-1])]


def _trim_like_0_8_1(score: Doubles, beats: Indices) -> Indices:
    """Keep the beats from the first to the last whose smoothed score exceeds half the level, without that last one."""
    smoothed = _smoothed(score[beats])[: len(beats)]
    loud = np.flatnonzero(smoothed > 0.5 * np.sqrt(np.mean(smoothed**2)))
    return beats[loud[0] : loud[-1]] if len(loud) else beats[:0]
