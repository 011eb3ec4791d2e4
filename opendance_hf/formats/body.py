"""Make motions of SMPL parameters that other projects estimated or generated: axes, hands, body, questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from opendance_hf.formats import FormatError
from opendance_hf.formats.motion import Motion
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS

Floats = npt.NDArray[np.floating]
Axis = Literal["y", "z"]

#: Joints of the body that SMPL, SMPL-H and SMPL-X have in common, the first in each.
NUM_BODY: Final = 22
#: From axes with z up to axes with y up: (x, y, z) becomes (x, z, -y).
_Z_TO_Y: Final = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
#: A body whose head is less than this above the hips along the assumed axis, and more along the other, m, is asked about.
_MIN_RISE_M: Final = 0.1


def real_array(path: Path, name: str, value: Any) -> Floats:
    """Convert a real number or an array of them to float64; refuse other objects, which numpy would accept.

    Raises:
        FormatError: naming the file, the array and its type.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.ndarray):
        raise FormatError(f"{path}: {name} is a {type(value).__name__}, expected an array of real numbers")
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise FormatError(f"{path}: {name} has the type {array.dtype.name}, expected real numbers")
    return array.astype(np.float64)


def body_poses(path: Path, name: str, poses: Floats) -> Floats:
    """Return the (T, 24, 3) axis-angle of SMPL's joints of (T, 3 J) poses of SMPL, SMPL-H or SMPL-X; hands are straight.

    Raises:
        FormatError: if fewer joints than the 22 of the body are there.
    """
    if poses.ndim == 3 and poses.shape[2] == 3:
        poses = poses.reshape(len(poses), -1)
    if poses.ndim != 2 or poses.shape[1] % 3 or poses.shape[1] < NUM_BODY * 3:
        raise FormatError(
            f"{path}: {name} has the shape {poses.shape}, expected (frames, 72), or another multiple of 3 from 66 on"
        )
    # SMPL has its own last two joints, the hands; those of SMPL-H and SMPL-X are fingers, jaw and eyes.
    joints = NUM_JOINTS if poses.shape[1] == NUM_JOINTS * 3 else NUM_BODY
    body = np.zeros((len(poses), NUM_JOINTS, 3))
    body[:, :joints] = poses[:, : joints * 3].reshape(len(poses), joints, 3)
    return body


def rotation_6d_to_axis_angle(values: Floats) -> Floats:
    """Convert (..., 6) numbers, the first two rows of rotation matrices as in PyTorch3D, to (..., 3) axis-angle."""
    first, second = values[..., :3], values[..., 3:]
    x = first / np.maximum(np.linalg.norm(first, axis=-1, keepdims=True), 1e-12)
    y = second - (x * second).sum(-1, keepdims=True) * x
    y = y / np.maximum(np.linalg.norm(y, axis=-1, keepdims=True), 1e-12)
    return matrix_to_axis_angle(np.stack([x, y, np.cross(x, y)], axis=-2))


def to_y_up(poses: Floats, transl: Floats) -> tuple[Floats, Floats]:
    """Turn (..., 24, 3) poses and (..., 3) translations from axes with z up to axes with y up."""
    poses = poses.copy()
    poses[..., 0, :] = matrix_to_axis_angle(_Z_TO_Y @ axis_angle_to_matrix(poses[..., 0, :]))
    return poses, transl @ _Z_TO_Y.T


def make_motion(
    path: Path,
    poses: Floats,
    transl: Floats,
    fps: float,
    *,
    up: Axis,
    asked: bool = True,
    meta: dict[str, Any] | None = None,
) -> Motion:
    """Return the motion of SMPL parameters, with the joints of the mean skeleton and its pelvis at the translation.

    Args:
        path: the file, for messages.
        poses: (D, T, 24, 3) axis-angle.
        transl: (D, T, 3) in metres.
        fps: frames per second.
        up: axis that points up in the file.
        asked: True if ``up`` is the format's, so that a body that lies along another axis is a question to the user.
        meta: see :class:`Motion`.

    Raises:
        FormatError: naming the file: other numbers of frames, NaN, or a body that lies along the axis that should be up.
    """
    if poses.shape[:2] != transl.shape[:2] or transl.shape[-1:] != (3,):
        raise FormatError(
            f"{path}: {poses.shape[1]} poses and translations of the shape {transl.shape[1:]} do not match"
        )
    if up == "z":
        poses, transl = to_y_up(poses, transl)
    # Extreme angles and translations give NaN or infinity, which Motion refuses.
    with np.errstate(all="ignore"):
        joints = forward_kinematics(poses, transl, MEAN_OFFSETS)
    if asked:
        _ask_for_axis(path, joints, up)
    offsets = np.repeat(MEAN_OFFSETS[None], len(poses), axis=0)
    try:
        return Motion(joints, fps, poses, transl, offsets, meta={"id": path.stem, **(meta or {})})
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None


def _ask_for_axis(path: Path, joints: Floats, up: Axis) -> None:
    hips = joints[..., [JOINT_INDEX["left_hip"], JOINT_INDEX["right_hip"]], :].mean(axis=-2)
    rise = np.median((joints[..., JOINT_INDEX["head"], :] - hips).reshape(-1, 3), axis=0)
    along, across = float(rise[1]), float(rise[2])
    if along < _MIN_RISE_M < abs(across):
        other = "y" if up == "z" else "z"
        raise FormatError(
            f"{path}: along {up}, which points up in files of this format, the head is {along:.2f} m above the hips, and "
            f"{abs(across):.2f} m away along {other}. Which axis points up? Answer with opendance convert --up {other}, or "
            f"--up {up} for a dancer who lies most of the time"
        )


def given_rate(path: Path, fps: float | None, made_by: str) -> float:
    """Return the frame rate that the user gave for a file that does not have one.

    Raises:
        FormatError: if none is given; the message asks for it.
    """
    if fps is None:
        raise FormatError(
            f"{path}: files of {made_by} do not have the frame rate. How many frames a second had the video? Answer with "
            "opendance convert --fps, such as --fps 30"
        )
    return fps
