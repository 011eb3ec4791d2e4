"""Find foot landings and take-offs, and their phase between music beats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from opendance_hf.motion.skeleton import JOINT_INDEX

#: A foot lands when the speed of its toes falls below the first number after exceeding the second, m/s.
_SPEEDS_MPS: Final = (0.35, 0.7)
_SMOOTHING_S: Final = 2 / 60
_TOES: Final = (JOINT_INDEX["left_foot"], JOINT_INDEX["right_foot"])

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True)
class FootEvents:
    """Frames of the ``landings`` and ``take_offs`` of both feet, increasing."""

    landings: Ints
    take_offs: Ints


def foot_events(joints: Floats, fps: float) -> FootEvents:
    """Return the landings and take-offs of (T, 24, 3) joints in metres."""
    toes = np.asarray(joints, dtype=np.float64)[:, _TOES]
    if len(toes) < 2:
        return FootEvents(np.zeros(0, np.intp), np.zeros(0, np.intp))
    toes = gaussian_filter1d(toes, _SMOOTHING_S * fps, axis=0, mode="nearest")
    speeds = np.linalg.norm(np.gradient(toes, axis=0), axis=-1).T * fps
    landings = np.concatenate([_falls(speed) for speed in speeds])
    take_offs = np.concatenate([len(speed) - 1 - _falls(speed[::-1]) for speed in speeds])
    return FootEvents(np.sort(landings), np.sort(take_offs))


def beat_phase(times: npt.ArrayLike, beats: npt.ArrayLike) -> Floats:
    """Return times in beats: k at beat k, continued with the median interval beyond the first and last of two or more."""
    at, grid = np.asarray(times, dtype=np.float64), np.asarray(beats, dtype=np.float64)
    interval = np.median(np.diff(grid))
    phase = np.interp(at, grid, np.arange(len(grid)))
    phase = np.where(at < grid[0], (at - grid[0]) / interval, phase)
    return np.where(at > grid[-1], len(grid) - 1 + (at - grid[-1]) / interval, phase)


def _falls(speed: Floats) -> Ints:
    low, high = _SPEEDS_MPS
    found, fast = [], False
    for frame, value in enumerate(speed):
        if value > high:
            fast = True
        elif fast and value < low:
            found.append(frame)
            fast = False
    return np.array(found, dtype=np.intp)
