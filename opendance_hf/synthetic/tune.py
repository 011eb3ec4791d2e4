"""Synthesised songs that are told apart by their notes: chords, a melody, a beat and a sound of a seed.

:func:`opendance_hf.synthetic.music.make_music` varies little from seed to seed, which is fine to dance to; here two
seeds are two songs, even at the same tempo and in the same key.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

SAMPLE_RATE: Final = 22_050
_SCALES: Final = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))


def make_tune(
    seed: int, duration_s: float, *, bpm: float | None = None, key: int | None = None
) -> npt.NDArray[np.float32]:
    """Mono samples (N,) at :data:`SAMPLE_RATE`, in [-1, 1].

    Args:
        seed: of the song.
        duration_s: seconds.
        bpm: tempo, 80 to 150 by the seed if None.
        key: semitones above A, 0 to 11, by the seed if None.
    """
    rng = np.random.default_rng([seed, 7])
    own_bpm, own_key = float(rng.uniform(80, 150)), int(rng.integers(12))
    step_s = 60 / (own_bpm if bpm is None else bpm) / 4
    root = 33 + (own_key if key is None else key)
    scale = np.array(_SCALES[rng.integers(2)])
    chords = rng.integers(0, 7, 8)
    drums = rng.random((3, 16)) < np.array([[0.3], [0.2], [0.6]])
    drums[0, [0, 8]] = drums[1, [4, 12]] = True
    bass_rhythm = rng.random(16) < 0.45
    # A phrase of four bars that walks up and down the scale, then another; A A B A.
    phrases = [_melody(rng) for _ in range(2)]
    timbres = [rng.dirichlet(np.ones(6) * 0.7) for _ in range(3)]
    out = np.zeros(int(np.ceil(duration_s * SAMPLE_RATE)))
    noise = rng.normal(size=SAMPLE_RATE // 4)
    for step in range(int(duration_s / step_s)):
        at, bar, sixteenth = round(step * step_s * SAMPLE_RATE), step // 16, step % 16
        degree = int(chords[bar % 8])
        for drum, sound in zip(drums, _drums(noise), strict=True):
            if drum[sixteenth]:
                _add(out, sound, at, 0.25)
        if bass_rhythm[sixteenth]:
            _add(out, _tone(_pitch(root, scale, degree), 1.8 * step_s, timbres[0]), at, 0.3)
        if sixteenth == 0:
            for third in (0, 2, 4):
                _add(out, _tone(_pitch(root + 12, scale, degree + third), 15 * step_s, timbres[1]), at, 0.1)
        note, steps = phrases[(0, 0, 1, 0)[bar // 4 % 4]].get(step % 64, (0, 0))
        if steps:
            _add(out, _tone(_pitch(root + 24, scale, note), steps * step_s, timbres[2]), at, 0.25)
    return np.tanh(out).astype(np.float32)


def _melody(rng: np.random.Generator) -> dict[int, tuple[int, int]]:
    """Of four bars of 16 steps: where notes start, their degree of the scale and their length."""
    notes, step, degree = {}, 0, int(rng.integers(0, 8))
    while step < 64:
        steps = int(rng.choice([1, 2, 2, 3, 4, 6]))
        degree = int(np.clip(degree + rng.integers(-3, 4), -3, 12))
        if rng.random() > 0.2:
            notes[step] = (degree, steps)
        step += steps
    return notes


def _pitch(root: int, scale: npt.NDArray[np.integer], degree: int) -> float:
    """Hz of a degree of the scale; the root is a MIDI note."""
    return 440.0 * float(2 ** ((root + 12 * (degree // 7) + int(scale[degree % 7]) - 69) / 12))


def _tone(hertz: float, seconds: float, timbre: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    waves = np.sin(2 * np.pi * hertz * np.arange(1, len(timbre) + 1)[:, None] * t)
    return timbre @ waves * np.minimum(t / 0.01, 1) * np.exp(-2.5 * t) * np.minimum((seconds - t) / 0.01, 1)


def _drums(noise: npt.NDArray[np.floating]) -> list[npt.NDArray[np.floating]]:
    """Kick, snare and hat."""
    t = np.arange(len(noise)) / SAMPLE_RATE
    kick = np.sin(2 * np.pi * (50 * t + 4 * (1 - np.exp(-t * 35)))) * np.exp(-t * 16)
    hat = np.diff(noise, prepend=0.0) * np.exp(-t * 70)
    return [2 * kick, noise * np.exp(-t * 25), hat]


def _add(out: npt.NDArray[np.floating], sound: npt.NDArray[np.floating], start: int, gain: float) -> None:
    length = min(len(sound), len(out) - start)
    if length > 0:
        out[start : start + length] += gain * sound[:length]
