"""Read dancers of DD100 (Siyao et al., ICLR 2024): one ``.npy`` a dancer, 30 FPS, metres, y down as a camera has it.

The array holds a dictionary: ``poses`` (T, 165) axis-angle of SMPL-X, ``transl`` (T, 3), ``betas`` and ``meta``. It is read as
data, nothing in it runs. Source: github.com/lisiyao21/Duolando, ``_prepare_motion_data.py`` (``smplx_to_pos3d``) for the names
and ``tools/vis_smplx_w_blender_01.py`` for the axes and the rate; axes are measured: bodies with y up are left as they are.
Joints are those of the mean skeleton; fingers and faces are not read.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import numpy as np

from opendance_hf.formats import FormatError
from opendance_hf.formats.body import REST_PELVIS, body_poses, make_motion, other_content, real_array
from opendance_hf.formats.motion import Motion
from opendance_hf.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from opendance_hf.pickles import PickleError, pickled_array_item

FPS: Final = 30.0
_MAX_BYTES: Final = 2**30
#: From axes with y down and z forward to axes with y up.
_FLIP: Final = np.diag([1.0, -1.0, -1.0])

log = logging.getLogger(__name__)


def read(path: Path, *, fps: float | None = None) -> Motion:
    """Read one dancer.

    Args:
        path: the file.
        fps: frames per second; 30 by default.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is not such an array, too large, or the body stands along no known axis.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise FormatError(f"{path}: {path.stat().st_size:,} bytes, at most {_MAX_BYTES:,} are read")
    try:
        content = pickled_array_item(path.read_bytes(), str(path))
    except PickleError as error:
        raise FormatError(str(error)) from None
    if not isinstance(content, dict) or not {"poses", "transl"} <= set(content):
        names = content if isinstance(content, dict) else [type(content).__name__]
        raise other_content(path, names, "poses and transl, as DD100 has them")
    poses = body_poses(path, "poses", real_array(path, "poses", content["poses"]))
    transl = real_array(path, "transl", content["transl"])
    if transl.shape != (len(poses), 3):
        raise FormatError(f"{path}: transl has the shape {transl.shape}, expected ({len(poses)}, 3)")
    turned = axis_angle_to_matrix(poses[:, 0])
    is_down = float(np.median(turned[:, 1, 1])) < 0
    if is_down:
        pelvis = np.array(REST_PELVIS["smplx"])
        poses = poses.copy()
        poses[:, 0] = matrix_to_axis_angle(_FLIP @ turned)
        transl = (transl + pelvis) @ _FLIP - pelvis
    log.info("%s: read as DD100: %g FPS, y %s, metres", path, fps or FPS, "down" if is_down else "up")
    return make_motion(path, poses[None], transl[None], fps or FPS, up="y", asked=False, body="smplx")
