"""Write a motion as ASF and AMC on the bones of the CMU database, for tests and the script of the whole circle."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from scipy.spatial.transform import Rotation

from opendance_hf.formats.motion import Motion
from opendance_hf.motion.body import pose_joints
from opendance_hf.motion.rotations import axis_angle_to_matrix, unit
from opendance_hf.motion.skeleton import JOINT_INDEX

#: Bone: parent, joint of SMPL at its beginning, the one at its end, and the one whose rotation it has.
BONES: Final = {
    "lowerback": ("root", "pelvis", "spine1", "pelvis"), "upperback": ("lowerback", "spine1", "spine2", "spine1"),
    "thorax": ("upperback", "spine2", "spine3", "spine2"), "lowerneck": ("thorax", "spine3", "neck", "spine3"),
    "upperneck": ("lowerneck", "neck", "head", "neck"), "head": ("upperneck", "head", "", "head"),
    **{
        f"{s}{bone}": (parent.replace("?", s), *(f"{side}_{joint}" if joint not in ("pelvis", "spine3", "") else joint for joint in joints))
        for s, side in (("l", "left"), ("r", "right"))
        for bone, parent, *joints in (
            ("hipjoint", "root", "pelvis", "hip", "pelvis"), ("femur", "?hipjoint", "hip", "knee", "hip"),
            ("tibia", "?femur", "knee", "ankle", "knee"), ("foot", "?tibia", "ankle", "foot", "ankle"),
            ("toes", "?foot", "foot", "", "foot"), ("clavicle", "thorax", "spine3", "shoulder", "collar"),
            ("humerus", "?clavicle", "shoulder", "elbow", "shoulder"), ("radius", "?humerus", "elbow", "wrist", "elbow"),
            ("hand", "?radius", "wrist", "hand", "wrist"), ("fingers", "?hand", "hand", "", "hand"),
        )
    },
}  # fmt: skip
_UNIT_M: Final = 0.0254 / 0.45
_TIP_M: Final = 0.05


def write_acclaim(motion: Motion, folder: Path, name: str = "60_01") -> Path:
    """Write one dancer; clavicles keep their mean direction. Return the .amc, with the .asf of the same subject beside it."""
    assert motion.poses is not None
    assert motion.transl is not None
    assert motion.rest_offsets is not None
    rotations = axis_angle_to_matrix(motion.poses[0].astype(float))
    joints, turned = pose_joints(
        rotations, motion.transl[0].astype(float), motion.rest_offsets[0].astype(float)
    )
    world = {"root": turned[:, 0]}
    header = [":version 1.10", ":name VICON", ":units", "  mass 1.0", "  length 0.45", "  angle deg", ":root"]
    header += [
        "   order TX TY TZ RX RY RZ",
        "   axis XYZ",
        "   position 0 0 0",
        "   orientation 0 0 0",
        ":bonedata",
    ]
    angles: dict[str, np.ndarray] = {}
    for number, (bone, (parent, start, end, turn)) in enumerate(BONES.items(), start=1):
        world[bone] = turned[:, JOINT_INDEX[turn]]
        above = world[parent]
        angles[bone] = Rotation.from_matrix(np.swapaxes(above, 1, 2) @ world[bone]).as_euler(
            "xyz", degrees=True
        )
        if end:
            between = joints[:, JOINT_INDEX[end]] - joints[:, JOINT_INDEX[start]]
            vector = np.einsum("tji,tj->ti", world[bone], between).mean(axis=0)
        else:
            vector = np.array([0.0, _TIP_M, 0.0]) if bone == "head" else np.array([0.0, 0.0, _TIP_M])
        direction, length = unit(vector), np.linalg.norm(vector) / _UNIT_M
        header += ["  begin", f"     id {number}", f"     name {bone}"]
        header += [
            f"     direction {' '.join(f'{value:.8f}' for value in direction)}",
            f"     length {length:.7f}",
        ]
        header += ["     axis 0 0 0  XYZ", "    dof rx ry rz", "  end"]
    header += [":hierarchy", "  begin"]
    for parent in ["root", *BONES]:
        if children := [bone for bone, (above, *_) in BONES.items() if above == parent]:
            header.append(f"    {parent} {' '.join(children)}")
    header.append("  end")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name.split('_')[0]}.asf").write_text("\n".join(header) + "\n")
    root = Rotation.from_matrix(world["root"]).as_euler("xyz", degrees=True)
    lines = ["#!OML:ASF", ":FULLY-SPECIFIED", ":DEGREES"]
    for frame in range(motion.num_frames):
        lines.append(str(frame + 1))
        values = [*(joints[frame, 0] / _UNIT_M), *root[frame]]
        lines.append("root " + " ".join(f"{value:.6f}" for value in values))
        lines += [f"{bone} " + " ".join(f"{value:.5f}" for value in angles[bone][frame]) for bone in BONES]
    out = folder / f"{name}.amc"
    out.write_text("\n".join(lines) + "\n")
    return out
