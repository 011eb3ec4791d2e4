"""Detect foot contacts, the frames in which feet rest on the ground, and hold the feet in place during them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.body import pose_joints
from opendance_hf.motion.contacts import contact_shifts, frames_at_rest, turn_leg
from opendance_hf.motion.skeleton import JOINT_INDEX
from opendance_hf.pipeline.clip import Floats, Landmarks
from opendance_hf.pipeline.fitting.correspondences import SIDES
from opendance_hf.pipeline.fitting.settings import ContactLimits
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
                contact_shifts(
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
            turn_leg(out[dancer], (joints, turned), side, body, ankle, toe, limits)
    return out.astype(np.float32), moved.astype(np.float32)
