"""Make motions of files that hold positions of joints and no rotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from opendance_hf.formats import FormatError
from opendance_hf.formats.body import Axis, Floats, check_joints
from opendance_hf.formats.motion import Motion
from opendance_hf.metrics.person import LEGS_M
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.ik import joints_to_poses
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, PARENTS

HANDS: Final = ("left_hand", "right_hand")
FEET: Final = ("left_foot", "right_foot")


def leg_length(joints: Floats) -> float:
    """Return the median length from hip over knee to ankle of (T, 24, 3) joints, over both legs, in their unit."""
    lengths = []
    for side in ("left", "right"):
        hip, knee, ankle = (joints[:, JOINT_INDEX[f"{side}_{name}"]] for name in ("hip", "knee", "ankle"))
        length = np.linalg.norm(knee - hip, axis=-1) + np.linalg.norm(ankle - knee, axis=-1)
        lengths.append(np.median(length))
    return float(np.mean(lengths))


#: Of the mean skeleton.
MEAN_LEG_M: Final = leg_length(
    forward_kinematics(np.zeros((1, 24, 3)), np.zeros((1, 3)), MEAN_OFFSETS.astype(np.float64))
)


#: Largest coordinate, metres. The singular value decomposition of LAPACK may not end with numbers near the largest float.
_FARTHEST_M: Final = 1e6


def motion_of_positions(
    path: Path,
    joints: Floats,
    fps: float,
    *,
    asked: bool = True,
    unknown: tuple[str, ...] = HANDS,
    unit: str = "metres",
    meta: dict[str, Any] | None = None,
) -> Motion:
    """Make the motion of one dancer: poses by inverse kinematics on a skeleton with the bone lengths of the person.

    The twist of limbs about their own axes is not in positions, and is zero.

    Args:
        path: the file, for messages and ``meta["id"]``.
        joints: (T, 24, 3) metres, y up.
        fps: frames per second.
        asked: True to check that the body stands along y.
        unknown: hands or feet that the file lacks; their places are ignored, and they do not move against forearm or shin.
        unit: of the file, for messages.
        meta: metadata of the motion.

    Raises:
        FormatError: if there are no frames, numbers are not finite, or the body is not that of a person in this unit.
    """
    if not len(joints) or not np.isfinite(joints).all():
        raise FormatError(
            f"{path}: no frames, or NaN or infinity in its positions; save it again without them"
        )
    if (farthest := float(np.abs(joints).max())) > _FARTHEST_M:
        raise FormatError(
            f"{path}: read in {unit}, a position is {farthest:.3g} m from the origin, expected at most {_FARTHEST_M:g} m; the "
            "file is damaged or in another unit"
        )
    with np.errstate(all="ignore"):
        leg = leg_length(joints)
    if not LEGS_M[0] <= leg <= LEGS_M[1]:
        raise FormatError(
            f"{path}: read in {unit}, its legs are {leg:.3g} m long, expected {LEGS_M[0]:g} to {LEGS_M[1]:g} m: the "
            f"file is in another unit, or of other points; save it again in {unit}"
        )
    joints = joints.copy()
    ends = [JOINT_INDEX[name] for name in unknown]
    for end in ends:
        bone = np.linalg.norm(MEAN_OFFSETS[end]) * leg / MEAN_LEG_M
        joints[:, end] = joints[:, PARENTS[end]] + [0, -bone, 0]
    # Extreme numbers give NaN or infinity, which Motion refuses.
    with np.errstate(all="ignore"):
        try:
            poses, transl, offsets = joints_to_poses(joints)
        except np.linalg.LinAlgError:
            raise FormatError(f"{path}: its positions are not those of a body") from None
        poses[:, [PARENTS[end] for end in ends]] = 0
        joints = forward_kinematics(poses, transl, offsets)
    try:
        motion = Motion(
            joints[None],
            fps,
            poses[None],
            transl[None],
            offsets[None],
            meta={"id": path.stem, **(meta or {})},
        )
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
    check_joints(path, motion.joints, fps, up="y", asked=asked)
    return motion


def positions_to_y_up(positions: Floats, up: Axis | None) -> Floats:
    """Turn (..., 3) positions to y up; None is y."""
    if up != "z":
        return positions
    x, y, z = np.moveaxis(positions, -1, 0)
    return np.stack([x, z, -y], axis=-1)
