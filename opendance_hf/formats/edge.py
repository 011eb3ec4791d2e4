"""Read the dances that EDGE generates (Tseng et al., CVPR 2023): one pickle a dance, 30 FPS, z up, metres.

A file is a dictionary of ``smpl_poses`` (T, 72) axis-angle, ``smpl_trans`` (T, 3) and ``full_pose`` (T, 24, 3), the joints
of a skeleton that is our mean skeleton. Unlike AIST++, whose names it shares, it has no ``smpl_scaling``: EDGE turns AIST++
to z up, takes every second frame, and saves metres. Sources, MIT licence, github.com/Stanford-TML/EDGE:
``dataset/dance_dataset.py`` (axes and rate), ``model/diffusion.py`` (the file), ``eval/eval_pfc.py`` (``up_dir = 2``,
``DT = 1 / 30``).
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any, Final

import numpy as np

from opendance_hf.formats import FormatError
from opendance_hf.formats.body import (
    Axis,
    Floats,
    body_poses,
    load_pickle,
    make_motion,
    other_content,
    real_array,
)
from opendance_hf.formats.motion import Motion
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import MEAN_OFFSETS, NUM_JOINTS

FPS: Final = 30.0
#: Code of the music in the name of a file: test_mBR0, or 1_0_gBR_sBM_cAll_d04_mBR0_ch02_slice0.
_MUSIC: Final = re.compile(r"(?:^|_)(m[A-Z]{2}\d)(?:_|$)")
#: Joints in the file and those of the poses differ by less, m.
_MAX_OFF_M: Final = 0.02
KEYS: Final = ("smpl_poses", "smpl_trans", "full_pose")

log = logging.getLogger(__name__)


def recognises(content: dict[str, Any]) -> bool:
    """Return True for the content of a pickle of EDGE."""
    poses = content.get("smpl_poses")
    return set(KEYS) <= set(content) and "smpl_scaling" not in content and _width(poses) == NUM_JOINTS * 3


def read(path: Path, *, fps: float | None = None, up: Axis | None = None) -> Motion:
    """Read one dance; ``meta`` has the file's stem as ``id`` and the music's code in it as ``group``.

    Args:
        path: the file.
        fps: frames per second; 30 by default.
        up: axis that points up in the file; z by default.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is not a pickle of plain data or not a dance of EDGE, the body does not stand along z, or
            ``full_pose`` has other joints than those of the poses and the translation.
    """
    content = load_pickle(path)
    if not {"smpl_poses", "smpl_trans"} <= set(content):
        raise other_content(path, content, f"{', '.join(KEYS)}, as EDGE saves them")
    if "smpl_scaling" in content:
        raise FormatError(
            f"{path}: has smpl_scaling, as files of AIST++ do and those of EDGE do not: convert it from aistpp"
        )
    poses = body_poses(path, "smpl_poses", real_array(path, "smpl_poses", content["smpl_poses"]))
    transl = real_array(path, "smpl_trans", content["smpl_trans"])
    meta = {"group": music[1]} if (music := _MUSIC.search(path.stem)) else {}
    log.info("%s: read as a dance of EDGE: %g FPS, %s up, metres", path, fps or FPS, up or "z")
    motion = make_motion(
        path, poses[None], transl[None], fps or FPS, up=up or "z", asked=up is None, meta=meta
    )
    if "full_pose" in content:
        _check_joints(path, poses, transl, real_array(path, "full_pose", content["full_pose"]))
    return motion


def _check_joints(path: Path, poses: Floats, transl: Floats, joints: Floats) -> None:
    """Refuse poses (T, 24, 3) and translation (T, 3) that do not give the joints (T, 24, 3) of the file."""
    if joints.shape != poses.shape:
        raise FormatError(f"{path}: full_pose has the shape {joints.shape}, expected {poses.shape}")
    off = float(np.abs(forward_kinematics(poses, transl, MEAN_OFFSETS) - joints).max())
    if not off <= _MAX_OFF_M:
        raise FormatError(
            f"{path}: full_pose is up to {off:.3g} m from the joints that smpl_poses and smpl_trans give; EDGE saves all of "
            "them in metres, of one motion"
        )


def _width(poses: Any) -> int:
    shape: tuple[int, ...] = getattr(poses, "shape", ())
    return int(shape[-1]) if len(shape) == 2 else 0
