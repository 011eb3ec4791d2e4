"""Clean the motion of one or more dancers: steady joints, feet that stand, nothing in the floor or inside of a body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from opendance_hf.cleanup.bodies import Body, blend
from opendance_hf.cleanup.collisions import overlap_depth, push_apart
from opendance_hf.cleanup.feet import FEET, envelope, foot_contacts, plant_feet
from opendance_hf.cleanup.settings import CleanSettings
from opendance_hf.cleanup.steady import steady_body, steady_joints
from opendance_hf.errors import OpenDanceError
from opendance_hf.metrics.quality import (
    floor_height,
    foot_skate_ratio,
    ground_penetration,
    jitter,
    skating_steps,
)
from opendance_hf.motion.skeleton import NUM_JOINTS

Array = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
#: Poses whose joints are further than this from the given ones, on average, are not of this motion, metres.
_SAME_M = 0.001
_MIN_FRAMES = 4
_RESTORE_ROUNDS = 4
#: Differences up to this are rounding, in the units of :class:`Quality`.
_ROUNDING = 1e-4
#: Measures that no step may make worse.
_GUARDED = ("skate", "below_floor_mm", "self_mm", "partner_mm", "jitter")
#: Names of the steps, in order.
STEPS = ("steady", "feet", "apart")


class CleanError(OpenDanceError, ValueError):
    """Raised for motion that cannot be cleaned; the message has the cause."""


class Quality(NamedTuple):
    """Measures of a motion; means over dancers and frames. Lower is better.

    Attributes:
        skate: share of steps without a standing foot, :func:`~opendance_hf.metrics.quality.foot_skate_ratio`.
        slide_cmps: speed along the ground of toes and ankles in contact, cm/s.
        hover_mm: height of toes in contact above that of a standing foot, millimetres.
        below_floor_mm: depth of the lowest joint below the ground, millimetres.
        self_mm: depth of the deepest limb inside the own body, millimetres.
        partner_mm: depth of the deepest overlap with a partner, millimetres.
        jitter: mean jerk of the joints, m/s³.
    """

    skate: float
    slide_cmps: float
    hover_mm: float
    below_floor_mm: float
    self_mm: float
    partner_mm: float
    jitter: float


@dataclass(frozen=True)
class CleanedMotion:
    """Cleaned motion of D dancers with constant bone lengths, metres, radians, y up, in the frame of the input.

    Attributes:
        joints: (D, T, 24, 3).
        poses: (D, T, 24, 3) axis-angle.
        transl: (D, T, 3) SMPL's transl.
        rest_offsets: (D, 24, 3).
        before: measures of the input.
        after: measures of the result.
        moved_mm: mean distance of the joints from the input, millimetres.
        steps: steps that were applied: all, or those before one that made a measure worse.
    """

    joints: Array
    poses: Array
    transl: Array
    rest_offsets: Array
    before: Quality
    after: Quality
    moved_mm: float
    steps: tuple[str, ...]


def clean_motion(
    joints: Array,
    fps: float = 60.0,
    *,
    poses: Array | None = None,
    transl: Array | None = None,
    rest_offsets: Array | None = None,
    floor: float | None = None,
    settings: CleanSettings | None = None,
) -> CleanedMotion:
    """Clean motion of one or more dancers.

    Jitter and spikes are removed with a filter that follows the measured noise, feet are held where they stand, and
    limbs are taken out of bodies, partners and the floor. Twist about bones comes from ``poses``. A step that would make
    skating, a depth, or jitter above ``settings.natural_jitter`` worse is left out with those after it.

    Args:
        joints: (D, T, 24, 3) metres, y up, at least four frames.
        fps: frames per second.
        poses: (D, T, 24, 3) axis-angle of the same motion. Without them, or if the joints are not theirs (bones of
            generated joints stretch), bodies of constant bone lengths are fitted to the joints.
        transl: (D, T, 3) of the poses.
        rest_offsets: (D, 24, 3) of the poses.
        floor: height of the ground, metres; None for :func:`~opendance_hf.metrics.quality.floor_height`.
        settings: thresholds.

    Raises:
        CleanError: if the joints have another shape or too few frames, or values are not finite.
    """
    s = settings or CleanSettings()
    joints = np.asarray(joints, dtype=np.float64)
    if joints.ndim != 4 or joints.shape[1] < _MIN_FRAMES or joints.shape[2:] != (NUM_JOINTS, 3):
        raise CleanError(
            f"joints must be (dancers, frames, 24, 3) with at least 4 frames, got {joints.shape}"
        )
    if not (np.isfinite(joints).all() and 0 < fps < np.inf):
        raise CleanError("joints and fps must be finite, and fps positive")
    ground = float(np.median([floor_height(one) for one in joints])) if floor is None else floor
    up = np.array([0.0, ground, 0.0])
    joints = joints - up
    given = _given_bodies(joints, poses, transl, rest_offsets, up)
    if given is None:
        steadied = [Body.of_joints(steady_joints(one, fps, s.steady)) for one in joints]
        unchanged = [Body.of_joints(one) for one in joints]
    else:
        steadied, unchanged = [steady_body(body, fps, s.steady) for body in given], given
    contacts = [foot_contacts(body.joints, fps, s.feet) for body in steadied]

    def planted(bodies: Sequence[Body]) -> list[Body]:
        return [plant_feet(body, where, fps, s.feet) for body, where in zip(bodies, contacts, strict=True)]

    standing = planted(steadied)
    apart = planted(push_apart(standing, fps, s.push))
    before = measure(joints, contacts, fps, s)
    for steps, candidate in ((STEPS, apart), (STEPS[:2], standing), (STEPS[:1], steadied)):
        bodies = _without_harm(candidate, unchanged, joints, fps)
        found = np.stack([body.joints for body in bodies])
        after, moved_m = measure(found, contacts, fps, s), _distance(found, joints)
        if _not_worse(after, before, s.natural_jitter) and moved_m <= s.max_mean_move_m:
            return _result(bodies, up, found, before, after, moved_m, steps)
    return _result(unchanged, up, joints, before, before, 0.0, ())


def _without_harm(
    bodies: Sequence[Body], unchanged: Sequence[Body], joints: Array, fps: float
) -> Sequence[Body]:
    """Return to the input around the frames that make a measure worse, where the whole of the motion is worse in it."""
    before, kept = _by_frame(joints, fps), np.zeros(joints.shape[:2])
    out = list(bodies)
    for _ in range(_RESTORE_ROUNDS):
        after = _by_frame(np.stack([body.joints for body in out]), fps)
        harm = (after > before) & (after.mean(axis=(0, 1)) > before.mean(axis=(0, 1)))
        if not harm.any():
            break
        for dancer, body in enumerate(bodies):
            kept[dancer] = np.maximum(kept[dancer], envelope(harm[dancer].any(axis=1).astype(float), fps))
            out[dancer] = blend(body, unchanged[dancer], kept[dancer])
    return out


def _by_frame(joints: Array, fps: float) -> Array:
    """Return (D, T, 4): skating, depth below the floor, in the own body and in partners of (D, T, 24, 3) joints."""
    out = np.zeros((*joints.shape[:2], 4))
    for dancer, one in enumerate(joints):
        out[dancer, 1:, 0] = skating_steps(one, fps=fps, floor=0.0)
        out[dancer, :, 1] = np.maximum(-one[..., 1].min(axis=1), 0)
        out[dancer, :, 2] = overlap_depth(one)
        for partner, two in enumerate(joints):
            if partner != dancer:
                out[dancer, :, 3] = np.maximum(out[dancer, :, 3], overlap_depth(one, two))
    return out


def measure(joints: Array, contacts: Sequence[Bools], fps: float, settings: CleanSettings) -> Quality:
    """Measure (D, T, 24, 3) joints with the ground at y = 0, given the (T, 4) contacts of each dancer."""
    speed, hover = [], []
    for one, where in zip(joints, contacts, strict=True):
        feet = one[:, FEET]
        steps = np.linalg.norm(np.diff(feet[..., [0, 2]], axis=0), axis=-1) * fps
        speed.append(steps[where[1:] & where[:-1]])
        toes = slice(0, None, 2)
        above = feet[:, toes, 1] - settings.feet.toe_height_m - settings.feet.hover_m
        hover.append(np.maximum(above, 0)[where[:, toes]])
    pairs = [(a, b) for a in range(len(joints)) for b in range(a)]
    return Quality(
        skate=_mean([foot_skate_ratio(one, fps=fps, floor=0.0) for one in joints]),
        slide_cmps=100 * _mean(np.concatenate(speed)),
        hover_mm=1000 * _mean(np.concatenate(hover)),
        below_floor_mm=1000 * _mean([ground_penetration(one, floor=0.0).mean_depth for one in joints]),
        self_mm=1000 * _mean([overlap_depth(one).mean() for one in joints]),
        partner_mm=1000 * _mean([overlap_depth(joints[a], joints[b]).mean() for a, b in pairs]),
        jitter=_mean([jitter(one, fps=fps) for one in joints]),
    )


def _mean(values: Sequence[float] | Array) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def _not_worse(after: Quality, before: Quality, natural_jitter: float) -> bool:
    """Return False if skating, jitter above that of captured dancers, or a depth has grown."""
    limits = before._replace(jitter=max(before.jitter, natural_jitter))
    return all(getattr(after, name) <= getattr(limits, name) + _ROUNDING for name in _GUARDED)


def _distance(found: Array, joints: Array) -> float:
    return float(np.linalg.norm(found - joints, axis=-1).mean())


def _given_bodies(
    joints: Array, poses: Array | None, transl: Array | None, rest_offsets: Array | None, up: Array
) -> list[Body] | None:
    """Return the bodies of poses, with the ground at y = 0; None without poses, or if they are not those of the joints."""
    if poses is None or transl is None or rest_offsets is None:
        return None
    bodies = [
        Body.of_poses(*one)
        for one in zip(poses, np.asarray(transl, np.float64) - up, rest_offsets, strict=True)
    ]
    found = np.stack([body.joints for body in bodies])
    return bodies if _distance(found, joints) <= _SAME_M else None


def _result(
    bodies: Sequence[Body],
    up: Array,
    joints: Array,
    before: Quality,
    after: Quality,
    moved_m: float,
    steps: tuple[str, ...],
) -> CleanedMotion:
    return CleanedMotion(
        joints=joints + up,
        poses=np.stack([body.poses for body in bodies]),
        transl=np.stack([body.transl for body in bodies]) + up,
        rest_offsets=np.stack([body.rest_offsets for body in bodies]),
        before=before,
        after=after,
        moved_mm=1000 * moved_m,
        steps=steps,
    )
