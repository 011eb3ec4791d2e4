"""HumanData, the ``.npz`` files of MMHuman3D: written for those who use it, and read without unpickling.

One file is the frames of one person, as MMHuman3D counts them: ``smpl`` (a dictionary: ``global_orient`` (N, 3),
``body_pose`` (N, 23, 3), ``betas`` (N, 10), ``transl`` (N, 3)), ``keypoints3d`` (N, 190, 4) with their confidence in the
last column and ``keypoints3d_mask`` (190,) for those that exist, ``image_path``, ``bbox_xywh`` (N, 5) and ``meta``.
Facts of the format: MMHuman3D 0.11, Apache-2.0, ``docs/human_data.md`` and its table of keypoint names.

NumPy stores dictionaries as pickles; these go through the interpreter of :mod:`.pickles`, which knows data only.
MMHuman3D may store keypoints compressed: then only those of the mask are in the file.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, TypeGuard

import numpy as np
import numpy.typing as npt

from opendance_hf.errors import OpenDanceError
from opendance_hf.files import atomic_write
from opendance_hf.motion.skeleton import NUM_JOINTS
from opendance_hf.pickles import PickleError, pickled_array_item

NUM_KEYPOINTS: Final = 190
#: Places of SMPL's 24 joints among the 190: the body's first 22, and its hands at the very end.
SMPL_TO_HUMAN_DATA: Final = (*range(22), 188, 189)
#: Keypoints of the conventions that begin with SMPL's 24; smplx's 45 have face, feet and finger tips after them.
_CONVENTIONS: Final = {"smpl": NUM_JOINTS, "smpl_45": 45}
_MAX_BYTES: Final = 2**30
#: What is read; other members may hold whatever they like.
_MEMBERS: Final = (
    "__keypoints_compressed__", "smpl", "keypoints3d", "keypoints3d_mask", "keypoints3d_convention", "meta",
)  # fmt: skip
_PARTS: Final = {"global_orient": 1, "body_pose": NUM_JOINTS - 1}

Floats = npt.NDArray[np.float32]


class HumanDataError(OpenDanceError, ValueError):
    """A file that is not HumanData; the message names the file and what is wrong."""


@dataclass
class HumanData:
    """The frames of one person.

    Attributes:
        poses: (N, 24, 3) axis-angle, None if the file has no SMPL parameters.
        betas: (10,) shape, the mean over the frames; None likewise.
        transl: (N, 3) metres, zero where the file has none; None without SMPL parameters.
        joints: (N, 24, 3) of ``keypoints3d``, None if the file lacks any of SMPL's 24.
        confidence: (N,) mean confidence of these.
        meta: text and numbers of the file's ``meta``.
    """

    poses: Floats | None
    betas: Floats | None
    transl: Floats | None
    joints: Floats | None
    confidence: Floats | None
    meta: dict[str, Any]


def save_human_data(
    path: Path | str,
    poses: Floats,
    transl: Floats,
    joints: Floats,
    *,
    betas: Floats | None = None,
    confidence: Floats | None = None,
    meta: dict[str, Any] | None = None,
    compressed: bool = False,
) -> Path:
    """Write one person as MMHuman3D's ``HumanData.load`` reads it.

    Args:
        path: must end in ``.npz``; replaced as a whole.
        poses: (N, 24, 3) axis-angle.
        transl: (N, 3) metres.
        joints: (N, 24, 3) metres, in the same frame.
        betas: (10,) shape; zero if there is none.
        confidence: (N,) from 0 to 1; one if not given.
        meta: text and numbers.
        compressed: store the keypoints of the mask only, as ``compress_keypoints_by_mask`` does.

    Raises:
        HumanDataError: if the shapes do not fit or the name does not end in ``.npz``.
    """
    path, count = Path(path), len(poses)
    if path.suffix != ".npz":
        raise HumanDataError(f"{path}: HumanData files end in .npz")
    shapes = (poses.shape, transl.shape, joints.shape)
    if shapes != ((count, NUM_JOINTS, 3), (count, 3), (count, NUM_JOINTS, 3)):
        raise HumanDataError(
            f"poses, transl and joints have shapes {shapes}, expected (N, 24, 3), (N, 3), (N, 24, 3)"
        )
    score = np.ones(count) if confidence is None else np.asarray(confidence)
    keypoints = np.zeros((count, NUM_KEYPOINTS, 4), dtype=np.float32)
    index = list(SMPL_TO_HUMAN_DATA)
    keypoints[:, index, :3] = joints
    keypoints[:, index, 3] = score[:, None]
    mask = np.zeros(NUM_KEYPOINTS, dtype=np.uint8)
    mask[index] = 1
    shape = np.zeros(10, np.float32) if betas is None else np.asarray(betas, np.float32)
    smpl = {
        "global_orient": poses[:, 0].astype(np.float32),
        "body_pose": poses[:, 1:].astype(np.float32),
        "betas": np.repeat(shape[None], count, axis=0),
        "transl": transl.astype(np.float32),
    }
    arrays: dict[str, Any] = {
        "__key_strict__": np.array(False),
        "__temporal_len__": np.array(count),
        "__keypoints_compressed__": np.array(compressed),
        "smpl": np.array(smpl, dtype=object),
        "keypoints3d": keypoints[:, index_of(mask)] if compressed else keypoints,
        "keypoints3d_mask": mask,
        "keypoints3d_convention": np.array("human_data"),
        "meta": np.array(dict(meta or {}), dtype=object),
    }
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=True, **arrays)
    return path


def index_of(mask: npt.NDArray[np.integer]) -> list[int]:
    """Numbers of the keypoints that a mask has."""
    return np.flatnonzero(mask).tolist()


def load_human_data(path: Path | str) -> HumanData:
    """Read one person of a HumanData file, MMHuman3D's own or ours; nothing in it is executed.

    Raises:
        FileNotFoundError: if there is no such file.
        HumanDataError: if it is no HumanData, holds other objects than data, or neither SMPL parameters nor joints.
    """
    path = Path(path)
    content = _read(path)

    def fail(why: str) -> NoReturn:
        raise HumanDataError(f"{path}: {why}")

    joints, confidence = _joints(path, content)
    poses = betas = transl = None
    smpl = content.get("smpl")
    if isinstance(smpl, dict):
        parts = []
        for name, joint_count in _PARTS.items():
            value = smpl.get(name)
            if not _is_numbers(value) or value.ndim < 2 or math.prod(value.shape[1:]) != joint_count * 3:
                fail(f"smpl has no {name} of {joint_count} x 3 numbers a frame")
            parts.append(value.reshape(len(value), joint_count, 3))
        if len(parts[0]) != len(parts[1]):
            fail("smpl's parts have different numbers of frames")
        poses = _float32(np.concatenate(parts, axis=1))
        count = len(poses)
        if not count:
            fail("smpl has no frames")
        shape, place = smpl.get("betas"), smpl.get("transl")
        for name, value in (("betas", shape), ("transl", place)):
            if isinstance(value, np.ndarray) and not _is_numbers(value):
                fail(f"smpl's {name} hold {value.dtype}, not numbers")
        if isinstance(shape, np.ndarray) and shape.size and shape.ndim and shape.shape[-1] >= 10:
            betas = _float32(shape.reshape(-1, shape.shape[-1])[:, :10].mean(axis=0))
        transl = np.zeros((count, 3), np.float32)
        if isinstance(place, np.ndarray) and place.size:
            if place.shape != (count, 3):
                fail(f"smpl's transl has shape {place.shape}, expected {(count, 3)}")
            transl = _float32(place)
        if joints is not None and len(joints) != count:
            fail(f"{count} poses and {len(joints)} frames of keypoints")
        for value in (poses, transl, betas):
            if value is not None and not np.isfinite(value).all():
                fail("smpl holds NaN or infinity")
    if poses is None and joints is None:
        fail("holds neither SMPL parameters nor SMPL's 24 joints")
    meta = content.get("meta")
    plain = {
        key: value
        for key, value in (meta.items() if isinstance(meta, dict) else ())
        if isinstance(value, str | int | float)
    }
    return HumanData(poses, betas, transl, joints, confidence, plain)


def _joints(path: Path, content: dict[str, Any]) -> tuple[Floats | None, Floats | None]:
    """(N, 24, 3) joints and (N,) confidences, if all of SMPL's 24 are there."""
    points = content.get("keypoints3d")
    if not isinstance(points, np.ndarray):
        return None, None
    convention = content.get("keypoints3d_convention", "human_data")
    if points.ndim != 3 or points.shape[2] not in (3, 4):
        raise HumanDataError(f"{path}: keypoints3d has shape {points.shape}, expected (N, K, 4)")
    if not _is_numbers(points):
        raise HumanDataError(f"{path}: keypoints3d holds {points.dtype}, not numbers")
    if not len(points):
        raise HumanDataError(f"{path}: keypoints3d has no frames")
    if not isinstance(convention, str):
        raise HumanDataError(f"{path}: keypoints3d_convention is no text")
    mask, compressed = content.get("keypoints3d_mask"), content.get("__keypoints_compressed__", False)
    if not isinstance(compressed, int):
        raise HumanDataError(f"{path}: __keypoints_compressed__ is neither true nor false")
    if points.shape[1] == _CONVENTIONS.get(convention):
        chosen = points[:, :NUM_JOINTS]
    else:
        if (
            not isinstance(mask, np.ndarray)
            or mask.shape != (NUM_KEYPOINTS,)
            or mask.dtype.kind not in "biuf"
        ):
            raise HumanDataError(f"{path}: keypoints3d has no keypoints3d_mask of {NUM_KEYPOINTS} numbers")
        there = index_of(mask)
        if compressed:
            if points.shape[1] != len(there):
                raise HumanDataError(
                    f"{path}: {points.shape[1]} compressed keypoints, but the mask has {len(there)}"
                )
            whole = np.zeros((len(points), NUM_KEYPOINTS, points.shape[2]), dtype=points.dtype)
            whole[:, there] = points
            points = whole
        if points.shape[1] != NUM_KEYPOINTS:
            raise HumanDataError(
                f"{path}: {points.shape[1]} keypoints of convention {convention!r}, expected {NUM_KEYPOINTS}"
            )
        if not set(SMPL_TO_HUMAN_DATA) <= set(there):
            return None, None
        chosen = points[:, list(SMPL_TO_HUMAN_DATA)]
    chosen = _float32(chosen)
    if not np.isfinite(chosen).all():
        raise HumanDataError(f"{path}: keypoints3d holds NaN or infinity")
    score = chosen[..., 3].mean(axis=1) if chosen.shape[2] == 4 else np.ones(len(chosen))
    return chosen[..., :3], score.astype(np.float32).clip(0, 1)


def _is_numbers(value: object) -> TypeGuard[np.ndarray]:
    return isinstance(value, np.ndarray) and value.dtype.kind in "iuf"


def _float32(value: np.ndarray) -> Floats:
    with np.errstate(over="ignore"):  # too large for it becomes infinity, which is refused
        return value.astype(np.float32)


def _read(path: Path) -> dict[str, Any]:
    """Members of the archive: arrays, plain values of 0-d arrays, and objects read as data only."""
    out: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            members = [archive.getinfo(f"{name}.npy") for name in _MEMBERS if f"{name}.npy" in names]
            if sum(info.file_size for info in members) > _MAX_BYTES:
                raise HumanDataError(f"{path}: more than {_MAX_BYTES:,} bytes unpacked")
            for info in members:
                name = info.filename.removesuffix(".npy")
                with archive.open(info) as file:
                    value = pickled_array_item(file.read(info.file_size), f"{path}, {name}")
                plain = isinstance(value, np.ndarray) and value.ndim == 0
                out[name] = value.item() if plain else value
    except FileNotFoundError:
        raise
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise HumanDataError(f"{path}: not an .npz file: {error}") from None
    except PickleError as error:
        raise HumanDataError(str(error)) from None
    return out
