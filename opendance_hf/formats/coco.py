"""Read 17 joints of COCO in space, as AIST++ has them in ``keypoints3d`` (Li et al., ICCV 2021), 60 FPS, y up.

A pickle has ``keypoints3d`` and ``keypoints3d_optim`` (T, 17, 3), the second of constant bones, which is read if it is there; the
unit is measured. Hips, knees, ankles, shoulders, elbows and wrists are kept. The trunk is the mean skeleton's, fitted to hips
and shoulders; the head is between the ears, feet point ahead of the shins, hands lie beyond the forearms: none of these, and no
twist, is in the file. Source: github.com/google/aistplusplus_api, ``aist_plusplus/loader.py`` (``load_keypoint3d``).
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Final

import numpy as np

from opendance_hf.formats import FormatError
from opendance_hf.formats.animation import measured_unit
from opendance_hf.formats.body import Floats, load_pickle, other_content, real_array
from opendance_hf.formats.motion import Motion
from opendance_hf.motion.rotations import best_rotation, unit
from opendance_hf.motion.skeleton import JOINT_INDEX, JOINT_NAMES, MEAN_OFFSETS, NUM_JOINTS, PARENTS

FPS: Final = 60.0
#: Joints of SMPL by their place in COCO's list, and its ears.
_GIVEN: Final = {
    f"{side}_{name}": 5 + 2 * number + (side == "right")
    for number, name in enumerate(("shoulder", "elbow", "wrist", "hip", "knee", "ankle"))
    for side in ("left", "right")
}
_EARS: Final = (3, 4)
_TRUNK: Final = ("pelvis", "spine1", "spine2", "spine3", "neck", "left_collar", "right_collar")
#: Longest gap that is interpolated, seconds.
_MAX_GAP_S: Final = 0.5
_MUSIC: Final = re.compile(r"_(m[A-Z]{2}\d)_")

log = logging.getLogger(__name__)


def recognises(content: dict[str, object]) -> bool:
    """Return True for the content of a pickle of keypoints."""
    return "keypoints3d_optim" in content or "keypoints3d" in content


def read(path: Path, *, fps: float | None = None) -> Motion:
    """Read one dancer: joints alone.

    Args:
        path: the file.
        fps: frames per second; 60 by default.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is not such a pickle, points are missing for longer than half a second, or the unit is unknown.
    """
    content = load_pickle(path)
    if not recognises(content):
        raise other_content(path, content, "keypoints3d, as AIST++ has them")
    name = "keypoints3d_optim" if "keypoints3d_optim" in content else "keypoints3d"
    points = real_array(path, name, content[name])
    if points.ndim != 3 or points.shape[1:] != (17, 3) or not len(points):
        raise FormatError(f"{path}: {name} has the shape {points.shape}, expected (frames, 17, 3)")
    rate = fps or FPS
    points = _without_gaps(path, points, rate)
    joints = np.full((len(points), NUM_JOINTS, 3), np.nan)
    for joint, place in _GIVEN.items():
        joints[:, JOINT_INDEX[joint]] = points[:, place]
    unit_name, scale = measured_unit(path, joints)
    joints = _filled(joints * scale, points[:, _EARS].mean(axis=1) * scale)
    log.info(
        "%s: read as keypoints of COCO: %g FPS, y up, unit %s; twist, feet and hands are not in the file",
        path,
        rate,
        unit_name,
    )
    meta = {"id": path.stem, **({"group": music[1]} if (music := _MUSIC.search(path.stem)) else {})}
    try:
        return Motion(joints[None], rate, meta=meta)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None


def _without_gaps(path: Path, points: Floats, fps: float) -> Floats:
    """Return points with short gaps interpolated linearly."""
    out = points.copy()
    frames = np.arange(len(points))
    for place in range(points.shape[1]):
        known = np.isfinite(points[:, place]).all(axis=1)
        seen = frames[known]
        edges = np.concatenate([[-1], seen, [len(points)]])
        if not len(seen) or (np.diff(edges).max() - 1) / fps > _MAX_GAP_S:
            raise FormatError(
                f"{path}: the point {place} is missing for more than {_MAX_GAP_S:g} s; cut the dance before and after"
            )
        for axis in range(3):
            out[:, place, axis] = np.interp(frames, seen, points[known, place, axis])
    return out


def _filled(joints: Floats, ears: Floats) -> Floats:
    """Return all joints: those that are NaN on the mean skeleton's trunk, ahead of shins and beyond forearms."""
    rest = np.array(MEAN_OFFSETS, dtype=np.float64)
    for joint, parent in enumerate(PARENTS[1:], start=1):
        rest[joint] += rest[parent]
    corners = [JOINT_INDEX[f"{side}_{name}"] for name in ("hip", "shoulder") for side in ("left", "right")]
    middle, own = rest[corners].mean(axis=0), joints[:, corners].mean(axis=1)
    spread, own_spread = rest[corners] - middle, joints[:, corners] - own[:, None]
    turn = best_rotation(np.broadcast_to(spread, own_spread.shape), own_spread)
    size = float(np.median(np.linalg.norm(own_spread, axis=(1, 2))) / np.linalg.norm(spread))
    out = joints.copy()
    for name in _TRUNK:
        joint = JOINT_INDEX[name]
        out[:, joint] = own + np.einsum("tij,j->ti", turn, (rest[joint] - middle) * size)
    out[:, JOINT_INDEX["head"]] = ears
    for joint, name in enumerate(JOINT_NAMES):
        side, _, part = name.partition("_")
        if part == "foot":
            shin = unit(out[:, PARENTS[joint]] - out[:, JOINT_INDEX[f"{side}_knee"]])
            ahead = np.einsum("tij,j->ti", turn, [0.0, 0.0, 1.0])
            ahead = unit(ahead - (ahead * shin).sum(-1, keepdims=True) * shin)
            length = np.linalg.norm(MEAN_OFFSETS[joint]) * size
            out[:, joint] = out[:, PARENTS[joint]] + length * unit(0.9 * ahead + 0.44 * shin)
        elif part == "hand":
            forearm = unit(out[:, PARENTS[joint]] - out[:, JOINT_INDEX[f"{side}_elbow"]])
            out[:, joint] = out[:, PARENTS[joint]] + forearm * np.linalg.norm(MEAN_OFFSETS[joint]) * size
    return out
