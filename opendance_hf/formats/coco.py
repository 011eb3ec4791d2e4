"""Read the 3D keypoints of AIST++ (Li et al., ICCV 2021): 17 points of COCO in centimetres, y up, 60 FPS.

A file of the folder ``keypoints3d`` is a pickled dictionary of ``keypoints3d`` (T, 17, 3), frame by frame and with NaN where
no camera saw a point, and ``keypoints3d_optim``, smoothed, which is preferred. Sources, Apache-2.0,
github.com/google/aistplusplus_api: ``aist_plusplus/loader.py`` (``AISTDataset.load_keypoint3d``, the names and shapes) and
``processing/run_estimate_smpl.py``; google/aistplusplus_dataset ``download.html`` ("Data Formats").

Shoulders, elbows, wrists, hips, knees and ankles are the points. Pelvis, spine, neck and collars are those of the mean
skeleton, scaled to the trunk, and lie rigidly between hips and shoulders; the head is below the middle of the ears. Lost:
twist of the limbs and bending of the spine; feet and hands do not move against shin and forearm; the head does not turn.
No code of the file runs.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.formats import FormatError
from opendance_hf.formats.body import Axis, Floats, load_pickle, other_content, real_array
from opendance_hf.formats.motion import Motion
from opendance_hf.formats.positions import FEET, HANDS, motion_of_positions, positions_to_y_up
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.rotations import unit
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS

FPS: Final = 60.0
#: Arrays of a file, the first that is there is read.
KEYS: Final = ("keypoints3d_optim", "keypoints3d")
#: Order of the points.
POINTS: Final = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
    "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
_UNIT_M: Final = 0.01
#: Points that are missing for longer are not interpolated, seconds.
_MAX_GAP_S: Final = 0.5
#: Height of the ears above SMPL's joint of the head, m, as in the pipeline's ``fitting/correspondences.py``.
_EARS_M: Final = 0.05
#: Code of the music in the names of AIST++, genre, situation, cameras, dancer, music, choreography: gBR_sBM_cAll_d04_mBR0_ch01.
MUSIC_CODE: Final = re.compile(r"_(m[A-Z]{2}\d)_")
_REST: Final = forward_kinematics(np.zeros((NUM_JOINTS, 3)), np.zeros(3), MEAN_OFFSETS.astype(np.float64))

log = logging.getLogger(__name__)


def recognises(content: dict[str, Any]) -> bool:
    """Return True for the content of a pickle of keypoints."""
    return any(name in content for name in KEYS)


def read(path: Path, *, fps: float | None = None, up: Axis | None = None) -> Motion:
    """Read one dancer; ``meta`` has the file's stem as ``id`` and the music's code in it as ``group``.

    Points that are missing for up to half a second are interpolated over time, at the ends repeated.

    Args:
        path: the file.
        fps: frames per second; 60 by default.
        up: axis that points up in the file; y by default.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is not a pickle of plain data or not such keypoints, a point is missing for longer, or they are
            not those of a person in centimetres who stands along y.
    """
    content = load_pickle(path)
    name = next((key for key in KEYS if key in content), None)
    if name is None:
        raise other_content(path, content, f"{' or '.join(KEYS)}, as in the AIST++ files of 'keypoints3d'")
    points = real_array(path, name, content[name])
    if points.shape != (len(points) if points.ndim else 0, len(POINTS), 3) or not len(points):
        raise FormatError(f"{path}: {name} has the shape {points.shape}, expected (frames, 17, 3)")
    rate = FPS if fps is None else fps
    points = _filled(path, points, rate) * _UNIT_M
    meta = {"group": music[1]} if (music := MUSIC_CODE.search(path.stem)) else {}
    log.info("%s: read as %s of AIST++: %g FPS, %s up, centimetres", path, name, rate, up or "y")
    # Extreme numbers give NaN or infinity, which are refused.
    with np.errstate(all="ignore"):
        joints = joints_of(positions_to_y_up(points, up))
    return motion_of_positions(
        path, joints, rate, asked=up is None, unknown=HANDS + FEET, unit="centimetres", meta=meta
    )


def _filled(path: Path, points: Floats, fps: float) -> Floats:
    """Return (T, 17, 3) points without NaN: short gaps are interpolated over time."""
    known = np.asarray(np.isfinite(points).all(axis=-1))
    points = points.copy()
    frames = np.arange(len(points))
    for number in np.flatnonzero(~known.all(axis=0)):
        there = frames[known[:, number]]
        # A gap at an end counts as one between two points.
        edges = np.concatenate([[-1], there, [len(points)]])
        gap = int(np.diff(edges).max()) - 1
        if not len(there) or gap > _MAX_GAP_S * fps:
            raise FormatError(
                f"{path}: {POINTS[number]} is missing for {gap} frames in a row, at most {_MAX_GAP_S * fps:g} are "
                "interpolated; cut the dance there"
            )
        for axis in range(3):
            points[:, number, axis] = np.interp(frames, there, points[there, number, axis])
    if missing := int((~known).sum()):
        log.warning(
            "%s: %d of %d points are missing and were interpolated over time", path, missing, known.size
        )
    return points


def joints_of(points: Floats) -> npt.NDArray[np.float64]:
    """Return (T, 24, 3) joints in metres of (T, 17, 3) points of COCO, y up; hands and feet are at wrists and ankles."""
    point = {name: points[:, number] for number, name in enumerate(POINTS)}
    joints = np.zeros((len(points), NUM_JOINTS, 3))
    for name in POINTS[5:]:
        joints[:, JOINT_INDEX[name]] = point[name]
    for side in ("left", "right"):
        joints[:, JOINT_INDEX[f"{side}_hand"]] = point[f"{side}_wrist"]
        joints[:, JOINT_INDEX[f"{side}_foot"]] = point[f"{side}_ankle"]
    rest = {name: _REST[JOINT_INDEX[name]] for name in POINTS[5:]}
    hips, rest_hips = ((p["left_hip"] + p["right_hip"]) / 2 for p in (point, rest))
    chest, rest_chest = ((p["left_shoulder"] + p["right_shoulder"]) / 2 for p in (point, rest))
    size = float(np.median(np.linalg.norm(chest - hips, axis=-1)) / np.linalg.norm(rest_chest - rest_hips))
    below, above = (
        _frame(point[f"left_{part}"] - point[f"right_{part}"], chest - hips)
        @ _frame(rest[f"left_{part}"] - rest[f"right_{part}"], rest_chest - rest_hips).T
        for part in ("hip", "shoulder")
    )
    for name, share in (
        ("pelvis", 0.0), ("spine1", 0.0), ("spine2", 0.5), ("spine3", 1.0), ("neck", 1.0), ("left_collar", 1.0),
        ("right_collar", 1.0),
    ):  # fmt: skip
        place = _REST[JOINT_INDEX[name]]
        lower = hips + size * (below @ (place - rest_hips))
        upper = chest + size * (above @ (place - rest_chest))
        joints[:, JOINT_INDEX[name]] = (1 - share) * lower + share * upper
    ears = (point["left_ear"] + point["right_ear"]) / 2
    across = unit(point["left_ear"] - point["right_ear"])
    joints[:, JOINT_INDEX["head"]] = ears - size * _EARS_M * unit(np.cross(point["nose"] - ears, across))
    return joints


def _frame(across: Floats, upwards: Floats) -> Floats:
    """Return (..., 3, 3) rotations whose columns are ``across``, the part of ``upwards`` at a right angle to it, and ahead."""
    x = unit(across)
    y = unit(upwards - (upwards * x).sum(-1, keepdims=True) * x)
    return np.stack([x, y, np.cross(x, y)], axis=-1)
