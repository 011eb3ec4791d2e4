"""Shape the body to a dancer's bones.

Limbs are turned and stretched along their bones, the torso is bent and stretched between hips, shoulders, neck and
head; hands, feet and head keep their form and change their size. All parts meet in the joints, and the skin weights
blend them as they blend poses, so the surface stays closed. The joints of the spine do not shape the torso, because
skeletons place them differently; they only decide where it bends.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.body.mesh import TOE_ABOVE_SOLE_M, BodyMesh, rest_joints
from opendance_hf.errors import OpenDanceError
from opendance_hf.motion.rotations import smallest_rotation, unit
from opendance_hf.motion.skeleton import JOINT_INDEX, NUM_JOINTS, PARENTS

Array = npt.NDArray[np.floating]

_J: Final = JOINT_INDEX
#: Joints whose bone is stretched, and where it ends.
_LIMBS: Final = tuple(
    (tuple(_J[f"{side}_{joint}"] for joint in joints))
    for side in ("left", "right")
    for joints in (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist"))
)
_SPINE: Final = tuple(_J[name] for name in ("pelvis", "spine1", "spine2", "spine3"))
#: Half the height over which the torso passes from one joint of the spine to the next, at average size.
_BEND_M: Final = 0.075
#: Sizes that a skeleton may have, against the average.
_SIZES: Final = (0.05, 20.0)


class BodyShapeError(OpenDanceError, ValueError):
    """Raised for a skeleton that cannot have a body; the message says what was expected."""


def shape_body(mesh: BodyMesh, rest_offsets: Array) -> BodyMesh:
    """Return the body of a dancer with these bones.

    Args:
        mesh: the body as :func:`~opendance_hf.body.mesh.load_mesh` returns it.
        rest_offsets: (24, 3) parent-to-joint offsets of a T-pose that faces +z, metres; row 0 is the pelvis of the
            rest body.

    Returns:
        The body with ``rest_offsets``; its vertices keep their order.

    Raises:
        BodyShapeError: if the shape is not (24, 3), a number is not finite, or the bones are together less than a
            twentieth or more than 20 times as long as average.
    """
    offsets, size = _check(mesh, rest_offsets)
    start, goal = mesh.joints.astype(np.float64), rest_joints(offsets)
    start -= mesh.rest_offsets[0]
    pelvis = goal[0].copy()
    goal = goal - pelvis
    points = mesh.vertices - mesh.rest_offsets[0].astype(np.float64)
    table: Array = np.zeros((len(points), NUM_JOINTS))
    np.put_along_axis(table, mesh.bones, mesh.weights, axis=1)

    moved = np.zeros_like(points)
    torso = _bend_torso(points, start, goal, size)
    for joint in np.flatnonzero(table.any(axis=0)):
        follows = table[:, joint] > 0
        at = _move(int(joint), points[follows], torso[follows], start, goal, size)
        moved[follows] += table[follows, joint, None] * at

    table = spread_spine(moved, table, goal, size)
    bones = np.argsort(-table, axis=1, kind="stable")[:, :4]
    weights = np.take_along_axis(table, bones, axis=1)
    return replace(
        mesh,
        vertices=(moved + pelvis).astype(np.float32),
        rest_offsets=offsets.astype(np.float32),
        bones=bones.astype(np.int32),
        weights=(weights / weights.sum(axis=1, keepdims=True)).astype(np.float32),
    )


def _check(mesh: BodyMesh, rest_offsets: Array) -> tuple[Array, float]:
    offsets = np.array(rest_offsets, dtype=np.float64)
    if offsets.shape != (NUM_JOINTS, 3):
        raise BodyShapeError(f"rest_offsets has shape {offsets.shape}: expected (24, 3)")
    if not np.isfinite(offsets).all():
        joint = int(np.flatnonzero(~np.isfinite(offsets).all(axis=1))[0])
        raise BodyShapeError(f"rest_offsets[{joint}] is {offsets[joint].tolist()}: expected finite metres")
    size = _length(offsets[1:]) / _length(mesh.rest_offsets[1:])
    if not _SIZES[0] <= size <= _SIZES[1]:
        raise BodyShapeError(
            f"rest_offsets describe a skeleton of {size:.3g} times the average size: expected {_SIZES[0]:g} to "
            f"{_SIZES[1]:g}; the unit is metres"
        )
    return offsets, size


def _length(offsets: Array) -> float:
    return float(np.linalg.norm(offsets, axis=-1).sum())


def _move(joint: int, points: Array, torso: Array, start: Array, goal: Array, size: float) -> Array:
    """Return the (N, 3) places of points that follow one joint."""
    for limb in _LIMBS:
        if joint in limb[:2]:
            return _stretch(joint, limb, points, start, goal, size)
        if joint == limb[2] or PARENTS[joint] == limb[2]:
            return _move_end(limb[2], points, start, goal, size)
    if joint == _J["head"]:  # at its joint, except where that would push the neck into the chest
        return _bend_torso(start[[joint]], start, goal, size) + size * (points - start[joint])
    for side in ("left", "right"):
        if joint == _J[f"{side}_collar"]:  # as the torso, and so that the shoulder meets its joint
            shoulder = _J[f"{side}_shoulder"]
            return torso + goal[shoulder] - _bend_torso(start[[shoulder]], start, goal, size)
    return torso


def _stretch(
    joint: int, limb: tuple[int, ...], points: Array, start: Array, goal: Array, size: float
) -> Array:
    """Turn and stretch the points around one bone of a limb."""
    end = limb[limb.index(joint) + 1]
    before, after = start[end] - start[joint], goal[end] - goal[joint]
    length = float(np.linalg.norm(before))
    bones = list(limb[1:]), list(limb[:-1])
    whole = [_length(joints[bones[0]] - joints[bones[1]]) for joints in (start, goal)]
    girth = _girth(whole[1] / whole[0], size)
    along = unit(before)
    at = points - start[joint]
    lengthwise = (at @ along)[:, None] * along
    stretched = lengthwise * (np.linalg.norm(after) / length) + girth * (at - lengthwise)
    return goal[joint] + stretched @ smallest_rotation(before, after).T


def _girth(ratio: float, size: float) -> float:
    """Return the factor of a limb's thickness: long limbs of a body are thicker, but not by as much."""
    return size * float(np.sqrt(np.clip(ratio / size, 0.5, 2.0)))


def _move_end(joint: int, points: Array, start: Array, goal: Array, size: float) -> Array:
    """Move a hand or a foot; feet turn about the vertical only and reach the ground."""
    end = PARENTS.index(joint)
    before, after = start[end] - start[joint], goal[end] - goal[joint]
    scale = np.full(3, size)
    if joint in (_J["left_ankle"], _J["right_ankle"]):
        fall = [-before[1] + TOE_ABOVE_SOLE_M, -after[1] + size * TOE_ABOVE_SOLE_M]
        scale[1] = np.clip(fall[1] / fall[0], 0.5 * size, 2 * size)
        before, after = before * [1, 0, 1], after * [1, 0, 1]
    return goal[joint] + (scale * (points - start[joint])) @ smallest_rotation(before, after).T


def _bend_torso(points: Array, start: Array, goal: Array, size: float) -> Array:
    """Move points of the torso: heights, middle and width pass smoothly from hips to shoulders, neck and head."""
    from scipy.interpolate import PchipInterpolator

    levels, goals = _torso_levels(start), _torso_levels(goal)
    step = np.diff(levels[:, 1])
    rise = np.maximum(np.diff(goals[:, 1]), 0.35 * size * step)
    heights = goals[0, 1] + np.concatenate([[0.0], np.cumsum(rise)])
    at = np.clip(points[:, 1], levels[0, 1], levels[-1, 1])
    y = PchipInterpolator(levels[:, 1], heights)(at)
    y += size * (points[:, 1] - at)
    middle = PchipInterpolator(levels[:, 1], goals[:, [0, 2]] - size * levels[:, [0, 2]])(at)
    ratios = [_width(goal, joint) / _width(start, joint) / size for joint in ("hip", "shoulder")]
    widths = np.clip(ratios, [0.9, 0.65], [1.15, 1.6])
    wide = np.interp(at, levels[:, 1], [widths[0], widths[1], 1.0, 1.0])
    x = size * wide * points[:, 0] + middle[:, 0]
    return np.stack([x, y, size * points[:, 2] + middle[:, 1]], axis=-1)


def _torso_levels(joints: Array) -> Array:
    """Return (4, 3): the middles of hips and shoulders, the neck and the head."""
    pairs = [joints[[_J[f"left_{name}"], _J[f"right_{name}"]]].mean(axis=0) for name in ("hip", "shoulder")]
    return np.stack([*pairs, joints[_J["neck"]], joints[_J["head"]]])


def _width(joints: Array, name: str) -> float:
    return float(np.linalg.norm(joints[_J[f"left_{name}"]] - joints[_J[f"right_{name}"]]))


def spread_spine(points: Array, table: Array, joints: Array, size: float = 1.0) -> Array:
    """Share the torso's weights among pelvis and spine by height, each joint's bend centred on it.

    Args:
        points: (V, 3) vertices at rest, metres.
        table: (V, 24) shares of the joints.
        joints: (24, 3) at rest.
        size: of the body against the average.

    Returns:
        (V, 24) shares with the same sums.
    """
    levels = np.maximum.accumulate(joints[list(_SPINE), 1])[1:]
    x = np.clip((points[:, 1:2] - levels) / (2 * size * _BEND_M) + 0.5, 0, 1)
    past = np.concatenate(
        [np.ones((len(points), 1)), x * x * (3 - 2 * x), np.zeros((len(points), 1))], axis=1
    )
    out = table.copy()
    out[:, _SPINE] = table[:, _SPINE].sum(axis=1, keepdims=True) * (past[:, :-1] - past[:, 1:])
    return out
