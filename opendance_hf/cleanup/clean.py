"""Clean the motion of one or more dancers: steady joints, feet that stand, nothing in the floor or inside of a body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from opendance_hf.cleanup.bodies import Body, blend
from opendance_hf.cleanup.collisions import depth_in_own_body, push_apart
from opendance_hf.cleanup.feet import FEET, envelope, foot_contacts, plant_feet
from opendance_hf.cleanup.settings import CleanSettings
from opendance_hf.cleanup.steady import noise_level, steady_body, steady_joints
from opendance_hf.errors import OpenDanceError
from opendance_hf.metrics.duet import interpenetration
from opendance_hf.metrics.quality import floor_height, skating_steps
from opendance_hf.motion.skeleton import NUM_JOINTS

Array = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
#: Poses whose joints are further than this from the given ones, on average, are not of this motion, metres.
_SAME_M: Final = 0.001
_MIN_FRAMES: Final = 4
_RESTORE_ROUNDS: Final = 4
#: Steps, in order.
STEPS: Final = ("steady", "feet", "apart")
#: Measures that no step may make worse beyond the limits of the settings, with their scale to the units of
#: :class:`Quality`: the columns of ``_by_frame``.
_GUARDED: Final = {
    "skate": 1.0,
    "below_floor_mm": 1000.0,
    "self_mm": 1000.0,
    "partner_mm": 1000.0,
    "jitter": 1.0,
}
_JITTER: Final = list(_GUARDED).index("jitter")
_DEPTHS: Final = [k for k, name in enumerate(_GUARDED) if name.endswith("_mm")]
#: Differences up to this are rounding, in the units of :class:`Quality`.
_ROUNDING: Final = 1e-4
#: Mean length of a normal vector in three dimensions, relative to its standard deviation per coordinate.
_MEAN_NOISE: Final = 1.6


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
        floor: height of the ground that was given or estimated, metres.
        before: measures of the input.
        after: measures of the result.
        moved_mm: mean distance of the joints from the input, millimetres.
        max_moved_mm: largest distance of a joint from the input, millimetres.
        steps: for each dancer, the steps that were applied.
        left_out: reasons for which steps were left out, as text.
    """

    joints: Array
    poses: Array
    transl: Array
    rest_offsets: Array
    floor: float
    before: Quality
    after: Quality
    moved_mm: float
    max_moved_mm: float
    steps: tuple[tuple[str, ...], ...]
    left_out: tuple[str, ...]


def clean_motion(
    joints: Array,
    fps: float = 60.0,
    *,
    poses: Array | None = None,
    transl: Array | None = None,
    rest_offsets: Array | None = None,
    floor: float | None = None,
    seen: Bools | None = None,
    settings: CleanSettings | None = None,
) -> CleanedMotion:
    """Clean motion of one or more dancers.

    Jitter and spikes are removed with a filter that follows the measured noise, feet are held where they stand, and
    limbs are taken out of bodies, partners and the floor. Twist about bones comes from ``poses``. A step is left out, with
    those after it, for a dancer whose skating, depth in the floor or in bodies, or jitter above
    ``settings.natural_jitter`` it would make worse, or whom it would move too far.

    Args:
        joints: (D, T, 24, 3) metres, y up, at least four frames.
        fps: frames per second.
        poses: (D, T, 24, 3) axis-angle of the same motion. Without them, or if the joints are not theirs (bones of
            generated joints stretch), bodies of constant bone lengths are fitted to the joints.
        transl: (D, T, 3) of the poses.
        rest_offsets: (D, 24, 3) of the poses.
        floor: height of the ground, metres; None for the lowest :func:`~opendance_hf.metrics.quality.floor_height` of the
            dancers.
        seen: (D, T, 4) which joints of :data:`~opendance_hf.cleanup.feet.FEET` are at rest in a video of the dancers. Then
            those that are low are the contacts, and none is guessed from the motion.
        settings: thresholds.

    Raises:
        CleanError: if an array has another shape, there are too few frames, or values are not finite.
    """
    s = settings or CleanSettings()
    joints = _checked(joints, fps, floor, poses=poses, transl=transl, rest_offsets=rest_offsets, seen=seen)
    ground = min(floor_height(one) for one in joints) if floor is None else floor
    up = np.array([0.0, ground, 0.0])
    joints = joints - up
    given = _given_bodies(joints, poses, transl, rest_offsets, up)
    if given is None:
        steadied = [Body.of_joints(steady_joints(one, fps, s.steady)) for one in joints]
        unchanged = [Body.of_joints(one) for one in joints]
    else:
        steadied, unchanged = [steady_body(body, fps, s.steady) for body in given], given
    shown = [None] * len(joints) if seen is None else list(seen)
    contacts = [
        foot_contacts(body.joints, fps, s.feet, one) for body, one in zip(steadied, shown, strict=True)
    ]

    def planted(bodies: Sequence[Body]) -> list[Body]:
        return [plant_feet(body, where, fps, s.feet) for body, where in zip(bodies, contacts, strict=True)]

    standing = planted(steadied)
    apart = planted(push_apart(standing, fps, s.push))
    bodies, levels, left_out = _choose([unchanged, steadied, standing, apart], joints, fps, s)
    found = np.stack([body.joints for body in bodies])
    for dancer, level in enumerate(levels):
        if level == 0:  # not its fit
            found[dancer] = joints[dancer]
    moved_mm = 1000 * np.linalg.norm(found - joints, axis=-1)
    return CleanedMotion(
        joints=found + up,
        poses=np.stack([body.poses for body in bodies]),
        transl=np.stack([body.transl for body in bodies]) + up,
        rest_offsets=np.stack([body.rest_offsets for body in bodies]),
        floor=ground,
        before=measure(joints, contacts, fps, s),
        after=measure(found, contacts, fps, s),
        moved_mm=float(moved_mm.mean()),
        max_moved_mm=float(moved_mm.max()),
        steps=tuple(STEPS[:level] for level in levels),
        left_out=tuple(left_out),
    )


def _checked(joints: Array, fps: float, floor: float | None, **others: Array | Bools | None) -> Array:
    """Return the joints as float64, after a check of all arguments.

    Raises:
        CleanError: naming the argument, what it is and what is expected.
    """
    joints = np.asarray(joints, dtype=np.float64)
    shape = joints.shape
    if joints.ndim != 4 or not shape[0] or shape[1] < _MIN_FRAMES or shape[2:] != (NUM_JOINTS, 3):
        raise CleanError(f"joints must be (dancers, frames, 24, 3) with at least 4 frames, got {shape}")
    expected = {
        "poses": shape,
        "transl": (*shape[:2], 3),
        "rest_offsets": (shape[0], NUM_JOINTS, 3),
        "seen": (*shape[:2], len(FEET)),
    }
    for name, value in others.items():
        if value is not None and np.shape(value) != expected[name]:
            raise CleanError(f"{name} must be {expected[name]}, got {np.shape(value)}")
    numbers = {"joints": joints, "fps": fps, "floor": floor, **others}
    for name, number in numbers.items():
        if number is not None and not np.isfinite(number).all():
            raise CleanError(f"{name} must be finite, got NaN or infinity")
    if fps <= 0:
        raise CleanError(f"fps must be positive, got {fps}")
    return joints


def _choose(
    variants: Sequence[Sequence[Body]], joints: Array, fps: float, s: CleanSettings
) -> tuple[list[Body], list[int], list[str]]:
    """Choose for every dancer the last of its variants that is not worse than the input.

    Args:
        variants: bodies of all dancers without a step, and after each step.
        joints: (D, T, 24, 3) input, metres, with the ground at y = 0.
        fps: frames per second.
        s: limits.

    Returns:
        The bodies, the number of steps of each, and the reasons for fewer.
    """
    dancers = range(len(joints))
    before = _by_frame(joints, fps)
    reach_m = [s.max_mean_move_m + _MEAN_NOISE * noise_level(one) for one in joints]
    levels, reasons = [len(STEPS) for _ in dancers], list[str]()
    while True:
        chosen = [variants[levels[dancer]][dancer] for dancer in dancers]
        bodies = _without_harm(chosen, variants[0], before, fps, _limits(before, s))
        found = np.stack(
            [body.joints if level else one for body, level, one in zip(bodies, levels, joints, strict=True)]
        )
        worse = _worse(_by_frame(found, fps), before, _limits(before, s))
        for dancer in dancers:
            moved_m = float(np.linalg.norm(found[dancer] - joints[dancer], axis=-1).mean())
            if moved_m > reach_m[dancer]:
                worse[dancer].append(f"moves by {moved_m:.3f} m, at most {reach_m[dancer]:.3f} m allowed")
        bad = [dancer for dancer in dancers if worse[dancer]]
        if not bad:
            return bodies, levels, reasons
        # A dancer who has not moved becomes worse only because of the partners.
        lower = [dancer for dancer in bad if levels[dancer]] or [
            dancer for dancer in dancers if levels[dancer]
        ]
        for dancer in lower:
            levels[dancer] -= 1
            why = "; ".join(worse[dancer]) or "a partner would become worse"
            reasons.append(f"dancer {dancer}, {STEPS[levels[dancer]]}: {why}")


def _limits(before: Array, s: CleanSettings) -> Array:
    """Return the (D, 5) largest means that the values by frame may have."""
    limits = before.mean(axis=1)
    limits[:, _DEPTHS] += s.max_depth_growth_m
    frames = before.shape[1]
    natural = s.natural_jitter * (frames - 3) / frames  # the first three frames have no jerk
    limits[:, _JITTER] = np.maximum(limits[:, _JITTER], natural)
    return limits


def _worse(after: Array, before: Array, limits: Array) -> list[list[str]]:
    """Return for every dancer the measures beyond their limits, with their values, from (D, T, 5) values by frame."""
    scale = np.array(list(_GUARDED.values()))
    old, new, limit = before.mean(axis=1) * scale, after.mean(axis=1) * scale, limits * scale
    return [
        [
            f"{name} {old[dancer, k]:.4g} -> {new[dancer, k]:.4g}"
            for k, name in enumerate(_GUARDED)
            if new[dancer, k] > limit[dancer, k] + _ROUNDING
        ]
        for dancer in range(len(old))
    ]


def _without_harm(
    bodies: Sequence[Body], unchanged: Sequence[Body], before: Array, fps: float, limits: Array
) -> list[Body]:
    """Return to the input around the frames that make a measure of a dancer worse, where its mean is beyond its limit."""
    kept, out = np.zeros(before.shape[:2]), list(bodies)
    for _ in range(_RESTORE_ROUNDS):
        after = _by_frame(np.stack([body.joints for body in out]), fps)
        harm = (after > before) & (after.mean(axis=1) > limits)[:, None]
        if not harm.any():
            break
        for dancer, body in enumerate(bodies):
            kept[dancer] = np.maximum(kept[dancer], envelope(harm[dancer].any(axis=1).astype(float), fps))
            out[dancer] = blend(body, unchanged[dancer], kept[dancer])
    return out


def _by_frame(joints: Array, fps: float) -> Array:
    """Return the (D, T, 5) values of :data:`_GUARDED` in every frame, in metres and m/s³."""
    out = np.zeros((*joints.shape[:2], len(_GUARDED)))
    for dancer, one in enumerate(joints):
        out[dancer, 1:, 0] = skating_steps(one, fps=fps, floor=0.0)
        out[dancer, :, 1] = np.maximum(-one[..., 1].min(axis=1), 0)
        out[dancer, :, 2] = depth_in_own_body(one)
        for partner in range(dancer):
            depth = interpenetration(one, joints[partner])
            for both in (dancer, partner):
                out[both, :, 3] = np.maximum(out[both, :, 3], depth)
        out[dancer, 3:, _JITTER] = np.linalg.norm(np.diff(one, n=3, axis=0), axis=-1).mean(axis=-1) * fps**3
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
    frames = _by_frame(joints, fps).mean(axis=(0, 1)) * list(_GUARDED.values())
    guarded = dict(zip(_GUARDED, frames.tolist(), strict=True))
    # Of T frames, one has no step before it and three have no jerk.
    count = joints.shape[1]
    guarded["skate"] *= count / (count - 1)
    guarded["jitter"] *= count / (count - 3)
    return Quality(
        slide_cmps=100 * _mean(np.concatenate(speed)), hover_mm=1000 * _mean(np.concatenate(hover)), **guarded
    )


def _mean(values: Sequence[float] | Array) -> float:
    return float(np.mean(values)) if len(values) else 0.0


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
    same = np.linalg.norm(found - joints, axis=-1).mean() <= _SAME_M
    return bodies if same else None
