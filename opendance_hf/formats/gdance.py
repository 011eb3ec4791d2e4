"""Read groups of dancers of AIOZ-GDANCE (Le et al., CVPR 2023): one pickle a dance, 30 FPS, y up, metres.

``smpl_poses`` (N, T, 72) axis-angle and ``root_trans`` (N, T, 3), SMPL's translation, of N dancers in one world. Source:
github.com/aioz-ai/AIOZ-GDANCE, README.md and ``vis_smpl_kpt.py``. Joints are those of the mean skeleton.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from opendance_hf.formats import FormatError
from opendance_hf.formats.body import Axis, load_pickle, make_motion, other_content, real_array
from opendance_hf.formats.motion import Motion
from opendance_hf.motion.skeleton import NUM_JOINTS

FPS: Final = 30.0


def recognises(content: dict[str, Any]) -> bool:
    """Return True for the content of a pickle of AIOZ-GDANCE."""
    return {"smpl_poses", "root_trans"} <= set(content)


def read(path: Path, *, fps: float | None = None, up: Axis | None = None) -> Motion:
    """Read all dancers of a file.

    Args:
        path: the file.
        fps: frames per second; 30 by default.
        up: axis that points up in the file; y by default.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is not such a pickle, or the bodies do not stand along y.
    """
    content = load_pickle(path)
    if not recognises(content):
        raise other_content(path, content, "smpl_poses and root_trans, as AIOZ-GDANCE has them")
    poses, transl = (real_array(path, name, content[name]) for name in ("smpl_poses", "root_trans"))
    if poses.ndim != 3 or poses.shape[2] != NUM_JOINTS * 3 or transl.shape != (*poses.shape[:2], 3):
        raise FormatError(
            f"{path}: smpl_poses {poses.shape} and root_trans {transl.shape}, expected (dancers, frames, 72) and (dancers, "
            "frames, 3)"
        )
    poses = poses.reshape(*poses.shape[:2], NUM_JOINTS, 3)
    return make_motion(path, poses, transl, fps or FPS, up=up or "y", asked=up is None, body="smpl")
