"""Make motions of SMPL parameters that other projects estimated or generated: axes, hands, body, questions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from opendance_hf.formats import FormatError
from opendance_hf.formats.motion import Motion, check_input
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS
from opendance_hf.pickles import MAX_BYTES, PickleError, load_pickled_arrays

Floats = npt.NDArray[np.floating]
Axis = Literal["y", "z"]

#: Joints of the body that SMPL, SMPL-H and SMPL-X have in common, the first in each.
NUM_BODY: Final = 22
#: From axes with z up to axes with y up: (x, y, z) becomes (x, z, -y).
_Z_TO_Y: Final = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
#: Pelvis of the mean neutral body in the rest pose, m. SMPL puts the pelvis at the translation plus this, EDGE at the
#: translation. Other shapes differ by some centimetres. Sources: SMPL: ``smpl_offsets`` of many projects; SMPL-H and SMPL-X:
#: ``root_trans_frame`` in a fork of fairmotion's ``fairmotion/data/amass.py``. They are ``J_regressor @ v_template``.
REST_PELVIS: Final[dict[str, tuple[float, float, float]]] = {
    "smpl": (-0.00179506, -0.22333345, 0.02821913),
    "smplh": (-0.00217366, -0.24078917, 0.02858375),
    "smplx": (0.00312326, -0.35140747, 0.01203655),
}
#: A body whose head is less than this above the hips along the assumed axis, and more along the other, or more than this
#: below them, m, is asked about.
_MIN_RISE_M: Final = 0.1
#: A pelvis that is higher or lower than this in half of the frames, m, or moves farther in a second, is not in metres: the
#: fastest sprinters run 12 m in a second.
_MAX_HEIGHT_M: Final = 10.0
_MAX_SPEED_MPS: Final = 15.0


def load_pickle(path: Path, *, max_bytes: int | None = None) -> dict[str, Any]:
    """Read the dictionary of a pickle without executing code, see :func:`opendance_hf.pickles.load_pickled_arrays`.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is not a pickle of plain data, or too large.
    """
    check_input(path, MAX_BYTES if max_bytes is None else max_bytes)
    try:
        return load_pickled_arrays(path, max_bytes=max_bytes)
    except PickleError as error:
        raise FormatError(str(error)) from None


def other_content(path: Path, names: Iterable[Any], expected: str) -> FormatError:
    """Return the error for a file that does not have the arrays of a format, with the names of those that it has."""
    held = ascii(", ".join(sorted(map(str, names)))[:200])[1:-1] or "nothing"
    return FormatError(f"{path}: contains {held}; expected {expected}")


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


def to_y_up(poses: Floats, transl: Floats, pelvis: Floats) -> tuple[Floats, Floats]:
    """Turn a motion from axes with z up to axes with y up.

    Args:
        poses: (..., 24, 3) axis-angle.
        transl: (..., 3) translation; the pelvis is at transl + pelvis, before and after.
        pelvis: (3,) pelvis of the rest body, which does not turn with the axes.
    """
    poses = poses.copy()
    poses[..., 0, :] = matrix_to_axis_angle(_Z_TO_Y @ axis_angle_to_matrix(poses[..., 0, :]))
    return poses, (transl + pelvis) @ _Z_TO_Y.T - pelvis


def to_z_up(poses: Floats, transl: Floats, pelvis: Floats) -> tuple[Floats, Floats]:
    """Turn a motion from axes with y up to axes with z up, the inverse of :func:`to_y_up`, with the same arguments."""
    poses = poses.copy()
    poses[..., 0, :] = matrix_to_axis_angle(_Z_TO_Y.T @ axis_angle_to_matrix(poses[..., 0, :]))
    return poses, (transl + pelvis) @ _Z_TO_Y - pelvis


def make_motion(
    path: Path,
    poses: Floats,
    transl: Floats,
    fps: float,
    *,
    up: Axis,
    asked: bool = True,
    body: str | None = None,
    meta: dict[str, Any] | None = None,
) -> Motion:
    """Return the motion of SMPL parameters, with the joints of the mean skeleton.

    Args:
        path: the file, for messages.
        poses: (D, T, 24, 3) axis-angle.
        transl: (D, T, 3) in metres.
        fps: frames per second.
        up: axis that points up in the file.
        asked: True if ``up`` is the format's, so that a body along another axis or upside down is a question to the user.
        body: key of :data:`REST_PELVIS` of the model to which the translation belongs; None for the pelvis itself.
        meta: see :class:`Motion`.

    Raises:
        FormatError: naming the file: other numbers of frames, NaN, a body that does not stand along the axis that should be
            up, or a pelvis that is not in metres.
    """
    if poses.shape[:2] != transl.shape[:2] or transl.shape[-1:] != (3,):
        raise FormatError(
            f"{path}: {poses.shape[1]} poses and translations of the shape {transl.shape[1:]} do not match"
        )
    offsets = MEAN_OFFSETS.copy()
    offsets[0] = REST_PELVIS[body] if body else 0
    # Extreme angles and translations give NaN or infinity, which Motion refuses.
    with np.errstate(all="ignore"):
        if up == "z":
            poses, transl = to_y_up(poses, transl, offsets[0])
        joints = forward_kinematics(poses, transl, offsets)
    every = np.repeat(offsets[None], len(poses), axis=0)
    try:
        motion = Motion(joints, fps, poses, transl, every, meta={"id": path.stem, **(meta or {})})
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
    check_joints(path, joints, fps, up=up, asked=asked)
    return motion


def check_joints(path: Path, joints: Floats, fps: float, *, up: Axis, asked: bool) -> None:
    """Refuse (D, T, 24, 3) joints, turned to y up, of bodies that lie along ``up`` or are not in metres.

    Args:
        path: the file, for messages.
        joints: metres.
        fps: frames per second.
        up: axis that pointed up in the file.
        asked: True if nobody said so, and the direction of the body is to be checked.

    Raises:
        FormatError: naming the file, what was measured, and the answer that is needed.
    """
    if asked:
        _ask_for_axis(path, joints, up)
    _check_metres(path, joints[..., 0, :], fps)


def _ask_for_axis(path: Path, joints: Floats, up: Axis) -> None:
    """Refuse (D, T, 24, 3) joints, turned to y up, of a body that lies or is upside down in the median frame."""
    hips = joints[..., [JOINT_INDEX["left_hip"], JOINT_INDEX["right_hip"]], :].mean(axis=-2)
    rise = np.median((joints[..., JOINT_INDEX["head"], :] - hips).reshape(-1, 3), axis=0)
    other: Axis = "y" if up == "z" else "z"
    along, across = float(rise[1]), float(rise[2] if up == "y" else -rise[2])
    where = f"{path}: along {up}, which points up in files of this format, the head is {abs(along):.2f} m"
    turn = "turn poses and translation by half a turn about x, and save the file again"
    if along < -_MIN_RISE_M and abs(across) < -along:
        raise FormatError(
            f"{where} below the hips. Does {up} point down, as in the axes of a camera? Then {turn}. Answer with opendance "
            f"convert --up {up} for a dancer who is upside down most of the time"
        )
    if along < _MIN_RISE_M < abs(across):
        raise FormatError(
            f"{where} {'above' if along > 0 else 'below'} the hips, and {abs(across):.2f} m away along {other}. Which axis "
            f"points up? Answer with opendance convert --up {other}"
            + (f" (it points down: first {turn})" if across < 0 else "")
            + f", or --up {up} for a dancer who lies most of the time"
        )


def _check_metres(path: Path, pelvis: Floats, fps: float) -> None:
    """Refuse (D, T, 3) positions of the pelvis at absurd heights or speeds: they are in another unit than metres."""
    remedy = (
        "is the translation in centimetres or millimetres? Divide it by 100 or 1000, and save the file again"
    )
    height = float(np.abs(np.median(pelvis[..., 1], axis=1)).max())
    if height > _MAX_HEIGHT_M:
        raise FormatError(
            f"{path}: the pelvis is {height:.3g} m above or below zero, expected at most {_MAX_HEIGHT_M:g} m; {remedy}"
        )
    # Over a whole second, so that noise does not count.
    second = max(1, round(fps))
    moved = np.linalg.norm(pelvis[:, second:] - pelvis[:, :-second], axis=-1)
    speed = float(np.median(moved, axis=1).max()) if moved.size else 0.0
    if speed > _MAX_SPEED_MPS:
        raise FormatError(
            f"{path}: the pelvis moves {speed:.3g} m in a second, expected at most {_MAX_SPEED_MPS:g} m; {remedy}"
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
