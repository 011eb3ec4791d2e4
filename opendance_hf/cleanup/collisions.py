"""Take limbs out of bodies, partners out of each other, and everything but the feet out of the floor."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from opendance_hf.cleanup.bodies import LIMBS, Body
from opendance_hf.cleanup.feet import envelope
from opendance_hf.cleanup.settings import PushLimits
from opendance_hf.metrics.duet import CAPSULES, nearest_points
from opendance_hf.motion.ik import turn_limb, turn_tip
from opendance_hf.motion.skeleton import JOINT_INDEX

Array = npt.NDArray[np.floating]
Ints = npt.NDArray[np.intp]

_ENDS: Final = np.array([[JOINT_INDEX[part.joint1], JOINT_INDEX[part.joint2]] for part in CAPSULES])
_RADII: Final = np.array([part.radius for part in CAPSULES])
_NAMES: Final = [f"{part.joint1}-{part.joint2}" for part in CAPSULES]
_ARMS: Final = [i for i, name in enumerate(_NAMES) if "elbow" in name]
_THIGHS: Final = [i for i, name in enumerate(_NAMES) if name.endswith("knee")]
_SHINS: Final = [i for i, name in enumerate(_NAMES) if name.endswith("ankle")]
_TRUNK: Final = [_NAMES.index(name) for name in ("pelvis-neck", "left_hip-right_hip", "neck-head")]
_IS_LIMB: Final = np.isin(np.arange(len(CAPSULES)), [*_ARMS, *_THIGHS, *_SHINS])
_IS_UPPER: Final = np.isin(_ENDS[:, 0], [limb[0] for limb in LIMBS]) & _IS_LIMB
#: Capsules of one body that may overlap by mistake: arms with all but the shoulders, legs with each other from the knees.
SELF_PAIRS: Final = np.array(
    [
        (one, two)
        for one, two in [
            *product(_ARMS, [*_TRUNK, *_THIGHS, *_SHINS]),
            *combinations(_ARMS, 2),
            *product(_SHINS, _THIGHS),
            *combinations(_SHINS, 2),
        ]
        if not set(_ENDS[one]) & set(_ENDS[two])
    ]
)
PARTNER_PAIRS: Final = np.array(list(product(range(len(CAPSULES)), repeat=2)))
#: An upper arm or thigh overlaps its own body near the shoulder or hip: this part of it does not count.
_ROOT_SHARE: Final = 0.3
#: Frames whose overlaps are computed at once, which limits memory.
_BLOCK: Final = 4096
#: Lowest height of joints above the ground, metres: those of the trunk lift the whole body, those of limbs the limb.
_TRUNK_HEIGHTS: Final = {
    "pelvis": 0.08, "left_hip": 0.07, "right_hip": 0.07, "spine1": 0.08, "spine2": 0.08, "spine3": 0.08, "neck": 0.06,
    "head": 0.07, "left_shoulder": 0.05, "right_shoulder": 0.05,
}  # fmt: skip
_MIDDLE_HEIGHT: Final = 0.04
_WRIST_HEIGHT: Final = 0.03
_HAND_HEIGHT: Final = 0.015


class Overlaps(NamedTuple):
    """Overlapping capsules, N of them.

    Attributes:
        frame: (N,) index.
        pair: (N, 2) indices of :data:`~opendance_hf.metrics.duet.CAPSULES`.
        depth: (N,) metres.
        away: (N, 3) unit vector from the axis of the second capsule to that of the first.
        along: (N, 2) positions of the nearest points along the axes, 0 at the first joint and 1 at the second.
    """

    frame: Ints
    pair: Ints
    depth: Array
    away: Array
    along: Array


def find_overlaps(one: Array, two: Array | None = None) -> Overlaps:
    """Find the capsules of a body (T, 24, 3) that overlap a partner's, or those of the body itself by mistake."""
    blocks = [slice(first, first + _BLOCK) for first in range(0, len(one), _BLOCK)]
    parts = [
        _overlaps(one[block], one[block] if two is None else two[block], two is None, block.start)
        for block in blocks
    ]
    columns: list[Any] = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Overlaps(*columns)


def _overlaps(one: Array, two: Array, alone: bool, first_frame: int) -> Overlaps:
    pairs = SELF_PAIRS if alone else PARTNER_PAIRS
    a, b = (
        np.asarray(joints, np.float64)[:, _ENDS[pairs[:, side]]] for side, joints in enumerate((one, two))
    )
    reach = _RADII[pairs].sum(axis=1)
    middle = a.mean(axis=2) - b.mean(axis=2)
    half_m = sum(np.linalg.norm(ends[:, :, 1] - ends[:, :, 0], axis=-1) / 2 for ends in (a, b))
    # Most pairs are further apart than their lengths; exact distances are computed for the others only.
    frame, pair = np.nonzero(np.square(middle).sum(-1) < (half_m + reach) ** 2)
    a, b = a[frame, pair], b[frame, pair]
    along, gap = nearest_points(a[:, 0], a[:, 1], b[:, 0], b[:, 1])
    distance = np.linalg.norm(gap, axis=-1)
    away = np.where(distance[:, None] > 1e-6, gap, middle[frame, pair])
    away /= np.maximum(np.linalg.norm(away, axis=-1, keepdims=True), 1e-9)
    counts = distance < reach[pair]
    if alone:
        counts &= ~(_IS_UPPER[pairs[pair]] & (along < _ROOT_SHARE)).any(axis=1)
    depth = (reach[pair] - distance)[counts]
    return Overlaps(frame[counts] + first_frame, pairs[pair[counts]], depth, away[counts], along[counts])


def depth_in_own_body(joints: Array) -> Array:
    """Return the (T,) depth of the deepest limb of a body in itself, metres; 0 where there is none.

    That of two bodies is :func:`opendance_hf.metrics.duet.interpenetration`.
    """
    found = find_overlaps(joints)
    out = np.zeros(len(joints))
    np.maximum.at(out, found.frame, found.depth)
    return out


def push_apart(bodies: Sequence[Body], fps: float, limits: PushLimits) -> list[Body]:
    """Take limbs out of bodies, partners out of each other, and bodies out of the floor at y = 0.

    Pushes are smooth in time, so each round leaves a part of the overlap for the next.
    """
    out = [body.copy() for body in bodies]
    for _ in range(limits.rounds):
        posed = [body.posed() for body in out]
        joints = np.stack([positions for positions, _ in posed])
        whole, single = pushes(joints, limits.margin_m)
        if not (whole.any() or single.any() or _below_floor(joints)):
            break
        sigma = limits.smooth_s * fps
        whole = gaussian_filter1d(whole, sigma, axis=1, mode="nearest")
        single = gaussian_filter1d(single, sigma, axis=1, mode="nearest")
        for dancer, body in enumerate(out):
            _apply(body, posed[dancer], whole[dancer], single[dancer], fps)
    return out


def pushes(joints: Array, margin_m: float) -> tuple[Array, Array]:
    """Compute the pushes that remove every overlap in its own frame.

    A limb gives way to a trunk, two limbs or two trunks share the way.

    Args:
        joints: (D, T, 24, 3) metres.
        margin_m: distance to leave between surfaces, metres.

    Returns:
        (D, T, 3) of the whole bodies and (D, T, 24, 3) of the middle and end joints of limbs, metres. Where a joint has
        several pushes, the largest one counts.
    """
    whole, single = np.zeros((*joints.shape[:2], 3)), np.zeros(joints.shape)
    dancers = range(len(joints))
    for one, two in [*zip(dancers, dancers, strict=True), *combinations(dancers, 2)]:
        found = find_overlaps(joints[one], None if one == two else joints[two])
        limb = _IS_LIMB[found.pair]
        share = np.where(limb[:, 0] == limb[:, 1], 0.5, limb[:, 0])
        push = (found.depth + margin_m)[:, None] * found.away
        for side, dancer, part in ((0, one, share), (1, two, share - 1)):
            moves = part != 0
            _add(
                whole[dancer],
                single[dancer],
                found.frame[moves],
                found.pair[moves, side],
                found.along[moves, side],
                (part[:, None] * push)[moves],
            )
    return whole, single


def _add(whole: Array, single: Array, frame: Ints, capsule: Ints, along: Array, push: Array) -> None:
    """Write the pushes of one dancer's capsules at the points ``along`` their axes."""
    order = np.argsort(np.linalg.norm(push, axis=-1), kind="stable")  # the largest is written last
    frame, capsule, along, push = frame[order], capsule[order], along[order, None], push[order]
    trunk, upper = ~_IS_LIMB[capsule], _IS_UPPER[capsule]
    whole[frame[trunk]] = push[trunk]
    # The root of a limb does not move; a lower bone is moved at both ends so that the point moves by ``push``.
    single[frame[upper], _ENDS[capsule[upper], 1]] = (push / np.maximum(along, _ROOT_SHARE))[upper]
    lower = ~trunk & ~upper
    norm = along**2 + (1 - along) ** 2
    single[frame[lower], _ENDS[capsule[lower], 0]] = (push * (1 - along) / norm)[lower]
    single[frame[lower], _ENDS[capsule[lower], 1]] = (push * along / norm)[lower]


def _below_floor(joints: Array) -> bool:
    lowest = {**_TRUNK_HEIGHTS, **{f"{side}_hand": _HAND_HEIGHT for side in ("left", "right")}}
    lowest |= {f"{side}_{part}": _MIDDLE_HEIGHT for side in ("left", "right") for part in ("knee", "elbow")}
    return any((joints[:, :, JOINT_INDEX[name], 1] < height).any() for name, height in lowest.items())


def _apply(body: Body, posed: tuple[Array, Array], whole: Array, single: Array, fps: float) -> None:
    """Move a body in place by (T, 3) and the joints of its limbs by (T, 24, 3), and lift both out of the floor."""
    joints, _ = posed
    height = joints[..., 1]
    below = [low - height[:, JOINT_INDEX[name]] for name, low in _TRUNK_HEIGHTS.items()]
    whole = whole.copy()
    whole[:, 1] += envelope(np.maximum(np.max(below, axis=0), 0), fps)
    for root, middle, end, tip in LIMBS:
        is_arm = tip in (JOINT_INDEX["left_hand"], JOINT_INDEX["right_hand"])
        bend, reach = single[:, middle].copy(), single[:, end].copy()
        bend[:, 1] += envelope(np.maximum(_MIDDLE_HEIGHT - height[:, middle], 0), fps)
        if is_arm:
            low = np.maximum(_WRIST_HEIGHT - height[:, end], _HAND_HEIGHT - height[:, tip]) - whole[:, 1]
            reach[:, 1] += envelope(np.maximum(low, 0), fps)
        else:
            reach -= whole  # feet stay where they are
        if not (bend.any() or reach.any()):
            continue
        goal, towards = joints[:, end] + reach, joints[:, middle] + bend
        _, lower = turn_limb(body.local, posed, (root, middle, end), goal, towards=towards)
        turn_tip(body.local, posed, (end, tip), lower, joints[:, tip] - joints[:, end])
    body.pelvis = body.pelvis + whole
