"""Read and write motions as a table (``.csv``) that spreadsheets open: one row a frame and dancer, in metres and radians.

Columns are ``frame`` and ``dancer`` from 0, ``time_s``, then ``pelvis_x_m``, ``pelvis_y_m``, ``pelvis_z_m`` and so on for
SMPL's 24 joints in the world, y up, and ``pelvis_rx_rad`` ... for the axis-angle of each joint relative to its parent, if the
motion has poses. Numbers are written so that they are read back exactly. Skeleton and translation follow from joints and
angles. Columns of other names are ignored, and rows may be in any order.
"""

from __future__ import annotations

import csv
import logging
import math
from array import array
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.files import atomic_write
from opendance_hf.formats import FormatError
from opendance_hf.formats.body import given_rate
from opendance_hf.formats.motion import Motion, check_input, check_suffix
from opendance_hf.formats.textlines import limited_lines
from opendance_hf.motion.body import forward_kinematics, pose_joints
from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.motion.skeleton import JOINT_NAMES, NUM_JOINTS, PARENTS

Floats = npt.NDArray[np.floating]

#: Suffix of the files that are written.
SUFFIX: Final = ".csv"
_MAX_BYTES: Final = 2**30
_KEYS: Final = ("frame", "time_s", "dancer")
_JOINTS: Final = tuple(f"{joint}_{axis}_m" for joint in JOINT_NAMES for axis in "xyz")
_ANGLES: Final = tuple(f"{joint}_r{axis}_rad" for joint in JOINT_NAMES for axis in "xyz")
#: Angles that put a joint farther from its position than this are not those of the joints, m.
_MAX_ERROR_M: Final = 0.01

log = logging.getLogger(__name__)


def read(path: Path, *, fps: float | None = None) -> Motion:
    """Read all dancers of a table.

    Args:
        path: the file.
        fps: frames per second; by default those of the column ``time_s``.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if columns, rows or numbers are missing or damaged, or it is too large.
    """
    check_input(path, _MAX_BYTES)
    try:
        has_angles, rows = _rows(path)
    except (csv.Error, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: not a table of text with commas ({error})") from None
    order = np.lexsort((rows[:, 2], rows[:, 0]))
    rows = rows[order]
    dancers, frames = len(np.unique(rows[:, 2])), len(np.unique(rows[:, 0]))
    expected = np.stack(np.meshgrid(np.arange(frames), np.arange(dancers), indexing="ij"), axis=-1).reshape(
        -1, 2
    )
    if rows[:, [0, 2]].shape != expected.shape or (rows[:, [0, 2]] != expected).any():
        raise FormatError(
            f"{path}: {len(rows)} rows of {frames} frames and {dancers} dancers, expected one for each frame from 0 and each "
            "dancer from 0; rows are missing or there twice"
        )
    rate = given_rate(path, fps or _rate(path, rows[::dancers, 1]), "one frame")
    columns = rows[:, 3:].reshape(frames, dancers, -1, NUM_JOINTS, 3).transpose(2, 1, 0, 3, 4)
    joints = np.ascontiguousarray(columns[0])
    try:
        if not has_angles:
            return Motion(joints, rate, meta={"id": path.stem})
        poses = np.ascontiguousarray(columns[1])
        rest = _rest_offsets(joints, poses)
        apart = np.abs(forward_kinematics(poses, joints[:, :, 0], rest[:, None]) - joints).max()
        if not apart <= _MAX_ERROR_M:
            log.warning("%s: joints and angles disagree by %.3g m; only the joints are read", path, apart)
            return Motion(joints, rate, meta={"id": path.stem})
        return Motion(joints, rate, poses, joints[:, :, 0].copy(), rest, meta={"id": path.stem})
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None


def _rows(path: Path) -> tuple[bool, Floats]:
    """Return whether there are angles, and the (N, 3 + 72 or 144) numbers: frame, time, dancer, joints, angles."""
    numbers = array("d")
    # The byte order mark that spreadsheets write is not part of the first name.
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.reader(limited_lines(path, file))
        names = [name.strip() for name in next(table, [])]
        has_angles = set(_ANGLES) <= set(names)
        wanted = (*_KEYS, *_JOINTS, *(_ANGLES if has_angles else ()))
        if missing := [name for name in wanted if name not in names]:
            hint = "; it has semicolons: export it with commas" if len(names) == 1 and ";" in names[0] else ""
            raise FormatError(
                f"{path}: {len(missing)} columns are missing, such as {missing[0]}, among {', '.join(names)[:100]!a}{hint}"
            )
        places = [names.index(name) for name in wanted]
        for cells in table:
            if not any(cells):
                continue
            try:
                row = [float(cells[place]) for place in places]
            except (ValueError, IndexError):
                row = [math.nan]
            if not all(map(math.isfinite, row)):
                raise FormatError(
                    f"{path}, line {table.line_num}: a cell is empty or not a finite number; the table is damaged or truncated"
                )
            numbers.extend(row)
    if not numbers:
        raise FormatError(f"{path}: has no rows")
    return has_angles, np.array(numbers).reshape(-1, len(wanted))


def _rate(path: Path, times: Floats) -> float | None:
    """Return the rate of (T,) times, the roundest that gives them exactly; None for one frame."""
    if len(times) == 1:
        return None
    frames, span = np.arange(len(times)), float(times[-1] - times[0])
    rate = (len(times) - 1) / span if span > 0 else math.inf
    if not 0.01 <= rate <= 100_000 or np.abs(times - times[0] - frames / rate).max() > 0.1 / rate:
        raise FormatError(f"{path}: the times are not evenly spaced; resample the motion")
    nearest = [round(rate, digits) for digits in (0, 1, 2, 3, 4, 6)]
    return next(
        (r for r in nearest if r and np.allclose(frames / r + times[0], times, rtol=0, atol=1e-9)), rate
    )


def _rest_offsets(joints: Floats, poses: Floats) -> Floats:
    """Return the (D, 24, 3) mean offsets of posed skeletons; the pelvis is at the translation."""
    with np.errstate(all="ignore"):
        rotations = axis_angle_to_matrix(poses)
        _, turned = pose_joints(rotations, joints[:, :, 0], np.zeros((NUM_JOINTS, 3)))
        bones = joints[:, :, 1:] - joints[:, :, PARENTS[1:]]
        offsets = np.einsum("dtjki,dtjk->dji", turned[:, :, PARENTS[1:]], bones) / joints.shape[1]
    return np.concatenate([np.zeros((len(joints), 1, 3)), offsets], axis=1)


def write(motion: Motion, path: Path) -> list[Path]:
    """Write all dancers in one table.

    Raises:
        FormatError: if ``path`` does not end in ``.csv``.
        OSError: if the file cannot be written.
    """
    check_suffix(path, ".csv")
    names = (*_KEYS, *_JOINTS, *(_ANGLES if motion.poses is not None else ()))
    arrays = [motion.joints, *([motion.poses] if motion.poses is not None else [])]
    with atomic_write(path) as partial, partial.open("w", encoding="ascii", newline="") as file:
        table = csv.writer(file)
        table.writerow(names)
        for frame in range(motion.num_frames):
            for dancer in range(motion.num_dancers):
                row = [value for array_ in arrays for value in array_[dancer, frame].ravel().tolist()]
                table.writerow([frame, frame / motion.fps, dancer, *row])
    return [path]
