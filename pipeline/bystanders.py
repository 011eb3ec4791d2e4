"""Measure what tells dancers from other people in the picture: size, place, duration and movement of their boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.pipeline.clip import Tracks

_Numbers = npt.NDArray[np.float64]

#: Least correlation of the place with time, and least distance in heights, of somebody who walks through the picture.
_STRAIGHT: Final = 0.93
_WALKED: Final = 0.8
#: Longest time without a box within a visit.
_MAX_GAP_S: Final = 1.0
#: Least number of frames in which both people are seen apart, and least of the three correlations, of an image.
_MIN_FRAMES: Final = 15
_LEAST_CORRELATION: Final = 0.75


@dataclass(frozen=True)
class People:
    """Properties of the K people of a shot, over the frames in which their boxes overlap nobody's.

    Attributes:
        heights: (K,) median height of the box, pixels.
        aspects: (K,) median width of the box, relative to its height.
        extents: (K,) movement of the box in heights: the distance between the 10 and 90 percent quantiles of an edge's
            positions, the second largest of the four edges.
        at_border: (K,) true if the median box touches the left or right edge of the picture.
        border_shares: (K,) share of the frames in which the box does.
        seen_shares: (K,) share of the frames with a box.
        visit_s: (K,) seconds from the first to the last box, without strays that are far from the others in time.
        walk_straight: (K,) true if the box moves in one direction in this time, by about a height or more.
        shapes: (K, T, 3) height, width and middle of the box in each frame, in median heights, NaN without a box.
    """

    heights: _Numbers
    aspects: _Numbers
    extents: _Numbers
    at_border: npt.NDArray[np.bool_]
    border_shares: _Numbers
    seen_shares: _Numbers
    visit_s: _Numbers
    walk_straight: npt.NDArray[np.bool_]
    shapes: _Numbers


def measure(tracks: Tracks, alone: npt.NDArray[np.bool_], margin_px: float, width_px: int) -> People:
    """Measure the people of a shot.

    Args:
        tracks: of K people in T frames.
        alone: (K, T) frames to use.
        margin_px: distance to the left or right edge of the picture within which a box touches it.
        width_px: width of the picture.
    """
    boxes = np.where(alone[..., None], tracks.boxes, np.nan).astype(np.float64)
    count, (x1, y1, x2, y2) = len(boxes), np.moveaxis(boxes, -1, 0)
    heights, aspects, extents, border_shares, visit_s = np.zeros((5, count))
    at_border, straight = np.zeros((2, count), dtype=bool)
    step_s = float(np.median(np.diff(tracks.times_s))) if len(tracks.times_s) > 1 else 0.0
    middles = (x1 + x2) / 2
    for k in np.flatnonzero(alone.any(axis=1)):
        own = boxes[k, alone[k]]
        heights[k] = np.median(own[:, 3] - own[:, 1])
        size = max(heights[k], 1.0)
        aspects[k] = np.median(own[:, 2] - own[:, 0]) / size
        low, high = np.quantile(own, (0.1, 0.9), axis=0)
        extents[k] = np.sort(high - low)[-2] / size
        left, right = np.median(own[:, 0]), np.median(own[:, 2])
        at_border[k] = left <= margin_px or right >= width_px - margin_px
        border_shares[k] = ((own[:, 0] <= margin_px) | (own[:, 2] >= width_px - margin_px)).mean()
        visit = _longest_visit(tracks.times_s, alone[k])
        visit_s[k] = np.ptp(tracks.times_s[visit]) + step_s
        walked = np.ptp(np.quantile(middles[k, visit], (0.1, 0.9))) / size
        along = _correlation(middles[k, visit], tracks.times_s[visit])
        straight[k] = walked >= _WALKED and abs(along) >= _STRAIGHT
    shapes = np.stack([y2 - y1, x2 - x1, middles], axis=-1) / np.maximum(heights, 1.0)[:, None, None]
    shares = alone.mean(axis=1)
    return People(heights, aspects, extents, at_border, border_shares, shares, visit_s, straight, shapes)


def _longest_visit(times_s: _Numbers, alone: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return the most frames of a (T,) mask between which there is no long gap."""
    frames = np.flatnonzero(alone)
    groups = np.split(frames, np.flatnonzero(np.diff(times_s[frames]) > _MAX_GAP_S) + 1)
    return np.asarray(max(groups, key=len))


def likeness(people: People, one: int, other: int) -> float:
    """Return how much the boxes of two people move alike, at most 1; the places may be mirrored.

    It is the mean of the correlations of the heights, widths and places, or 0 if one of them is small: people who dance in
    unison are as high at the same times, but not as wide.
    """
    a, b = people.shapes[one], people.shapes[other]
    both = np.isfinite(a[:, 0]) & np.isfinite(b[:, 0])
    if both.sum() < _MIN_FRAMES:
        return 0.0
    height, width, place = (_correlation(a[both, c], b[both, c]) for c in range(3))
    values = (height, width, abs(place))
    return float(np.mean(values)) if min(values) >= _LEAST_CORRELATION else 0.0


def _correlation(a: _Numbers, b: _Numbers) -> float:
    """Return Pearson's correlation, 0 if one of the values does not vary."""
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 1e-9 else 0.0
