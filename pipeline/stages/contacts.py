"""Feet that rest on the ground stay where they are: find them in the picture, then hold them in place."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.skeleton import JOINT_INDEX, NUM_JOINTS, PARENTS
from opendance_hf.pipeline.backends.base import Floats
from opendance_hf.pipeline.backends.blazepose import LANDMARK_INDEX
from opendance_hf.pipeline.stages.pose import Landmarks

Array = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

#: A foot comes to rest below the first speed and leaves above the second, metres a second as the picture shows them.
_REST_MPS: Final = 0.3
_LEAVE_MPS: Final = 0.5
_MIN_REST_S: Final = 0.05
#: Smoothing blurs the moments of landing and leaving: half the speed of a step lies where it lands or leaves.
_STEP_MPS: Final = 0.8
_BLUR_S: Final = 0.1
#: What the side of a person's region measures, metres: it holds the whole body with a margin.
REGION_M: Final = 2.2
#: How long a foot takes from where it was estimated to where it is held.
_BLEND_S: Final = 0.15
#: A step this much longer than the legs straightens them; the rest is left to the foot.
_MAX_REACH: Final = 0.999
_SIDES: Final = ("left", "right")


def resting_feet(found: Landmarks) -> Bools:
    """(2, D, T, 2) whether the toes, and the ankle, of the left and right foot keep still in the picture.

    The picture knows this better than any depth: what keeps still in it keeps still. A foot on its toes may turn about
    them, and a foot in the air may be held still; its height must tell.
    """
    parts = (("foot_index",), ("ankle", "heel"))
    frame_s = float(np.median(np.diff(found.times_s)))
    out = np.zeros((len(parts), *found.visibility.shape[:2], 2), dtype=bool)
    for number, names in enumerate(parts):
        marks = [[LANDMARK_INDEX[f"{side}_{name}"] for name in names] for side in _SIDES]
        points = found.image[:, :, marks].astype(np.float64).mean(axis=3)
        pace = np.linalg.norm(np.gradient(points, found.times_s, axis=1), axis=-1)
        pace *= REGION_M / found.regions_px[..., None]
        for dancer, foot in np.ndindex(len(pace), 2):
            out[number, dancer, :, foot] = _at_rest(pace[dancer, :, foot], frame_s)
    return out


def _at_rest(pace: Array, frame_s: float) -> Bools:
    """(T,) where a foot of this speed rests."""
    # Never one frame alone: a swing turns round in it.
    shortest = max(2, math.ceil(_MIN_REST_S / frame_s - 1e-3))
    rests = []
    for start, end in runs(pace < _LEAVE_MPS):
        slow = start + np.flatnonzero(pace[start:end] < _REST_MPS)
        if len(slow) and slow[-1] - slow[0] + 1 >= shortest:
            rests.append((int(slow[0]), int(slow[-1]) + 1))
    out = np.zeros(len(pace), dtype=bool)
    blur = round(_BLUR_S / frame_s)
    edges = [-len(pace), *(edge for rest in rests for edge in rest), 2 * len(pace)]
    for number, (start, end) in enumerate(rests):
        # A quarter of the way to the next rest at most: between them is a step, which takes its time.
        before, after = start - edges[2 * number], edges[2 * number + 3] - end
        first, last = max(0, start - min(blur, before // 4)), min(len(pace), end + min(blur, after // 4))
        while start > first and pace[start - 1] < _STEP_MPS:
            start -= 1
        while end < last and pace[end] < _STEP_MPS:
            end += 1
        out[start:end] = True
    return out


def runs(flags: Bools) -> list[tuple[int, int]]:
    """Start and end of every run of true values."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def hold_feet(
    rotations: Array,
    transl: Array,
    rest_offsets: Array,
    contacts: Bools,
    times_s: npt.NDArray[np.float64],
    eye: Array,
) -> tuple[Floats, Floats]:
    """Move toes and ankles in contact to one place for each contact: first the whole body, then the leg by its bones.

    The body moves along the line of sight only: the picture knows where it is, and does not know how far. What is left
    is for the legs.

    Args:
        rotations: (D, T, 24, 3, 3) relative to the parent.
        transl: (D, T, 3) pelvis, metres.
        rest_offsets: (D, 24, 3) metres.
        contacts: (2, D, T, 2) toes and ankles that rest.
        times_s: (T,).
        eye: (3,) where the camera is, metres.

    Returns:
        Rotations and transl in which they do not move.
    """
    out, moved = np.asarray(rotations, np.float64).copy(), np.asarray(transl, np.float64).copy()
    blend = max(1, round(_BLEND_S / float(np.median(np.diff(times_s)))))
    for dancer in range(len(out)):
        joints, turned = _pose(out[dancer], moved[dancer], rest_offsets[dancer])
        goals, weights = [], []
        for foot, side in enumerate(_SIDES):
            (toe, on_toe), (ankle, on_ankle) = (
                _corrections(
                    joints[:, JOINT_INDEX[f"{side}_{part}"]], contacts[number, dancer, :, foot], blend
                )
                for number, part in enumerate(("foot", "ankle"))
            )
            # A foot that turns about its toes goes where they go.
            ankle = ankle + (1 - on_ankle) * toe
            goals.append((ankle, toe + (1 - on_toe) * ankle))
            weights.append(np.maximum(on_toe, on_ankle))
        # What both feet agree on is a drift of the whole body.
        share = np.maximum(weights[0] + weights[1], 1.0)
        drift = sum(weight / share * ankle for weight, (ankle, _) in zip(weights, goals, strict=True))
        ray = moved[dancer] - eye
        ray /= np.maximum(np.linalg.norm(ray, axis=-1, keepdims=True), 1e-9)
        body = (drift * ray).sum(-1, keepdims=True) * ray
        moved[dancer] += body
        for side, (ankle, toe) in zip(_SIDES, goals, strict=True):
            _reach(out[dancer], joints, turned, side, body, ankle, toe)
    return out.astype(np.float32), moved.astype(np.float32)


def _pose(local: Array, transl: Array, offsets: Array) -> tuple[Array, Array]:
    """(T, 24, 3) joints and (T, 24, 3, 3) rotations in the world."""
    joints, turned = np.empty(local.shape[:3]), np.empty(local.shape)
    joints[:, 0], turned[:, 0] = transl, local[:, 0]
    for joint in range(1, NUM_JOINTS):
        parent = PARENTS[joint]
        joints[:, joint] = joints[:, parent] + turned[:, parent] @ offsets[joint]
        turned[:, joint] = turned[:, parent] @ local[:, joint]
    return joints, turned


def _corrections(path: Array, contact: Bools, blend: int) -> tuple[Array, Array]:
    """(T, 3) what brings a joint to its places, fading out around each contact, and (T, 1) how far it is faded in."""
    shift, weight = np.zeros_like(path), np.zeros((len(path), 1))
    fade = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, blend + 1) / (blend + 1))
    contacts = runs(contact)
    for number, (start, end) in enumerate(contacts):
        shift[start:end] = np.median(path[start:end], axis=0) - path[start:end]
        weight[start:end] = 1.0
        until = min(end + blend, contacts[number + 1][0] if number + 1 < len(contacts) else len(path))
        after = fade[: until - end, None]
        shift[end:until] += after * shift[end - 1]
        weight[end:until] += after
    for number, (start, _) in enumerate(contacts):
        since = max(start - blend, contacts[number - 1][1] if number else 0)
        before = fade[: start - since, None][::-1]
        shift[since:start] += before * shift[start]
        weight[since:start] += before
    # Where two fades meet on a short way, their mean counts.
    share = np.maximum(weight, 1.0)
    return shift / share, weight / share


def _reach(
    local: Array, joints: Array, turned: Array, side: str, body: Array, shift: Array, toe_shift: Array
) -> None:
    """Turn a leg, in place, so that its ankle goes by ``shift`` and its toes by ``toe_shift``, its hip by ``body``."""
    hip, knee, ankle, toe = (JOINT_INDEX[f"{side}_{part}"] for part in ("hip", "knee", "ankle", "foot"))
    start, bend, end = joints[:, hip], joints[:, knee], joints[:, ankle]
    goal = end + shift - body
    thigh = np.linalg.norm(bend - start, axis=-1, keepdims=True)
    shin = np.linalg.norm(end - bend, axis=-1, keepdims=True)
    line = goal - start
    far = np.linalg.norm(line, axis=-1, keepdims=True)
    line = line / np.maximum(far, 1e-9)
    far = np.clip(far, np.abs(thigh - shin) / _MAX_REACH, _MAX_REACH * (thigh + shin))
    # The knee stays on its side of the line from hip to ankle.
    aside = bend - start
    aside = aside - line * (aside * line).sum(-1, keepdims=True)
    forward = turned[:, hip, :, 2]
    forward = forward - line * (forward * line).sum(-1, keepdims=True)
    straight = np.linalg.norm(aside, axis=-1, keepdims=True) < 0.02
    aside = np.where(straight, forward, aside)
    aside = aside / np.maximum(np.linalg.norm(aside, axis=-1, keepdims=True), 1e-9)
    along = (thigh**2 + far**2 - shin**2) / (2 * far)
    off = np.sqrt(np.maximum(thigh**2 - along**2, 0))
    new_bend = start + line * along + aside * off
    upper = _between(bend - start, new_bend - start) @ turned[:, hip]
    lower = _between(end - bend, start + line * far - new_bend) @ turned[:, knee]
    parent = np.swapaxes(turned[:, PARENTS[hip]], -1, -2)
    local[:, hip] = parent @ upper
    local[:, knee] = np.swapaxes(upper, -1, -2) @ lower
    foot = joints[:, toe] - end
    placed = foot + toe_shift - body - (start + line * far - end)
    local[:, ankle] = np.swapaxes(lower, -1, -2) @ _between(foot, placed) @ turned[:, ankle]


def _between(start: Array, end: Array) -> Array:
    """(T, 3, 3) smallest rotations that take directions to directions (never opposite ones here)."""
    a = start / np.linalg.norm(start, axis=-1, keepdims=True)
    b = end / np.linalg.norm(end, axis=-1, keepdims=True)
    x, y, z = np.moveaxis(np.cross(a, b), -1, 0)
    zero = np.zeros_like(x)
    k = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    cos = np.maximum((a * b).sum(-1), -0.99)[:, None, None]
    return np.asarray(np.eye(3) + k + k @ k / (1 + cos))
