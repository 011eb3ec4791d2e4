"""Read motions of HumanML3D (Guo et al., CVPR 2022): 263 features a frame, 20 FPS, y up, metres.

Columns: turn of the root about y (half the angle, a frame), its velocity in x and z as the root faces, its height, the 21 other
joints relative to the root as it faces (63), rotations (126), velocities (66), contacts (4). Positions are read; the rotations
were computed from positions and have no twist. Place and facing begin at zero. Source: github.com/EricGuo5513/HumanML3D,
``motion_representation.ipynb`` (``recover_root_rot_pos``, ``recover_from_ric``). Hands lie beyond the forearms.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import numpy as np

from opendance_hf.formats import FormatError
from opendance_hf.formats.archives import read_array_file
from opendance_hf.formats.body import real_array
from opendance_hf.formats.motion import Motion
from opendance_hf.motion.rotations import axis_angle_to_matrix, unit
from opendance_hf.motion.skeleton import MEAN_OFFSETS, NUM_JOINTS, PARENTS

FPS: Final = 20.0
WIDTH: Final = 263
_MAX_BYTES: Final = 512 * 1024**2
_NUM_GIVEN: Final = 22
#: Heights of a person's root, m: in half of the frames it is within.
_ROOT_M: Final = (0.25, 1.6)

log = logging.getLogger(__name__)


def read(path: Path, *, fps: float | None = None) -> Motion:
    """Read one motion: joints alone.

    Args:
        path: the file.
        fps: frames per second; 20 by default.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is not such an array, too large, normalised, or holds NaN.
    """
    rows = real_array(path, "the array", read_array_file(path, _MAX_BYTES))
    if rows.ndim != 2 or rows.shape[1] != WIDTH or not len(rows):
        raise FormatError(
            f"{path}: an array of the shape {rows.shape}; a motion of HumanML3D has (frames, {WIDTH})"
        )
    if not np.isfinite(rows).all():
        raise FormatError(f"{path}: NaN or infinity in the array")
    height = float(np.median(rows[:, 3]))
    if not _ROOT_M[0] <= height <= _ROOT_M[1]:
        raise FormatError(
            f"{path}: the root is {height:.2f} m high in half of the frames; are these normalised numbers? Multiply by Std.npy "
            "and add Mean.npy of the dataset first"
        )
    # The turn of a frame leads to the next one.
    angles = np.concatenate([[0.0], 2 * np.cumsum(rows[:-1, 0])])
    # Features are relative to the facing root, whose rotation they undo.
    facing = axis_angle_to_matrix(np.stack([0 * angles, -angles, 0 * angles], axis=1))
    steps = np.zeros((len(rows), 3))
    steps[1:, 0], steps[1:, 2] = rows[:-1, 1], rows[:-1, 2]
    place = np.cumsum(np.einsum("tij,tj->ti", facing, steps), axis=0)
    joints = np.zeros((len(rows), NUM_JOINTS, 3))
    joints[:, 0] = place
    joints[:, 0, 1] = rows[:, 3]
    near = rows[:, 4:67].reshape(len(rows), _NUM_GIVEN - 1, 3)
    joints[:, 1:_NUM_GIVEN] = np.einsum("tij,tkj->tki", facing, near) + place[:, None]
    for hand in range(_NUM_GIVEN, NUM_JOINTS):
        wrist = PARENTS[hand]
        forearm = unit(joints[:, wrist] - joints[:, PARENTS[wrist]])
        joints[:, hand] = joints[:, wrist] + forearm * np.linalg.norm(MEAN_OFFSETS[hand])
    log.info(
        "%s: read as HumanML3D: %g FPS, y up, metres; the twist of limbs is not in the file", path, fps or FPS
    )
    try:
        return Motion(joints[None], fps or FPS, meta={"id": path.stem})
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
