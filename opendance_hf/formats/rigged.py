"""Put the motion of one dancer on the rig of another tool: its names, rest pose and bone axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.body.mesh import TOE_ABOVE_SOLE_M
from opendance_hf.formats import FormatError
from opendance_hf.formats.animation import A_POSE_DEG, Animation, rest_rotations
from opendance_hf.formats.motion import Motion
from opendance_hf.formats.rigs import NameTable
from opendance_hf.motion.body import pose_joints
from opendance_hf.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle, unit
from opendance_hf.motion.skeleton import JOINT_INDEX, JOINT_NAMES, NUM_JOINTS, PARENTS

Array = npt.NDArray[np.floating]

#: World axis of each part of the body, at rest, to which an axis of its bones points: front, or down for arms in a T-pose.
_FRONT, _DOWN, _UP = np.array([0.0, 0, 1]), np.array([0.0, -1, 0]), np.array([0.0, 1, 0])
#: Bone axes at rest: the axis along the bone towards its child with the sign on the left, in the middle and on the right of
#: arms and legs, and the second axis with the direction that it points to, by part.
#: mixamo: y along the bone; z to the front, of arms down (MPFB2, rigs/standard/rig.mixamo.json, heads, tails and rolls).
#: ue5: x along the bone on the left arm, in the middle and on the right leg, against it on the right arm and left leg, so
#: that mirrored limbs have mirrored axes (local positions of calf_l, lowerarm_l ... in Epic's mannequin).
BONE_AXES: Final[Mapping[str, Mapping[str, tuple[str, str, Array]]]] = {
    "mixamo": {
        "trunk": ("+y", "+z", _FRONT), "left_leg": ("+y", "+z", _FRONT), "right_leg": ("+y", "+z", _FRONT),
        "left_arm": ("+y", "+z", _DOWN), "right_arm": ("+y", "+z", _DOWN),
    },
    "ue5": {
        "trunk": ("+x", "+y", _FRONT), "left_leg": ("-x", "-y", _FRONT), "right_leg": ("+x", "+y", _FRONT),
        "left_arm": ("+x", "+y", _FRONT), "right_arm": ("-x", "-y", _FRONT),
    },
}  # fmt: skip
#: The child towards which a joint with several children points.
_MAIN_CHILD: Final = {"pelvis": "spine1", "spine3": "neck"}


@dataclass(frozen=True)
class Rigged:
    """Hold the animation of one dancer on a rig.

    Attributes:
        animation: in metres, y up.
        joints: for each joint of the animation the joint of SMPL that it moves with, or None for a root.
        rest_poses: (24, 3) axis-angle of SMPL's joints, relative to their parents, in the rest pose of the rig.
    """

    animation: Animation
    joints: tuple[int | None, ...]
    rest_poses: Array


def rigged(path: Path, motion: Motion, table: NameTable, *, bone_axes: bool = True) -> Rigged:
    """Put one dancer on a rig.

    Args:
        path: output file, for messages.
        motion: motion of one dancer; it needs poses.
        table: the rig.
        bone_axes: False for formats whose joints are not oriented at rest.

    Raises:
        FormatError: if the motion has no poses.
    """
    if motion.poses is None or motion.transl is None or motion.rest_offsets is None:
        raise FormatError(
            f"{path}: needs rotations, but this motion has only joint positions; opendance clean writes a dance with both"
        )
    rotations = axis_angle_to_matrix(motion.poses[0].astype(np.float64))
    offsets = motion.rest_offsets[0].astype(np.float64)
    placed, turned = pose_joints(rotations, motion.transl[0].astype(np.float64), offsets)
    posed = rest_rotations(A_POSE_DEG if table.rest == "A" else 0.0)
    rest = _rest_positions(posed, offsets)
    axes = _bone_axes(table, rest) if bone_axes else np.broadcast_to(np.eye(3), (NUM_JOINTS, 3, 3))
    # A bone has the axes ``axes`` when SMPL's joint has the rotation ``posed``.
    turned = turned @ (np.swapaxes(posed, -1, -2) @ axes)
    bones: list[_Bone] = []
    for joint, name in enumerate(JOINT_NAMES):
        if table.joints[name]:
            bone = _Bone(table.joints[name][0], _parent(table, joint), axes[joint], rest[joint])
            bones.append(replace(bone, turned=turned[:, joint], placed=placed[:, joint], joint=joint))
    for name, (above, below) in table.between.items():
        at = next(index for index, bone in enumerate(bones) if bone.name == below)
        upper = next(bone for bone in bones if bone.name == above)
        middle = (upper.rest + bones[at].rest) / 2
        moved = upper.placed + upper.turned @ (upper.axes.T @ (middle - upper.rest))
        bones[at] = replace(bones[at], parent=name)
        bones.insert(at, replace(upper, name=name, parent=above, rest=middle, placed=moved))
    if table.root:
        still = np.broadcast_to(np.eye(3), turned[:, 0].shape), np.zeros_like(placed[:, 0])
        bones = [replace(bone, parent=bone.parent or table.root) for bone in bones]
        bones.insert(0, _Bone(table.root, "", np.eye(3), np.zeros(3), *still, None))
    local = posed.copy()
    local[1:] = np.swapaxes(posed[list(PARENTS[1:])], -1, -2) @ posed[1:]
    animation = _relative(table.prefix, bones, motion.fps)
    return Rigged(animation, tuple(bone.joint for bone in bones), matrix_to_axis_angle(local))


@dataclass(frozen=True)
class _Bone:
    """Hold one bone in the world: (3, 3) axes and (3,) position at rest, (T, 3, 3) and (T, 3) over time."""

    name: str
    parent: str
    axes: Array
    rest: Array
    turned: Array = field(default_factory=lambda: np.zeros((0, 3, 3)))
    placed: Array = field(default_factory=lambda: np.zeros((0, 3)))
    joint: int | None = None


def _parent(table: NameTable, joint: int) -> str:
    """Return the name of the nearest joint above that the rig has."""
    parent = PARENTS[joint]
    while parent >= 0 and not table.joints[JOINT_NAMES[parent]]:
        parent = PARENTS[parent]
    return table.joints[JOINT_NAMES[parent]][0] if parent >= 0 else ""


def _rest_positions(posed: Array, offsets: Array) -> Array:
    """Return the (24, 3) positions of the rest pose, standing on the ground, the origin between the ankles.

    A pelvis exactly above a root at the origin would be taken for connected to it, and not move, by Blender's FBX importer.
    """
    placed = np.zeros((NUM_JOINTS, 3))
    for joint, parent in enumerate(PARENTS[1:], start=1):
        placed[joint] = placed[parent] + posed[parent] @ offsets[joint]
    placed -= placed[[JOINT_INDEX["left_ankle"], JOINT_INDEX["right_ankle"]]].mean(axis=0)
    placed[:, 1] += TOE_ABOVE_SOLE_M - placed[:, 1].min()
    return placed


def _bone_axes(table: NameTable, rest: Array) -> Array:
    """Return the (24, 3, 3) orientation of the bones at rest, the axes in columns."""
    axes = np.broadcast_to(np.eye(3), (NUM_JOINTS, 3, 3)).copy()
    if not table.axes:
        return axes
    for joint, name in enumerate(JOINT_NAMES):
        side, _, part = name.partition("_")
        limb = "leg" if part in ("hip", "knee", "ankle", "foot") else "arm"
        rule = BONE_AXES[table.axes][f"{side}_{limb}" if part else "trunk"]
        along = unit(_along(joint, rest))
        second = _UP if part in ("ankle", "foot") else rule[2]
        axes[joint] = _frame(rule[0], along, rule[1], second)
    return axes


def _along(joint: int, rest: Array) -> Array:
    """Return the direction of a bone: to its main child, or that of its parent's bone for a leaf."""
    main = _MAIN_CHILD.get(JOINT_NAMES[joint])
    children = [JOINT_INDEX[main]] if main else [c for c in range(NUM_JOINTS) if PARENTS[c] == joint]
    return rest[children[0]] - rest[joint] if children else rest[joint] - rest[PARENTS[joint]]


def _frame(first: str, along: Array, second: str, towards: Array) -> Array:
    """Return a rotation whose axis ``first`` (such as "-x") points along a bone, and ``second`` as nearly as it can."""
    frame = np.zeros((3, 3))
    a, b = "xyz".index(first[1]), "xyz".index(second[1])
    frame[:, a] = along if first[0] == "+" else -along
    aside = unit(towards - (towards @ along) * along)
    frame[:, b] = aside if second[0] == "+" else -aside
    c = 3 - a - b
    frame[:, c] = np.cross(frame[:, (c + 1) % 3], frame[:, (c + 2) % 3])
    return frame


def _relative(prefix: str, bones: list[_Bone], fps: float) -> Animation:
    """Return the animation of bones given in the world."""
    index = {bone.name: number for number, bone in enumerate(bones)}
    parents = tuple(index.get(bone.parent, -1) for bone in bones)
    local: list[tuple[Array, ...]] = []
    for bone, parent in zip(bones, parents, strict=True):
        above = bones[parent] if parent >= 0 else None
        axes, rest = (np.eye(3), np.zeros(3)) if above is None else (above.axes, above.rest)
        turned, placed = (np.eye(3), np.zeros(3)) if above is None else (above.turned, above.placed)
        back = np.swapaxes(turned, -1, -2)
        moved = np.einsum("...ij,tj->ti" if above is None else "tij,tj->ti", back, bone.placed - placed)
        local.append((axes.T @ bone.axes, axes.T @ (bone.rest - rest), back @ bone.turned, moved))
    rest_rotations_, rest_translations = (np.stack([row[k] for row in local]) for k in (0, 1))
    rotations, translations = (np.stack([row[k] for row in local], axis=1) for k in (2, 3))
    names = tuple(prefix + bone.name for bone in bones)
    return Animation(names, parents, rest_rotations_, rest_translations, rotations, translations, fps)
