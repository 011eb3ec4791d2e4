"""Beats, downbeats and confidence from music features, more exact than the tracked ``music_beats`` of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, uniform_filter1d

from opendance_hf.music.layout import FACT_BLOCKS

Doubles = npt.NDArray[np.float64]
_FPS: Final = 60
_DELAY: Final = 0.0
_BAR: Final = 4


@dataclass(frozen=True)
class BeatGrid:
    beats: Doubles
    bpm: float
    downbeat: int
    confidence: float


def signals(fact):
    f = fact.astype(np.float64)
    env = f[:, 0]
    mfcc = f[:, FACT_BLOCKS["mfcc"]]
    bands = np.arange(6)
    cosines = np.cos(np.pi * (bands[:, None] + 0.5) * np.arange(20) / 128) * np.sqrt(2 / 128)
    cosines[:, 0] /= np.sqrt(2)
    level = (mfcc @ cosines.T).mean(axis=1)
    rise = np.zeros(len(level))
    rise[3:] = np.maximum(0, level[2:-1] - level[1:-2]) + 0
    chroma = f[:, FACT_BLOCKS["chroma_cens"]]
    return env, rise, chroma


def norm(x):
    x = gaussian_filter1d(x, 1.0)
    x = np.maximum(0, x - uniform_filter1d(x, 61))
    rms = np.sqrt(uniform_filter1d(x**2, 481))
    return x / (rms + 0.1 * rms.max() + 1e-12)


def autocorrelation(n):
    N = len(n)
    s = np.fft.rfft(n - n.mean(), 2 * N)
    r = np.fft.irfft(np.abs(s) ** 2)[:N] / (N - np.arange(N)).clip(1)
    return r / (r[0] + 1e-12)


def tempo_scores(n, bpms, prior=(115, 0.55)):
    r = autocorrelation(n)
    r = gaussian_filter1d(r, 1.0)
    p = 3600 / bpms
    lag = np.arange(len(r))
    g = lambda x: np.interp(x, lag, r)
    s = (g(p) + g(2 * p) + g(4 * p)) / 3
    return s * np.exp(-0.5 * (np.log2(bpms / prior[0]) / prior[1]) ** 2), s


def dp(n, period, tight=200.0):
    lo, hi = int(np.floor(period * 0.75)), int(np.ceil(period * 1.33))
    lags = np.arange(lo, hi + 1)
    pen = tight * np.log(lags / period) ** 2
    T = len(n)
    total = np.concatenate([np.zeros(hi), n])
    back = np.full(T, -1)
    for first in range(0, T, lo):
        t = np.arange(first, min(first + lo, T))
        c = total[hi + t[:, None] - lags] - pen
        k = c.argmax(1)
        total[hi + t] = n[t] + c[np.arange(len(t)), k]
        back[t] = t - lags[k]
    last = T - 1 - int(np.argmax(total[hi:][::-1][: int(period)]))
    beats = [last]
    while back[beats[-1]] >= 0:
        beats.append(back[beats[-1]])
    return np.array(beats[::-1], float)


def measured(n, beats, reach):
    """Sub-frame peaks near the beats and their strength."""
    at = beats[:, None] + np.arange(-reach, reach + 1)
    v = np.interp(at, np.arange(len(n)), n)
    v = v * np.exp(-0.5 * ((at - beats[:, None]) / reach) ** 2)
    k = v.argmax(1).clip(1, 2 * reach - 1)
    i = np.arange(len(beats))
    a, b, c = v[i, k - 1], v[i, k], v[i, k + 1]
    d = np.where(a - 2 * b + c < -1e-9, 0.5 * (a - c) / np.minimum(a - 2 * b + c, -1e-9), 0).clip(-0.5, 0.5)
    return beats + (k - reach) + d, np.maximum(b, 0)


def smooth(times, weights, width):
    """Local robust linear fit over the beat index."""
    i = np.arange(len(times), dtype=float)
    near = np.exp(-0.5 * ((i[:, None] - i) / width) ** 2)
    fit = times
    w = weights
    for _ in range(4):
        W = near * w
        s0, s1, s2 = W.sum(1), W @ i, W @ (i * i)
        y0, y1 = W @ times, W @ (i * times)
        det = s0 * s2 - s1 * s1
        slope = (s0 * y1 - s1 * y0) / det
        fit = (y0 - slope * s1) / s0 + slope * i
        r = (times - fit) / 3.0
        w = weights / (1 + r**2)
    return fit


def find_beats(fact, debug=False):
    env, rise, chroma = signals(fact)
    n = norm(env) + norm(rise)
    bpms = np.geomspace(50, 220, 600)
    s, raw = tempo_scores(n, bpms)
    bpm = bpms[s.argmax()]
    beats = dp(n, 3600 / bpm)
    for reach in (5, 4, 3):
        t, w = measured(n, beats, reach)
        beats = smooth(t, w + 0.05, 4)
    return BeatGrid(beats - _DELAY, 3600 / np.median(np.diff(beats)), 0, 0.0)
