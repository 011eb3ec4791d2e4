"""Measure whether the joints of a motion are those of a person on a level ground, in metres, at their true rate."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.metrics.quality import GRAVITY, floor_height
from opendance_hf.motion.balance import centre_of_mass
from opendance_hf.motion.contacts import RestLimits, frames_at_rest
from opendance_hf.motion.intervals import true_intervals
from opendance_hf.motion.rotations import unit
from opendance_hf.motion.skeleton import JOINT_INDEX

Array = npt.NDArray[np.floating]

#: Lengths from hip to ankle and from shoulder to wrist of people from 1.2 to 2.2 m, metres.
LEGS_M: Final = (0.5, 1.15)
ARMS_M: Final = (0.3, 0.8)
#: Cosine of the angle between the line from ankles to neck and the vertical that a tenth of the frames must reach.
UPRIGHT: Final = 0.6
#: Largest slope of the ground, degrees; it is measured where feet rest this far apart, metres, in so many places.
MAX_SLOPE_DEG: Final = 6.0
_SPREAD_M: Final = 0.4
_PLACES: Final = 8
#: In a flight all joints are higher than this, metres; jumps of people last so long, seconds.
_AIR_M: Final = 0.15
_FLIGHT_S: Final = (0.15, 0.9)
#: Free fall outside this range is a wrong rate or scale, m/s2.
FALLS: Final = (6.5, 13.5)


@dataclass(frozen=True)
class Person:
    """Measures of one dancer.

    Attributes:
        leg_m, arm_m: lengths from hip to ankle and from shoulder to wrist.
        upright: cosine of the angle between the line from ankles to neck and the vertical, 90th percentile.
        ahead: mean component of the feet's direction towards the front, which is where left is on the left; -1 to 1.
        slope_deg: slope of the ground under the resting feet, None if they rest in too few places.
        falls_mps2: acceleration downwards in each flight.
    """

    leg_m: float
    arm_m: float
    upright: float
    ahead: float
    slope_deg: float | None
    falls_mps2: tuple[float, ...]

    def fault(self) -> str:
        """Return why this is no person, with the remedy; empty if it is one."""
        if not LEGS_M[0] <= self.leg_m <= LEGS_M[1] or not ARMS_M[0] <= self.arm_m <= ARMS_M[1]:
            return (
                f"legs of {self.leg_m:.2f} m and arms of {self.arm_m:.2f} m are no person's ({LEGS_M[0]:g} to {LEGS_M[1]:g} m "
                f"and {ARMS_M[0]:g} to {ARMS_M[1]:g} m): is the unit another one?"
            )
        if self.upright < UPRIGHT:
            return (
                "the body hardly ever stands: from ankles to neck it is "
                f"{math.degrees(math.acos(np.clip(self.upright, -1, 1))):.0f} degrees from the vertical even in its most upright "
                "tenth; does another axis point up? Answer with --up"
            )
        if self.ahead < 0:
            return "the feet point backwards where left is on the left: left and right are exchanged, or it is mirrored"
        if self.slope_deg is not None and self.slope_deg > MAX_SLOPE_DEG:
            return f"the ground under the feet slopes by {self.slope_deg:.1f} degrees, more than {MAX_SLOPE_DEG:g}"
        return ""


def measure_person(joints: Array, fps: float) -> Person:
    """Measure (T, 24, 3) joints of one dancer, y up, at least half a second."""
    joints = np.asarray(joints, dtype=np.float64)
    points = {name: joints[:, index] for name, index in JOINT_INDEX.items()}
    body = unit(points["neck"] - (points["left_ankle"] + points["right_ankle"]) / 2)
    across = points["left_hip"] - points["right_hip"]
    front = unit(np.cross(across, [0.0, 1.0, 0.0]))
    feet = sum(unit(points[f"{side}_foot"] - points[f"{side}_ankle"]) for side in ("left", "right")) / 2
    return Person(
        leg_m=_limb(points, ("hip", "knee", "ankle")),
        arm_m=_limb(points, ("shoulder", "elbow", "wrist")),
        upright=float(np.percentile(body[:, 1], 90)),
        ahead=float((feet * front).sum(-1).mean()),
        slope_deg=_slope(points, fps),
        falls_mps2=_falls(points, joints, fps),
    )


def _limb(points: dict[str, Array], parts: tuple[str, ...]) -> float:
    lengths = [
        np.median(np.linalg.norm(points[f"{side}_{a}"] - points[f"{side}_{b}"], axis=-1))
        for side in ("left", "right")
        for a, b in itertools.pairwise(parts)
    ]
    return float(sum(lengths) / 2)


def _slope(points: dict[str, Array], fps: float) -> float | None:
    """Return the slope of the plane through the places where toes rest, degrees; None if there are too few."""
    limits, places = RestLimits(), []
    for side in ("left", "right"):
        toes = points[f"{side}_foot"]
        speed = np.linalg.norm(np.gradient(toes, axis=0), axis=-1) * fps
        rests = true_intervals(frames_at_rest(speed, 1 / fps, limits))
        places += [np.median(toes[start:end], axis=0) for start, end in rests]
    if len(places) < _PLACES:
        return None
    x, y, z = np.array(places).T
    low = y < np.median(y) + 0.1  # a foot that rests on the other leg is not on the ground
    flat = np.stack([x[low] - x[low].mean(), z[low] - z[low].mean()])
    if low.sum() < _PLACES or np.sqrt(np.linalg.eigvalsh(np.cov(flat))[0]) < _SPREAD_M:
        return None
    steep, *_ = np.linalg.lstsq(flat.T, y[low] - y[low].mean(), rcond=None)
    return math.degrees(math.atan(float(np.linalg.norm(steep))))


def _falls(points: dict[str, Array], joints: Array, fps: float) -> tuple[float, ...]:
    """Return the acceleration of the centre of mass in each flight, m/s2 downwards."""
    above = joints[..., 1].min(axis=1) - floor_height(joints)
    centre, found = centre_of_mass(points)[:, 1], []
    for start, end in true_intervals(above > _AIR_M):
        inside = start > 0 and end < len(joints)
        if inside and end - start >= 5 and _FLIGHT_S[0] <= (end - start) / fps <= _FLIGHT_S[1]:
            curve = np.polyfit(np.arange(end - start) / fps, centre[start:end], 2)
            found.append(float(-2 * curve[0]))
    return tuple(found)


def fall_doubt(falls_mps2: tuple[float, ...]) -> str:
    """Return a warning if people who jump do not fall as on earth, empty otherwise or if nobody jumps."""
    if not falls_mps2 or FALLS[0] <= (middle := float(np.median(falls_mps2))) <= FALLS[1]:
        return ""
    return (
        f"in {len(falls_mps2)} jump(s) bodies fall at {middle:.1f} m/s2 instead of {GRAVITY:.1f}: is the rate (--fps) or the "
        "scale another one?"
    )
