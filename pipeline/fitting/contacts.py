"""Detect foot contacts, the frames in which feet rest on the ground, and hold the feet in place during them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.body import pose_joints
from opendance_hf.motion.ik import two_bone_ik
from opendance_hf.motion.rotations import smallest_rotation
from opendance_hf.motion.skeleton import JOINT_INDEX, PARENTS
from opendance_hf.pipeline.clip import Floats, Landmarks
from opendance_hf.pipeline.fitting.correspondences import SIDES
from opendance_hf.pipeline.fitting.settings import ContactLimits
from opendance_hf.pipeline.intervals import true_intervals
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX

Array = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]


def resting_feet(found: Landmarks, limits: ContactLimits) -> Bools:
    """Return a (2, D, T, 2) mask of the toes (first row) and ankles (second row) of each foot that are still in the image.

    Speed in the image is more reliable than speed in any estimate of depth. A foot on its toes may turn about them, so
    toes and ankle have separate contacts. A foot may also be still in the air, so the caller also checks its height.
    """
    parts = (("foot_index",), ("ankle", "heel"))
    frame_s = float(np.median(np.diff(found.times_s)))
    out = np.zeros((len(parts), *found.visibility.shape[:2], 2), dtype=bool)
    for number, names in enumerate(parts):
        marks = [[LANDMARK_INDEX[f"{side}_{name}"] for name in names] for side in SIDES]
        points = found.image[:, :, marks].astype(np.float64).mean(axis=3)
        speed = np.linalg.norm(np.gradient(points, found.times_s, axis=1), axis=-1)
        speed *= limits.region_side_m / found.regions_px[..., None]
        for dancer, foot in np.ndindex(len(speed), 2):
            out[number, dancer, :, foot] = frames_at_rest(speed[dancer, :, foot], frame_s, limits)
    return out


def frames_at_rest(speed: Array, frame_s: float, limits: ContactLimits) -> Bools:
    """Return the (T,) mask of frames in which a foot with the (T,) speeds in m/s is at rest."""
    # At least two frames: at the turning point of a swing, speed is near zero for a single frame.
    shortest = max(2, math.ceil(limits.min_rest_s / frame_s - 1e-3))
    rests = []
    for start, end in true_intervals(speed < limits.leave_mps):
        slow = start + np.flatnonzero(speed[start:end] < limits.rest_mps)
        if len(slow) and slow[-1] - slow[0] + 1 >= shortest:
            rests.append((int(slow[0]), int(slow[-1]) + 1))
    out = np.zeros(len(speed), dtype=bool)
    blur = round(limits.blur_s / frame_s)
    edges = [-len(speed), *(edge for rest in rests for edge in rest), 2 * len(speed)]
    for number, (start, end) in enumerate(rests):
        before, after = start - edges[2 * number], edges[2 * number + 3] - end
        first = max(0, start - min(blur, int(before * limits.max_blur_share)))
        last = min(len(speed), end + min(blur, int(after * limits.max_blur_share)))
        while start > first and speed[start - 1] < limits.step_mps:
            start -= 1
        while end < last and speed[end] < limits.step_mps:
            end += 1
        out[start:end] = True
    return out


def hold_feet(
    rotations: Array,
    transl: Array,
    rest_offsets: Array,
    contacts: Bools,
    times_s: npt.NDArray[np.float64],
    eye: Array,
    limits: ContactLimits,
) -> tuple[Floats, Floats]:
    """Move the toes and ankles of each contact to a fixed position: shift the whole body, then rotate the legs.

    The pelvis is shifted along the camera ray only: image position is reliable, depth is not. Leg inverse kinematics
    takes the remaining correction.

    Args:
        rotations: (D, T, 24, 3, 3) relative to the parent.
        transl: (D, T, 3) pelvis, metres.
        rest_offsets: (D, 24, 3) metres.
        contacts: (2, D, T, 2) mask of toes and ankles at rest.
        times_s: (T,) times of the frames, seconds.
        eye: (3,) position of the camera, metres.
        limits: time over which corrections fade, and limits of the legs.

    Returns:
        Rotations and transl in which feet do not move during a contact.
    """
    out, moved = np.asarray(rotations, np.float64).copy(), np.asarray(transl, np.float64).copy()
    # ``transl`` is the pelvis itself.
    offsets = np.asarray(rest_offsets, np.float64).copy()
    offsets[:, 0] = 0
    blend = max(1, round(limits.blend_s / float(np.median(np.diff(times_s)))))
    for dancer in range(len(out)):
        joints, turned = pose_joints(out[dancer], moved[dancer], offsets[dancer])
        goals, weights = [], []
        for foot, side in enumerate(SIDES):
            (toe, on_toe), (ankle, on_ankle) = (
                _corrections(
                    joints[:, JOINT_INDEX[f"{side}_{part}"]], contacts[number, dancer, :, foot], blend
                )
                for number, part in enumerate(("foot", "ankle"))
            )
            # An ankle without a contact of its own follows the toes.
            ankle = ankle + (1 - on_ankle) * toe
            goals.append((ankle, toe + (1 - on_toe) * ankle))
            weights.append(np.maximum(on_toe, on_ankle))
        # The mean correction of the feet in contact is a drift of the whole body.
        share = np.maximum(weights[0] + weights[1], 1.0)
        drift = sum(weight / share * ankle for weight, (ankle, _) in zip(weights, goals, strict=True))
        ray = moved[dancer] - eye
        ray /= np.maximum(np.linalg.norm(ray, axis=-1, keepdims=True), 1e-9)
        body = (drift * ray).sum(-1, keepdims=True) * ray
        moved[dancer] += body
        for side, (ankle, toe) in zip(SIDES, goals, strict=True):
            _turn_leg(out[dancer], (joints, turned), side, body, ankle, toe, limits)
    return out.astype(np.float32), moved.astype(np.float32)


def _corrections(path: Array, contact: Bools, blend: int) -> tuple[Array, Array]:
    """Return the (T, 3) shift of a joint to its median position in each contact, with fades, and their (T, 1) weight."""
    shift, weight = np.zeros_like(path), np.zeros((len(path), 1))
    fade = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, blend + 1) / (blend + 1))
    contacts = true_intervals(contact)
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
    # Between two close contacts both fades are averaged.
    share = np.maximum(weight, 1.0)
    return shift / share, weight / share


def _turn_leg(
    local: Array,
    posed: tuple[Array, Array],
    side: str,
    body: Array,
    shift: Array,
    toe_shift: Array,
    limits: ContactLimits,
) -> None:
    """Rotate a leg so that its hip moves by ``body``, its ankle by ``shift`` and its toes by ``toe_shift``.

    ``local`` is changed in place; ``posed`` are the joints and global rotations before the change.
    """
    joints, turned = posed
    hip, knee, ankle, toe = (JOINT_INDEX[f"{side}_{part}"] for part in ("hip", "knee", "ankle", "foot"))
    upper, lower = two_bone_ik(
        joints[:, hip],
        joints[:, knee],
        joints[:, ankle],
        joints[:, ankle] + shift - body,
        turned[:, hip, :, 2],
        max_stretch=limits.max_reach,
        straight_m=limits.straight_knee_m,
    )
    shin = (lower @ (joints[:, ankle] - joints[:, knee])[..., None])[..., 0]
    thigh = (upper @ (joints[:, knee] - joints[:, hip])[..., None])[..., 0]
    moved = joints[:, hip] + thigh + shin - joints[:, ankle]
    upper, lower = upper @ turned[:, hip], lower @ turned[:, knee]
    local[:, hip] = np.swapaxes(turned[:, PARENTS[hip]], -1, -2) @ upper
    local[:, knee] = np.swapaxes(upper, -1, -2) @ lower
    foot = joints[:, toe] - joints[:, ankle]
    turn = smallest_rotation(foot, foot + toe_shift - body - moved)
    local[:, ankle] = np.swapaxes(lower, -1, -2) @ turn @ turned[:, ankle]
