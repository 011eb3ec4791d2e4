"""Remove jitter from landmarks: a median against single bad frames, then a Savitzky-Golay filter."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from scipy.ndimage import median_filter
from scipy.signal import savgol_filter

from opendance_hf.pipeline.backends.base import Floats
from opendance_hf.pipeline.stages.pose import Landmarks

_MEDIAN_S: Final = 0.1
#: Long enough to take out the estimator's noise (75-150 mm per frame squared), short enough to keep a hit.
_WINDOW_S: Final = 0.3
_ORDER: Final = 2


def smooth(found: Landmarks) -> Landmarks:
    """Landmarks with smooth paths in the image and in metres; the time axis is unchanged."""
    rate = (len(found.times_s) - 1) / (found.times_s[-1] - found.times_s[0])
    return replace(found, image=smooth_paths(found.image, rate), world=smooth_paths(found.world, rate))


def both_sides(paths: Floats) -> Floats:
    """(D, T, ...) paths, each frame with the mean of its two neighbours, which were seen from the mirror's other side.

    What alternates from frame to frame vanishes; :mod:`~opendance_hf.pipeline.stages.pose` says why something does.
    """
    if paths.shape[1] < 3:
        return paths
    ends = ((0, 0), (1, 1), *[(0, 0)] * (paths.ndim - 2))
    wide = np.pad(paths, ends, mode="reflect", reflect_type="odd")
    return np.asarray(wide[:, :-2] / 4 + wide[:, 1:-1] / 2 + wide[:, 2:] / 4, dtype=np.float32)


def smooth_paths(values: Floats, rate: float) -> Floats:
    """(D, T, N, C) paths at ``rate`` frames a second, smoothed along T."""
    median, window = _odd(_MEDIAN_S * rate), _odd(_WINDOW_S * rate)
    steady = both_sides(median_filter(values, size=(1, median, 1, 1), mode="nearest"))
    if window <= _ORDER + 1 or window > values.shape[1]:
        return steady
    smoothed = savgol_filter(steady, window, _ORDER, axis=1, mode="interp")
    return np.asarray(smoothed, dtype=np.float32)


def _odd(value: float) -> int:
    return max(1, 2 * round((value - 1) / 2) + 1)
