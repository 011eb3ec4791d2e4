"""Read the dances of LODGE (Li et al., CVPR 2024) and of its dataset FineDance: ``.npy`` or ``.pkl``, 30 FPS, y up, metres.

An ``.npy`` file has one row a frame, or (batch, frames, columns), whose batch continues in time:

    139 or 319 columns: 4 foot contacts, translation (3), rotations (22 or 52 joints, 6 numbers each)
    135 or 315 columns: translation (3), rotations as above
    159 columns:        translation (3), axis-angle of 52 joints

A ``.pkl`` file has ``smpl_poses`` (T, 66 or 156) axis-angle and ``smpl_trans`` (T, 3). The 52 joints are those of SMPL-H;
six numbers are the first two rows of a rotation matrix, as in PyTorch3D. Sources, github.com/li-ronghui/LODGE: ``render.py``
(``motion_data_load_process``, the widths), ``dld/data/render_joints/smplfk.py`` (the translation is that of SMPL-X), ``data/code/preprocess.py`` (30 FPS; the ground is the height along the second
axis), ``concat_res.py`` (the result of ``infer_lodge.py``).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import numpy as np

from opendance_hf.formats import FormatError
from opendance_hf.formats.archives import read_array_file
from opendance_hf.formats.body import (
    Axis,
    Floats,
    body_poses,
    load_pickle,
    make_motion,
    other_content,
    real_array,
    rotation_6d_to_axis_angle,
)
from opendance_hf.formats.motion import Motion

FPS: Final = 30.0
#: Number of foot contacts before the translation, by the number of columns.
_CONTACTS: Final = {139: 4, 319: 4, 135: 0, 315: 0, 159: 0}
#: Columns of axis-angle in pickles.
_PICKLED: Final = (66, 156)
_MAX_BYTES: Final = 512 * 1024**2
#: Rows of a rotation matrix have the length 1; generated ones are near it.
_MIN_NORM: Final = 1e-3

log = logging.getLogger(__name__)


def recognises(content: dict[str, Any]) -> bool:
    """Return True for the content of a pickle of LODGE."""
    shape = getattr(content.get("smpl_poses"), "shape", ())
    return "smpl_trans" in content and "smpl_scaling" not in content and shape[1:] in {(n,) for n in _PICKLED}


def read(path: Path, *, fps: float | None = None, up: Axis | None = None) -> Motion:
    """Read one dance; ``meta["id"]`` is the file's stem.

    Args:
        path: the file.
        fps: frames per second; 30 by default.
        up: axis that points up in the file; y by default.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is neither array nor pickle of that kind, or the body does not stand along y.
    """
    poses, transl = _from_pickle(path) if path.suffix.lower() == ".pkl" else _from_array(path)
    log.info("%s: read as a dance of LODGE: %g FPS, %s up, metres", path, fps or FPS, up or "y")
    asked = up is None
    return make_motion(path, poses[None], transl[None], fps or FPS, up=up or "y", asked=asked, body="smplx")


def _from_pickle(path: Path) -> tuple[Floats, Floats]:
    content = load_pickle(path)
    if not {"smpl_poses", "smpl_trans"} <= set(content):
        raise other_content(path, content, "smpl_poses and smpl_trans, as LODGE saves them")
    poses = real_array(path, "smpl_poses", content["smpl_poses"])
    return body_poses(path, "smpl_poses", poses), real_array(path, "smpl_trans", content["smpl_trans"])


def _from_array(path: Path) -> tuple[Floats, Floats]:
    values = read_array_file(path, _MAX_BYTES)
    rows = real_array(path, "the array", values)
    rows = rows.reshape(-1, rows.shape[-1]) if rows.ndim == 3 else rows
    if rows.ndim != 2 or rows.shape[1] not in _CONTACTS or not len(rows):
        raise FormatError(
            f"{path}: an array of the shape {values.shape}; a dance of LODGE or FineDance has (frames, columns) with "
            f"{', '.join(map(str, sorted(_CONTACTS)))} columns"
        )
    rows = rows[:, _CONTACTS[rows.shape[1]] :]
    transl, angles = rows[:, :3], rows[:, 3:]
    if rows.shape[1] != 159:
        if not (np.linalg.norm(angles.reshape(len(rows), -1, 3), axis=-1) > _MIN_NORM).all():
            raise FormatError(
                f"{path}: rotations whose rows have the length 0; are these the model's normalised numbers?"
            )
        angles = rotation_6d_to_axis_angle(angles.reshape(len(rows), -1, 6)).reshape(len(rows), -1)
    return body_poses(path, "the array", angles), transl
