"""Assign boxes to dancers over a whole shot by the Viterbi algorithm.

A state is an assignment of the boxes of a frame to the dancers. The best path to every state remembers where each dancer was
last seen, how large, and how fast, so that a dancer who was hidden is found again where they are expected. This is
per-survivor processing: the memory belongs to the path, not to the state, and paths that end in the same state are compared
with their own memories.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.pipeline.box_overlap import box_iou
from opendance_hf.pipeline.clip import Floats

#: Maximum number of states of a frame that are kept; all assignments of three dancers to six boxes are fewer.
MAX_STATES: Final = 512
#: Scales of the motion cost: distance along x and of the lower edge, in heights, and of the logarithm of the height.
_X, _X_PER_S, _BOTTOM, _BOTTOM_PER_S, _LOG_HEIGHT = 0.2, 0.3, 0.08, 0.15, 0.2
#: Distance of the clothing of two dancers from which it tells them apart, so that motion does not count.
_CLEAR_CLOTHING: Final = 0.25
#: Time over which a dancer's velocity is averaged, and the longest time that it is extrapolated.
_VELOCITY_S, _AHEAD_S = 0.37, 0.7


@dataclass(frozen=True)
class Costs:
    """Costs of an assignment, per dancer and frame; see :class:`~opendance_hf.pipeline.stages.track.Track`."""

    clothing: float
    unseen: float
    weak_box: float
    jump: float
    track_change: float
    motion: float


@dataclass(frozen=True)
class Frame:
    """Hold the N boxes of a frame.

    Attributes:
        time_s: presentation time.
        boxes: (N, 5) ``x1 y1 x2 y2 score``, pixels.
        clothing: (N, C) histograms.
        ids: (N,) the tracker's tracks.
    """

    time_s: float
    boxes: Floats
    clothing: Floats
    ids: npt.NDArray[np.int64]

    def places(self) -> npt.NDArray[np.float64]:
        """Return (N, 3) the middle along x, the lower edge and the height, pixels."""
        x1, y1, x2, y2 = self.boxes[:, :4].astype(np.float64).T
        return np.stack([(x1 + x2) / 2, y2, np.maximum(y2 - y1, 1.0)], axis=1)


@dataclass
class _Memory:
    """When and where S paths have last seen each of K dancers: (S, K), (S, K, 3), and (S, K, 2) pixels per second."""

    seen_s: npt.NDArray[np.float64]
    place: npt.NDArray[np.float64]
    velocity: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, count: int, num_dancers: int) -> _Memory:
        """Return the memory of paths that have seen nobody."""
        shape = (count, num_dancers)
        return cls(np.full(shape, np.nan), np.full((*shape, 3), np.nan), np.zeros((*shape, 2)))

    def costs(self, frame: Frame) -> npt.NDArray[np.float64]:
        """Return the (S, K, N) deviation of boxes from the expected place and size of each dancer, 0 to 1."""
        places = frame.places()
        if len(places) == 0:
            return np.zeros((*self.seen_s.shape, 0))
        gap_s = frame.time_s - self.seen_s
        ahead = np.minimum(gap_s, _AHEAD_S)[..., None]
        expected = self.place[..., :2] + self.velocity * ahead
        height = self.place[..., 2, None]
        off = np.abs(places[:, :2] - expected[:, :, None]) / height[..., None]
        growth = np.log(places[:, 2] / height)
        x_scale, bottom_scale = (
            (scale + per_s * gap_s)[..., None] for scale, per_s in ((_X, _X_PER_S), (_BOTTOM, _BOTTOM_PER_S))
        )
        square = (
            (off[..., 0] / x_scale) ** 2 + (off[..., 1] / bottom_scale) ** 2 + (growth / _LOG_HEIGHT) ** 2
        )
        off = np.nan_to_num(1 - np.exp(-square / 2), nan=0.0)
        # As with clothing, use differences between dancers only: a leap makes a box as unexpected for all of them.
        return np.asarray(off - off.min(axis=1, keepdims=True))

    def after(self, frame: Frame, before: npt.NDArray[np.intp], states: npt.NDArray[np.intp]) -> _Memory:
        """Return the memory of the paths that lead from the states ``before`` (S,) to the (S, K) states of a frame."""
        seen_s, place, velocity = self.seen_s[before], self.place[before], self.velocity[before]
        here = states >= 0
        if not here.any():
            return _Memory(seen_s, place, velocity)
        found = frame.places()[np.maximum(states, 0)]
        known = here & np.isfinite(seen_s)
        gap_s = np.where(known, frame.time_s - seen_s, 1.0)[..., None]
        step = np.where(known[..., None], found[..., :2] - place[..., :2], 0.0) / gap_s
        mixed = velocity + (1 - np.exp(-gap_s / _VELOCITY_S)) * (step - velocity)
        return _Memory(
            np.where(here, frame.time_s, seen_s),
            np.where(here[..., None], found, place),
            np.where(known[..., None], mixed, velocity),
        )


def assign(frames: list[Frame], dancer_clothing: Floats, costs: Costs) -> npt.NDArray[np.intp]:
    """Return the (T, K) index of each dancer's box in each frame, -1 for none, on the path of least cost.

    Where a frame has more than :data:`MAX_STATES` assignments (of four dancers and more), the cheapest are kept.
    """
    num_dancers = len(dancer_clothing)
    kept: list[npt.NDArray[np.intp]] = []
    back: list[npt.NDArray[np.intp]] = []
    cost = np.zeros(1)
    motion = costs.motion * _likeness(dancer_clothing)[:, None]
    memory = _Memory.empty(1, num_dancers)
    for t, frame in enumerate(frames):
        states = _states(len(frame.boxes), num_dancers)
        unary = _box_costs(frame, dancer_clothing, costs)
        if t == 0:
            states = _cheapest(states, unary)
            cost, before = _sum(unary, states), np.zeros(len(states), dtype=np.intp)
        else:
            # (S, K, N + 1) cost of each box for each dancer on each path; the last is the cost of having no box.
            moves = np.zeros((len(cost), num_dancers, len(frame.boxes) + 1))
            moves[..., :-1] = motion * memory.costs(frame)
            moves += _steps(frames[t - 1], frame, costs)[kept[-1]]
            states = _cheapest(states, unary + moves.min(axis=0).T)
            step = sum(moves[:, k, states[:, k]] for k in range(num_dancers))
            total = cost[:, None] + step
            before = np.argmin(total, axis=0)
            cost = total.min(axis=0) + _sum(unary, states)
        kept.append(states)
        back.append(before)
        memory = memory.after(frame, before, states)
    path = [int(np.argmin(cost))]
    for pointers in reversed(back[1:]):
        path.append(int(pointers[path[-1]]))
    path.reverse()
    return np.stack([kept[t][s] for t, s in enumerate(path)])


def _likeness(dancer_clothing: Floats) -> npt.NDArray[np.float64]:
    """Return (K,) 1 for dancers who are dressed like another, 0 for those whose clothing differs from everybody's."""
    distance = clothing_distance(dancer_clothing, dancer_clothing).astype(np.float64)
    np.fill_diagonal(distance, np.inf)
    return np.clip(2 - 2 * distance.min(axis=1) / _CLEAR_CLOTHING, 0, 1)


def _box_costs(frame: Frame, dancer_clothing: Floats, costs: Costs) -> Floats:
    """Return the (N + 1, K) cost of each box for each dancer; the last row is the cost of having no box."""
    # Use differences between dancers only: light and posture change the distances to all dancers alike.
    distance = clothing_distance(frame.clothing, dancer_clothing)
    contrast = distance - distance.min(axis=1, keepdims=True)
    seen = costs.clothing * contrast + costs.weak_box * (1 - frame.boxes[:, 4:5])
    return np.concatenate([seen, np.full((1, len(dancer_clothing)), costs.unseen)])


def _steps(before: Frame, frame: Frame, costs: Costs) -> npt.NDArray[np.float64]:
    """Return the (M + 1, N + 1) cost of each box of a frame after each box of the frame before, 0 for no box."""
    move = np.zeros((len(before.boxes) + 1, len(frame.boxes) + 1))
    move[:-1, :-1] = costs.jump * (1 - box_iou(before.boxes, frame.boxes)) + costs.track_change * (
        before.ids[:, None] != frame.ids[None]
    )
    return move


def _sum(unary: Floats, states: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    return np.asarray(sum(unary[states[:, k], k] for k in range(states.shape[1])))


def _cheapest(states: npt.NDArray[np.intp], bound: npt.NDArray[np.floating]) -> npt.NDArray[np.intp]:
    """Return at most :data:`MAX_STATES` states, those with the smallest sums of the (N + 1, K) bounds of their boxes."""
    if len(states) <= MAX_STATES:
        return states
    best = np.argsort(_sum(bound, states), kind="stable")[:MAX_STATES]
    return states[np.sort(best)]


def clothing_distance(clothing: Floats, dancer_clothing: Floats) -> Floats:
    """Return the (N, K) total variation distance of histograms, 0 (equal) to 1 (no overlap)."""
    return 0.5 * np.abs(clothing[:, None] - dancer_clothing[None]).sum(-1)


@lru_cache(maxsize=64)
def _states(num_boxes: int, num_dancers: int) -> npt.NDArray[np.intp]:
    """Return the (S, K) assignments that give each dancer a different box or none (-1)."""
    found = {(-1,) * num_dancers}
    for present in product((False, True), repeat=num_dancers):
        dancers = [k for k in range(num_dancers) if present[k]]
        for chosen in permutations(range(num_boxes), len(dancers)):
            state = [-1] * num_dancers
            for dancer, box in zip(dancers, chosen, strict=True):
                state[dancer] = box
            found.add(tuple(state))
    return np.asarray(sorted(found), dtype=np.intp)
