"""Find and cut intervals of frames or of time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


def true_intervals(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the start and the (exclusive) end of every run of true values in a (T,) array, in order of time."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def inside(interval: tuple[float, float], parts: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the parts, in order and without overlaps, cut to an interval; those outside of it are left out."""
    start, end = interval
    return [(max(start, a), min(end, b)) for a, b in parts if a < end and b > start]


def outside(interval: tuple[float, float], parts: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return what the parts leave of an interval."""
    edges = [interval[0], *(edge for part in inside(interval, parts) for edge in part), interval[1]]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]
