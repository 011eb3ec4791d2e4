"""Check by measurement that a motion is that of people: lengths, axes, sides, ground and gravity."""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.errors import OpenDanceError
from opendance_hf.formats.motion import Motion
from opendance_hf.motion.balance import centre_of_mass
from opendance_hf.motion.intervals import true_intervals
from opendance_hf.motion.rotations import unit
from opendance_hf.motion.skeleton import JOINT_INDEX, JOINT_NAMES

Array = npt.NDArray[np.floating]

#: A toe joint lies this far above the ground when it stands, m.
_TOE_M: Final = 0.025
#: Share of the frames in which the lowest toe of all dancers stands on the ground or is below it.
_STANDING_SHARE: Final = 0.1
#: Lengths of people from hip to ankle and from shoulder to wrist, m.
_LEGS_M: Final = (0.5, 1.15)
_ARMS_M: Final = (0.3, 0.85)
#: Largest slope of the ground under standing feet that is not said, degrees, and the extent needed to measure it, m.
_MAX_SLOPE_DEG: Final = 4.0
_MIN_EXTENT_M: Final = 0.5
#: Feet higher than this above the ground for this long are in flight; gravity is measured there, m/s².
_FLIGHT_M, _FLIGHT_S = 0.12, 0.15
_GRAVITY: Final = (6.0, 14.0)


class ImplausibleError(OpenDanceError, ValueError):
    """Raised for a motion that is not a person's; the message has what was measured and what was expected."""


def ground_height(joints: Array) -> float:
    """Return the height of the ground under (D, T, 24, 3) joints, metres: that on which the lowest toes stand."""
    return float(np.quantile(_lowest_toes(joints).min(axis=0), _STANDING_SHARE)) - _TOE_M


def check(motion: Motion) -> list[str]:
    """Measure a motion whose ground is at zero; return what should be known of it.

    Raises:
        ImplausibleError: if limbs have not the length of a person's, heads are below feet, or left and right are exchanged.
    """
    joints = motion.joints
    _check_lengths(joints)
    head, feet = _at(joints, "head")[..., 1], _lowest_toes(joints)
    if float(np.median(head - feet)) < 0.3:
        raise ImplausibleError(
            f"heads are {np.median(head - feet):.2f} m above the feet in half of the frames: the axis that points up is another"
        )
    _check_sides(joints)
    return [note for note in (_slope(joints, motion.fps), _gravity(joints, motion.fps)) if note]


def _at(joints: Array, name: str) -> Array:
    return joints[..., JOINT_INDEX[name], :]


def _lowest_toes(joints: Array) -> Array:
    """Return the (D, T) height of the lower toe."""
    return np.minimum(_at(joints, "left_foot")[..., 1], _at(joints, "right_foot")[..., 1])


def _check_lengths(joints: Array) -> None:
    for limb, ends, (low, high) in (
        ("leg", ("hip", "knee", "ankle"), _LEGS_M), ("arm", ("shoulder", "elbow", "wrist"), _ARMS_M),
    ):  # fmt: skip
        for side in ("left", "right"):
            chain = [_at(joints, f"{side}_{name}") for name in ends]
            bones = [np.linalg.norm(b - a, axis=-1) for a, b in itertools.pairwise(chain)]
            for length in np.median(sum(bones), axis=1):
                if not low <= length <= high:
                    raise ImplausibleError(
                        f"a {side} {limb} is {length:.2f} m long, expected {low:g} to {high:g} m: the unit or the names of the "
                        "joints are wrong"
                    )


def _check_sides(joints: Array) -> None:
    across = _at(joints, "left_hip") - _at(joints, "right_hip")
    ahead = unit(np.cross(across, [0.0, 1.0, 0.0]))
    toes = [
        ((_at(joints, f"{s}_foot") - _at(joints, f"{s}_ankle")) * ahead).sum(-1) for s in ("left", "right")
    ]
    if float(np.median(toes)) < 0:
        raise ImplausibleError(
            "feet point backwards: left and right are exchanged, or the motion is mirrored"
        )


def _slope(joints: Array, fps: float) -> str:
    """Return a remark if standing feet are on a slope."""
    places = np.concatenate([_at(joints, "left_foot"), _at(joints, "right_foot")])
    speed = np.linalg.norm(np.diff(places, axis=1), axis=-1) * fps
    low = places[:, 1:, 1] < np.quantile(places[..., 1], 0.5)
    standing = places[:, 1:][(speed < 0.2) & low]
    if len(standing) < fps or min(np.ptp(standing[:, [0, 2]], axis=0)) < _MIN_EXTENT_M:
        return ""
    plane = np.linalg.lstsq(
        np.column_stack([standing[:, [0, 2]], np.ones(len(standing))]), standing[:, 1], rcond=None
    )[0]
    slope = float(np.degrees(np.arctan(np.hypot(plane[0], plane[1]))))
    return f"standing feet are on a slope of {slope:.1f} degrees" if slope > _MAX_SLOPE_DEG else ""


def _gravity(joints: Array, fps: float) -> str:
    """Return a remark if bodies in flight do not fall as they do on earth: the unit or the rate is wrong."""
    found = []
    for dancer in joints:
        centre = centre_of_mass(dict(zip(JOINT_NAMES, np.moveaxis(dancer, 1, 0), strict=True)))[:, 1]
        flying = _lowest_toes(dancer) > _FLIGHT_M
        for first, end in true_intervals(flying):
            if (end - first) / fps >= _FLIGHT_S and end - first >= 5:
                time = np.arange(end - first) / fps
                found.append(-2 * float(np.polyfit(time, centre[first:end], 2)[0]))
    if len(found) < 2 or _GRAVITY[0] <= float(np.median(found)) <= _GRAVITY[1]:
        return ""
    return f"in {len(found)} jumps bodies fall with {np.median(found):.1f} m/s², not about 9.8: the unit or the frame rate may be wrong"
