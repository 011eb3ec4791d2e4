"""Smooth the landmarks and bodies of estimators with fixed filters or with SmoothNet.

The filters are a median filter, which removes outliers in single frames, then a Savitzky-Golay filter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.ndimage import median_filter
from scipy.signal import savgol_filter

from opendance_hf.pipeline.clip import Bodies, Floats, Landmarks


def frame_rate(found: Landmarks | Bodies) -> float:
    """Return the mean number of frames per second."""
    return (len(found.times_s) - 1) / float(found.times_s[-1] - found.times_s[0])


def average_neighbours(paths: Floats) -> Floats:
    """Average each frame of (D, T, ...) paths with the mean of its two neighbours: errors that alternate cancel."""
    if paths.shape[1] < 3:
        return paths
    ends = ((0, 0), (1, 1), *[(0, 0)] * (paths.ndim - 2))
    padded = np.pad(paths, ends, mode="reflect", reflect_type="odd")
    return np.asarray(padded[:, :-2] / 4 + padded[:, 1:-1] / 2 + padded[:, 2:] / 4, dtype=np.float32)


class FilterSmoother:
    """Smooth with a median and a Savitzky-Golay filter.

    Args:
        median_s: window of the median filter, seconds.
        window_s: window of the Savitzky-Golay filter, seconds. The filter is skipped if the window has too few frames for
            the order or more frames than the span.
        polynomial_order: order of the Savitzky-Golay filter.
    """

    def __init__(self, median_s: float, window_s: float, polynomial_order: int) -> None:
        self.median_s = median_s
        self.window_s = window_s
        self.polynomial_order = polynomial_order

    def smooth(self, landmarks: Landmarks, bodies: Bodies | None) -> tuple[Landmarks, Bodies | None]:
        """Return smoothed landmarks and bodies."""
        return self.landmarks(landmarks), None if bodies is None else self.bodies(bodies)

    def landmarks(self, found: Landmarks) -> Landmarks:
        """Smooth landmarks in the image and in metres."""
        rate = frame_rate(found)
        return replace(found, image=self.paths(found.image, rate), world=self.paths(found.world, rate))

    def bodies(self, found: Bodies) -> Bodies:
        """Smooth rotations and translations of bodies."""
        rate = frame_rate(found)
        rotations = smooth_rotations(found.rotations, lambda columns: self.paths(columns, rate))
        return replace(found, rotations=rotations, transl=self.paths(found.transl[:, :, None], rate)[:, :, 0])

    def paths(self, values: Floats, rate_hz: float) -> Floats:
        """Smooth (D, T, N, C) paths with ``rate_hz`` frames per second along T."""
        median, window = _odd(self.median_s * rate_hz), _odd(self.window_s * rate_hz)
        filtered = average_neighbours(median_filter(values, size=(1, median, 1, 1), mode="nearest"))
        if window <= self.polynomial_order + 1 or window > values.shape[1]:
            return filtered
        smoothed = savgol_filter(filtered, window, self.polynomial_order, axis=1, mode="interp")
        return np.asarray(smoothed, dtype=np.float32)


class SmoothNetSmoother:
    """Smooth rotations of bodies, or landmarks in metres without bodies, with a ``SmoothNetModel``; filter the rest."""

    def __init__(self, model: Any, filters: FilterSmoother) -> None:
        self.model = model
        self.filters = filters

    def smooth(self, landmarks: Landmarks, bodies: Bodies | None) -> tuple[Landmarks, Bodies | None]:
        """Return smoothed landmarks and bodies; with bodies, landmarks are 2D keypoints and are only filtered."""
        if bodies is None:
            return self.landmarks(landmarks), None
        return self.filters.landmarks(landmarks), self.bodies(bodies)

    def landmarks(self, found: Landmarks) -> Landmarks:
        """Smooth landmarks in metres with SmoothNet, and landmarks in the image with the filters."""
        return replace(
            found,
            image=self.filters.paths(found.image, frame_rate(found)),
            world=self.paths(average_neighbours(found.world)),
        )

    def bodies(self, found: Bodies) -> Bodies:
        """Smooth rotations with SmoothNet, and translations with the filters."""
        transl = self.filters.paths(found.transl[:, :, None], frame_rate(found))[:, :, 0]
        return replace(found, rotations=smooth_rotations(found.rotations, self.paths), transl=transl)

    def paths(self, values: Floats) -> Floats:
        """Smooth (D, T, N, C) paths along T, at the frame rate of the source."""
        import torch

        with torch.no_grad():
            flat = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).flatten(2)
            return np.asarray(self.model(flat).smoothed.reshape(values.shape).numpy())


def smooth_rotations(rotations: Floats, smooth: Callable[[Floats], Floats]) -> Floats:
    """Smooth (D, T, 24, 3, 3) rotations as paths (D, T, 24, 6) of their first two columns, as MMHuman3D does."""
    import torch

    from opendance_hf.modeling.cliff import six_to_rotations

    columns = np.ascontiguousarray(rotations[..., :2]).reshape(*rotations.shape[:3], 6)
    return np.asarray(six_to_rotations(torch.from_numpy(np.ascontiguousarray(smooth(columns)))).numpy())


def _odd(value: float) -> int:
    """Round to the nearest odd number, at least 1."""
    return max(1, 2 * round((value - 1) / 2) + 1)
