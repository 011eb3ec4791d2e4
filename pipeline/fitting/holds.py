"""Find hands of two dancers that hold each other, in the image, so that a fit can keep them together."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.intervals import true_intervals
from opendance_hf.pipeline.clip import Landmarks
from opendance_hf.pipeline.fitting.correspondences import SIDES
from opendance_hf.pipeline.fitting.settings import HoldLimits
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX, REGION_SIDE_M

Array = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

#: Landmarks around the palm of each hand.
_PALMS: Final = [[LANDMARK_INDEX[f"{side}_{name}"] for name in ("wrist", "index", "pinky")] for side in SIDES]
_HANDS: Final = range(len(SIDES))


@dataclass(frozen=True)
class Hold:
    """Two hands of two dancers, 0 left and 1 right, and the (T,) frames in which they hold each other."""

    dancers: tuple[int, int]
    hands: tuple[int, int]
    frames: Bools


def hand_holds(found: Landmarks, hands: Array, limits: HoldLimits) -> list[Hold]:
    """Return the hands that hold each other: near in the image, where it shows both, for long enough, and near in depth.

    A hand holds one other hand at most, the nearest in the image.

    Args:
        found: landmarks of D dancers in T frames.
        hands: (D, T, 2, 3) hands of a fit, metres.
        limits: thresholds.
    """
    palms = found.image[:, :, _PALMS].astype(np.float64).mean(axis=3)
    seen = found.visibility[:, :, _PALMS].min(axis=3) >= limits.min_seen
    frame_s = float(np.median(np.diff(found.times_s)))
    shortest = max(2, round(limits.min_hold_s / frame_s))
    pairs, apart = [], []
    for a, b in combinations(range(len(palms)), 2):
        size_m = REGION_SIDE_M / ((found.regions_px[a] + found.regions_px[b]) / 2)
        for one, other in product(_HANDS, _HANDS):
            distance = np.linalg.norm(palms[a, :, one] - palms[b, :, other], axis=-1) * size_m
            depth = np.linalg.norm(hands[a, :, one] - hands[b, :, other], axis=-1)
            shown = seen[a, :, one] & seen[b, :, other] & (depth < limits.max_distance_m)
            pairs.append(((a, b), (one, other)))
            apart.append(np.where(shown, distance, np.inf))
    out = []
    for number, (dancers, sides) in enumerate(pairs):
        rivals = [
            apart[k]
            for k, (others, hands_of) in enumerate(pairs)
            if k != number and set(zip(dancers, sides, strict=True)) & set(zip(others, hands_of, strict=True))
        ]
        near = (apart[number] < limits.near_m) & (apart[number] <= np.min(rivals, axis=0))
        frames = np.zeros(len(near), dtype=bool)
        for start, end in true_intervals(near):
            frames[start:end] = end - start >= shortest
        if frames.any():
            out.append(Hold(dancers, sides, frames))
    return out
