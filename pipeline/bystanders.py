"""Measure what tells dancers from other people in the picture: size, place, duration and movement of their boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.pipeline.box_overlap import covered_shares, filled_boxes
from opendance_hf.pipeline.clip import Floats, Tracks

_Numbers = npt.NDArray[np.float64]

#: Somebody walks through the picture if most boxes are this close to a straight line, in heights, and it is so long.
_OFF_LINE, _ON_LINE, _WALKED = 0.3, 0.55, 0.8
#: Least pace of somebody who walks, heights per second.
_PACE: Final = 0.4
_MAX_LINE_FRAMES: Final = 100
#: Two boxes are in the same place if each covers this share of the other.
_SAME_PLACE: Final = 0.5
#: Longest time before the first and after the last box of somebody for which the box is expected to stay there.
_MAX_AWAY_S: Final = 2.0
#: Least number of frames in which both people are seen apart, and least correlation, of an image; height of a small one.
_MIN_FRAMES: Final = 15
_LEAST_CORRELATION: Final = 0.75
_MUCH_SMALLER: Final = 0.7


@dataclass(frozen=True)
class People:
    """Properties of the K people of a shot, over the frames in which their boxes overlap nobody's.

    Attributes:
        heights: (K,) median height of the box, pixels.
        aspects: (K,) median width of the box, relative to its height.
        extents: (K,) movement of the box in heights: the distance between the 10 and 90 percent quantiles of an edge's
            positions, the second largest of the four edges.
        middle_extents: (K,) the same movement, the median of the four edges.
        at_border: (K,) true if the median box touches the left or right edge of the picture.
        border_shares: (K,) share of the frames in which the box does.
        seen_shares: (K,) share of the frames with a box.
        alone_shares: (K,) share of the frames with a box that overlaps nobody's.
        walk_s: (K,) seconds for which the box moves at an even pace in one direction, by about a height or more; infinite
            for people who do not walk so in most of their frames.
        shapes: (K, T, 3) height, width and middle of the box in each frame, in median heights, NaN without a box.
    """

    heights: _Numbers
    aspects: _Numbers
    extents: _Numbers
    middle_extents: _Numbers
    at_border: npt.NDArray[np.bool_]
    border_shares: _Numbers
    seen_shares: _Numbers
    alone_shares: _Numbers
    walk_s: _Numbers
    shapes: _Numbers


def without_bystanders(tracks: Tracks, are_dancers: npt.NDArray[np.bool_]) -> Tracks:
    """Return the tracks of the dancers, with the boxes that bystanders got where a dancer without a box is expected."""
    taken = taken_boxes(tracks)
    boxes: Floats = tracks.boxes.copy()
    for dancer in np.flatnonzero(are_dancers):
        for other in np.flatnonzero(~are_dancers):
            back = taken[other, dancer] & np.isnan(boxes[dancer, :, 0])
            boxes[dancer, back] = tracks.boxes[other, back]
    return Tracks(tracks.times_s, boxes[are_dancers])


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
    heights, aspects, extents, middle_extents, border_shares = np.zeros((5, count))
    walk_s = np.full(count, np.inf)
    at_border = np.zeros(count, dtype=bool)
    middles = (x1 + x2) / 2
    taken = taken_boxes(tracks)
    for k in np.flatnonzero(alone.any(axis=1)):
        own = boxes[k, alone[k]]
        heights[k] = np.median(own[:, 3] - own[:, 1])
        size = max(heights[k], 1.0)
        aspects[k] = np.median(own[:, 2] - own[:, 0]) / size
        low, high = np.quantile(own, (0.1, 0.9), axis=0)
        extents[k], middle_extents[k] = np.sort(high - low)[-2] / size, np.median(high - low) / size
        left, right = np.median(own[:, 0]), np.median(own[:, 2])
        at_border[k] = left <= margin_px or right >= width_px - margin_px
        border_shares[k] = ((own[:, 0] <= margin_px) | (own[:, 2] >= width_px - margin_px)).mean()
        certain = alone[k] & ~taken[k].any(axis=0)
        walk_s[k] = _walk_s(tracks.times_s[certain], middles[k, certain] / size)
    shapes = np.stack([y2 - y1, x2 - x1, middles], axis=-1) / np.maximum(heights, 1.0)[:, None, None]
    seen_shares, alone_shares = tracks.seen.mean(axis=1), alone.mean(axis=1)
    return People(
        heights, aspects, extents, middle_extents, at_border, border_shares, seen_shares, alone_shares, walk_s, shapes
    )  # fmt: skip


def taken_boxes(tracks: Tracks) -> npt.NDArray[np.bool_]:
    """Return (K, K, T) true where the box of the first person is where the second, who has none, is expected.

    Somebody who is not in the picture yet may have got the boxes of a dancer whose clothes look different for a moment.
    """
    count, frames = tracks.seen.shape
    out = np.zeros((count, count, frames), dtype=bool)
    for other in range(count):
        expected = filled_boxes(tracks.times_s, tracks.boxes[other])
        # Somebody who has left for longer is not expected where they were last.
        seen_s = tracks.times_s[tracks.seen[other]]
        if len(seen_s):
            away_s = np.maximum(seen_s[0] - tracks.times_s, tracks.times_s - seen_s[-1])
            expected[away_s > _MAX_AWAY_S] = np.nan
        for one in np.flatnonzero(np.arange(count) != other):
            covered = covered_shares(expected, tracks.boxes[one])
            size = covered_shares(tracks.boxes[one], expected)
            out[one, other] = ~tracks.seen[other] & (np.fmin(covered, size) >= _SAME_PLACE)
    return out


def _walk_s(times_s: _Numbers, middles: _Numbers) -> float:
    """Return how long somebody walks at an even pace, given the (N,) middles of their boxes in heights; see :class:`People`.

    Of the lines through every two boxes, of those that are steep enough, the one that is close to the most boxes is chosen:
    some boxes are of other people.
    """
    few = np.unique(np.linspace(0, len(times_s) - 1, min(len(times_s), _MAX_LINE_FRAMES)).astype(np.intp))
    times_s, middles = times_s[few], middles[few]
    a, b = np.triu_indices(len(few), 1)
    pace = (middles[b] - middles[a]) / (times_s[b] - times_s[a])
    fast = np.abs(pace) >= _PACE
    a, pace = a[fast], pace[fast]
    if len(a) == 0:
        return float("inf")
    lines = middles[a, None] + pace[:, None] * (times_s - times_s[a, None])
    near = np.abs(middles - lines) <= _OFF_LINE
    best = int(np.argmax(near.sum(axis=1)))
    walked_s = float(np.ptp(times_s[near[best]]))
    walks = near[best].mean() >= _ON_LINE and abs(pace[best]) * walked_s >= _WALKED
    return walked_s if walks else float("inf")


def is_image(people: People, one: int, other: int, least: float) -> bool:
    """Return true if somebody's box follows that of a taller person, as an image in a mirror or on a screen does.

    The correlations of heights, widths and places (in either direction) are compared. People who dance in unison are as high
    at the same times, but not as wide, and hardly ever at the same places. Of a much smaller person it is enough that the
    place and one of the others agree: an image of a dancer of even height has noise instead of heights.

    Args:
        people: of the shot.
        one: index of the smaller person.
        other: index of the taller person.
        least: minimum of the mean correlation; of a much smaller person, of the correlation of places.
    """
    a, b = people.shapes[one], people.shapes[other]
    both = np.isfinite(a[:, 0]) & np.isfinite(b[:, 0])
    if both.sum() < _MIN_FRAMES:
        return False
    height, width, place = (_correlation(a[both, c], b[both, c]) for c in range(3))
    place = abs(place)
    if people.heights[one] < _MUCH_SMALLER * people.heights[other]:
        return place >= least and max(height, width) >= _LEAST_CORRELATION
    return (height + width + place) / 3 >= least and min(height, width, place) >= _LEAST_CORRELATION


def _correlation(a: _Numbers, b: _Numbers) -> float:
    """Return Pearson's correlation, 0 if one of the values does not vary."""
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 1e-9 else 0.0
