"""Hold the motion of any hierarchy of joints, and convert it to the 24 joints of SMPL.

Readers of BVH, AMC and glTF make an :class:`Animation`; :func:`to_motion` names its joints with a table of
:mod:`opendance_hf.formats.rigs`, measures units, axes and sides, and returns a :class:`Motion`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.formats import FormatError
from opendance_hf.formats.body import Axis
from opendance_hf.formats.motion import Motion
from opendance_hf.formats.rigs import NameTable, detect_names
from opendance_hf.metrics.person import LEGS_M
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.ik import aim, joints_to_poses
from opendance_hf.motion.rotations import (
    axis_angle_to_matrix,
    best_rotation,
    matrix_to_axis_angle,
    smallest_rotation,
    unit,
)
from opendance_hf.motion.skeleton import JOINT_INDEX, JOINT_NAMES, MEAN_OFFSETS, NUM_JOINTS, PARENTS

Array = npt.NDArray[np.floating]

#: Most joints of a hierarchy, and most joints times frames: an hour at 120 Hz of 60 joints has 26 million. Rotations and
#: translations take 96 bytes each; with the copies that reading makes it was 700 (BVH) and 805 (glTF) at the peak, measured
#: on 3,000 frames of a skeleton of 24 joints: 18 and 21 GB for that hour.
MAX_JOINTS: Final = 1_000
MAX_VALUES: Final = 30_000_000
#: Joints times frames that a file may have beside four for each of its bytes: three minutes at 60 Hz of 37 joints.
_SPARE_VALUES: Final = 400_000
#: Larger coordinates are not those of a person in any unit.
_MAX_COORDINATE: Final = 1e9
#: Units of files in metres. CMU's conversions keep the unit of its ASF files, inches divided by 0.45.
UNITS_M: Final[dict[str, float]] = {
    "m": 1.0, "dm": 0.1, "CMU's unit (inch / 0.45)": 0.0254 / 0.45, "in": 0.0254, "cm": 0.01, "mm": 0.001,
}  # fmt: skip
#: Length of the leg from hip to ankle of an adult, m.
_LEG_M: Final = 0.82
#: The rest pose of a file is a T-pose if no long bone points farther from SMPL's than this.
_MAX_REST_DEG: Final = 25.0
#: Limbs that rest farther from SMPL's than this, as CMU's legs, which are 20 degrees apart, are turned to rest as SMPL's.
#: Bodies differ by less.
_STRAIGHT_DEG: Final = 10.0
#: Long bones, by the joint at their end.
_LONG: Final = (
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
)
#: Joints nearer to each other than this share of the size of the skeleton are one.
_COINCIDE: Final = 0.005
#: Joints without which a body cannot be posed.
_NEEDED: Final = (*_LONG, "left_hip", "right_hip", "left_shoulder", "right_shoulder", "pelvis", "neck")
#: Angle of the arms of an A-pose below the horizontal, degrees.
A_POSE_DEG: Final = 45.0
#: Larger changes of the distance between two joints than this are said, m.
_RIGID_M: Final = 1e-3

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Animation:
    """Motion of a hierarchy of J joints over T frames, in the unit and axes of its file.

    Attributes:
        names: of the joints.
        parents: index of each joint's parent, -1 for the root, which is the first; parents come before children.
        rest_rotations: (J, 3, 3) rotation of each joint relative to its parent in the rest pose.
        rest_translations: (J, 3) position of each joint relative to its parent in the rest pose.
        rotations: (T, J, 3, 3) relative to the parent.
        translations: (T, J, 3) relative to the parent.
        fps: frames per second.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    rest_rotations: Array
    rest_translations: Array
    rotations: Array
    translations: Array
    fps: float

    def world(self) -> tuple[Array, Array]:
        """Return (T, J, 3, 3) rotations and (T, J, 3) positions in the world of the file."""
        return chain(self.parents, self.rotations, self.translations)

    def world_at_rest(self) -> tuple[Array, Array]:
        """Return (J, 3, 3) rotations and (J, 3) positions of the rest pose in the world of the file."""
        rotations, positions = chain(self.parents, self.rest_rotations[None], self.rest_translations[None])
        return rotations[0], positions[0]


def chain(parents: Sequence[int], rotations: Array, translations: Array) -> tuple[Array, Array]:
    """Return the world rotations and positions of joints given relative to their parents.

    Args:
        parents: (J,) indices, -1 for roots; parents come before children.
        rotations: (T, J, 3, 3).
        translations: (T, J, 3).
    """
    turned, placed = np.array(rotations, dtype=np.float64), np.array(translations, dtype=np.float64)
    for joint, parent in enumerate(parents):
        if parent >= 0:
            placed[:, joint] = placed[:, parent] + np.einsum(
                "tij,tj->ti", turned[:, parent], placed[:, joint]
            )
            turned[:, joint] = turned[:, parent] @ turned[:, joint]
    return turned, placed


def even_rate(fps: float) -> float:
    """Return a rate without the digits that a file cut off: 120.0005 is 120."""
    return float(round(fps)) if abs(fps - round(fps)) < 1e-4 * fps else fps


def check_size(path: Path, frames: int, joints: int, num_bytes: int) -> None:
    """Raise FormatError if an animation has no frame or joint, or too many for memory or for a file of that size."""
    if not frames or not joints:
        raise FormatError(f"{path}: has {joints} joints and {frames} frames, expected at least one of each")
    if joints > MAX_JOINTS or frames * joints > MAX_VALUES:
        raise FormatError(
            f"{path}: {joints:,} joints and {frames:,} frames are too many: at most {MAX_JOINTS:,} joints, and "
            f"{MAX_VALUES:,} of both multiplied, are read; split the file"
        )
    # A pose of a joint takes some bytes; only files with few keys are longer than they look.
    if frames * joints > _SPARE_VALUES + 4 * num_bytes:
        raise FormatError(
            f"{path}: {joints:,} joints and {frames:,} frames are too many for a file of {num_bytes:,} bytes; it is damaged"
        )


def to_motion(
    path: Path,
    dancers: Sequence[Animation],
    *,
    kind: str,
    names: NameTable | None = None,
    up: Axis | None = None,
    fps: float | None = None,
) -> Motion:
    """Convert animations of the same frames, one a dancer, to the 24 joints of SMPL, in metres with y up.

    Positions of the joints that the table names are kept where their distances are constant; rotations keep the twist of
    the bones of the file. Joints that the file lacks lie halfway between their neighbours, hands beyond the forearms.

    Args:
        path: the file, for messages.
        dancers: animations of equal length and rate.
        kind: name of the format, for messages.
        names: table of names; by default the one of :data:`~opendance_hf.formats.rigs.NAMES` that fits.
        up: axis that points up in the file; by default the one along which bodies stand.
        fps: frames per second, if not that of the file.

    Raises:
        FormatError: if names are unknown, no unit makes a person of the skeleton, it stands along no axis or upside down,
            or left and right are exchanged.
    """
    if len({(len(dancer.rotations), dancer.fps) for dancer in dancers}) != 1:
        raise FormatError(f"{path}: dancers have different numbers of frames or rates; split the file")
    found = [_Found.of(path, dancer, names) for dancer in dancers]
    unit_name, scale = measured_unit(path, found[0].joints)
    measured, turn = upward(path, [one.joints for one in found], up)
    try:
        results = [_fit(path, one.turned(turn, scale)) for one in found]
    except np.linalg.LinAlgError:
        raise FormatError(f"{path}: the skeleton at rest has no shape; the file is damaged") from None
    rate = fps or dancers[0].fps
    log.info(
        "%s: read as %s: names of %s, %g FPS, %s up, unit %s, %s; joints move by up to %.1f mm to keep bones rigid",
        path, kind, found[0].table.name, rate, measured, unit_name, results[0].rest, max(r.error_mm for r in results),
    )  # fmt: skip
    poses, transl, offsets = (
        np.stack([getattr(r, n) for r in results]) for n in ("poses", "transl", "offsets")
    )
    joints = forward_kinematics(poses, transl, offsets[:, None])
    try:
        return Motion(joints, rate, poses, transl, offsets, meta={"id": path.stem})
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None


@dataclass(frozen=True)
class _Found:
    """Hold what a file says of SMPL's joints; NaN where it lacks one.

    Attributes:
        table: names of the joints.
        rotations, joints: (T, 24, 3, 3) and (T, 24, 3) in the world of the file.
        rest_rotations, rest_joints: (24, 3, 3) and (24, 3) of the rest pose.
    """

    table: NameTable
    rotations: Array
    joints: Array
    rest_rotations: Array
    rest_joints: Array

    @classmethod
    def of(cls, path: Path, animation: Animation, names: NameTable | None) -> _Found:
        table = names or detect_names(path, animation.names)
        with np.errstate(all="ignore"):  # numbers may be as large as they like, until they are checked
            rotations, positions = animation.world()
            rest_rotations, rest_positions = animation.world_at_rest()
            index = _apart(table.find(path, animation.names, _NEEDED), rest_positions)
        if same := [name for name in _NEEDED if index[JOINT_INDEX[name]] is None]:
            raise FormatError(
                f"{path}: at rest {', '.join(same)} are where the joints above them are; the skeleton is damaged"
            )
        lacking = [joint for joint, at in enumerate(index) if at is None]
        taken = [0 if at is None else at for at in index]
        arrays = [
            rotations[:, taken], positions[:, taken], rest_rotations[taken], rest_positions[taken],
        ]  # fmt: skip
        for array, axis in zip(arrays, (1, 1, 0, 0), strict=True):
            array[(slice(None),) * axis + (lacking,)] = np.nan
        if not all(
            (np.abs(np.delete(array, lacking, axis)) < _MAX_COORDINATE).all()
            for array, axis in zip(arrays, (1, 1, 0, 0), strict=True)
        ):
            raise FormatError(f"{path}: NaN, infinity or absurd coordinates in the motion")
        return cls(table, *arrays)

    def turned(self, turn: Array, scale: float) -> _Found:
        """Return the same in other axes and in another unit."""
        return _Found(
            self.table,
            turn @ self.rotations,
            self.joints @ turn.T * scale,
            turn @ self.rest_rotations,
            self.rest_joints @ turn.T * scale,
        )


def _apart(found: Sequence[Sequence[int]], rest: Array) -> list[int | None]:
    """Choose for each of SMPL's joints the first alternative that is not where the joint above it is.

    Skeletons of other tools have joints without a bone between them, as CMU's LowerBack, which is at the hips.
    """
    size = float(np.ptp(rest, axis=0).max())
    index: list[int | None] = []
    for joint, alternatives in enumerate(found):
        above = PARENTS[joint]
        while above >= 0 and index[above] is None:
            above = PARENTS[above]
        place = None if above < 0 else rest[index[above]]
        far = [a for a in alternatives if place is None or np.linalg.norm(rest[a] - place) > _COINCIDE * size]
        index.append(far[0] if far else None)
    return index


def _at(joints: Array, name: str) -> Array:
    return joints[..., JOINT_INDEX[name], :]


def measured_unit(path: Path, joints: Array) -> tuple[str, float]:
    """Return the name of the unit in which the legs of (T, 24, 3) joints have the length of a person's, and its metres.

    Raises:
        FormatError: if there is none.
    """
    legs = [
        np.linalg.norm(_at(joints, f"{side}_{a}") - _at(joints, f"{side}_{b}"), axis=-1)
        for side in ("left", "right")
        for a, b in (("hip", "knee"), ("knee", "ankle"))
    ]
    leg = float(np.median(legs, axis=1).sum() / 2) if len(joints) else 0.0
    fitting = {name: abs(np.log(leg * unit / _LEG_M)) for name, unit in UNITS_M.items() if leg > 0}
    best = min(fitting, key=fitting.__getitem__, default="")
    if not best or not LEGS_M[0] <= leg * UNITS_M[best] <= LEGS_M[1]:
        raise FormatError(
            f"{path}: a leg is {leg:.4g} long from hip to ankle; in none of the units {', '.join(UNITS_M)} is that "
            f"{LEGS_M[0]:g} to {LEGS_M[1]:g} m: scale the file first"
        )
    return best, UNITS_M[best]


def upward(path: Path, dancers: Sequence[Array], up: Axis | None) -> tuple[str, Array]:
    """Return the axis that points up and the (3, 3) rotation that makes it y; check that left is on the left.

    Args:
        path: the file, for messages.
        dancers: (T, 24, 3) joints of each; NaN where one is missing.
        up: the axis, if the user gave it.

    Raises:
        FormatError: if bodies stand along no axis or upside down, or left and right are exchanged.
    """
    bodies = np.concatenate(list(dancers))
    spine = unit(_at(bodies, "neck") - (_at(bodies, "left_ankle") + _at(bodies, "right_ankle")) / 2)
    mean = spine.mean(axis=0)
    axis = "xyz"[int(np.abs(mean).argmax())] if up is None else up
    along = float(mean["xyz".index(axis)])
    if axis != "x" and along < -0.5:
        raise FormatError(
            f"{path}: bodies stand upside down along {axis} (their mean direction is {np.round(mean, 2).tolist()}): turn the "
            "motion round in the tool that made it, and export it again"
        )
    if axis == "x" or (up is None and along < 0.5):
        raise FormatError(
            f"{path}: bodies do not stand along y or z (their mean direction is {np.round(mean, 2).tolist()}). Which axis "
            "points up? Answer with --up y or --up z"
        )
    turn = np.eye(3) if axis == "y" else np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    for joints in dancers:
        feet = [_at(joints, f"{s}_foot") - _at(joints, f"{s}_ankle") for s in ("left", "right")]
        across = (_at(joints, "left_hip") - _at(joints, "right_hip")) @ turn.T
        ahead = unit(np.cross(across, [0.0, 1.0, 0.0]))
        toes = np.nanmean(
            [(foot @ turn.T * ahead).sum(-1) for foot in feet if np.isfinite(foot).all()] or [1.0]
        )
        if toes < 0:
            raise FormatError(
                f"{path}: feet point backwards when the joint named left is on the left: left and right are exchanged, or "
                "the motion is mirrored; give a table of names with --names that says which is which"
            )
    return axis, turn


@dataclass(frozen=True)
class _Fitted:
    poses: Array
    transl: Array
    offsets: Array
    rest: str
    error_mm: float


def _fit(path: Path, found: _Found) -> _Fitted:
    """Return SMPL's rotations and a rigid skeleton, see :func:`to_motion`."""
    given = np.isfinite(found.joints[0, :, 0])
    rest, turned = _body_rotations(path, found)
    joints = _filled(found.joints)
    offsets = np.zeros((NUM_JOINTS, 3))
    for joint, parent in enumerate(PARENTS):
        if not given[joint]:
            turned[:, joint] = turned[:, parent]  # joints that the file lacks do not turn
    rigid = True
    for joint, parent in enumerate(PARENTS[1:], start=1):
        bones = np.einsum("tji,tj->ti", turned[:, parent], joints[:, joint] - joints[:, parent])
        offsets[joint] = bones.mean(axis=0)
        rigid &= float(np.linalg.norm(bones - offsets[joint], axis=-1).max()) < _RIGID_M
    offsets[0] = 0
    if rigid:
        local = turned.copy()
        local[:, 1:] = np.swapaxes(turned[:, PARENTS[1:]], -1, -2) @ turned[:, 1:]
    else:
        local = aim(joints, turned, offsets)
    poses = matrix_to_axis_angle(local)
    moved = forward_kinematics(poses, joints[:, 0], offsets) - found.joints
    error = float(np.nanmax(np.linalg.norm(moved, axis=-1)) * 1000)
    return _Fitted(poses, joints[:, 0], offsets, rest, error)


def _body_rotations(path: Path, found: _Found) -> tuple[str, Array]:
    """Return what the rest pose is, and the (T, 24, 3, 3) world rotations of SMPL's joints; NaN where there is none."""
    for name, degrees in (("T-pose", 0.0), ("A-pose", A_POSE_DEG)):
        posed = rest_rotations(degrees)
        facing = _facing(found.rest_joints, posed)
        if _rest_error(found.rest_joints, facing @ posed) < _MAX_REST_DEG:
            resting = _resting(found.rest_joints, facing @ posed)
            fixed = np.swapaxes(found.rest_rotations, -1, -2) @ resting
            return f"{name} at rest", found.rotations @ fixed
    # Bones of the rest pose point anywhere: a joint of the file differs from SMPL's by a constant rotation, that which
    # makes the mean twist of its bones zero.
    poses, _, _ = joints_to_poses(_filled(found.joints))
    local = axis_angle_to_matrix(poses)
    plain = local.copy()
    for joint, parent in enumerate(PARENTS[1:], start=1):
        plain[:, joint] = plain[:, parent] @ local[:, joint]
    between = np.einsum("tkji,tkjl->kil", found.rotations, plain)
    given = np.isfinite(between[:, 0, 0])
    u, _, vt = np.linalg.svd(np.where(given[:, None, None], between, np.eye(3)))
    u[..., -1] *= np.sign(np.linalg.det(u @ vt))[:, None]
    return "no T-pose or A-pose at rest, so the mean twist is taken for zero", found.rotations @ (u @ vt)


def _filled(joints: Array) -> Array:
    """Return (T, 24, 3) joints with those that are NaN halfway between their neighbours, or beyond, for hands and feet."""
    out = joints.copy()
    shin = JOINT_INDEX["left_ankle"]
    length = np.linalg.norm(joints[:, shin] - joints[:, PARENTS[shin]], axis=-1)
    size = float(np.median(length) / np.linalg.norm(MEAN_OFFSETS[shin]))
    for joint, parent in enumerate(PARENTS):
        if np.isfinite(out[0, joint, 0]):
            continue
        below = joint
        while below >= 0 and np.isnan(joints[0, below, 0]):
            below = next((child for child in range(NUM_JOINTS) if PARENTS[child] == below), -1)
        if below >= 0:
            out[:, joint] = (out[:, parent] + joints[:, below]) / 2
        else:
            bone = unit(out[:, parent] - out[:, PARENTS[parent]])
            out[:, joint] = out[:, parent] + bone * np.linalg.norm(MEAN_OFFSETS[joint]) * size
    return out


def rest_rotations(arms_deg: float) -> Array:
    """Return the (24, 3, 3) world rotations of SMPL's joints in a rest pose with arms that hang by an angle below a T."""
    turned = np.broadcast_to(np.eye(3), (NUM_JOINTS, 3, 3)).copy()
    for joint, name in enumerate(JOINT_NAMES):
        side, _, part = name.partition("_")
        if part in ("shoulder", "elbow", "wrist", "hand"):
            angle = np.radians(-arms_deg if side == "left" else arms_deg)
            turned[joint] = axis_angle_to_matrix(np.array([0.0, 0.0, angle]))
    return turned


def _facing(rest_joints: Array, posed: Array) -> Array:
    """Return the rotation from SMPL's rest pose to that of a file, of those between axes if one is near."""
    true, own = [], []
    for joint in (JOINT_INDEX[name] for name in _LONG):
        own.append(posed[PARENTS[joint]] @ MEAN_OFFSETS[joint])
        true.append(rest_joints[joint] - rest_joints[PARENTS[joint]])
    # The chain of the spine has other joints in every file.
    own.append(MEAN_OFFSETS[[JOINT_INDEX[n] for n in ("spine1", "spine2", "spine3", "neck")]].sum(axis=0))
    true.append(_at(rest_joints, "neck") - _at(rest_joints, "pelvis"))
    feet = [JOINT_INDEX[f"{side}_foot"] for side in ("left", "right")]
    for joint in feet:
        if np.isfinite(rest_joints[joint]).all():
            own.append(MEAN_OFFSETS[joint])
            true.append(rest_joints[joint] - rest_joints[PARENTS[joint]])
    turn = best_rotation(unit(np.array(own)), unit(np.array(true)))
    near = np.round(turn)
    is_axes = np.allclose(near @ near.T, np.eye(3)) and np.abs(near - turn).max() < 0.4
    return near if is_axes else turn


def _rest_error(rest_joints: Array, turned: Array) -> float:
    """Return the largest angle between a long bone of a file at rest and that of SMPL's body, degrees."""
    return max(_rest_angle(rest_joints, turned, JOINT_INDEX[name]) for name in _LONG)


def _rest_angle(rest_joints: Array, turned: Array, joint: int) -> float:
    """Return the angle between the bone to a joint of a file at rest and that of SMPL's body, degrees."""
    parent = PARENTS[joint]
    own, true = turned[parent] @ MEAN_OFFSETS[joint], rest_joints[joint] - rest_joints[parent]
    if not np.linalg.norm(true):
        return 180.0
    return float(np.degrees(np.arccos(np.clip(unit(own) @ unit(true), -1, 1))))


def _resting(rest_joints: Array, turned: Array) -> Array:
    """Return the (24, 3, 3) rotations of SMPL's joints in the rest pose of a file, whose limbs may be aside of a T-pose."""
    out = turned.copy()
    for pair in zip(_LONG[::2], _LONG[1::2], strict=True):
        joints = [JOINT_INDEX[name] for name in pair]
        if max(_rest_angle(rest_joints, turned, joint) for joint in joints) > _STRAIGHT_DEG:
            for joint in joints:
                parent = PARENTS[joint]
                own, true = turned[parent] @ MEAN_OFFSETS[joint], rest_joints[joint] - rest_joints[parent]
                out[parent] = smallest_rotation(own, true) @ turned[parent]
    return out
