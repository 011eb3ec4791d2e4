"""Read the dances of PhantomDance (Li et al., "DanceFormer", AAAI 2022): one ``.json`` a dance, 30 FPS, metres.

A file has ``bone_name`` (24 names of SMPL), ``root_positions`` (T, 3) and ``rotations`` (T, 24, 4), quaternions x, y, z, w
relative to the world, in Unity's left-handed axes: x to the right, y up, z ahead. Sources, MIT licence,
github.com/libuyu/PhantomDanceDataset: ``README.md`` ("Data Format"), ``Assets/Scripts/Json2yaml.cs`` (names, parents, and
that local rotations are the inverse of the parent's times its own), ``Assets/Characters/Official_SMPL_bone_map.json`` (all
rotations at rest are the identity). Mirrored at the plane x = 0, axes are ours. The root is the pelvis itself.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Final

import numpy as np

from opendance_hf.formats import FormatError
from opendance_hf.formats.body import Floats, make_motion, other_content, real_array
from opendance_hf.formats.motion import Motion, check_input
from opendance_hf.motion.rotations import matrix_to_axis_angle, quaternion_to_matrix
from opendance_hf.motion.skeleton import JOINT_NAMES, PARENTS

FPS: Final = 30.0
KEYS: Final = ("bone_name", "root_positions", "rotations")
#: Ten minutes take about 40 MB.
_MAX_BYTES: Final = 96 * 1024**2
_MIN_NORM: Final = 1e-3
_SIDES: Final = {"l_": "left_", "r_": "right_"}

log = logging.getLogger(__name__)


def read(path: Path, *, fps: float | None = None) -> Motion:
    """Read one dance; ``meta["id"]`` is the file's stem.

    Args:
        path: the file.
        fps: frames per second; 30 by default.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is too large, not JSON, not a dance of PhantomDance, or the body does not stand along y.
    """
    content = _load(path)
    if not isinstance(content, dict) or not set(KEYS) <= set(content):
        names = content if isinstance(content, dict) else [f"a {type(content).__name__}"]
        raise other_content(path, names, f"{', '.join(KEYS)}, as PhantomDance has")
    pelvis, rotations = (_array(path, name, content[name]) for name in KEYS[1:])
    names = content["bone_name"]
    if (
        not isinstance(names, list)
        or pelvis.shape != (len(pelvis), 3)
        or rotations.shape != (len(pelvis), len(names), 4)
    ):
        raise FormatError(
            f"{path}: root_positions {pelvis.shape} and rotations {rotations.shape} are not of one dance: expected (T, 3) and "
            "(T, number of bone_name, 4)"
        )
    rotations = rotations[:, _order(path, names)]
    norms = np.linalg.norm(rotations, axis=-1, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > _MIN_NORM).all()):
        raise FormatError(
            f"{path}: rotations has quaternions of the length 0 or infinity; save the dance again"
        )
    x, y, z, w = np.moveaxis(rotations / norms, -1, 0)
    world = quaternion_to_matrix(np.stack([w, x, -y, -z], axis=-1))
    local = world.copy()
    for joint, parent in enumerate(PARENTS[1:], start=1):
        local[:, joint] = np.swapaxes(world[:, parent], -1, -2) @ world[:, joint]
    log.info("%s: read as a dance of PhantomDance: %g FPS, y up, left-handed, metres", path, fps or FPS)
    poses = matrix_to_axis_angle(local)
    return make_motion(path, poses[None], (pelvis * [-1, 1, 1])[None], fps or FPS, up="y")


def _load(path: Path) -> Any:
    check_input(path, _MAX_BYTES)
    try:
        return json.loads(path.read_bytes(), parse_constant=_refuse)
    # UnicodeDecodeError and JSONDecodeError are ValueErrors, and so is an integer of too many digits.
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{path}: damaged, or not JSON ({ascii(str(error))[1:-1][:100] or type(error).__name__})"
        ) from None


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _array(path: Path, name: str, values: Any) -> Floats:
    try:
        array = np.array(values if isinstance(values, list) else [None])
    except (ValueError, OverflowError, RecursionError):
        raise FormatError(f"{path}: rows of {name} have different lengths") from None
    return real_array(path, name, array)


def _order(path: Path, names: list[Any]) -> list[int]:
    """Return the place of each of SMPL's joints among the names of a file, such as L_Hip."""
    found: dict[str, int] = {}
    for place, name in enumerate(names):
        text = name.lower() if isinstance(name, str) else ""
        found.setdefault(_SIDES.get(text[:2], text[:2]) + text[2:], place)
    if missing := [name for name in JOINT_NAMES if name not in found]:
        raise FormatError(
            f"{path}: bone_name lacks {', '.join(missing)}; expected the 24 names of SMPL's joints, such as L_Hip"
        )
    return [found[name] for name in JOINT_NAMES]
