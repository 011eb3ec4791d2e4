"""Where in the beat a time is, and what that is worth: shared by the score of steps, the warp of pairs and what models hear."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.integer] | npt.NDArray[np.floating] | Sequence[float]


def beat_phase(times: Times, beats: Times) -> Floats:
    """Return the phase of times in beats: 0 on the first beat, 1 on the second, linear between.

    Before the first and after the last beat the phase goes on with the median interval of the beats.

    Args:
        times: (N,) in any unit.
        beats: (B,) in the same unit, in any order; repeated ones count once.

    Returns:
        (N,) beats; only the fraction says where in the beat a time is.

    Raises:
        ValueError: if a list is not a finite vector, or holds fewer than two different beats.
    """
    t, b = as_times(times), np.unique(as_times(beats))
    if len(b) < 2:
        raise ValueError(f"a phase needs at least two different beats, got {len(b)}")
    interval, last = np.median(np.diff(b)), len(b) - 1
    phase = np.interp(t, b, np.arange(len(b)))
    phase = np.where(t < b[0], (t - b[0]) / interval, phase)
    return np.where(t > b[-1], last + (t - b[-1]) / interval, phase)


def phase_score(phase: npt.ArrayLike) -> Floats:
    """Score phases: (cos 2 pi p + 1/2 cos 4 pi p) / 1.5, which is 1 on the beat and has mean zero over a beat."""
    angle = 2 * np.pi * np.asarray(phase, dtype=np.float64)
    return np.asarray((np.cos(angle) + np.cos(2 * angle) / 2) / 1.5)


def as_times(times: Times) -> Floats:
    """Check a vector of times and return it in float64.

    Raises:
        ValueError: if it is not a finite vector.
    """
    array = np.asarray(times, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"beats must be a finite vector of times, got shape {array.shape}")
    return array
