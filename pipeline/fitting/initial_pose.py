"""Compute the initial bone lengths and rotations of a fit in closed form from landmarks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.rotations import smallest_rotation, unit
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS
from opendance_hf.pipeline.clip import Floats, Landmarks
from opendance_hf.pipeline.fitting.correspondences import BONES, SIDES
from opendance_hf.pipeline.fitting.settings import SkeletonSettings
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX

Array = npt.NDArray[np.floating]

#: Bones whose lengths are measured: bone -> landmarks at its ends.
_MEASURED = {
    "upper_arm": ("shoulder", "elbow"),
    "forearm": ("elbow", "wrist"),
    "thigh": ("hip", "knee"),
    "shin": ("knee", "ankle"),
}


def bone_scales(found: Landmarks, settings: SkeletonSettings) -> Floats:
    """Return the (D, B) lengths of ``BONES`` relative to the mean skeleton's.

    A measured length is the median over the half of the frames and sides with the highest visibility. Other bones are
    scaled by the dancer's size, the median of the measured scales.
    """
    out = np.ones((len(found.world), len(BONES)), dtype=np.float32)
    for dancer, (world, shown) in enumerate(zip(found.world, found.visibility, strict=True)):
        measured = {}
        for bone, (near, far) in _MEASURED.items():
            lengths, weights = [], []
            for side in SIDES:
                a, b = LANDMARK_INDEX[f"{side}_{near}"], LANDMARK_INDEX[f"{side}_{far}"]
                lengths.append(np.linalg.norm(world[:, a] - world[:, b], axis=-1))
                weights.append(np.minimum(shown[:, a], shown[:, b]))
            value, weight = np.concatenate(lengths), np.concatenate(weights)
            seen = value[weight >= np.quantile(weight, 0.5)]
            rest = np.mean([np.linalg.norm(MEAN_OFFSETS[JOINT_INDEX[name]]) for name in BONES[bone]])
            measured[bone] = float(np.median(seen) / rest)
        size = float(np.clip(np.median(list(measured.values())), *settings.size_limits))
        low, high = settings.bone_limits
        for index, bone in enumerate(BONES):
            out[dancer, index] = np.clip(measured.get(bone, size), low * size, high * size)
    return out


def landmarks_in_view(found: Landmarks, width_px: int, height_px: int, focal_px: float) -> Array:
    """Return the (D, T, 33, 3) landmarks in metres in the view frame (x right, y up, z towards the camera).

    The estimator processes a crop as if the optical axis passed through its centre. Therefore the landmarks are rotated
    by the angle between the optical axis and the camera ray through the hips. CLIFF corrects the same error with its
    bounding-box input.
    """
    hips = found.image[:, :, [LANDMARK_INDEX["left_hip"], LANDMARK_INDEX["right_hip"]]]
    centre = hips.mean(axis=2).astype(np.float64)
    x = (centre[..., 0] - width_px / 2) / focal_px
    y = -(centre[..., 1] - height_px / 2) / focal_px
    ray = unit(np.stack([x, y, -np.ones_like(x)], axis=-1))
    turn = smallest_rotation(np.array([0.0, 0.0, -1.0]), ray)
    return np.einsum("dtij,dtkj->dtki", turn, found.world.astype(np.float64))


def initial_rotations(world: Array) -> Array:
    """Compute (D, T, 24, 3, 3) local rotations of trunk and limbs from (D, T, 33, 3) landmarks."""

    def at(name: str) -> Array:
        return world[..., LANDMARK_INDEX[name], :]

    out = np.broadcast_to(np.eye(3), (*world.shape[:2], NUM_JOINTS, 3, 3)).copy()
    up = (at("left_shoulder") + at("right_shoulder") - at("left_hip") - at("right_hip")) / 2
    left = unit(at("left_hip") - at("right_hip") + at("left_shoulder") - at("right_shoulder"))
    root = rotation_of_axes(left, up)
    out[:, :, 0] = root
    for side, sign in (("left", 1.0), ("right", -1.0)):
        thigh = at(f"{side}_knee") - at(f"{side}_hip")
        shin = at(f"{side}_ankle") - at(f"{side}_knee")
        upper = _upper_bone(root, np.array([0, -1.0, 0]), np.array([1.0, 0, 0]), thigh, shin)
        out[:, :, JOINT_INDEX[f"{side}_hip"]] = np.swapaxes(root, -1, -2) @ upper
        out[:, :, JOINT_INDEX[f"{side}_knee"]] = _swing(upper, np.array([0, -1.0, 0]), shin)
        arm = at(f"{side}_elbow") - at(f"{side}_shoulder")
        forearm = at(f"{side}_wrist") - at(f"{side}_elbow")
        along = np.array([sign, 0, 0])
        upper = _upper_bone(root, along, np.array([0, -sign, 0]), arm, forearm)
        out[:, :, JOINT_INDEX[f"{side}_shoulder"]] = np.swapaxes(root, -1, -2) @ upper
        out[:, :, JOINT_INDEX[f"{side}_elbow"]] = _swing(upper, along, forearm)
    return out


def rotation_of_axes(x: Array, y: Array) -> Array:
    """Return (..., 3, 3) rotations whose first column points along x and whose second lies towards y."""
    x = unit(x)
    z = unit(np.cross(x, y))
    return np.stack([x, np.cross(z, x), z], axis=-1)


def _swing(upper: Array, rest: Array, target: Array) -> Array:
    """Return the smallest local rotation that turns a bone from its rest direction to a target in the view frame."""
    local = np.einsum("...ji,...j->...i", upper, unit(target))
    return smallest_rotation(rest, local)


def _upper_bone(root: Array, along: Array, bend: Array, first: Array, second: Array) -> Array:
    """Return the global rotation of a limb's upper bone.

    The twist of a bent limb is computed from the plane of its two bones, that of a straight limb from the smallest
    rotation from its rest direction relative to the trunk.

    Args:
        root: (..., 3, 3) rotation of the trunk.
        along: (3,) rest direction of the bone.
        bend: (3,) axis about which the limb's middle joint bends, in the rest pose.
        first: (..., 3) direction of the upper bone.
        second: (..., 3) direction of the lower bone.
    """
    first, second = unit(first), unit(second)
    swing = root @ _swing(root, along, first)
    rest_axis = swing @ bend
    axis = np.cross(first, second)
    sin = np.linalg.norm(axis, axis=-1, keepdims=True)
    bend_weight = np.clip((sin - 0.2) / 0.4, 0, 1)
    mixed = bend_weight * unit(axis) + (1 - bend_weight) * rest_axis
    mixed = unit(mixed - (mixed * first).sum(-1, keepdims=True) * first)
    rest = np.stack([along, bend, np.cross(along, bend)], axis=-1)
    return np.stack([first, mixed, np.cross(first, mixed)], axis=-1) @ rest.T
