"""List the joints and vertices that correspond to landmarks, the bones that share a scale, and the joint stiffnesses."""

from __future__ import annotations

from typing import Final

SIDES: Final = ("left", "right")

#: Landmarks at a joint of the skeleton: (joint, landmark, weight).
JOINT_LANDMARKS: Final = [
    (f"{side}_{joint}", f"{side}_{landmark}", weight)
    for side in SIDES
    for joint, landmark, weight in (
        ("hip", "hip", 1.0), ("knee", "knee", 1.0), ("ankle", "ankle", 1.0), ("foot", "foot_index", 0.5),
        ("shoulder", "shoulder", 1.0), ("elbow", "elbow", 1.0), ("wrist", "wrist", 1.0),
        ("hand", "index", 0.3),
    )
]  # fmt: skip
#: Landmarks at a fixed offset from a joint, in the joint's rest frame, metres: (joint, landmark, offset, weight).
OFFSET_LANDMARKS: Final = [
    ("head", "nose", (0.0, 0.04, 0.11), 0.5),
    ("head", "left_ear", (0.075, 0.05, 0.0), 0.5),
    ("head", "right_ear", (-0.075, 0.05, 0.0), 0.5),
    ("left_ankle", "left_heel", (0.01, -0.05, -0.06), 0.3),
    ("right_ankle", "right_heel", (-0.01, -0.05, -0.06), 0.3),
]
#: Bones that share one scale; a bone is named by the joint at its far end.
BONES: Final[dict[str, tuple[str, ...]]] = {
    "pelvis": ("left_hip", "right_hip"),
    "trunk": ("spine1", "spine2", "spine3", "neck"),
    "head": ("head",),
    "shoulders": ("left_collar", "right_collar", "left_shoulder", "right_shoulder"),
    "upper_arm": ("left_elbow", "right_elbow"),
    "forearm": ("left_wrist", "right_wrist"),
    "hand": ("left_hand", "right_hand"),
    "thigh": ("left_knee", "right_knee"),
    "shin": ("left_ankle", "right_ankle"),
    "foot": ("left_foot", "right_foot"),
}
#: Loss weight of the squared local rotation (rad²) of each joint; 0 for joints that are not listed.
STIFFNESS: Final[dict[str, float]] = {
    "spine1": 0.02, "spine2": 0.02, "spine3": 0.02, "neck": 0.02, "head": 0.02, "left_collar": 0.1,
    "right_collar": 0.1, "left_foot": 1.0, "right_foot": 1.0, "left_hand": 1.0, "right_hand": 1.0,
    "left_wrist": 0.02, "right_wrist": 0.02, "left_ankle": 0.01, "right_ankle": 0.01, "left_hip": 0.001,
    "right_hip": 0.001, "left_shoulder": 0.001, "right_shoulder": 0.001,
}  # fmt: skip

#: Keypoints at joints of SMPL: (joint, landmark, weight). Hips have a low weight: landmark models define them differently.
SMPL_JOINT_LANDMARKS: Final = [
    (f"{side}_{joint}", f"{side}_{joint}", weight)
    for side in SIDES
    for joint, weight in (
        ("hip", 0.3), ("knee", 1.0), ("ankle", 1.0), ("shoulder", 1.0), ("elbow", 1.0), ("wrist", 1.0),
    )
]  # fmt: skip
#: Keypoints at vertices of SMPL's mesh: (vertex index as in smplx, landmark, weight).
SMPL_VERTEX_LANDMARKS: Final = [
    (332, "nose", 0.5),
    (583, "left_ear", 0.5),
    (4071, "right_ear", 0.5),
    (3216, "left_foot_index", 0.5),
    (6617, "right_foot_index", 0.5),
    (3387, "left_heel", 0.3),
    (6787, "right_heel", 0.3),
]
