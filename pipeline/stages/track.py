"""Tell the dancers of a shot apart and follow each of them through crossings.

ByteTrack links boxes by motion, and swaps identities where dancers cross. So its tracks are re-linked: one assignment
of boxes to dancers over the whole shot (Viterbi) minimises changes of clothing, jumps of the box and changes of
ByteTrack's own track, and may leave a dancer without a box where another hides them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from opendance_hf.pipeline.backends.base import Floats, Tracker
from opendance_hf.pipeline.stages.detect import Detections

#: A person counts when seen with this score, is not inside another box, and is not tiny beside the largest.
_COUNT_SCORE: Final = 0.5
_NESTED: Final = 0.75
_COUNT_HEIGHT: Final = 0.4
#: k people are in the shot when at least k count in this share of its frames.
_COUNT_SHARE: Final = 0.2
_MAX_BOXES: Final = 6
_MAX_DANCERS: Final = 4

# Costs of one dancer in one frame.
_CLOTHING: Final = 2.0
_UNSEEN: Final = 0.4
_WEAK_BOX: Final = 0.3
_JUMP: Final = 0.5
_TRACK_CHANGE: Final = 0.1


@dataclass
class Tracks:
    """K dancers over the T frames of a shot.

    Attributes:
        times_s: (T,) presentation times.
        boxes: (K, T, 4) ``x1 y1 x2 y2`` in pixels, NaN where the dancer was not detected.
    """

    times_s: npt.NDArray[np.float64]
    boxes: Floats

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """(K, T) whether the dancer was detected."""
        return ~np.isnan(self.boxes[..., 0])


def box_iou(a: Floats, b: Floats) -> Floats:
    """(N, M) intersection over union of (N, 4+) and (M, 4+) boxes."""
    inter = _intersection(a, b)
    area_a, area_b = _area(a), _area(b)
    return inter / np.maximum(area_a[:, None] + area_b[None] - inter, 1e-9)


def _intersection(a: Floats, b: Floats) -> Floats:
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    return np.prod(np.clip(high - low, 0, None), axis=-1)


def _area(boxes: Floats) -> Floats:
    return np.clip(boxes[:, 2] - boxes[:, 0], 0, None) * np.clip(boxes[:, 3] - boxes[:, 1], 0, None)


def people(boxes: Floats) -> npt.NDArray[np.intp]:
    """Indices of the (N, 5) boxes that are people of their own: sure, not a part of another, not far away."""
    sure = np.flatnonzero(boxes[:, 4] >= _COUNT_SCORE)
    if len(sure) == 0:
        return sure
    heights = boxes[:, 3] - boxes[:, 1]
    sure = sure[heights[sure] >= _COUNT_HEIGHT * heights[sure].max()]
    chosen: list[int] = []
    for index in sure[np.argsort(-boxes[sure, 4])]:
        inside = [
            _intersection(boxes[[index]], boxes[[other]])[0, 0]
            / max(min(_area(boxes[[index]])[0], _area(boxes[[other]])[0]), 1e-9)
            for other in chosen
        ]
        if not inside or max(inside) < _NESTED:
            chosen.append(int(index))
    return np.asarray(sorted(chosen), dtype=np.intp)


def count_people(detections: Detections) -> int:
    """How many people the shot has: the most that are seen together in a fifth of its frames."""
    counts = np.array([len(people(boxes)) for boxes in detections.boxes])
    if len(counts) == 0:
        return 0
    return max((k for k in range(1, counts.max() + 1) if (counts >= k).mean() >= _COUNT_SHARE), default=0)


def track_dancers(detections: Detections, num_dancers: int, tracker: Tracker) -> Tracks:
    """Follow ``num_dancers`` dancers (1 to 4) through a shot.

    Dancers are numbered from left to right as they first stand in the picture.
    """
    if not 1 <= num_dancers <= _MAX_DANCERS:
        raise ValueError(f"num_dancers must be 1 to {_MAX_DANCERS}, got {num_dancers}")
    track_ids = [tracker.update(boxes) for boxes in detections.boxes]
    kept = [np.argsort(-boxes[:, 4], kind="stable")[:_MAX_BOXES] for boxes in detections.boxes]
    boxes = [b[k] for b, k in zip(detections.boxes, kept, strict=True)]
    clothing = [c[k] for c, k in zip(detections.clothing, kept, strict=True)]
    ids = [i[k] for i, k in zip(track_ids, kept, strict=True)]

    wardrobe = _wardrobe(boxes, clothing, num_dancers)
    choice = _assign(boxes, clothing, ids, wardrobe)
    for _ in range(2):  # what each dancer wears, seen again on the frames assigned to them
        wardrobe = np.stack(
            [
                np.mean(rows, axis=0) if (rows := _rows(clothing, choice[:, k])) else wardrobe[k]
                for k in range(num_dancers)
            ]
        )
        choice = _assign(boxes, clothing, ids, wardrobe)

    out = np.full((num_dancers, len(boxes), 4), np.nan, dtype=np.float32)
    for t, frame in enumerate(choice):
        for k, index in enumerate(frame):
            if index >= 0:
                out[k, t] = boxes[t][index, :4]
    first = [_start_x(track) for track in out]
    return Tracks(detections.times_s, out[np.argsort(first, kind="stable")])


def _start_x(track: Floats) -> float:
    seen = track[~np.isnan(track[:, 0])]
    return float(np.mean(seen[:5, [0, 2]])) if len(seen) else float("inf")


def _rows(values: list[Floats], index: npt.NDArray[np.intp]) -> list[Floats]:
    return [values[t][i] for t, i in enumerate(index) if i >= 0]


def _distance(clothing: Floats, wardrobe: Floats) -> Floats:
    """(N, K) share of the histograms that does not overlap, 0 to 1."""
    return 0.5 * np.abs(clothing[:, None] - wardrobe[None]).sum(-1)


def _wardrobe(boxes: list[Floats], clothing: list[Floats], num_dancers: int) -> Floats:
    """(K, C) what each dancer wears, from the frames where all of them stand apart (constrained k-means)."""
    apart = []
    for b, c in zip(boxes, clothing, strict=True):
        chosen = people(b)
        if len(chosen) == num_dancers:
            iou = box_iou(b[chosen], b[chosen])
            np.fill_diagonal(iou, 0)
            apart.append((iou.max(initial=0.0), c[chosen]))
    if not apart:
        rows = np.concatenate(clothing)
        return np.repeat(rows.mean(0, keepdims=True), num_dancers, axis=0)
    apart.sort(key=lambda pair: pair[0])
    frames = np.stack([c for _, c in apart[: max(10, len(apart) // 2)]])
    best, best_cost = frames[0], np.inf
    for start in frames[:: max(1, len(frames) // 5)]:
        means = start
        for _ in range(5):
            order = np.stack([linear_sum_assignment(_distance(f, means).T)[1] for f in frames])
            sorted_frames = np.take_along_axis(frames, order[..., None], axis=1)
            means = sorted_frames.mean(axis=0)
        cost = sum(_distance(f, means).diagonal().sum() for f in sorted_frames)
        if cost < best_cost:
            best, best_cost = means, cost
    return best


def _assign(
    boxes: list[Floats], clothing: list[Floats], ids: list[npt.NDArray[np.int64]], wardrobe: Floats
) -> npt.NDArray[np.intp]:
    """(T, K) index of each dancer's box in each frame, -1 for none: the cheapest path over the shot."""
    num_dancers = len(wardrobe)
    states = [_states(len(b), num_dancers) for b in boxes]
    back: list[npt.NDArray[np.intp]] = []
    cost = np.zeros(len(states[0]))
    for t, b in enumerate(boxes):
        # Only the contrast between dancers tells them apart: light and posture change all distances alike.
        worn = _distance(clothing[t], wardrobe)
        contrast = worn - worn.min(axis=1, keepdims=True)
        seen = _CLOTHING * contrast + _WEAK_BOX * (1 - b[:, 4:5])
        # The last row is the unseen state, so that index -1 picks it.
        unary = np.concatenate([seen, np.full((1, num_dancers), _UNSEEN)])
        here = sum(unary[states[t][:, k], k] for k in range(num_dancers))
        if t == 0:
            cost = np.asarray(here)
            continue
        jump = _JUMP * (1 - box_iou(boxes[t - 1], b)) + _TRACK_CHANGE * (ids[t - 1][:, None] != ids[t][None])
        move = np.zeros((len(boxes[t - 1]) + 1, len(b) + 1))
        move[:-1, :-1] = jump
        step = sum(move[states[t - 1][:, k][:, None], states[t][:, k][None]] for k in range(num_dancers))
        total = cost[:, None] + step
        back.append(np.argmin(total, axis=0))
        cost = total.min(axis=0) + here
    path = [int(np.argmin(cost))]
    for pointers in reversed(back):
        path.append(int(pointers[path[-1]]))
    path.reverse()
    return np.stack([states[t][s] for t, s in enumerate(path)])


def _states(num_boxes: int, num_dancers: int) -> npt.NDArray[np.intp]:
    """(S, K) every way to give each dancer a box of their own or none (-1)."""
    found = {(-1,) * num_dancers}
    for present in product((False, True), repeat=num_dancers):
        dancers = [k for k in range(num_dancers) if present[k]]
        for chosen in permutations(range(num_boxes), len(dancers)):
            state = [-1] * num_dancers
            for dancer, box in zip(dancers, chosen, strict=True):
                state[dancer] = box
            found.add(tuple(state))
    return np.asarray(sorted(found), dtype=np.intp)
