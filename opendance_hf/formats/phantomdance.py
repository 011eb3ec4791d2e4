"""Read dances of PhantomDance (Li et al., AAAI 2022): JSON, 30 FPS, metres, in the left-handed axes of Unity, y up.

``bone_name`` are SMPL's 24 joints, ``root_positions`` (T, 3) the pelvis, and ``rotations`` (T, 24, 4) quaternions x y z w in the
world. Source: github.com/libuyu/PhantomDanceDataset, README.md ("Data Format") and ``Assets/Scripts/Json2yaml.cs`` (bone
names; a rotation relative to the parent is inverse(parent) * rotation).
"""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.spatial.transform import Rotation

from opendance_hf.formats import FormatError
from opendance_hf.formats.body import Floats, make_motion, other_content
from opendance_hf.formats.motion import Motion
from opendance_hf.motion.rotations import matrix_to_axis_angle
from opendance_hf.motion.skeleton import JOINT_NAMES, NUM_JOINTS, PARENTS

FPS: Final = 30.0
_MAX_BYTES: Final = 512 * 1024**2
_NAMES: Final = {name.replace("_", ""): joint for joint, name in enumerate(JOINT_NAMES)}

log = logging.getLogger(__name__)


def read(path: Path, *, fps: float | None = None) -> Motion:
    """Read one dance.

    Args:
        path: the file.
        fps: frames per second; 30 by default.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is not such a file, too large, or the body does not stand along y.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise FormatError(f"{path}: {path.stat().st_size:,} bytes, at most {_MAX_BYTES:,} are read")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise FormatError(f"{path}: damaged, or not a JSON file") from None
    expected = "bone_name, root_positions and rotations, as PhantomDance has them"
    if not isinstance(content, dict):
        raise other_content(path, [type(content).__name__], expected)
    if not {"bone_name", "root_positions", "rotations"} <= set(content):
        raise other_content(path, content, expected)
    order = _order(path, content["bone_name"])
    pelvis = _numbers(path, "root_positions", content["root_positions"], (3,))
    quaternions = _numbers(path, "rotations", content["rotations"], (NUM_JOINTS, 4))
    if len(pelvis) != len(quaternions):
        raise FormatError(
            f"{path}: {len(pelvis)} root_positions and {len(quaternions)} rotations do not match"
        )
    if not (np.linalg.norm(quaternions, axis=-1) > 1e-6).all():
        raise FormatError(f"{path}: rotations has quaternions of the length 0")
    # A mirrored x axis makes left-handed axes right-handed; rotations about y and z turn the other way.
    turned = Rotation.from_quat((quaternions * [1, -1, -1, 1]).reshape(-1, 4)).as_matrix()
    turned = turned.reshape(-1, NUM_JOINTS, 3, 3)[:, order]
    local = turned.copy()
    local[:, 1:] = np.swapaxes(turned[:, list(PARENTS[1:])], -1, -2) @ turned[:, 1:]
    poses = matrix_to_axis_angle(local)
    log.info(
        "%s: read as PhantomDance: %g FPS, y up, left-handed, metres; twist of the bones kept",
        path,
        fps or FPS,
    )
    return make_motion(path, poses[None], (pelvis * [-1, 1, 1])[None], fps or FPS, up="y", asked=False)


def _order(path: Path, names: Any) -> list[int]:
    """Return where each of SMPL's joints is in the list of bones: L_Hip is left_hip."""
    if not isinstance(names, list) or len(names) != NUM_JOINTS:
        raise FormatError(f"{path}: bone_name has not the names of SMPL's {NUM_JOINTS} joints")
    spelled = [str(name).lower() for name in names]
    found = [
        _NAMES.get(n.replace("l_", "left", 1) if n.startswith("l_") else n.replace("r_", "right", 1))
        for n in spelled
    ]
    if sorted(joint for joint in found if joint is not None) != list(range(NUM_JOINTS)):
        raise FormatError(
            f"{path}: bone_name has not the names of SMPL's {NUM_JOINTS} joints: {names[:4]!a} ..."
        )
    return [found.index(joint) for joint in range(NUM_JOINTS)]


def _numbers(path: Path, name: str, value: Any, shape: tuple[int, ...]) -> Floats:
    try:
        array = np.array(value, dtype=np.float64)
    except (ValueError, TypeError):
        raise FormatError(f"{path}: {name} has something other than numbers") from None
    if array.ndim != len(shape) + 1 or array.shape[1:] != shape or not len(array):
        wanted = ", ".join(map(str, shape))
        raise FormatError(f"{path}: {name} has the shape {array.shape}, expected (frames, {wanted})")
    if not np.isfinite(array).all() or float(np.abs(array).max(initial=0)) == math.inf:
        raise FormatError(f"{path}: NaN or infinity in {name}")
    return array
