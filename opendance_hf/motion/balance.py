"""Find the vertical from bodies in balance: on average, a body's centre of mass is above the feet that carry it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.rotations import unit

Array = npt.NDArray[np.floating]

#: Segments of the body: its ends, its share of the mass, and how far its centre of mass is from the first end (de Leva 1996,
#: means of women and men; the trunk is one segment from the hips to the shoulders, the head begins there).
SEGMENTS: Final = [
    ("neck", "head", 0.068, 0.8),
    ("pelvis", "neck", 0.430, 0.5),
    *(
        (f"{side}_{near}", f"{side}_{far}", mass, share)
        for side in ("left", "right")
        for near, far, mass, share in (
            ("shoulder", "elbow", 0.026, 0.57), ("elbow", "wrist", 0.015, 0.46), ("wrist", "hand", 0.006, 0.7),
            ("hip", "knee", 0.145, 0.39), ("knee", "ankle", 0.046, 0.44), ("ankle", "foot", 0.013, 0.5),
        )
    ),
]  # fmt: skip
#: Height, metres, above the lower foot over which the other foot ceases to carry weight.
_CARRIES_M: Final = 0.2
#: Distance between unit vectors below which all frames count alike.
_ALIKE: Final = 0.05
_ROUNDS: Final = 4


def centre_of_mass(points: Mapping[str, Array]) -> Array:
    """Return the (..., 3) centre of mass of a body.

    Args:
        points: (..., 3) position of every joint that :data:`SEGMENTS` names.
    """
    total = sum(mass for *_, mass, _ in SEGMENTS)
    parts = [mass * ((1 - share) * points[a] + share * points[b]) for a, b, mass, share in SEGMENTS]
    return np.asarray(sum(parts) / total)


def vertical(points: Mapping[str, Array]) -> Array:
    """Return the (3,) unit vector that points up, from the postures of upright bodies in all frames.

    It is the geometric median of the directions from the feet that carry the body to its centre of mass. A foot carries
    more, the lower it is along that direction, so both are found in turns. The error is about 3 degrees in 7 seconds of
    dance (docs/pipeline.md); bodies that lie or do handstands have no such vertical.

    Args:
        points: (..., 3) position of every joint that :data:`SEGMENTS` names, in any frame that does not turn.
    """
    centre = centre_of_mass(points).reshape(-1, 3)
    feet = np.stack([(points[f"{side}_ankle"] + points[f"{side}_foot"]) / 2 for side in ("left", "right")])
    feet = feet.reshape(2, -1, 3)
    up = _middle(unit(centre - feet.mean(axis=0)))
    for _ in range(_ROUNDS):
        height = feet @ up
        carries = np.exp(-(((height - height.min(axis=0)) / _CARRIES_M) ** 2) / 2)[..., None]
        up = _middle(unit(centre - (carries * feet).sum(axis=0) / carries.sum(axis=0)))
    return up


def _middle(directions: Array) -> Array:
    """Return the geometric median of (N, 3) unit vectors, by Weiszfeld's iteration."""
    middle = unit(np.median(directions, axis=0))
    for _ in range(10):
        weight = 1 / np.maximum(np.linalg.norm(directions - middle, axis=1, keepdims=True), _ALIKE)
        middle = unit((weight * directions).sum(axis=0))
    return np.asarray(middle)
