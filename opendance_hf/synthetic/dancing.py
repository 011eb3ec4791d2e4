"""Seeded choreographies on the beats of a song, as motion with the joints of SMPL."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.formats.motion import Motion
from opendance_hf.formats.resample import with_poses
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS
from opendance_hf.synthetic.body import BONES, Body, Build, load_body
from opendance_hf.synthetic.choreography import compose
from opendance_hf.synthetic.motion import Performance, perform

Array = npt.NDArray[np.floating]

#: Bones that start at a joint.
_MIDDLE: Final = {
    "spine1": "spine05",
    "spine2": "spine03",
    "spine3": "spine02",
    "neck": "neck01",
    "head": "head",
}
_SIDES: Final = {
    "hip": "upperleg01", "knee": "lowerleg01", "ankle": "foot", "collar": "clavicle", "shoulder": "upperarm01",
    "elbow": "lowerarm01", "wrist": "wrist",
}  # fmt: skip


def choreographed(seed: int, num_dancers: int, beats_s: Array, seconds: float, fps: float) -> Motion:
    """Dance a seeded choreography to given beats: a foot lands on most of them.

    Args:
        seed: of the choreography and of the bodies.
        num_dancers: from one to four.
        beats_s: (B,) beats, seconds from the first frame, at least two.
        seconds: length of the motion.
        fps: frames per second.

    Returns:
        Motion with rotations; its rotations are those of joints, without twist of the limbs.

    Raises:
        MissingBodyError: if the data of the bodies is not installed.
        ValueError: for another number of dancers.
    """
    times = np.arange(round(seconds * fps)) / fps
    parts, _ = compose(seed, num_dancers, len(beats_s))
    rng = np.random.default_rng([seed, num_dancers, 3])
    joints = []
    for part in parts:
        build = Build(bool(rng.random() < 0.5), *rng.uniform(0.3, 0.7, 3).tolist())
        body = load_body(build)
        joints.append(smpl_joints(perform(part, body, beats_s, times), body))
    return with_poses(Motion(np.stack(joints), fps))


def smpl_joints(performance: Performance, body: Body) -> Array:
    """Return the (T, 24, 3) joints of SMPL of a performance, metres; feet and hands by the mean offsets of SMPL."""
    bones = {bone: number for number, bone in enumerate(BONES)}

    def moved(bone: str, offset: Array) -> Array:
        number = bones[bone]
        return performance.positions[:, number] + performance.rotations[:, number] @ offset

    out = np.zeros((len(performance.positions), NUM_JOINTS, 3))
    # The middle of the hips is below SMPL's pelvis.
    hips = MEAN_OFFSETS[[JOINT_INDEX["left_hip"], JOINT_INDEX["right_hip"]]].mean(axis=0).astype(np.float64)
    out[:, JOINT_INDEX["pelvis"]] = performance.root() - performance.rotations[:, 0] @ hips
    for joint, bone in _MIDDLE.items():
        out[:, JOINT_INDEX[joint]] = performance.positions[:, bones[bone]]
    for side in ("left", "right"):
        letter = side[0].upper()
        for joint, bone in _SIDES.items():
            out[:, JOINT_INDEX[f"{side}_{joint}"]] = performance.positions[:, bones[f"{bone}.{letter}"]]
        foot, hand = JOINT_INDEX[f"{side}_foot"], JOINT_INDEX[f"{side}_hand"]
        out[:, foot] = moved(f"foot.{letter}", MEAN_OFFSETS[foot].astype(np.float64))
        fore = body.head_of(f"wrist.{letter}") - body.head_of(f"lowerarm01.{letter}")
        length = float(np.linalg.norm(MEAN_OFFSETS[hand]))
        out[:, hand] = moved(f"wrist.{letter}", fore / np.linalg.norm(fore) * length)
    return out
