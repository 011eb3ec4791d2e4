"""Bring decoded dancers together: partners stand where the relation says, and hands that hold each other meet.

Each dancer is decoded alone, its root being the sum of decoded velocities. So partners drift apart, and hands that held each
other miss by centimetres. The relation of each partner to the first dancer (:func:`relation_of`) is decoded beside them, and
here the bodies follow it: roots slowly, so that feet do not slide, arms quickly.

Joints are (B, N, T, 24, 3) SMPL joints of N dancers in metres, y up, at 60 FPS. All computations are over frames at once.
"""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from opendance_hf.motion.skeleton import JOINT_INDEX

#: Numbers of a relation: the partner's place and facing, and the nearness of four pairs of hands.
PLACE_DIM: Final = 5
RELATION_DIM: Final = PLACE_DIM + 4
#: Length of the arrow that shows the facing, metres: sine and cosine are multiplied by it, so that codes keep the place first.
FACING_M: Final = 0.3
#: Facings may differ from the relation by this much, radians: bodies are decoded with their orientation, which is mostly right.
FREE_RAD: Final = 0.6
#: Distance at which hands have a nearness of one half, metres.
NEARNESS_M: Final = 0.3
#: Hands up to this distance hold each other, and hands from this distance on do not; a smooth step between. Metres.
HELD_M: Final = 0.22
FREE_M: Final = 0.32
#: Hands that should hold each other but are further apart than this are not pulled any more, smoothly. Metres.
PULLED_M: Final = (0.5, 0.8)
#: Standard deviations of the Gaussian filters over time, seconds: of roots that go to their place, of roots that follow the
#: hands, and of the hold.
PLACE_S: Final = 1.2
PULL_S: Final = 0.6
HOLD_S: Final = 0.05
#: Pelvises are at least this share of the distance apart that the relation says, horizontally; and pelvises, chests and heads
#: at least this far, metres: nine tenths of all frames of captured salsa have more.
NEAREST: Final = 0.9
APART_M: Final = 0.47
#: How often roots follow the hands, and how often the hands of both reach: what one arm cannot reach is left to the other.
PULLS: Final = 3
REACHES: Final = 4
#: A foot stands while its ankle or its toe is slower than this, metres a second.
STAND_MPS: Final = 0.5
#: An arm is not stretched further than this share of its length.
STRETCH: Final = 0.995
FPS: Final = 60

#: Left limb, then right: shoulder, elbow, wrist and hand; and hip, knee, ankle and toe.
_ARMS, _LEGS = (
    [[JOINT_INDEX[f"{side}_{part}"] for part in parts] for side in ("left", "right")]
    for parts in (("shoulder", "elbow", "wrist", "hand"), ("hip", "knee", "ankle", "foot"))
)
_TRUNK: Final = [JOINT_INDEX[name] for name in ("pelvis", "spine3", "head")]
_HANDS: Final = [arm[-1] for arm in _ARMS]


def facing(joints: Tensor) -> Tensor:
    """Return the yaw of the hips (...) of (..., 24, 3) joints, radians."""
    across = joints[..., JOINT_INDEX["left_hip"], :] - joints[..., JOINT_INDEX["right_hip"], :]
    return torch.atan2(-across[..., 2], across[..., 0])


def turn(points: Tensor, yaw: Tensor) -> Tensor:
    """Turn (..., 3) points about the world's y axis by ``yaw`` (...), radians, which is added to a facing."""
    x, y, z = points.unbind(-1)
    sin, cos = yaw.sin(), yaw.cos()
    return torch.stack([cos * x + sin * z, y.expand_as(cos * x), cos * z - sin * x], dim=-1)


def relation_of(joints: Tensor) -> Tensor:
    """Return the relation of every dancer beside the first to the first, in every frame.

    Args:
        joints: (B, N, T, 24, 3).

    Returns:
        (B, N - 1, T, 9): the vector from the first dancer's pelvis to the partner's, as the first dancer faces (to its left,
        up and before it), in metres; sine and cosine of the partner's facing, likewise, times 0.3 m; and the nearness of the first's left hand to the partner's left and right hand, and of
        its right hand to these: 1 at a distance of 0, 1/2 at 0.3 m, 0 far away.
    """
    root, yaw = joints[..., 0, :], facing(joints)
    place = turn(root[:, 1:] - root[:, :1], -yaw[:, :1].expand_as(yaw[:, 1:]))
    turned = yaw[:, 1:] - yaw[:, :1]
    arrow = FACING_M * torch.stack([turned.sin(), turned.cos()], dim=-1)
    distance = _between_hands(joints[..., _HANDS, :].movedim(-2, 2)).norm(dim=-1)
    nearness = NEARNESS_M / (NEARNESS_M + distance)
    return torch.cat([place, arrow, nearness.flatten(2, 3).movedim(2, -1)], dim=-1)


def follow_relation(joints: Tensor, relation: Tensor, *, keep_start: bool = False) -> Tensor:
    """Move dancers to where their relations say, and let hands that hold each other meet.

    Partners are turned about the vertical where they face otherwise than the relation says, bodies are shifted as a whole
    (all together they stay in place), legs are bent so that feet that stand do not slide, and arms so that hands meet. No bone
    changes its length.

    Args:
        joints: (B, N, T, 24, 3).
        relation: (B, N - 1, T, 9), see :func:`relation_of`.
        keep_start: pelvis and facing of every dancer stay as they are in the first frame, and follow the changes of the
            relation; arms and legs are bent from the first frame on.

    Returns:
        (B, N, T, 24, 3)
    """
    decoded = joints
    place, arrow, nearness = relation.split([3, PLACE_DIM - 3, RELATION_DIM - PLACE_DIM], dim=-1)
    joints = _turned(joints, torch.atan2(arrow[..., 0], arrow[..., 1]), keep_start)
    yaw = facing(joints[:, :1])
    goal = joints[:, :1, :, 0] + turn(place, yaw.expand(place.shape[:-1]))
    joints = _shifted(joints, smooth(goal - joints[:, 1:, :, 0], PLACE_S), keep_start)
    wanted = (NEARNESS_M / nearness.clamp(min=1e-3) - NEARNESS_M).clamp(min=0)
    wanted = wanted.unflatten(-1, (2, 2)).movedim(2, -1)  # (B, N - 1, 2, 2, T)
    hold = smooth(_step_down(wanted, HELD_M, FREE_M)[..., None], HOLD_S)  # (B, N - 1, 2, 2, T, 1)
    # Filtered in time, a place that moves around the first dancer comes nearer to it than it is.
    far = smooth(NEAREST * place[..., [0, 2]].norm(dim=-1, keepdim=True), PLACE_S).clamp(min=APART_M)
    for _ in range(PULLS):
        gaps = hold * _gaps(joints[..., _HANDS, :].movedim(-2, 2), wanted)
        held = smooth(hold.sum((2, 3)), PULL_S)
        # The little weight of no gap lets the shift fade where no hands are held.
        joints = _shifted(joints, -smooth(gaps.sum((2, 3)), PULL_S) / (held + 0.1), keep_start)
        joints = _shifted(joints, smooth(_too_near(joints, far), PULL_S), keep_start)
    joints = _with_limbs(joints, _LEGS, _standing(_limbs(decoded, _LEGS), _limbs(joints, _LEGS)))
    return _with_limbs(joints, _ARMS, _holding(_limbs(joints, _ARMS), hold, wanted))


def smooth(values: Tensor, seconds: float) -> Tensor:
    """Filter (..., T, C) values over time with a Gaussian of a standard deviation in seconds; the ends are continued."""
    sigma = seconds * FPS
    reach = math.ceil(3 * sigma)
    time = torch.arange(-reach, reach + 1, device=values.device, dtype=values.dtype)
    kernel = torch.exp(-0.5 * (time / sigma) ** 2)
    rows = values.transpose(-1, -2)
    padded = F.pad(rows.reshape(-1, 1, rows.shape[-1]), (reach, reach), mode="replicate")
    filtered = F.conv1d(padded, (kernel / kernel.sum())[None, None])
    return filtered.view(rows.shape).transpose(-1, -2)


def _too_near(joints: Tensor, far: Tensor) -> Tensor:
    """Return how far partners have to step back from the first dancer, (B, N - 1, T, 3).

    Args:
        joints: (B, N, T, 24, 3).
        far: (B, N - 1, T, 1) least horizontal distance of the pelvises; of chests and heads it is :data:`APART_M`.
    """
    trunks = joints[..., _TRUNK, :] * joints.new_tensor([1.0, 0.0, 1.0])
    between = trunks[:, 1:] - trunks[:, :1]
    length = between.norm(dim=-1)
    least = torch.cat([far, torch.full_like(far, APART_M).expand(*far.shape[:-1], 2)], dim=-1)
    lack, worst = (least - length).max(dim=-1, keepdim=True)
    away = between.gather(-2, worst[..., None].expand(*worst.shape, 3))[..., 0, :]
    return lack.clamp(min=0) * F.normalize(away, dim=-1)


def _step_down(values: Tensor, start: float, end: float) -> Tensor:
    """Return 1 up to ``start`` and 0 from ``end`` on, with a smooth step between."""
    share = ((end - values) / (end - start)).clamp(0, 1)
    return share * share * (3 - 2 * share)


def _turned(joints: Tensor, partners: Tensor, keep_start: bool) -> Tensor:
    """Turn partners whose facing differs much from ``partners`` (B, N - 1, T), which is relative to the first dancer's."""
    yaw, root = facing(joints), joints[:, 1:, :, :1]
    wrong = partners - (yaw[:, 1:] - yaw[:, :1])
    wrong = torch.atan2(wrong.sin(), wrong.cos())
    wrong = wrong - wrong.clamp(-FREE_RAD, FREE_RAD)
    # Directions are filtered and not angles, which jump from one side to the other.
    direction = smooth(torch.stack([wrong.sin(), wrong.cos()], dim=-1), PLACE_S)
    angle = torch.atan2(direction[..., 0], direction[..., 1])
    if keep_start:
        angle = angle - angle[:, :, :1]
    turned = turn(joints[:, 1:] - root, angle[..., None].expand(joints[:, 1:].shape[:-1])) + root
    return torch.cat([joints[:, :1], turned], dim=1)


def _shifted(joints: Tensor, shift: Tensor, keep_start: bool) -> Tensor:
    """Shift partners (B, N - 1, T, 3) relative to the first dancer, each dancer its part."""
    shift = torch.cat([torch.zeros_like(shift[:, :1]), shift], dim=1)
    shift = shift - shift.mean(dim=1, keepdim=True)
    if keep_start:
        shift = shift - shift[:, :, :1]
    return joints + shift[..., None, :]


def _between_hands(hands: Tensor) -> Tensor:
    """Return the vectors (B, N - 1, 2, 2, T, 3) from the first dancer's left and right hand to the partners', of (B, N, 2, T, 3)."""
    return hands[:, 1:, None] - hands[:, :1, :, None]


def _gaps(hands: Tensor, wanted: Tensor) -> Tensor:
    """Return the part (B, N - 1, 2, 2, T, 3) of the vectors between hands that exceeds the distances wanted (..., T)."""
    between = _between_hands(hands)
    return between * (1 - wanted[..., None] / between.norm(dim=-1, keepdim=True).clamp(min=1e-6))


def _limbs(joints: Tensor, limbs: list[list[int]]) -> Tensor:
    """Return the joints (B, N, 2, 4, T, 3) of left and right limbs."""
    return joints[..., limbs, :].movedim(2, 4)


def _with_limbs(joints: Tensor, limbs: list[list[int]], moved: Tensor) -> Tensor:
    """Replace limbs by others (B, N, 2, 4, T, 3)."""
    out = joints.clone()
    for side, limb in enumerate(limbs):
        out[..., limb, :] = moved[:, :, side].movedim(2, -2)
    return out


def _holding(arms: Tensor, hold: Tensor, wanted: Tensor) -> Tensor:
    """Bend arms so that hands come to the distances wanted; each hand goes half of the way."""
    for _ in range(REACHES):
        gaps = _gaps(arms[:, :, :, 3], wanted)
        weight = hold * _step_down(gaps.norm(dim=-1, keepdim=True), *PULLED_M)
        gaps = 0.5 * weight * gaps
        # A hand that holds several goes to the middle of them.
        first = gaps.sum((1, 3)) / weight.sum((1, 3)).clamp(min=1)
        partners = -gaps.sum(2) / weight.sum(2).clamp(min=1)
        arms = reach(arms, torch.cat([first[:, None], partners], dim=1))
    return arms


def _standing(decoded: Tensor, legs: Tensor) -> Tensor:
    """Bend legs so that a foot that stands in the decoded motion keeps the mean of its displacement while it stands.

    In the air, what is added to a foot goes linearly from that of one stand to that of the next.

    Args:
        decoded: (B, N, 2, 4, T, 3) legs before bodies were moved.
        legs: those of the moved bodies.
    """
    if legs.shape[-2] == 1:
        return legs
    flat = legs.new_tensor([1.0, 0.0, 1.0])
    moved = ((legs - decoded)[:, :, :, 2:].mean(3) * flat).flatten(0, 2)  # (rows, T, 3), of ankle and toe
    speed = FPS * (decoded[:, :, :, 2:] * flat).diff(dim=-2).norm(dim=-1).amin(3).flatten(0, 2)
    stands = F.pad(speed, (0, 1), mode="replicate") < STAND_MPS  # (rows, T)
    # The mean over every stand: stands are counted, and sums gathered by their number.
    begins = stands & ~F.pad(stands[:, :-1], (1, 0))
    number = (begins.cumsum(1) * stands)[..., None]
    sums = torch.zeros(len(moved), moved.shape[1] + 1, 4, device=moved.device, dtype=moved.dtype)
    sums.scatter_add_(1, number.expand(*moved.shape[:2], 4), F.pad(moved, (0, 1), value=1.0))
    mean = sums[..., :3] / sums[..., 3:].clamp(min=1)
    added = mean.gather(1, number.expand_as(moved)) - moved
    time = torch.arange(moved.shape[1], device=moved.device).expand_as(stands)
    last = torch.where(stands, time, -1).cummax(1).values
    following = torch.where(stands, time, len(time[0])).flip(1).cummin(1).values.flip(1)
    # Before the first stand and after the last there is one neighbour; without any, nothing is added.
    one = torch.where(last < 0, following, last)
    other = torch.where(following == len(time[0]), last, following)
    share = (time - one) / (other - one).clamp(min=1)
    ends = [added.gather(1, at.clamp(0, len(time[0]) - 1)[..., None].expand_as(added)) for at in (one, other)]
    step = (torch.lerp(ends[0], ends[1], share[..., None]) * stands.any(1)[:, None, None]).view_as(
        legs[:, :, :, 3]
    )
    return reach(legs, step)


def reach(arms: Tensor, step: Tensor) -> Tensor:
    """Move hands as far as their arms allow; bones keep their lengths, and hands their direction from the wrist.

    Args:
        arms: (..., 4, T, 3) shoulders, elbows, wrists and hands; or hips, knees, ankles and toes.
        step: (..., T, 3) of the hands, or toes.

    Returns:
        (..., 4, T, 3)
    """
    shoulder, elbow, wrist, hand = arms.unbind(-3)
    upper, fore, before = (_length(bone) for bone in (elbow - shoulder, wrist - elbow, wrist - shoulder))
    goal = wrist + step - shoulder
    along = F.normalize(goal, dim=-1)
    # An arm that decoding has stretched or folded further may stay as it is.
    longest = torch.maximum(STRETCH * (upper + fore), before)
    shortest = torch.minimum((upper - fore).abs() / STRETCH, before)
    distance = torch.minimum(torch.maximum(_length(goal), shortest), longest).clamp(min=1e-6)
    # The law of cosines gives the elbow's place along the line to the wrist; it stays on the side where it is.
    ahead = (upper**2 + distance**2 - fore**2) / (2 * distance)
    side = elbow - shoulder - ((elbow - shoulder) * along).sum(-1, keepdim=True) * along
    aside = (upper**2 - ahead**2).clamp(min=0).sqrt() * F.normalize(side, dim=-1)
    moved = shoulder + distance * along
    return torch.stack([shoulder, shoulder + ahead * along + aside, moved, hand + moved - wrist], dim=-3)


def _length(vectors: Tensor) -> Tensor:
    return vectors.norm(dim=-1, keepdim=True)
