"""Find intervals of consecutive frames that meet a condition."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def true_intervals(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the start and the (exclusive) end of every run of true values in a (T,) array, in order of time."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
