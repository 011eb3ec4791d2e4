"""Synthesised music whose beats are known: drums, a bass and chords over a seeded tempo and key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, sosfilt

SAMPLE_RATE: Final = 44_100
_MIN_BPM: Final = 90.0
_MAX_BPM: Final = 130.0
_LEAD_S: Final = 0.25  # the first beat comes a moment after the start
#: Degrees of a minor key, as roots in semitones and whether the chord is minor.
_PROGRESSIONS: Final = (
    ((0, True), (8, False), (3, False), (10, False)),
    ((0, True), (5, True), (10, False), (3, False)),
    ((0, True), (3, False), (8, False), (7, True)),
)

Array = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Music:
    """Mono ``samples`` (N,) in [-1, 1] at :data:`SAMPLE_RATE`, its ``beats_s`` (K,) and ``bpm``."""

    samples: npt.NDArray[np.float32]
    beats_s: npt.NDArray[np.float64]
    bpm: float


@dataclass(frozen=True)
class Difficulty:
    """What makes the beats of a piece hard to find; the defaults are the plain piece.

    Attributes:
        swing: phase of the half beats between two beats; 2/3 is triplet swing.
        offbeat_hats: gain of the hats on half beats, 0.16 in the plain piece; at 1 they are louder than the drums.
        drift: largest relative deviation from ``bpm``, as a sine with a period of 16 beats.
        soft_start_s: for so long there are no drums, and the sound fades in.
        drums: gain of kick and snare.
        tempo: factor of the tempo, 90 to 130 beats per minute in the plain piece.
    """

    swing: float = 0.5
    offbeat_hats: float = 0.16
    drift: float = 0.0
    soft_start_s: float = 0.0
    drums: float = 1.0
    tempo: float = 1.0


def make_music(seed: int, duration_s: float, difficulty: Difficulty = Difficulty()) -> Music:
    """A piece of so many seconds; all beats before its end are in ``beats_s``, a downbeat and every fourth after it first."""
    rng = np.random.default_rng([seed, 2])
    bpm = float(np.round(rng.uniform(_MIN_BPM, _MAX_BPM), 1)) * difficulty.tempo
    beats_s, lengths_s = _beat_times(bpm, duration_s, difficulty.drift)
    out = np.zeros(int(np.ceil(duration_s * SAMPLE_RATE)))
    key_hz = 55.0 * 2 ** (rng.integers(0, 12) / 12)
    chords = _PROGRESSIONS[rng.integers(len(_PROGRESSIONS))]
    offbeat = rng.random() < 0.5
    kick, snare, hat = _kick(), _snare(rng), _hat(rng)
    for k, (at_s, beat_s) in enumerate(zip(beats_s, lengths_s, strict=True)):
        root, minor = chords[(k // 4) % len(chords)]
        drums = difficulty.drums if at_s >= difficulty.soft_start_s else 0.0
        _add(out, kick if k % 2 == 0 or rng.random() < 0.3 else 0.5 * kick, at_s, drums * 0.9)
        if k % 2 == 1:
            _add(out, snare, at_s, drums * 0.5)
        _add(out, hat, at_s, 0.10)
        _add(out, hat, at_s + difficulty.swing * beat_s, difficulty.offbeat_hats)
        bass_hz = key_hz * 2 ** (root / 12)
        _add(out, _bass(bass_hz, 0.42 * beat_s), at_s, 0.35)
        if offbeat:
            _add(out, _bass(2 * bass_hz, 0.3 * beat_s), at_s + difficulty.swing * beat_s, 0.22)
        if k % 4 == 0:
            third = 3 if minor else 4
            _add(out, _pad([4 * bass_hz * 2 ** (n / 12) for n in (0, third, 7)], 4 * beat_s), at_s, 0.10)
    if difficulty.soft_start_s:
        out *= np.clip((np.arange(len(out)) / SAMPLE_RATE + 0.2) / difficulty.soft_start_s, 0, 1)
    return Music((0.8 * np.tanh(out) / np.tanh(1.6)).clip(-1, 1).astype(np.float32), beats_s, bpm)


def random_hits(seed: int, duration_s: float) -> npt.NDArray[np.float32]:
    """Two hits a second of kick, snare and hat, at random times: mono at :data:`SAMPLE_RATE`, without beats."""
    rng = np.random.default_rng([seed, 7])
    out = np.zeros(int(np.ceil(duration_s * SAMPLE_RATE)))
    for sound, gain in ((_kick(), 0.9), (_snare(rng), 0.5), (_hat(rng), 0.3)):
        for at_s in rng.uniform(0, duration_s, round(2 * duration_s)):
            _add(out, sound, at_s, gain)
    return (0.8 * np.tanh(out)).astype(np.float32)


def _beat_times(bpm: float, duration_s: float, drift: float) -> tuple[Doubles, Doubles]:
    """Return the times of all beats before the end, and the time from each to the next, in seconds."""
    beat_s = 60 / bpm
    beats_s = np.arange(_LEAD_S, duration_s, beat_s)
    if not drift:
        return beats_s, np.full(len(beats_s), beat_s)
    number = np.arange(int(duration_s / beat_s * (1 + 2 * drift)) + 3)
    lengths_s = beat_s * (1 + drift * np.sin(2 * np.pi * number / 16))
    beats_s = _LEAD_S + np.cumsum(lengths_s) - lengths_s
    inside = beats_s < duration_s
    return beats_s[inside], lengths_s[inside]


def _add(out: Array, sound: Array, at_s: float, gain: float) -> None:
    start = round(at_s * SAMPLE_RATE)
    length = min(len(sound), len(out) - start)
    if length > 0:
        out[start : start + length] += gain * sound[:length]


def _clock(seconds: float) -> Array:
    return np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE


def _kick() -> Array:
    t = _clock(0.25)
    return np.sin(2 * np.pi * (48 * t + 4.2 * (1 - np.exp(-t * 38)))) * np.exp(-t * 14)


def _snare(rng: np.random.Generator) -> Array:
    t = _clock(0.18)
    noise = sosfilt(butter(2, (900, 7000), "bandpass", fs=SAMPLE_RATE, output="sos"), rng.normal(size=len(t)))
    return (noise + 0.5 * np.sin(2 * np.pi * 190 * t)) * np.exp(-t * 22)


def _hat(rng: np.random.Generator) -> Array:
    t = _clock(0.06)
    noise = sosfilt(butter(2, 6500, "highpass", fs=SAMPLE_RATE, output="sos"), rng.normal(size=len(t)))
    return noise * np.exp(-t * 70)


def _bass(hertz: float, seconds: float) -> Array:
    t = _clock(seconds)
    tone = sum(np.sin(2 * np.pi * n * hertz * t) / n for n in (1, 2, 3))
    return np.asarray(tone * np.minimum(t / 0.005, 1) * np.exp(-t * 3) * np.minimum((seconds - t) / 0.01, 1))


def _pad(tones_hz: list[float], seconds: float) -> Array:
    t = _clock(seconds)
    tone = sum(np.sin(2 * np.pi * f * t) + 0.4 * np.sin(4 * np.pi * f * t) for f in tones_hz)
    return np.asarray(tone * np.minimum(t / 0.08, 1) * np.minimum((seconds - t) / 0.1, 1))
