"""Fit a smooth map from the time of a motion to the time of a song, so that events of the motion fall on its beats."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

Floats = npt.NDArray[np.floating]

#: Resolution of song time, seconds, and the time of the motion between two knots.
GRID_S: Final = 0.01
KNOT_S: Final = 0.5
#: Steps of the grid that two pieces of the map may differ by: their slopes by 0.04.
_BEND: Final = 2
#: Cost of a piece with the largest slope, in events on the beat; that of a smaller slope is quadratic.
_STRETCH_COST: Final = 0.1
#: Steps of time in which the smooth map is evaluated, seconds.
_FINE_S: Final = 1 / 600


@dataclass(frozen=True)
class Warp:
    """A monotone map from the time of a motion to the time of a song.

    It is the piecewise linear map through the knots, averaged over the time between two knots: its slope is
    continuous and stays within the range of the slopes of the pieces. It passes the knots within 5 ms.

    Attributes:
        source_s: (K,) knots, seconds of the motion, every :data:`KNOT_S`; the last may lie after its end.
        song_s: (K,) seconds of the song at the knots.
        gain: sum of the worth of the events, less the cost of the slopes.
    """

    source_s: Floats
    song_s: Floats
    gain: float = 0.0

    @property
    def slopes(self) -> Floats:
        """(K - 1,) seconds of the song for a second of the motion, piece by piece."""
        return np.diff(self.song_s) / np.diff(self.source_s)

    def song_time(self, source_s: npt.ArrayLike) -> Floats:
        """Return the times in the song of times of the motion, seconds."""
        times, song = self._curve()
        return np.asarray(np.interp(np.asarray(source_s, dtype=np.float64), times, song))

    def source_time(self, song_s: npt.ArrayLike) -> Floats:
        """Return the times in the motion of times of the song, seconds."""
        times, song = self._curve()
        return np.asarray(np.interp(np.asarray(song_s, dtype=np.float64), song, times))

    def _curve(self) -> tuple[Floats, Floats]:
        # The average of the slope over one piece, integrated; the ends continue straight.
        steps = round(KNOT_S / _FINE_S)
        slope = uniform_filter1d(np.repeat(self.slopes, steps), steps, mode="nearest", origin=0)
        between = (slope + np.append(slope[1:], slope[-1])) / 2
        song = self.song_s[0] + np.concatenate([[0.0], np.cumsum(between) * _FINE_S])
        return self.source_s[0] + np.arange(len(song)) * _FINE_S, song


def fit_warp(events_s: Floats, duration_s: float, worth: Floats, slopes: tuple[float, float]) -> Warp | None:
    """Find the start in the song and the slopes that put events where the song is worth most.

    Dynamic programming over the time in the song at every knot, in steps of :data:`GRID_S`, and the slope before it. Slopes
    are multiples of ``GRID_S / KNOT_S`` = 0.02; neighbours differ by 0.04 at most.

    Args:
        events_s: (E,) events, seconds of the motion.
        duration_s: of the motion.
        worth: (N,) of an event at each multiple of :data:`GRID_S` of the song.
        slopes: smallest and largest slope, at most 1 and at least 1.

    Returns:
        None if the song is too short for the motion.
    """
    unit = round(KNOT_S / GRID_S)
    steps = np.arange(math.ceil(slopes[0] * unit - 1e-9), math.floor(slopes[1] * unit + 1e-9) + 1)
    largest = max(1 - slopes[0], slopes[1] - 1, 1 / unit)
    costs = _STRETCH_COST * ((steps / unit - 1) / largest) ** 2
    pieces = max(1, math.ceil(duration_s / KNOT_S - 1e-9))
    last = len(worth) - 1
    length = last + int(steps[-1]) + 1
    padded = np.concatenate([worth, np.zeros(max(0, length + int(steps[-1]) - len(worth)))])
    score = np.full((len(steps), length), -np.inf)
    score[:, : last + 1] = 0.0
    pointers = []
    for piece in range(pieces):
        inside = events_s[(events_s >= piece * KNOT_S) & (events_s < (piece + 1) * KNOT_S)]
        best, pointer = _best_neighbours(score) if piece else (score, np.zeros(score.shape, np.int8))
        pointers.append(pointer)
        score = np.full_like(score, -np.inf)
        for row, step in enumerate(steps):
            gain = np.full(length, -costs[row])
            for at in inside:
                shift = round((at / KNOT_S - piece) * step)
                gain += padded[shift : shift + length]
            score[row, step:] = (best[row] + gain)[:-step]
    # The motion may end within the last piece.
    rest = duration_s / KNOT_S - (pieces - 1)
    for row, step in enumerate(steps):
        score[row, math.floor(last + (1 - rest) * step + 1e-9) + 1 :] = -np.inf
    if not np.isfinite(score.max()):
        return None
    row, place = (int(at) for at in np.unravel_index(int(score.argmax()), score.shape))
    total, places = float(score[row, place]), [place]
    for pointer in reversed(pointers):
        place -= int(steps[row])
        places.append(place)
        row += int(pointer[row, place])
    knots = np.arange(pieces + 1) * KNOT_S
    return Warp(knots, np.array(places[::-1]) * GRID_S, total)


def _best_neighbours(score: Floats) -> tuple[Floats, npt.NDArray[np.int8]]:
    """Return the best score over the slopes that may come before each, and how many rows away it is."""
    best, pointer = score.copy(), np.zeros(score.shape, np.int8)
    for bend in range(1, min(_BEND, len(score) - 1) + 1):
        for way in (-bend, bend):
            here = slice(max(0, -way), len(score) - max(0, way))
            there = slice(max(0, way), len(score) + min(0, way))
            better = score[there] > best[here]
            best[here][better] = score[there][better]
            pointer[here][better] = way
    return best, pointer
