"""Read the dances of AIOZ-GDANCE (Le et al., CVPR 2023): one pickle a group of dancers, 30 FPS, y up, metres.

A file is a dictionary of ``smpl_poses`` (N, T, 72) axis-angle and ``root_trans`` (N, T, 3), of N dancers in one world.
Sources, github.com/aioz-ai/AIOZ-GDANCE: ``README.md`` ("Dataset Structure"), ``vis_smpl_kpt.py`` (``vis``: SMPL's own
translation, 30 FPS). The axis that points up is not said there; it is measured. No code of the file runs.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

from opendance_hf.formats import FormatError
from opendance_hf.formats.body import Axis, load_pickle, make_motion, other_content, real_array
from opendance_hf.formats.motion import Motion
from opendance_hf.motion.skeleton import NUM_JOINTS

FPS: Final = 30.0
KEYS: Final = ("smpl_poses", "root_trans")

log = logging.getLogger(__name__)


def recognises(content: dict[str, Any]) -> bool:
    """Return True for the content of a pickle of AIOZ-GDANCE."""
    return set(KEYS) <= set(content)


def read(path: Path, *, fps: float | None = None, up: Axis | None = None) -> Motion:
    """Read the dancers of a file; ``meta["id"]`` is its stem.

    Args:
        path: the file.
        fps: frames per second; 30 by default.
        up: axis that points up in the file; y by default.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is not a pickle of plain data or not a dance of AIOZ-GDANCE, or the bodies do not stand along y.
    """
    content = load_pickle(path)
    if not recognises(content):
        raise other_content(path, content, f"{' and '.join(KEYS)}, as AIOZ-GDANCE has")
    poses, transl = (real_array(path, name, content[name]) for name in KEYS)
    if poses.ndim != 3 or poses.shape[2] != NUM_JOINTS * 3 or transl.shape != (*poses.shape[:2], 3):
        raise FormatError(
            f"{path}: smpl_poses {poses.shape} and root_trans {transl.shape} are not of dancers: expected (N, T, 72) and "
            "(N, T, 3)"
        )
    log.info("%s: read as a dance of AIOZ-GDANCE: %g FPS, %s up, metres", path, fps or FPS, up or "y")
    poses = poses.reshape(*poses.shape[:2], NUM_JOINTS, 3)
    return make_motion(path, poses, transl, fps or FPS, up=up or "y", asked=up is None, body="smpl")
