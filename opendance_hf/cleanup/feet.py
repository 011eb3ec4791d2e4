"""Find when feet stand on the ground, and hold them there."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter1d, uniform_filter1d

from opendance_hf.cleanup.bodies import Body
from opendance_hf.cleanup.settings import FeetLimits
from opendance_hf.motion.contacts import contact_shifts, frames_at_rest, turn_leg
from opendance_hf.motion.intervals import true_intervals
from opendance_hf.motion.skeleton import JOINT_INDEX

Array = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

SIDES: Final = ("left", "right")
#: Joints whose contacts are found: toe and ankle of the left foot, then of the right.
FEET: Final = tuple(JOINT_INDEX[f"{side}_{part}"] for side in SIDES for part in ("foot", "ankle"))
#: Largest depth of toe and ankle joints below their height at rest, as a fraction of it: feet roll and tilt.
_LOWEST: Final = np.array([0.6, 0.5])
_ENVELOPE_S: Final = 0.1
#: Share of the reach of a leg up to which a body is moved, so that rounding keeps the foot within reach.
_NEAR: Final = 0.9999
#: Distance to a foot, metres, below which a leg reaches it, and how often both legs may move a body to get there.
_REACHED_M: Final = 1e-5
_MAX_ROUNDS: Final = 30


def foot_contacts(joints: Array, fps: float, limits: FeetLimits, seen: Bools | None = None) -> Bools:
    """Find which joints of the feet stand on the ground.

    A joint stands where it is low and slow. While the dancer is on the ground but nothing stands, the toe that is
    slowest stands as long as it moves less than ``max_support_m``: one foot carries the body.

    Args:
        joints: (T, 24, 3) metres, with the ground at y = 0.
        fps: frames per second.
        limits: thresholds.
        seen: (T, 4) joints at rest in the image, which shows rest better than estimated depths do: those that are low stand.

    Returns:
        (T, 4) mask of :data:`FEET`.
    """
    feet = joints[:, FEET]
    speed = np.linalg.norm(np.gradient(feet, 1 / fps, axis=0), axis=-1)
    low = feet[..., 1] < np.array(
        [limits.toe_height_m + limits.tolerance_m, limits.ankle_height_m + limits.ankle_range_m] * 2
    )
    low[:, 1::2] |= low[:, ::2]  # on tiptoe the ankle is high, and stands with the toes
    if seen is not None:
        return np.asarray(seen & low)
    shortest = max(2, round(limits.min_rest_s * fps))
    out = np.zeros(low.shape, dtype=bool)
    for k in range(len(FEET)):
        rest = frames_at_rest(speed[:, k], 1 / fps, limits) & low[:, k]
        for start, end in _short_glides(feet[:, k], rest, limits.max_glide_m):
            out[start:end, k] = end - start >= shortest
    toes = slice(0, None, 2)
    hovers = (feet[:, toes, 1] < limits.max_support_height_m) & (speed[:, toes] < limits.leave_mps)
    slowest = np.where(low[:, toes] | hovers, speed[:, toes], np.inf)
    for span in true_intervals(np.asarray(np.isfinite(slowest).any(axis=1) & ~out.any(axis=1))):
        _add_supports(out[:, toes], feet[:, toes], slowest, span, shortest, limits.max_support_m)
    return out


def _short_glides(path: Array, contact: Bools, max_glide_m: float) -> list[tuple[int, int]]:
    """Return intervals of contacts, cut at the fastest moments until the (T, 3) path stays near its median in each."""
    todo, out = true_intervals(contact), []
    while todo:
        start, end = todo.pop()
        away = np.linalg.norm((path[start:end] - np.median(path[start:end], axis=0))[:, [0, 2]], axis=-1)
        if end - start < 4 or away.max() <= max_glide_m:
            out.append((start, end))
        else:
            steps = np.linalg.norm(np.diff(path[start:end], axis=0), axis=-1)
            cut = start + 1 + int(np.argmax(steps[1:-1]))
            todo += [(start, cut), (cut + 1, end)]
    return out


def _add_supports(
    out: Bools, toes: Array, speed: Array, span: tuple[int, int], shortest: int, max_support_m: float
) -> None:
    """Add contacts of (T, 2, 3) toes to ``out`` (T, 2) within a span, from the slowest moments on.

    ``speed`` (T, 2) is infinite where a toe carries nobody.
    """
    todo = [span]
    while todo:
        start, end = todo.pop()
        if end - start < shortest:
            continue
        frame, toe = np.unravel_index(int(np.argmin(speed[start:end])), (end - start, 2))
        if not np.isfinite(speed[start + frame, toe]):
            continue
        away = np.linalg.norm((toes[start:end, toe] - toes[start + frame, toe])[:, [0, 2]], axis=-1)
        near = (away < max_support_m) & np.isfinite(speed[start:end, toe])
        first, last = next(run for run in true_intervals(near) if run[0] <= frame < run[1])
        begin, stop = start + int(first), start + int(last)
        # A frame stays free between this contact and a neighbour of the same toe, which is at another place.
        begin += begin > 0 and bool(out[begin - 1, toe])
        stop -= stop < len(out) and bool(out[stop, toe])
        out[begin:stop, toe] = True
        todo += [(start, start + first), (start + last, end)]


def plant_feet(
    body: Body, contacts: Bools, fps: float, limits: FeetLimits, *, move_body: bool = False
) -> Body:
    """Hold the joints of feet in contact at one place and at their height at rest, and no foot below the ground.

    The legs take the corrections, which fade in before a contact and out after it.

    Args:
        body: with the ground at y = 0.
        contacts: (T, 4), see :func:`foot_contacts`.
        fps: frames per second.
        limits: thresholds.
        move_body: True to move the whole body towards a foot in contact that the leg cannot reach; otherwise that foot slides.
    """
    out = body.copy()
    posed = body.posed()
    feet = posed[0][:, FEET]
    heights = np.array([limits.toe_height_m, _ankle_height(feet, contacts, limits)])
    blend = max(1, round(limits.blend_s * fps))
    shifts = []
    for foot in range(len(SIDES)):
        standing = (heights[0], heights[0] + limits.hover_m)
        toe, on_toe = contact_shifts(feet[:, 2 * foot], contacts[:, 2 * foot], blend, standing)
        # Downwards it fades twice as fast, so that a foot which has left is not drawn over the ground.
        toe[:, 1] *= np.where(toe[:, 1] < 0, on_toe[:, 0], 1)
        # The ankle follows the toe up and down, and along the ground while it has no contact of its own.
        path = feet[:, 2 * foot + 1].copy()
        path[:, 1] += toe[:, 1]
        tiptoe = (heights[1], np.inf)
        ankle, on_ankle = contact_shifts(path, contacts[:, 2 * foot + 1], blend, tiptoe)
        ankle[:, 1] += toe[:, 1]
        ankle[:, [0, 2]] += (1 - on_ankle) * toe[:, [0, 2]]
        toe = toe + (1 - on_toe) * ankle
        moved = feet[:, 2 * foot : 2 * foot + 2, 1] + np.stack([toe[:, 1], ankle[:, 1]], axis=1)
        lift = envelope(np.maximum(_LOWEST * heights - moved, 0).max(axis=1), fps)
        ankle[:, 1] += lift
        toe[:, 1] += lift
        toe += _slide_to_length(
            feet[:, 2 * foot] + toe, feet[:, 2 * foot + 1] + ankle, body.rest_offsets[FEET[2 * foot]]
        )
        shifts.append((ankle, toe))
    shift = np.zeros_like(out.pelvis)
    if move_body:
        ankles = [ankle for ankle, _ in shifts]
        shift = _towards_feet(posed[0], ankles, contacts[:, 1::2], body.rest_offsets, fps, limits)
    out.pelvis += shift
    for side, (ankle, toe) in zip(SIDES, shifts, strict=True):
        turn_leg(out.local, posed, side, shift, ankle, toe, limits)
    return out


def _towards_feet(
    joints: Array,
    shifts: list[Array],
    contacts: Bools,
    rest_offsets: Array,
    fps: float,
    limits: FeetLimits,
) -> Array:
    """Return the (T, 3) shift of a body with which its legs reach the ankles in contact, with fades.

    Each leg in turn moves the body by what it still lacks, until both reach: a leg that is within reach after the shift
    for the other one moves nothing.
    """
    out = np.zeros_like(shifts[0])
    for _ in range(_MAX_ROUNDS):
        largest = 0.0
        for side, shift, contact in zip(SIDES, shifts, contacts.T, strict=True):
            hip, knee, ankle = (JOINT_INDEX[f"{side}_{part}"] for part in ("hip", "knee", "ankle"))
            length = np.linalg.norm(rest_offsets[[knee, ankle]], axis=-1).sum()
            away = joints[:, ankle] + shift - joints[:, hip] - out
            distance = np.linalg.norm(away, axis=-1)
            missing = np.where(contact, np.maximum(distance - _NEAR * limits.max_reach * length, 0), 0)
            out += (envelope(missing, fps) / np.maximum(distance, 1e-9))[:, None] * away
            largest = max(largest, float(missing.max(initial=0.0)))
        if largest < _REACHED_M:
            break
    return out


def _slide_to_length(toe: Array, ankle: Array, offset: Array) -> Array:
    """Return the (T, 3) shifts along the ground that take toes to the foot's length from ankles, at their height."""
    along = toe - ankle
    rise = np.clip(along[:, 1], -np.linalg.norm(offset), np.linalg.norm(offset))
    flat = along[:, [0, 2]]
    reach = np.sqrt(np.maximum(np.square(offset).sum() - rise**2, 0)) / np.maximum(
        np.linalg.norm(flat, axis=-1), 1e-9
    )
    out = np.zeros_like(toe)
    out[:, [0, 2]] = flat * (reach - 1)[:, None]
    return out


def _ankle_height(feet: Array, contacts: Bools, limits: FeetLimits) -> float:
    """Return the median height of a dancer's ankles over flat feet, near ``limits.ankle_height_m``."""
    flat = [feet[contacts[:, k] & contacts[:, k + 1], k + 1, 1] for k in (0, 2)]
    found = np.concatenate(flat)
    if not len(found):
        return limits.ankle_height_m
    low, high = limits.ankle_height_m - limits.ankle_range_m, limits.ankle_height_m + limits.ankle_range_m
    return float(np.clip(np.median(found), low, high))


def envelope(values: Array, fps: float) -> Array:
    """Return a smooth (T,) curve that is nowhere below (T,) values."""
    size = 2 * max(1, round(_ENVELOPE_S * fps / 2)) + 1
    top = maximum_filter1d(values, size, mode="nearest")
    return np.asarray(uniform_filter1d(top, size, mode="nearest"))
