"""Read the dances of DD100 (Siyao et al., "Duolando", ICLR 2024): an ``.npy`` file a dancer, 30 FPS, metres, y down.

A file is an array with one pickled dictionary: ``poses`` (T, 165) axis-angle of SMPL-X, ``transl`` (T, 3), ``betas`` and
``meta``. ``NAME_00.npy`` is the follower and ``NAME_01.npy`` the leader, in one world. Sources,
github.com/lisiyao21/Duolando: ``README.md`` ("DD100 Data"), ``_prepare_motion_data.py`` (``smplx_to_pos3d``, the names and
the body model), ``tools/vis_smplx_w_blender_01.py`` (``add_smplx`` turns the body upside down, 30 FPS). That the y axis
points down is known from that script alone, and ``utils/metric_footskating_dur.py`` takes z for the height, so it is measured.

Shape (``betas``) is not read: joints are those of the mean skeleton. Hands are straight. No code of the file runs.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import numpy as np

from opendance_hf.formats import FormatError
from opendance_hf.formats.body import (
    REST_PELVIS,
    Axis,
    Floats,
    body_poses,
    make_motion,
    other_content,
    real_array,
)
from opendance_hf.formats.motion import Motion, check_input
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS
from opendance_hf.pickles import PickleError, pickled_array_item

FPS: Final = 30.0
KEYS: Final = ("poses", "transl")
#: Minutes of a dancer take a few megabytes.
_MAX_BYTES: Final = 256 * 1024**2
#: A body whose head is less than this below its hips is not turned, m.
_MIN_RISE_M: Final = 0.1
#: Half a turn about x.
_TURN: Final = np.diag([1.0, -1.0, -1.0])

log = logging.getLogger(__name__)


def read(path: Path, *, fps: float | None = None, up: Axis | None = None) -> Motion:
    """Read one dancer; ``meta["id"]`` is the file's stem.

    Args:
        path: the file.
        fps: frames per second; 30 by default.
        up: axis that points up in the file; measured by default: y, -y or z.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it holds anything but plain data, or is not a dancer of DD100, or the body does not stand along y.
    """
    check_input(path, _MAX_BYTES)
    try:
        content: Any = pickled_array_item(path.read_bytes(), str(path))
    except PickleError as error:
        raise FormatError(str(error)) from None
    if not isinstance(content, dict) or not set(KEYS) <= set(content):
        names = content if isinstance(content, dict) else [f"a {type(content).__name__}"]
        raise other_content(path, names, f"a dictionary of {', '.join(KEYS)}, as DD100 has")
    poses = body_poses(path, "poses", real_array(path, "poses", content["poses"]))
    transl = real_array(path, "transl", content["transl"])
    if transl.shape != (len(poses), 3):
        raise FormatError(f"{path}: transl has the shape {transl.shape}, expected ({len(poses)}, 3)")
    found = up or _upward(poses)
    if found == "-y":
        # Extreme numbers give NaN or infinity, which Motion refuses.
        with np.errstate(all="ignore"):
            pelvis = np.array(REST_PELVIS["smplx"])
            poses[:, 0] = matrix_to_axis_angle(_TURN @ axis_angle_to_matrix(poses[:, 0]))
            transl = (transl + pelvis) @ _TURN - pelvis
    shown = "y down" if found == "-y" else f"{found} up"
    log.info("%s: read as a dancer of DD100: %g FPS, %s, metres", path, fps or FPS, shown)
    axis: Axis = "z" if found == "z" else "y"
    return make_motion(path, poses[None], transl[None], fps or FPS, up=axis, asked=up is None, body="smplx")


def _upward(poses: Floats) -> str:
    """Return the direction from the hips to the head of (T, 24, 3) poses in the median frame: y, -y or z."""
    with np.errstate(all="ignore"):
        joints = forward_kinematics(poses, np.zeros((len(poses), 3)), MEAN_OFFSETS)
        rise = (
            np.median(joints[:, JOINT_INDEX["head"]] - joints[:, 0], axis=0) if len(joints) else np.zeros(3)
        )
        if rise[1] < -max(_MIN_RISE_M, abs(rise[2])):
            return "-y"
        return "z" if rise[2] > max(_MIN_RISE_M, abs(rise[1])) else "y"
