"""Inverse kinematics: the poses of a skeleton from its joints, and limbs that reach for a goal."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.rotations import (
    axis_angle_to_matrix,
    best_rotation,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    perpendicular,
    smallest_rotation,
    unit,
)
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS, PARENTS

Array = npt.NDArray[np.floating]

#: Shorter dances than this, 33 s, are converted at once.
_FRAMES_AT_A_TIME = 2_000
_CHILDREN = [[j for j, parent in enumerate(PARENTS) if parent == i] for i in range(NUM_JOINTS)]


def joints_to_poses(
    joints: Array,
    rest_offsets: Array | None = None,
    *,
    lower_by: Array | None = None,
    dtype: npt.DTypeLike = np.float64,
) -> tuple[Array, Array, Array]:
    """Find rotations under which the bones of the skeleton point as those of the joints do.

    Joints with several children take the rotation that fits all of them best (Kabsch); those with one child the
    smallest rotation from their parent, so bones do not twist about their own axis; leaves do not rotate. The twist of
    the chest against the pelvis is shared by the joints of the spine, or a skin would be wrung at one of them.

    Args:
        joints: (T, 24, 3) metres.
        rest_offsets: (24, 3) of the skeleton; by default the mean skeleton with the median bone lengths of ``joints``,
            and with their mean hips and chest.
        lower_by: (T, 3) metres, subtracted from all joints of a frame first.
        dtype: of the poses.

    Returns:
        (T, 24, 3) axis-angle, (T, 3) transl, and the (24, 3) rest offsets used. Their forward kinematics reproduces
        the direction of every bone whose joint has one child, and all joints if their bone lengths are constant and
        their pelvis and chest are rigid.
    """
    lower_by = np.zeros((len(joints), 3)) if lower_by is None else lower_by
    # The intermediate matrices of hours of dance do not fit in memory.
    blocks = [slice(i, i + _FRAMES_AT_A_TIME) for i in range(0, len(joints), _FRAMES_AT_A_TIME)]
    own_skeleton = rest_offsets is None
    if rest_offsets is None:
        rest = MEAN_OFFSETS.astype(np.float64)
        # Bone by bone: the lengths of all bones of hours are as large as the joints.
        lengths = np.empty(len(joints))
        medians = np.empty(NUM_JOINTS - 1)
        for bone, ends in enumerate(zip(range(1, NUM_JOINTS), PARENTS[1:], strict=True)):
            for some in blocks:
                child, parent = (joints[some, end].astype(np.float64) - lower_by[some] for end in ends)
                lengths[some] = np.linalg.norm(child - parent, axis=-1)
            medians[bone] = np.median(lengths, overwrite_input=True)
        scale = medians / np.linalg.norm(rest[1:], axis=-1)
        rest_offsets = np.concatenate([rest[:1], rest[1:] * scale[:, None]])
    rest_offsets = np.array(rest_offsets)
    poses, transl = np.empty(joints.shape, dtype), np.empty((len(joints), 3))
    carried: dict[int, Array] = {}
    for some in blocks:
        moved = joints[some].astype(np.float64) - lower_by[some, None]
        local, sums = _local_rotations(moved, rest_offsets)
        poses[some], transl[some] = matrix_to_axis_angle(local), moved[:, 0]
        carried = {joint: carried.get(joint, 0) + value for joint, value in sums.items()}
    if own_skeleton:  # hips and chest as this body carries them, not as the mean one does
        for joint, total in carried.items():
            rest_offsets[_CHILDREN[joint]] = total / len(joints)
    return poses, transl - rest_offsets[0], rest_offsets


def _local_rotations(joints: Array, rest_offsets: Array) -> tuple[Array, dict[int, Array]]:
    """Return (T, 24, 3, 3) rotations; and for joints with several children the sum of their offsets over all frames."""
    local = np.broadcast_to(np.eye(3), (len(joints), NUM_JOINTS, 3, 3)).copy()
    turned, sums = local.copy(), {}
    for joint, parent in enumerate(PARENTS):
        above = turned[:, parent] if parent >= 0 else np.broadcast_to(np.eye(3), (len(joints), 3, 3))
        children = _CHILDREN[joint]
        if children:
            bones = joints[:, children] - joints[:, joint, None]
            seen = np.einsum("tji,tcj->tci", above, bones)
            if len(children) == 1:
                local[:, joint] = smallest_rotation(rest_offsets[children[0]], seen[:, 0])
            else:
                local[:, joint] = best_rotation(rest_offsets[children], seen)
                sums[joint] = np.einsum("tji,tcj->ci", local[:, joint], seen)
        turned[:, joint] = above @ local[:, joint]
    _share_spine_twist(local, turned, rest_offsets)
    return local, sums


def _share_spine_twist(local: Array, turned: Array, rest_offsets: Array) -> None:
    """Give spine1 and spine2 a third each of the twist of spine3 about the spine; no joint moves.

    ``local`` (T, 24, 3, 3) is changed in place; ``turned`` are the global rotations before.
    """
    lower, middle, upper = (JOINT_INDEX[f"spine{number}"] for number in (1, 2, 3))
    axes = {lower: unit(rest_offsets[middle]), middle: unit(rest_offsets[upper])}
    quaternion = matrix_to_quaternion(local[:, upper])
    twist = 2 * np.arctan2(quaternion[:, 1:] @ axes[middle], quaternion[:, 0])
    twist = (twist + np.pi) % (2 * np.pi) - np.pi
    first, second = (
        turned[:, joint] @ axis_angle_to_matrix(share * twist[:, None] * axes[joint])
        for joint, share in ((lower, 1 / 3), (middle, 2 / 3))
    )
    local[:, lower] = np.swapaxes(turned[:, PARENTS[lower]], -1, -2) @ first
    local[:, middle] = np.swapaxes(first, -1, -2) @ second
    local[:, upper] = np.swapaxes(second, -1, -2) @ turned[:, upper]


def aim(joints: Array, turned: Array, rest_offsets: Array) -> Array:
    """Turn every bone of posed skeletons to point as between the given joints; twist about the bones stays.

    Joints with several children take the rotation that fits all of them best. Leaves move with their parents.

    Args:
        joints: (T, 24, 3) metres; bone lengths may differ from those of ``rest_offsets``.
        turned: (T, 24, 3, 3) global rotations to start from.
        rest_offsets: (24, 3) metres.

    Returns:
        (T, 24, 3, 3) rotations relative to the parent.
    """
    out, local = turned.copy(), np.empty_like(turned)
    for joint, parent in enumerate(PARENTS):
        children = _CHILDREN[joint]
        if children:
            bones = np.einsum("tij,cj->tci", turned[:, joint], rest_offsets[children])
            goals = joints[:, children] - joints[:, joint, None]
            turn = (
                smallest_rotation(bones[:, 0], goals[:, 0])
                if len(children) == 1
                else best_rotation(bones, goals)
            )
            out[:, joint] = turn @ turned[:, joint]
        else:
            out[:, joint] = out[:, parent] @ np.swapaxes(turned[:, parent], -1, -2) @ turned[:, joint]
        above = out[:, parent] if parent >= 0 else np.eye(3)
        local[:, joint] = np.swapaxes(above, -1, -2) @ out[:, joint]
    return local


def two_bone_ik(
    root: Array,
    middle: Array,
    end: Array,
    goal: Array,
    pole: Array,
    *,
    towards: Array | None = None,
    max_stretch: float = 0.999,
    straight_m: float = 0.02,
) -> tuple[Array, Array]:
    """Rotate the two bones of a limb so that its end reaches a goal and its middle joint stays on its side.

    Args:
        root: (..., 3) hip or shoulder, metres.
        middle: (..., 3) knee or elbow.
        end: (..., 3) ankle or wrist.
        goal: (..., 3) where the end shall be. A goal out of reach is approached along the line to it.
        pole: (..., 3) direction in which the middle joint of a straight limb bends.
        towards: (..., 3) point on whose side of the line from root to goal the middle joint shall be, even if it is less
            than ``straight_m`` away; by default the middle joint itself.
        max_stretch: largest distance from root to end, as a share of the length of both bones. Below 1 the middle joint
            keeps a side. Its inverse limits the smallest distance of bones of different lengths.
        straight_m: a limb whose middle joint is closer than this to the line from root to goal counts as straight.

    Returns:
        (..., 3, 3) rotations of the upper and of the lower bone. Both are in the world frame: multiply the global
        rotations of the two bones by them from the left.
    """
    upper_m = np.linalg.norm(middle - root, axis=-1, keepdims=True)
    lower_m = np.linalg.norm(end - middle, axis=-1, keepdims=True)
    aside = _reject((middle if towards is None else towards) - root, unit(goal - root))
    straight = np.linalg.norm(aside, axis=-1, keepdims=True) < (straight_m if towards is None else 1e-4)
    new_middle, new_end = place_limb(
        root, goal, np.where(straight, pole, aside), upper_m, lower_m, max_stretch=max_stretch
    )
    return (
        smallest_rotation(middle - root, new_middle - root),
        smallest_rotation(end - middle, new_end - new_middle),
    )


def turn_limb(
    local: Array,
    posed: tuple[Array, Array],
    limb: tuple[int, int, int],
    goal: Array,
    *,
    towards: Array | None = None,
    max_stretch: float = 0.999,
    straight_m: float = 0.02,
) -> tuple[Array, Array]:
    """Rotate a limb of posed bodies so that its end reaches a goal. Twist about the bones stays.

    Args:
        local: (T, 24, 3, 3) rotations relative to the parent; those of the first two joints are changed in place.
        posed: joints (T, 24, 3) in metres and global rotations (T, 24, 3, 3) of ``local``.
        limb: indices of hip, knee, ankle, or of shoulder, elbow, wrist.
        goal: (T, 3) where the end shall be, metres.
        towards: see :func:`two_bone_ik`.
        max_stretch: see :func:`two_bone_ik`.
        straight_m: see :func:`two_bone_ik`.

    Returns:
        (T, 3) new position of the end, and the new (T, 3, 3) global rotation of the lower bone.
    """
    joints, turned = posed
    root, bend, end = limb
    upper, lower = two_bone_ik(
        joints[:, root],
        joints[:, bend],
        joints[:, end],
        goal,
        turned[:, root, :, 2],
        towards=towards,
        max_stretch=max_stretch,
        straight_m=straight_m,
    )
    shin = (lower @ (joints[:, end] - joints[:, bend])[..., None])[..., 0]
    thigh = (upper @ (joints[:, bend] - joints[:, root])[..., None])[..., 0]
    reached = joints[:, root] + thigh + shin
    upper, lower = upper @ turned[:, root], lower @ turned[:, bend]
    local[:, root] = np.swapaxes(turned[:, PARENTS[root]], -1, -2) @ upper
    local[:, bend] = np.swapaxes(upper, -1, -2) @ lower
    return reached, lower


def turn_tip(
    local: Array, posed: tuple[Array, Array], chain: tuple[int, int], lower: Array, direction: Array
) -> None:
    """Turn a hand or foot to point in a direction, after :func:`turn_limb`.

    Args:
        local: (T, 24, 3, 3) rotations relative to the parent; that of the wrist or ankle is changed in place.
        posed: joints and global rotations before the limb was turned.
        chain: indices of wrist and hand, or of ankle and toe.
        lower: (T, 3, 3) global rotation of the lower bone.
        direction: (T, 3) from the wrist to the hand, of any length.
    """
    joints, turned = posed
    end, tip = chain
    turn = smallest_rotation(joints[:, tip] - joints[:, end], direction)
    local[:, end] = np.swapaxes(lower, -1, -2) @ turn @ turned[:, end]


def place_limb(
    root: Array,
    goal: Array,
    pole: Array,
    upper_m: Array | float,
    lower_m: Array | float,
    *,
    max_stretch: float = 0.999,
) -> tuple[Array, Array]:
    """Place the middle and the end joint of a limb of two bones that reaches for a goal.

    Args:
        root: (..., 3) metres.
        goal: (..., 3) metres.
        pole: (..., 3) direction in which the middle joint lies off the line from root to goal.
        upper_m: length of the bone from root to middle, one number or (..., 1).
        lower_m: length of the bone from middle to end, one number or (..., 1).
        max_stretch: see :func:`two_bone_ik`.

    Returns:
        (..., 3) positions of the middle and of the end joint.
    """
    far = np.linalg.norm(goal - root, axis=-1, keepdims=True)
    line = unit(goal - root)
    line = np.where(far < 1e-9, perpendicular(pole), line)
    least = np.maximum(np.abs(upper_m - lower_m) / max_stretch, 1e-9)
    # A limb of no length reaches nowhere.
    far = np.maximum(np.clip(far, least, max_stretch * (upper_m + lower_m)), 1e-9)
    aside = _reject(pole, line)
    along_line = np.linalg.norm(aside, axis=-1, keepdims=True) < 1e-9
    aside = np.where(along_line, perpendicular(line), unit(aside))
    along = (upper_m**2 + far**2 - lower_m**2) / (2 * far)
    off = np.sqrt(np.maximum(upper_m**2 - along**2, 0))
    return root + line * along + aside * off, root + line * far


def _reject(vectors: Array, line: Array) -> Array:
    """Return the part of (..., 3) vectors that is perpendicular to (..., 3) unit vectors."""
    return vectors - line * (vectors * line).sum(-1, keepdims=True)
