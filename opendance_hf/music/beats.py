"""Beats of a song to a fraction of a frame, their downbeats, and a confidence, from its music features.

The ``music_beats`` of a dataset stay those of librosa's tracker. :func:`find_beats` differs from it in this:

- **Tempo**: the period after which the onsets repeat once, twice and four times, looked for in one octave. Whether beats
  are twice as fast is decided afterwards: by how strong bass and snare are midway, and by the tempi that people dance to.
- **Phase**: rises of the bass count as much as those of all bands. Between the beats found and other places within them,
  bass, onsets and changes of harmony decide.
- **Beats**: the dynamic programme of Ellis, "Beat Tracking by Dynamic Programming" (2007), for a period that need not be a
  whole number of frames. Every beat is then moved to a line through the onsets near the beats around it. The leave-one-out
  error chooses how many these are: all of a steady song, few where the tempo drifts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d, median_filter, uniform_filter1d

from opendance_hf.music.layout import FACT_BLOCKS

Doubles = npt.NDArray[np.float64]

_FPS: Final = 60
_BAR: Final = 4
_TINY: Final = 1e-9
_MIN_FRAMES: Final = 2 * _FPS
#: Frames from a beat to its onset in the envelope: the mean over synthesised songs, whose drums start at once.
_DELAY: Final = 1.13
#: Frames by which smoothed chroma change before the sound does, likewise.
_CHROMA_LEAD: Final = 3
_CHROMA_SPAN: Final = 8
#: Mel bands of bass (up to about 200 Hz) and of snare and voice (to about 2 kHz), of 128.
_BASS: Final = (0, 6)
_MIDDLE: Final = (6, 48)
_MEL_BANDS: Final = 128
#: Beats per minute of the octave in which the tempo is looked for: it ends at twice the number.
_SLOWEST_BPM: Final = 55.0
#: Preferred tempo, beats per minute, and the octaves from it at which the preference falls to 0.6.
_PREFERRED_BPM: Final = 110.0
_PREFERENCE_OCTAVES: Final = 0.55
#: Strength midway, over that on the beat, at which both octaves are equally likely, and the weight of its logarithm.
_MIDWAY: Final = 0.72
_MIDWAY_WEIGHT: Final = 3.0
_TIGHTNESS: Final = 200.0
#: Standard deviations, in beats, of the weights with which lines are fitted.
_WIDTHS: Final = (1.5, 3.0, 6.0, 12.0, 24.0, 48.0, 96.0)
#: Distance in frames at which an onset counts half in a line.
_OUTLIER: Final = 3.0
_PHASES: Final = np.arange(20) / 20
#: Evidence of swing: its half beats come late, so that another onset soon after the place of a beat is the beat.
_SWING: Final = 0.3 * (np.isin(np.arange(20), (6, 7, 8)).astype(float) - np.isin(np.arange(20), (12, 13, 14)))


@dataclass(frozen=True)
class BeatGrid:
    """Beats of a song.

    Attributes:
        beats: (B,) frames at 60 FPS, with fractions, increasing, within the song; none when nothing sounds.
        bpm: beats per minute, of the median interval; 0 with fewer than two beats.
        downbeat: index of the first downbeat, 0 to 3; every fourth beat from it is the next. Bars are taken to have four
            beats, and to begin where harmony changes most and the bass is strongest.
        confidence: 0 to 1, that these beats are those that a listener taps: half is the border at which to look.
    """

    beats: Doubles
    bpm: float
    downbeat: int
    confidence: float


@dataclass(frozen=True)
class _Onsets:
    """Onset signals (T,): of all bands, of the bass, of the middle, and change of harmony."""

    full: Doubles
    bass: Doubles
    middle: Doubles
    harmony: Doubles

    @property
    def sum(self) -> Doubles:
        return self.full + self.bass


def find_beats(music_features_fact: npt.NDArray[np.floating]) -> BeatGrid:
    """Find the beats of a song.

    Args:
        music_features_fact: (T, 35) features of FACT of the whole song at 60 FPS, of any engine.

    Returns:
        The beats; none, with confidence 0, for silence and for less than two seconds.
    """
    onsets = _onsets(np.asarray(music_features_fact, dtype=np.float64))
    signal = onsets.sum
    if len(signal) < _MIN_FRAMES or not signal.any():
        return BeatGrid(np.zeros(0), 0.0, 0, 0.0)
    bpm, tempo_margin = _slow_tempo(signal)
    beats = _refined(signal, _track(signal, 3600 / bpm))
    double = _double_odds(onsets, beats, bpm)
    if double > 0:
        beats = _refined(signal, _track(signal, 1800 / bpm))
    beats = _refined(signal, _steady(signal, beats))
    shift, phase_margin = _better_phase(onsets, beats)
    if shift:
        beats = _refined(signal, beats[:-1] + shift * np.diff(beats))
    sounding = float(np.mean(_at(signal, beats) > signal.mean()))
    confidence = np.prod(
        np.clip(
            [
                (sounding - 0.5) / 0.4,
                phase_margin / 0.2,
                tempo_margin / 0.2,
                abs(double) / 0.5,
                len(beats) / 16,
                1 - _jumps(beats) / 2,
            ],
            0,
            1,
        )
    )
    beats = beats - _DELAY
    inside = beats[(beats >= 0) & (beats < len(signal))]
    found = float(3600 / np.median(np.diff(inside))) if len(inside) > 1 else 0.0
    return BeatGrid(inside, found, _first_downbeat(onsets, inside + _DELAY), float(confidence))


def _onsets(features: Doubles) -> _Onsets:
    mfcc, chroma = features[:, FACT_BLOCKS["mfcc"]], features[:, FACT_BLOCKS["chroma_cens"]]
    harmony = np.zeros(len(features))
    change = np.linalg.norm(chroma[2 * _CHROMA_SPAN :] - chroma[: -2 * _CHROMA_SPAN], axis=1)
    first = _CHROMA_SPAN + _CHROMA_LEAD
    harmony[first : first + len(change)] = change[: max(0, len(harmony) - first)]
    return _Onsets(
        _levelled(features[:, FACT_BLOCKS["onset_env"]][:, 0]),
        _levelled(_rise(mfcc, *_BASS)),
        _levelled(_rise(mfcc, *_MIDDLE)),
        harmony,
    )


def _rise(mfcc: Doubles, first: int, last: int) -> Doubles:
    """Return the rise of the mean level of mel bands, which MFCCs hold smoothed, delayed like the onset envelope."""
    angles = np.pi * (np.arange(first, last)[:, None] + 0.5) * np.arange(mfcc.shape[1]) / _MEL_BANDS
    cosines = np.cos(angles).mean(axis=0)
    cosines[0] /= np.sqrt(2)
    rise = np.maximum(0, np.diff(mfcc @ cosines))
    return np.concatenate([np.zeros(3), rise])[: len(mfcc)]


def _levelled(signal: Doubles) -> Doubles:
    """Return what rises above the mean of a second, over its level in eight seconds."""
    smoothed = gaussian_filter1d(signal, 1.0)
    above = np.maximum(0, smoothed - uniform_filter1d(smoothed, _FPS))
    level = np.sqrt(uniform_filter1d(above**2, 8 * _FPS))
    return above / (level + 0.1 * level.max() + _TINY)


def _at(signal: Doubles, frames: Doubles) -> Doubles:
    return np.interp(frames, np.arange(len(signal)), signal)


def _slow_tempo(signal: Doubles) -> tuple[float, float]:
    """Return the beats per minute of the slow octave, and by which share they are above the next other tempo."""
    length = len(signal)
    power = np.abs(np.fft.rfft(signal - signal.mean(), 2 * length)) ** 2
    repeats = np.fft.irfft(power)[:length] / np.maximum(length - np.arange(length), length / 4)
    repeats = gaussian_filter1d(repeats, 1.0)

    def salience(bpm: Doubles) -> Doubles:
        lags = 3600 / bpm[:, None] * np.array([1, 2, 4])
        return np.interp(lags, np.arange(length), repeats, right=0).mean(axis=1)

    bpm = np.geomspace(_SLOWEST_BPM, 2 * _SLOWEST_BPM, 400, endpoint=False)
    both = np.maximum(salience(bpm) + salience(2 * bpm), 0)
    best = int(both.argmax())
    octaves = np.abs(np.log2(bpm / bpm[best]))
    other = both[np.minimum(octaves, 1 - octaves) > 0.06].max()
    return float(bpm[best]), float(1 - other / (both[best] + _TINY))


def _double_odds(onsets: _Onsets, beats: Doubles, bpm: float) -> float:
    """Return the logarithm of the odds that beats are twice as fast as those found."""
    if len(beats) < 2:
        return -1.0
    midway = (beats[:-1] + beats[1:]) / 2
    ratios = [
        _at(signal, midway).mean() / (_at(signal, beats).mean() + _TINY)
        for signal in (onsets.bass, onsets.middle)
    ]
    octaves = np.log2(np.array([1, 2]) * bpm / _PREFERRED_BPM) / _PREFERENCE_OCTAVES
    strength = np.log(np.clip(max(ratios), 0.1, 1) / _MIDWAY)
    return float((octaves[0] ** 2 - octaves[1] ** 2) / 2 + _MIDWAY_WEIGHT * strength)


def _track(signal: Doubles, period: float) -> Doubles:
    """Return the frames of the beats with the largest sum of the signal, less a penalty for intervals unlike the period."""
    nearest, farthest = int(0.75 * period), int(np.ceil(1.33 * period))
    lags = np.arange(nearest, farthest + 1)
    penalty = _TIGHTNESS * np.log(lags / period) ** 2
    total = np.concatenate([np.zeros(farthest), signal])
    previous = np.empty(len(signal), dtype=np.intp)
    for first in range(0, len(signal), nearest):
        frames = np.arange(first, min(first + nearest, len(signal)))
        gain = total[farthest + frames[:, None] - lags] - penalty
        best = gain.argmax(axis=1)
        total[farthest + frames] += gain[np.arange(len(frames)), best]
        previous[frames] = frames - lags[best]
    last = max(0, len(signal) - int(np.ceil(period)))
    beats = [last + int(total[farthest + last :].argmax())]
    while previous[beats[-1]] >= 0:
        beats.append(int(previous[beats[-1]]))
    return np.array(beats[::-1], dtype=np.float64)


def _refined(signal: Doubles, beats: Doubles) -> Doubles:
    for reach in (5, 4, 3):
        times, weights = _peaks_near(signal, beats, reach)
        beats = _on_lines(times, weights + 0.02)
    return beats


def _peaks_near(signal: Doubles, beats: Doubles, reach: int) -> tuple[Doubles, Doubles]:
    """Return the time of the highest peak near each beat, by a parabola through three points, and its height."""
    steps = np.arange(-reach, reach + 1)
    near = _at(signal, beats[:, None] + steps) * np.exp(-0.5 * (steps / reach) ** 2)
    top = near.argmax(axis=1).clip(1, 2 * reach - 1)
    rows = np.arange(len(beats))
    left, peak, right = near[rows, top - 1], near[rows, top], near[rows, top + 1]
    bend = np.minimum(left - 2 * peak + right, -_TINY)
    moved = steps[top] + (0.5 * (left - right) / bend).clip(-0.5, 0.5)
    return beats + np.where(peak > 0.05, moved, 0), peak


def _on_lines(times: Doubles, weights: Doubles) -> Doubles:
    """Return times moved to the lines through their neighbours, as many as leave-one-out errors allow."""
    if len(times) < _BAR:
        return times
    widths = [width for width in _WIDTHS if width <= max(_WIDTHS[0], 2 * len(times))]
    fits = [_lines(times, weights, width) for width in widths]
    errors = np.array([np.average(np.minimum(error, 3), weights=weights) for _, error in fits])
    return fits[int(np.flatnonzero(errors <= 1.1 * errors.min() + 0.02)[-1])][0]


def _lines(times: Doubles, weights: Doubles, width: float) -> tuple[Doubles, Doubles]:
    """Fit a line around every index, robustly; return its value there, and the error without the time itself."""
    index = np.arange(len(times), dtype=np.float64)

    def around(values: Doubles) -> Doubles:
        return np.asarray(gaussian_filter1d(values, width, mode="constant"))

    fit, robust, own = times, weights, weights
    for _ in range(4):
        w, wi, wii = around(robust), around(robust * index), around(robust * index**2)
        wt, wit = around(robust * times), around(robust * index * times)
        spread = np.maximum(w * wii - wi**2, _TINY)
        slope = (w * wit - wi * wt) / spread
        fit = (wt - slope * wi) / w + slope * index
        own = robust * (wii - 2 * wi * index + w * index**2) / spread / (np.sqrt(2 * np.pi) * width)
        robust = weights / (1 + ((times - fit) / _OUTLIER) ** 2)
    return fit, np.abs(times - fit) / (1 - own.clip(0, 0.9))


def _steady(signal: Doubles, beats: Doubles) -> Doubles:
    """Return beats of constant tempo if they are as good, at both ends and on the whole, else those given."""
    if len(beats) < 8 * _BAR:
        return beats
    smooth = gaussian_filter1d(signal, 1.0)
    middle, period = beats[len(beats) // 2], float(np.median(np.diff(beats)))
    number = np.arange(-len(beats), len(beats) + 1)
    best, grid = -1.0, beats
    for step in period * np.linspace(0.99, 1.01, 201):
        starts = middle + np.arange(0, step, 0.5)
        values = np.interp(starts[:, None] + step * number, np.arange(len(smooth)), smooth, left=0, right=0)
        sums = values.sum(axis=1)
        if sums.max() > best:
            best, grid = float(sums.max()), starts[sums.argmax()] + step * number
    grid = grid[(grid >= 0) & (grid < len(signal))]
    quarter = len(signal) / 4
    for low, high in ((0.0, 4.0), (0.0, 1.0), (3.0, 4.0)):
        both = [
            _at(smooth, some[(some >= low * quarter) & (some < high * quarter)]) for some in (grid, beats)
        ]
        if both[0].sum() < 0.6 * both[1].sum():
            return beats
    return grid


def _jumps(beats: Doubles) -> int:
    """Return how often the interval between beats leaves that of the beats around by 6% or more."""
    gaps = np.diff(beats)
    away = np.abs(gaps / median_filter(gaps, 15) - 1) > 0.06
    return int(np.sum(away[1:] & ~away[:-1])) + int(away[:1].sum())


def _better_phase(onsets: _Onsets, beats: Doubles) -> tuple[float, float]:
    """Return the share of an interval by which beats must be moved, 0 for none, and by how much the best place leads."""
    if len(beats) < 2:
        return 0.0, 0.0
    places = beats[:-1] + _PHASES[:, None] * np.diff(beats)
    bass, full, harmony = (
        _at(signal, places).mean(axis=1) for signal in (onsets.bass, onsets.full, onsets.harmony)
    )
    turns = np.exp(2j * np.pi * _PHASES)
    change = (harmony @ turns) / (harmony.sum() + _TINY)
    evidence = bass / (bass.max() + _TINY) + 0.5 * full / (full.max() + _TINY)
    evidence += 5 * (change * turns.conj()).real
    evidence += _SWING
    far = np.flatnonzero((_PHASES > 0.2) & (_PHASES < 0.8))
    other = far[evidence[far].argmax()]
    lead = float(evidence[0] - evidence[other]) / 1.5
    return (0.0 if lead >= 0 else float(_PHASES[other])), abs(lead)


def _first_downbeat(onsets: _Onsets, beats: Doubles) -> int:
    if len(beats) < 2 * _BAR:
        return 0
    harmony, bass = _at(onsets.harmony, beats), _at(onsets.bass, beats)
    scores = [
        harmony[k::_BAR].mean() / (harmony.mean() + _TINY)
        + 0.25 * bass[k::_BAR].mean() / (bass.mean() + _TINY)
        for k in range(_BAR)
    ]
    return int(np.argmax(scores))
