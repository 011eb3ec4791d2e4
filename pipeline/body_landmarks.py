"""Project posed SMPL bodies to landmarks: in the image, and in metres relative to the hips."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.formats.people import Person
from opendance_hf.motion.body import pose_joints
from opendance_hf.motion.rotations import smallest_rotation, unit
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS
from opendance_hf.pipeline.clip import Floats
from opendance_hf.pipeline.landmarks import LANDMARKS, REGION_SIDE_M

Array = npt.NDArray[np.floating]

#: Landmarks at a joint, or at an offset from it in the joint's rest frame, metres; of points with two sides the left one.
#: Nose, ears and heels are those of the fit (``fitting/correspondences.py``).
_POINTS: Final[dict[str, tuple[str, tuple[float, float, float]]]] = {
    "nose": ("head", (0.0, 0.04, 0.11)),
    "eye_inner": ("head", (0.015, 0.075, 0.095)),
    "eye": ("head", (0.03, 0.075, 0.09)),
    "eye_outer": ("head", (0.045, 0.075, 0.085)),
    "ear": ("head", (0.075, 0.05, 0.0)),
    "mouth": ("head", (0.025, 0.0, 0.095)),
    "shoulder": ("shoulder", (0.0, 0.0, 0.0)),
    "elbow": ("elbow", (0.0, 0.0, 0.0)),
    "wrist": ("wrist", (0.0, 0.0, 0.0)),
    "pinky": ("hand", (0.0, 0.0, -0.04)),
    "index": ("hand", (0.0, 0.0, 0.0)),
    "thumb": ("hand", (-0.03, 0.0, 0.05)),
    "hip": ("hip", (0.0, 0.0, 0.0)),
    "knee": ("knee", (0.0, 0.0, 0.0)),
    "ankle": ("ankle", (0.0, 0.0, 0.0)),
    "heel": ("ankle", (0.01, -0.05, -0.06)),
    "foot_index": ("foot", (0.0, 0.0, 0.0)),
}
#: From the camera frame to that of landmarks (x right, y up, z towards the camera), and back.
_FLIP: Final = np.diag([1.0, -1.0, -1.0])
#: Distance from the landmarks to the edge of the box: the crown of the head, the shoes, the flesh.
_MARGIN_M: Final = 0.1


def _rows() -> tuple[list[int], Array]:
    """Return for each landmark the joint that carries it, and its offset."""
    joints, offsets = [], []
    for landmark in LANDMARKS:
        words = landmark.split("_")
        side = next((word for word in words if word in ("left", "right")), "")
        joint, offset = _POINTS["_".join(word for word in words if word != side)]
        joints.append(JOINT_INDEX[joint if joint == "head" else f"{side}_{joint}"])
        offsets.append([-offset[0] if side == "right" else offset[0], *offset[1:]])
    return joints, np.array(offsets)


_JOINTS, _OFFSETS = _rows()
_HIPS: Final = [LANDMARKS.index("left_hip"), LANDMARKS.index("right_hip")]


def landmarks_in_camera(person: Person) -> Array:
    """Return the (T, 33, 3) landmarks of a body of mean proportions, metres, in the camera frame."""
    offsets = MEAN_OFFSETS.astype(np.float64) * person.size
    joints, turned = pose_joints(person.rotations, person.pelvis, offsets)
    carried = np.einsum("tjab,jb->tja", turned[:, _JOINTS], _OFFSETS * person.size)
    return np.asarray(joints[:, _JOINTS] + carried)


def project(points: Array, focal_px: float, width_px: int, height_px: int) -> Array:
    """Return the (..., 2) pixels of (..., 3) points in front of a camera whose centre is that of the picture."""
    centre = np.array([width_px / 2, height_px / 2])
    return np.asarray(points[..., :2] / points[..., 2:] * focal_px + centre)


def relative_to_hips(points: Array) -> Array:
    """Return (T, 33, 3) landmarks relative to the mid hip, as an estimator sees them that looks straight at the hips.

    Landmarks in metres are in the frame of a crop, in which the ray through the hips is the optical axis
    (:func:`opendance_hf.pipeline.fitting.initial_pose.landmarks_in_view` takes that back).
    """
    hips = points[:, _HIPS].mean(axis=1)
    turn = smallest_rotation(unit(hips @ _FLIP), np.array([0.0, 0.0, -1.0]))
    return np.asarray(np.einsum("tij,tkj->tki", turn, (points - hips[:, None]) @ _FLIP))


def boxes_around(image: Array, metre_px: Array, width_px: int, height_px: int) -> Floats:
    """Return the (T, 4) boxes around (T, 33, 2) pixels with a margin, cut off at the edges of the picture."""
    margin = _MARGIN_M * metre_px[:, None]
    low, high = image.min(axis=1) - margin, image.max(axis=1) + margin
    return np.hstack([low, high]).clip(0, [width_px, height_px] * 2).astype(np.float32)


def region_sides(metre_px: Array) -> Floats:
    """Return the (T,) sides of the regions of people, pixels, from the length of a metre at their depth."""
    return np.asarray(REGION_SIDE_M * metre_px, dtype=np.float32)
