"""Find frames in which an estimator exchanged the left and right limbs of a body, and undo it.

The image landmarks of both sides then jump to each other's tracks, and back after a few frames. In a turn, the sides also
change places in the picture, but along continuous tracks, so positions are compared with those that the speed of the
frames before predicts.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.intervals import true_intervals
from opendance_hf.pipeline.clip import Landmarks
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX, REGION_SIDE_M

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Landmarks that are exchanged together, without their side.
PARTS: Final[dict[str, tuple[str, ...]]] = {
    "arms": ("shoulder", "elbow", "wrist", "pinky", "index", "thumb"),
    "legs": ("hip", "knee", "ankle", "heel", "foot_index"),
}
#: Those of them whose tracks are compared.
_COMPARED: Final[dict[str, tuple[str, ...]]] = {
    "arms": ("shoulder", "elbow", "wrist"),
    "legs": ("hip", "knee", "ankle"),
}
#: Limit of the deviation of one landmark in one frame, metres: more is an outlier.
_MAX_DEVIATION_M: Final = 1.0


def find_exchanges(found: Landmarks, max_duration_s: float, min_gain_m: float, max_share: float) -> Mask:
    """Return (D, T, 2) true where the left and right landmarks of each of :data:`PARTS` are exchanged.

    Args:
        found: landmarks of the frames that the estimator processed, not interpolated.
        max_duration_s: longer runs are not exchanges.
        min_gain_m: minimum decrease of the deviation from smooth tracks by undoing a run, summed over the landmarks of both
            sides and the frames around its two ends, metres.
        max_share: maximum of that deviation after undoing a run, as a share of the deviation before.
    """
    out = np.zeros((*found.image.shape[:2], len(PARTS)), dtype=bool)
    # The whole body first, since the evidence of all its landmarks is the clearest; then what is left in a part.
    for dancer, parts in product(range(len(out)), ([0, 1], [0], [1])):
        names = [list(_COMPARED.values())[part] for part in parts]
        sides = [[row for part in names for row in _rows(part, side)] for side in ("left", "right")]
        scale = REGION_SIDE_M / np.median(found.regions_px[dancer])
        path = found.image[dancer][:, sides].astype(np.float64) * scale
        path = _undone(path, out[dancer][:, parts].all(axis=-1))
        for start, end in true_intervals(found.visibility[dancer].max(axis=-1) > 0):
            track, times_s = path[start:end], found.times_s[start:end]
            for run in true_intervals(_smoothest(track, times_s, min_gain_m / 2)):
                if _is_clear(track, times_s, run, max_duration_s, min_gain_m, max_share):
                    out[dancer, start + run[0] : start + run[1], parts] ^= True
    return out


def _is_clear(
    track: Array,
    times_s: Array,
    run: tuple[int, int],
    max_duration_s: float,
    min_gain_m: float,
    max_share: float,
) -> bool:
    """Return whether the two sides of a (T, 2, J, 2) track are clearly exchanged in a run of frames, see above."""
    first, last = run
    if first < 2 or last > len(track) - 2 or times_s[last] - times_s[first] > max_duration_s:
        return False
    exchanged = np.zeros(len(track), dtype=bool)
    exchanged[first:last] = True
    around = slice(first - 2, last + 2)
    before = _deviation(track, times_s)[around].sum(axis=0)
    after = _deviation(_undone(track, exchanged), times_s)[around].sum(axis=0)
    improved = all(part.sum() > 0 for part in np.split(before - after, len(before) // 3))
    return improved and before.sum() - after.sum() >= min_gain_m and after.sum() <= max_share * before.sum()


def undo_exchanges(found: Landmarks, exchanged: Mask) -> Landmarks:
    """Exchange the left and right landmarks back in the marked frames, also in metres.

    An exchange of all sides is the other reading of the same picture, with the depth mirrored: in metres, the depth of a run
    is kept or mirrored, whichever is nearer to the frames around it.

    Args:
        found: landmarks of D dancers in T frames.
        exchanged: (D, T, 2) from :func:`find_exchanges`.
    """
    image, world, visibility = found.image.copy(), found.world.copy(), found.visibility.copy()
    for dancer, part in zip(*np.nonzero(exchanged.any(axis=1)), strict=True):
        names = list(PARTS.values())[part]
        rows = [*_rows(names, "left"), *_rows(names, "right")]
        others = [*_rows(names, "right"), *_rows(names, "left")]
        for start, end in true_intervals(exchanged[dancer, :, part]):
            for values in (image[dancer], world[dancer], visibility[dancer]):
                values[start:end, rows] = values[start:end, others]
            run = world[dancer][start:end, rows]
            around = world[dancer][[start - 1, end]][:, rows]
            mirrored = run * (1.0, 1.0, -1.0)
            if np.abs(mirrored[[0, -1]] - around).sum() < np.abs(run[[0, -1]] - around).sum():
                world[dancer][start:end, rows] = mirrored
    return replace(found, image=image, world=world, visibility=visibility)


def _rows(names: tuple[str, ...], side: str) -> list[int]:
    return [LANDMARK_INDEX[f"{side}_{name}"] for name in names]


def _undone(path: Array, exchanged: Mask) -> Array:
    """Exchange the two sides of a (T, 2, J, 2) path in the marked frames."""
    return np.where(exchanged[:, None, None, None], path[:, ::-1], path)


def _deviation(path: Array, times_s: Array) -> Array:
    """Return the (T, J) distances of a (T, 2, J, 2) path from what its speed predicts, of both sides; 0 in the first two."""
    step = np.diff(times_s)
    out = np.zeros((len(path), path.shape[2]))
    if len(path) > 2:
        predicted = path[1:-1] + (path[1:-1] - path[:-2]) * (step[1:] / step[:-1])[:, None, None, None]
        away = np.linalg.norm(path[2:] - predicted, axis=-1)
        out[2:] = np.minimum(away, _MAX_DEVIATION_M).sum(axis=1)
    return out


def _smoothest(path: Array, times_s: Array, switch_cost_m: float) -> Mask:
    """Return the (T,) labelling, as found (False) or exchanged, with the least deviation (Viterbi over pairs of frames)."""
    frames = len(path)
    if frames < 5:
        return np.zeros(frames, dtype=bool)
    both = np.stack([path, path[:, ::-1]], axis=1)  # (T, state, side, J, 2)
    step = np.diff(times_s)
    # cost[a, b]: of the best labelling whose last two frames have the labels a and b.
    cost = np.array([[0.0, switch_cost_m], [np.inf, np.inf]])
    chosen = np.zeros((frames, 2, 2), dtype=np.int64)
    switch = switch_cost_m * (1 - np.eye(2))
    for t in range(2, frames):
        speed = both[t - 1][None] - both[t - 2][:, None]
        predicted = both[t - 1][None] + speed * (step[t - 1] / step[t - 2])
        away = np.linalg.norm(both[t][None, None] - predicted[:, :, None], axis=-1)
        deviation = np.minimum(away, _MAX_DEVIATION_M).sum(axis=(-1, -2))  # (before, last, now)
        total = cost[:, :, None] + deviation + switch[None]
        chosen[t] = total.argmin(axis=0)
        cost = total.min(axis=0)
    states = np.zeros(frames, dtype=np.int64)
    # The last frame is as found.
    states[-2] = int(cost[:, 0].argmin())
    for t in range(frames - 1, 1, -1):
        states[t - 2] = chosen[t, states[t - 1], states[t]]
    return states.astype(bool)
