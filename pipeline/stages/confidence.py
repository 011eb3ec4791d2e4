"""Compute how certain the position of each joint is: the column ``joint_confidence``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.skeleton import JOINT_INDEX, NUM_JOINTS
from opendance_hf.pipeline.clip import Clip, ExpectedErrors, Landmarks, Motion
from opendance_hf.pipeline.fitting.correspondences import JOINT_LANDMARKS, OFFSET_LANDMARKS, SIDES
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.pipeline.stage import Stage
from opendance_hf.schema import Camera, flat_dancers

Array = npt.NDArray[np.floating]

#: Joints whose value is the mean of others where they have none of their own, in the order in which they are filled in.
_NEIGHBOURS: Final[dict[str, tuple[str, ...]]] = {
    **{f"{side}_hand": (f"{side}_wrist",) for side in SIDES},
    **{f"{side}_foot": (f"{side}_ankle",) for side in SIDES},
    **{f"{side}_collar": (f"{side}_shoulder",) for side in SIDES},
    "pelvis": ("left_hip", "right_hip"),
    "neck": ("left_shoulder", "right_shoulder"),
    "head": ("neck",),
    "spine1": ("pelvis",),
    "spine3": ("neck",),
    "spine2": ("spine1", "spine3"),
}
_TRUNK: Final = [LANDMARK_INDEX[f"{side}_{part}"] for side in SIDES for part in ("shoulder", "hip")]
_FACE: Final = [LANDMARK_INDEX[name] for name in ("nose", "left_ear", "right_ear")]


@dataclass(frozen=True)
class Confidence(Stage):
    """Multiply, for every joint and frame, four factors from 0 to 1, each with the reasons to doubt the joint.

    The factors are the visibility of the landmarks that carry the joint (0 outside the picture and in interpolated frames),
    their agreement with the projected joint, the error that the stage ``depth`` expects, if it ran, and ``covered`` where
    another dancer or the dancer's own hand is in front.

    Args:
        agree_m: distance of landmark and projected joint, across the picture, at which their factor is 1/2.
        expected_m: expected error of the depth stage at which its factor is 1/2.
        covered: factor of joints behind the trunk of a nearer dancer, and of the head and a hand in front of it.
        face_m: radius of the face, for the latter.
    """

    name = "confidence"
    reads = ("landmarks", "fit", "motion")
    writes = ("columns",)
    columns = ("joint_confidence",)

    agree_m: float = 0.12
    expected_m: float = 0.1
    covered: float = 0.5
    face_m: float = 0.1

    def __call__(self, clip: Clip) -> Clip:
        """Process one sequence."""
        found = self.measure(clip.motion, clip.fit.camera, clip.landmarks, clip.expected_errors)
        return replace(clip, columns={**clip.columns, "joint_confidence": flat_dancers(found)})

    def measure(
        self, motion: Motion, camera: Camera, landmarks: Landmarks, expected: ExpectedErrors | None = None
    ) -> npt.NDArray[np.float32]:
        """Return the (D, T, 24) confidence of the joints of a motion.

        Args:
            motion: D dancers in T frames.
            camera: the source camera, in the world frame of the motion.
            landmarks: at the source frames, from which the motion was fitted.
            expected: errors that the depth stage expects of its result; None without that stage.
        """
        times_s = landmarks.times_s
        joints = _at(motion.joints.astype(np.float64), motion.times_s, times_s)
        image = camera.project(joints)
        rotation = np.asarray(camera.rotation, dtype=np.float64).reshape(3, 3)
        depth_m = (joints @ rotation.T + np.asarray(camera.translation))[..., 2]
        metres_per_px = depth_m / camera.focal_px

        found = _filled(_visibility(landmarks))
        found *= _halved_at(_filled(_disagreement(image, landmarks) * metres_per_px), self.agree_m)
        if expected is not None:
            errors_m = _at(_filled(expected.joints_m.astype(np.float64)), expected.times_s, times_s)
            found *= _halved_at(errors_m, self.expected_m)
        hidden = _behind_others(image, depth_m, landmarks)
        hidden |= _hand_on_face(landmarks, self.face_m / metres_per_px[..., JOINT_INDEX["head"]])
        found = _at(np.where(hidden, self.covered, 1) * found, times_s, motion.times_s)
        return np.asarray(found * (motion.confidence > 0)[..., None], dtype=np.float32).clip(0, 1)


def _at(values: Array, times_s: npt.NDArray[np.float64], wanted_s: npt.NDArray[np.float64]) -> Array:
    """Interpolate (D, T, ...) values linearly to other times."""
    flat = np.moveaxis(values, 1, 0).reshape(len(times_s), -1)
    found = np.stack([np.interp(wanted_s, times_s, column) for column in flat.T], axis=1)
    return np.moveaxis(found.reshape(len(wanted_s), len(values), *values.shape[2:]), 0, 1)


def _filled(values: Array) -> Array:
    """Replace NaN in (D, T, 24) values of joints by the mean of their neighbours."""
    out = values.copy()
    for name, neighbours in _NEIGHBOURS.items():
        joint = out[..., JOINT_INDEX[name]]
        others = out[..., [JOINT_INDEX[other] for other in neighbours]].mean(axis=-1)
        joint[:] = np.where(np.isnan(joint), others, joint)
    return out


def _halved_at(values: Array, half: float) -> Array:
    """Return 1 where values are 0, 1/2 at ``half``, and less beyond."""
    return np.asarray(1 / (1 + (values / half) ** 2))


def _visibility(landmarks: Landmarks) -> Array:
    """Return the (D, T, 24) mean visibility of the landmarks that carry each joint, NaN for joints without one."""
    carriers: dict[str, list[tuple[int, float]]] = {}
    pairs = [*JOINT_LANDMARKS, *((joint, mark, weight) for joint, mark, _, weight in OFFSET_LANDMARKS)]
    for joint, mark, weight in pairs:
        carriers.setdefault(joint, []).append((LANDMARK_INDEX[mark], weight))
    out = np.full((*landmarks.visibility.shape[:2], NUM_JOINTS), np.nan)
    for joint, marks in carriers.items():
        rows, weights = zip(*marks, strict=True)
        seen = landmarks.visibility[..., list(rows)]
        out[..., JOINT_INDEX[joint]] = np.average(seen, axis=-1, weights=weights)
    return out


def _disagreement(image: Array, landmarks: Landmarks) -> Array:
    """Return the (D, T, 24) distances in pixels of projected joints from their landmarks, NaN for joints without one."""
    out = np.full(image.shape[:-1], np.nan)
    for joint, mark, _ in JOINT_LANDMARKS:
        away = image[..., JOINT_INDEX[joint], :] - landmarks.image[..., LANDMARK_INDEX[mark], :]
        out[..., JOINT_INDEX[joint]] = np.linalg.norm(away, axis=-1)
    return out


def _behind_others(image: Array, depth_m: Array, landmarks: Landmarks) -> npt.NDArray[np.bool_]:
    """Return (D, T, 24) true where a joint lies in the box around the trunk of a dancer who is nearer to the camera."""
    out = np.zeros(depth_m.shape, dtype=bool)
    trunk = landmarks.image[:, :, _TRUNK]
    low, high = trunk.min(axis=2)[:, :, None], trunk.max(axis=2)[:, :, None]
    nearest_m = depth_m[..., JOINT_INDEX["pelvis"], None]
    for dancer, other in permutations(range(len(image)), 2):
        inside = ((image[dancer] >= low[other]) & (image[dancer] <= high[other])).all(axis=-1)
        out[dancer] |= inside & (nearest_m[other] < depth_m[dancer])
    return out


def _hand_on_face(landmarks: Landmarks, radius_px: Array) -> npt.NDArray[np.bool_]:
    """Return (D, T, 24) true for the head, and the wrist and hand in front of it, within (D, T) pixels of its middle."""
    out = np.zeros((*radius_px.shape, NUM_JOINTS), dtype=bool)
    face = landmarks.image[:, :, _FACE].mean(axis=2)
    for side in SIDES:
        hand = landmarks.image[:, :, LANDMARK_INDEX[f"{side}_index"]]
        near = np.linalg.norm(hand - face, axis=-1) < radius_px
        for name in (f"{side}_wrist", f"{side}_hand", "head"):
            out[..., JOINT_INDEX[name]] |= near
    return out
