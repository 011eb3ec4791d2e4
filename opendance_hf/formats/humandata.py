"""Read and write HumanData, the ``.npz`` files of MMHuman3D, without unpickling.

One file has the frames of one person: ``smpl`` (a dictionary: ``global_orient`` (N, 3),
``body_pose`` (N, 23, 3), ``betas`` (N, 10), ``transl`` (N, 3)), ``keypoints3d`` (N, 190, 4) with their confidence in the
last column, ``keypoints3d_mask`` (190,) of those that exist, ``image_path``, ``bbox_xywh`` (N, 5) and ``meta``.
Source of the format: MMHuman3D 0.11, Apache-2.0, ``docs/human_data.md`` and its table of keypoint names.

NumPy stores dictionaries as pickles, which are read by the data-only interpreter of :mod:`opendance_hf.pickles`. MMHuman3D
may store keypoints compressed: the file then has only those of the mask.
"""

from __future__ import annotations

import logging
import math
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, TypeGuard

import numpy as np
import numpy.typing as npt

from opendance_hf.files import atomic_write
from opendance_hf.formats import FormatError
from opendance_hf.formats.archives import DAMAGED, cause, check_unpacked
from opendance_hf.formats.motion import Motion, check_input, check_suffix, one_file_a_dancer
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS
from opendance_hf.pickles import PickleError, pickled_array_item
from opendance_hf.schema import FPS

#: Suffix of the files that are written, one a dancer.
SUFFIX: Final = ".npz"
FILE_A_DANCER: Final = True
NUM_KEYPOINTS: Final = 190
#: Indices of SMPL's 24 joints among the 190 keypoints: the first 22 of the body, and the hands at the end.
SMPL_TO_HUMAN_DATA: Final = (*range(22), 188, 189)
#: Number of keypoints of conventions that begin with SMPL's 24 joints; smplx's 45 add face, feet and finger tips.
_CONVENTIONS: Final = {"smpl": NUM_JOINTS, "smpl_45": 45}
_MAX_BYTES: Final = 2**30
#: Members that are read; others are ignored.
_MEMBERS: Final = (
    "__keypoints_compressed__", "smpl", "keypoints3d", "keypoints3d_mask", "keypoints3d_convention", "meta",
)  # fmt: skip
#: Parts of the pose and their numbers of joints.
_PARTS: Final = {"global_orient": 1, "body_pose": NUM_JOINTS - 1}
_NUM_BETAS: Final = 10

Floats = npt.NDArray[np.float32]

log = logging.getLogger(__name__)


def read(path: Path, *, fps: float | None = None) -> Motion:
    """Read the person of a file written by MMHuman3D or OpenDance-HF, without executing code.

    The rate is ``fps``, otherwise ``meta['fps']``, otherwise 60, which is said. If the file lacks SMPL's 24 joints, joints are those of the mean skeleton
    with its pelvis at ``transl``. Axes are assumed to be y up.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is not HumanData, contains objects other than data, has neither SMPL parameters nor joints, or
            the head is below the hips most of the time.
    """
    path = Path(path)
    check_input(path, _MAX_BYTES)
    with _add_path_to_errors(path):
        content = _read_members(path)
        meta = _meta(content)
        given = meta.pop("fps", None)
        if given is None and fps is None:
            log.warning(
                "%s: the frame rate is not in the file: %d FPS assumed; --fps gives another", path, FPS
            )
        rate = fps or (FPS if given is None else given)
        if not isinstance(rate, int | float) or not 0 < rate < math.inf:
            raise FormatError(f"meta['fps'] is {rate!r}, expected a positive number of frames a second")
        arrays = _smpl(content)
        joints, confidence = _joints(content)
        if joints is None:
            if "poses" not in arrays:
                raise FormatError("neither SMPL parameters nor SMPL's 24 joints in the file")
            joints = forward_kinematics(arrays["poses"], arrays["transl"], MEAN_OFFSETS).astype(np.float32)
            arrays["rest_offsets"] = MEAN_OFFSETS.astype(np.float32)
        elif len(arrays.get("poses", joints)) != len(joints):
            raise FormatError(
                f"smpl has {len(arrays['poses'])} frames, but keypoints3d has {len(joints)}: expected equal numbers"
            )
        if confidence is not None:
            arrays["confidence"] = confidence
        _check_upright(joints)
        arrays = {name: value[None] for name, value in arrays.items()}
        return Motion(joints[None], float(rate), **arrays, meta=meta)


def write(motion: Motion, path: Path, *, compressed: bool = False) -> list[Path]:
    """Write one file per dancer for MMHuman3D's ``HumanData.load``, in the world frame of the motion.

    Unknown betas are written as 0 and an unknown confidence as 1, since the format requires them. Text and numbers of
    ``meta`` are kept.

    Args:
        motion: motion with at least joints.
        path: file to write, must end in ``.npz``; replaced atomically.
        compressed: True to store only the keypoints of the mask, as ``compress_keypoints_by_mask`` does.

    Raises:
        FormatError: if ``path`` does not end in ``.npz``.
        OSError: if a file cannot be written.
    """
    check_suffix(path, ".npz")
    written = []
    with ExitStack() as files:  # after an error none is written
        for dancer, file in one_file_a_dancer(motion, path):
            partial = files.enter_context(atomic_write(file))
            with partial.open("wb") as opened:
                np.savez_compressed(opened, allow_pickle=True, **_make_members(dancer, compressed=compressed))
            written.append(file)
    return written


def _make_members(motion: Motion, *, compressed: bool) -> dict[str, Any]:
    """Return the members of the file of one dancer."""
    count, index = motion.num_frames, list(SMPL_TO_HUMAN_DATA)
    keypoints = np.zeros((count, NUM_KEYPOINTS, 4), dtype=np.float32)
    keypoints[:, index, :3] = motion.joints[0]
    keypoints[:, index, 3] = 1 if motion.confidence is None else motion.confidence[0][:, None]
    mask = np.zeros(NUM_KEYPOINTS, dtype=np.uint8)
    mask[index] = 1
    meta = {key: value for key, value in motion.meta.items() if isinstance(value, str | int | float)}
    members: dict[str, Any] = {
        "__key_strict__": np.array(False),
        "__temporal_len__": np.array(count),
        "__keypoints_compressed__": np.array(compressed),
        "keypoints3d": keypoints[:, np.flatnonzero(mask)] if compressed else keypoints,
        "keypoints3d_mask": mask,
        "keypoints3d_convention": np.array("human_data"),
        "meta": np.array({**meta, "fps": motion.fps, "source": "opendance-hf"}, dtype=object),
    }
    if motion.poses is not None and motion.transl is not None:
        betas = np.zeros(_NUM_BETAS, np.float32) if motion.betas is None else motion.betas[0]
        smpl = {
            "global_orient": motion.poses[0, :, 0].astype(np.float32),
            "body_pose": motion.poses[0, :, 1:].astype(np.float32),
            "betas": np.repeat(betas.astype(np.float32)[None], count, axis=0),
            "transl": motion.transl[0].astype(np.float32),
        }
        members["smpl"] = np.array(smpl, dtype=object)
    return members


@contextmanager
def _add_path_to_errors(path: Path) -> Iterator[None]:
    """Add the path of the file to errors."""
    try:
        yield
    except FormatError as error:
        raise FormatError(str(error) if str(error).startswith(f"{path}: ") else f"{path}: {error}") from None


def _meta(content: dict[str, Any]) -> dict[str, Any]:
    """Return the text and numbers of ``meta``."""
    meta = content.get("meta")
    items = meta.items() if isinstance(meta, dict) else ()
    return {key: value for key, value in items if isinstance(value, str | int | float) and key != "source"}


def _smpl(content: dict[str, Any]) -> dict[str, Floats]:
    """Return ``poses`` (N, 24, 3), ``transl`` (N, 3), zero where the file has none, and ``betas`` (10,) if known."""
    smpl = content.get("smpl")
    if not isinstance(smpl, dict):
        return {}
    parts = []
    for name, joint_count in _PARTS.items():
        value = smpl.get(name)
        if not _is_numbers(value) or value.ndim < 2 or math.prod(value.shape[1:]) != joint_count * 3:
            raise FormatError(f"smpl has no {name} with {joint_count} x 3 numbers per frame")
        parts.append(value.reshape(len(value), joint_count, 3))
    if len(parts[0]) != len(parts[1]):
        raise FormatError(
            f"smpl's {' and '.join(_PARTS)} have {len(parts[0])} and {len(parts[1])} frames, expected equal numbers"
        )
    found = {"poses": _float32(np.concatenate(parts, axis=1))}
    count = len(parts[0])
    if not count:
        raise FormatError("smpl has no frames")
    betas, transl = smpl.get("betas"), smpl.get("transl")
    for name, value in (("betas", betas), ("transl", transl)):
        if isinstance(value, np.ndarray) and not _is_numbers(value):
            raise FormatError(f"smpl's {name} has the type {value.dtype}, expected numbers")
    if isinstance(betas, np.ndarray) and betas.size and betas.ndim and betas.shape[-1] >= _NUM_BETAS:
        found["betas"] = _float32(betas.reshape(-1, betas.shape[-1])[:, :_NUM_BETAS].mean(axis=0))
    found["transl"] = np.zeros((count, 3), np.float32)
    if isinstance(transl, np.ndarray) and transl.size:
        if transl.shape != (count, 3):
            raise FormatError(f"smpl's transl has shape {transl.shape}, expected {(count, 3)}")
        found["transl"] = _float32(transl)
    if not all(np.isfinite(value).all() for value in found.values()):
        raise FormatError("smpl contains NaN or infinity")
    return found


def _joints(content: dict[str, Any]) -> tuple[Floats | None, Floats | None]:
    """Return (N, 24, 3) joints and their mean confidence (N,); None unless all of SMPL's 24 are present."""
    points = content.get("keypoints3d")
    if not isinstance(points, np.ndarray):
        return None, None
    if points.ndim != 3 or points.shape[2] not in (3, 4):
        raise FormatError(f"keypoints3d has shape {points.shape}, expected (N, K, 4)")
    if not _is_numbers(points):
        raise FormatError(f"keypoints3d has the type {points.dtype}, expected numbers")
    if not len(points):
        raise FormatError("keypoints3d has no frames")
    chosen = _smpl_joints(content, points)
    if chosen is None:
        return None, None
    chosen = _float32(chosen)
    if not np.isfinite(chosen).all():
        raise FormatError("keypoints3d contains NaN or infinity")
    score = chosen[..., 3].mean(axis=1) if chosen.shape[2] == 4 else np.ones(len(chosen))
    return chosen[..., :3], score.astype(np.float32).clip(0, 1)


def _smpl_joints(content: dict[str, Any], points: np.ndarray) -> np.ndarray | None:
    """Select SMPL's 24 of (N, K, 3 or 4) keypoints; return None if one of them is missing."""
    convention = content.get("keypoints3d_convention", "human_data")
    if not isinstance(convention, str):
        raise FormatError(f"keypoints3d_convention is a {type(convention).__name__}, expected text")
    compressed = content.get("__keypoints_compressed__", False)
    if not isinstance(compressed, int):
        raise FormatError(f"__keypoints_compressed__ is a {type(compressed).__name__}, expected a boolean")
    if points.shape[1] == _CONVENTIONS.get(convention):
        return points[:, :NUM_JOINTS]
    mask = content.get("keypoints3d_mask")
    if not isinstance(mask, np.ndarray) or mask.shape != (NUM_KEYPOINTS,) or mask.dtype.kind not in "biuf":
        raise FormatError(f"keypoints3d has no keypoints3d_mask of {NUM_KEYPOINTS} numbers")
    present = np.flatnonzero(mask).tolist()
    if compressed:
        if points.shape[1] != len(present):
            raise FormatError(
                f"{points.shape[1]} compressed keypoints, expected {len(present)} as in the mask"
            )
        full = np.zeros((len(points), NUM_KEYPOINTS, points.shape[2]), dtype=points.dtype)
        full[:, present] = points
        points = full
    if points.shape[1] != NUM_KEYPOINTS:
        raise FormatError(
            f"{points.shape[1]} keypoints of convention {convention!r}, expected {NUM_KEYPOINTS}"
        )
    return points[:, list(SMPL_TO_HUMAN_DATA)] if set(SMPL_TO_HUMAN_DATA) <= set(present) else None


def _check_upright(joints: Floats) -> None:
    """Refuse (N, 24, 3) joints with the head below the hips in the median frame.

    The format does not define axes. Files often use those of a camera, with y down.
    """
    hips = joints[:, [JOINT_INDEX["left_hip"], JOINT_INDEX["right_hip"]], 1].mean(axis=1)
    if np.median(joints[:, JOINT_INDEX["head"], 1] - hips) < 0:
        raise FormatError(
            "the head is below the hips: expected axes with y up; rotate global_orient, transl and keypoints3d to y up "
            "(by half a turn about x if they are in a camera frame)"
        )


def _is_numbers(value: object) -> TypeGuard[np.ndarray]:
    return isinstance(value, np.ndarray) and value.dtype.kind in "iuf"


def _float32(value: np.ndarray) -> Floats:
    with np.errstate(over="ignore"):  # values that are too large become infinity, which is refused
        return value.astype(np.float32)


def _read_members(path: Path) -> dict[str, Any]:
    """Read the members of the archive: arrays, plain values of 0-d arrays, and objects, as data only."""
    out: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            members = [archive.getinfo(f"{name}.npy") for name in _MEMBERS if f"{name}.npy" in names]
            check_unpacked(path, sum(info.file_size for info in members), _MAX_BYTES)
            for info in members:
                name = info.filename.removesuffix(".npy")
                with archive.open(info) as file:
                    value = pickled_array_item(file.read(info.file_size), name)
                plain = isinstance(value, np.ndarray) and value.ndim == 0
                out[name] = value.item() if plain else value
    except (FormatError, FileNotFoundError):
        raise
    except PickleError as error:
        raise FormatError(str(error)) from None
    except DAMAGED as error:
        raise FormatError(f"not an .npz file: {cause(error)}") from None
    return out
