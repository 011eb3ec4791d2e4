"""Intervals of consecutive frames for which something holds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def true_intervals(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the start and the end (exclusive) of every run of true values of a (T,) array, in order of time."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
