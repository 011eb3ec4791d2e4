"""Tempo from beat frames: a robust fit over pairs of beats.

The tempogram measures periods in whole frames only: at 60 FPS, 29 frames are 124.1 beats per minute and 28 are 128.6.
The beats follow the music between those values, and the rounding of their frames averages out over a piece.

Pairs of beats are compared as in the slope estimator of Theil (1950) and Sen (1968): each pair proposes its distance
divided by the number of periods in it. A running index of the beats would be more usual, but one doubled beat can
shift it for all beats that follow.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

_MIN_BEATS: Final = 5
#: Largest number of periods in a pair, round by round: the period found in near pairs is exact enough to count the
#: periods of farther ones. Few pairs of 16 periods or less span a change of phase, such as a break.
_MAX_PERIODS: Final = (2, 4, 8, 16)
#: The final least squares leaves out pairs further than this share of a period from a whole number of periods.
_TOLERANCE: Final = 1 / 8
_ITERATIONS: Final = 5


#: Range of the tempo of most dance music, beats per minute. Outside of it, another metrical level is more likely.
PLAUSIBLE_BPM: Final = (60.0, 200.0)


def tempo_doubt(bpm: float) -> str | None:
    """Return a warning for a tempo outside of :data:`PLAUSIBLE_BPM`, with the likely one; None within it, and for 0."""
    low, high = PLAUSIBLE_BPM
    if bpm == 0 or low <= bpm <= high:
        return None
    factor, name = (2, "double") if bpm < low else (0.5, "half")
    side = "below" if bpm < low else "above"
    return f"{bpm:.1f} BPM is {side} {low if bpm < low else high:g}: the tempo is probably {bpm * factor:.1f} BPM, {name} of it"


def tempo_from_beats(beats: npt.NDArray[np.integer], frame_rate: float, tempogram_bpm: float) -> float:
    """Refine the tempo of the tempogram to the one on which most pairs of beats agree.

    Args:
        beats: (beats,) frames, increasing. Single beats may be missing, doubled or misplaced.
        frame_rate: frames per second.
        tempogram_bpm: the tempo with which the beats were tracked, in beats per minute.

    Returns:
        Beats per minute; ``tempogram_bpm`` if there are fewer than five beats.
    """
    if len(beats) < _MIN_BEATS:
        return tempogram_bpm
    period = 60 * frame_rate / tempogram_bpm
    # Twice as many neighbours as periods, to allow for doubled beats.
    neighbours = range(1, min(2 * _MAX_PERIODS[-1], len(beats) - 1) + 1)
    distances = np.concatenate([beats[k:] - beats[:-k] for k in neighbours]).astype(np.float64)
    distance, count = distances, distances
    for max_periods in _MAX_PERIODS:
        counts = np.round(distances / period)
        used = (counts >= 1) & (counts <= max_periods)
        if not used.any():
            return tempogram_bpm
        distance, count = distances[used], counts[used]
        period = _weighted_median(distance / count, count)
    tolerance = _TOLERANCE * period
    for _ in range(_ITERATIONS):
        near = np.abs(distance - count * period) < tolerance
        period = float(distance[near] @ count[near] / (count[near] @ count[near]))
    return 60 * frame_rate / period


def _weighted_median(values: Doubles, weights: Doubles) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])
