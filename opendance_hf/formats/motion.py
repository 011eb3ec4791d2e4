"""Define the motion of one or more dancers, which all formats read and write."""

from __future__ import annotations

import math
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from opendance_hf.brief import brief_repr
from opendance_hf.formats import FormatError
from opendance_hf.motion.skeleton import NUM_JOINTS

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Motion:
    """Motion of D dancers over T frames in one world frame: metres, radians, y up.

    Attributes:
        joints: (D, T, 24, 3) joint positions, in the order of SMPL.
        fps: frames per second.
        poses: (D, T, 24, 3) axis-angle of each joint relative to its parent, None if unknown.
        transl: (D, T, 3) SMPL's translation: pelvis = transl + rest_offsets[:, 0]; None if unknown.
        rest_offsets: (D, 24, 3) offset of each joint from its parent in the rest pose, None if unknown.
        betas: (D, 10) SMPL shape, None if unknown.
        confidence: (D, T) from 0 to 1, None if unknown.
        meta: further text, numbers and tuples of numbers of a format. If present, ``id`` and ``group`` (the song) are text,
            ``music_beats`` are frame indices, ``ground`` is the height of the ground in metres, ``licence`` the terms of the
            motion, ``start_s`` its start in its source, and ``song_start_s`` that in its song, if that is another file.

    Raises:
        FormatError: naming the array, if it has another shape, values other than real numbers, NaN or infinity; if ``fps``
            is not positive.
    """

    __repr__ = brief_repr

    joints: Floats
    fps: float
    poses: Floats | None = None
    transl: Floats | None = None
    rest_offsets: Floats | None = None
    betas: Floats | None = None
    confidence: Floats | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dancers, frames = (*np.shape(self.joints), 0, 0)[:2]
        if not (dancers and frames):
            raise FormatError(f"joints must be (dancers, frames, 24, 3), got {np.shape(self.joints)}")
        for name, shape in {
            "joints": (dancers, frames, NUM_JOINTS, 3),
            "poses": (dancers, frames, NUM_JOINTS, 3),
            "transl": (dancers, frames, 3),
            "rest_offsets": (dancers, NUM_JOINTS, 3),
            "betas": (dancers, 10),
            "confidence": (dancers, frames),
        }.items():
            value = getattr(self, name)
            if value is None and name != "joints":
                continue
            if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
                raise FormatError(
                    f"{name} must be an array of real numbers, got {getattr(value, 'dtype', value)}"
                )
            if value.shape != shape:
                raise FormatError(f"{name} must have the shape {shape}, got {value.shape}")
            if not np.isfinite(value).all():
                raise FormatError(f"NaN or infinity in {name}")
            if value.dtype.kind != "f":
                object.__setattr__(self, name, value.astype(np.float64))
        if not 0 < self.fps < math.inf:
            raise FormatError(f"fps must be positive and finite, got {self.fps}")

    def __eq__(self, other: object) -> bool:
        """Return whether all arrays (with their types), the rate and the metadata are exactly equal."""
        if not isinstance(other, Motion):
            return NotImplemented
        return all(_same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    __hash__ = None  # type: ignore[assignment]

    @property
    def num_dancers(self) -> int:
        """Number of dancers, D."""
        return len(self.joints)

    @property
    def num_frames(self) -> int:
        """Number of frames, T."""
        return int(self.joints.shape[1])

    def dancer(self, index: int) -> Motion:
        """Return the motion of one dancer, D = 1; if there are several, ``meta["dancer"]`` is the index."""
        arrays: dict[str, Any] = {
            f.name: value[index : index + 1]
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), np.ndarray)
        }
        meta = self.meta if self.num_dancers == 1 else {**self.meta, "dancer": index}
        return replace(self, **arrays, meta=meta)


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    return type(left) is type(right) and bool(left == right)


def one_file_a_dancer(motion: Motion, path: Path) -> Iterator[tuple[Motion, Path]]:
    """Yield the motion and the file of each dancer, for formats with one per file: ``a.npz``, or ``a_0.npz``, ..."""
    for index in range(motion.num_dancers):
        is_solo = motion.num_dancers == 1
        yield motion.dancer(index), path if is_solo else path.with_name(f"{path.stem}_{index}{path.suffix}")


def needs_poses(motion: Motion, path: Path) -> tuple[Floats, Floats]:
    """Return the poses and the (D, T, 3) positions of the pelvis of a motion, float64.

    Raises:
        FormatError: if the motion has only joints; ``path`` is the output file, for the message.
    """
    if motion.poses is None or motion.transl is None or motion.rest_offsets is None:
        raise FormatError(
            f"{path}: needs rotations, but this motion has only joint positions; opendance clean writes a dance with both"
        )
    pelvis = motion.transl.astype(np.float64) + motion.rest_offsets[:, None, 0].astype(np.float64)
    return motion.poses.astype(np.float64), pelvis


def check_input(path: Path, max_bytes: int) -> int:
    """Return the size of a file that will be read, bytes.

    Raises:
        FileNotFoundError: if it does not exist.
        FormatError: if it is a folder or a device, or larger than ``max_bytes``.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a device or a pipe"
        raise FormatError(f"{path}: this is {kind}; expected a file with a motion")
    if found.st_size > max_bytes:
        raise FormatError(
            f"{path}: {found.st_size:,} bytes, at most {max_bytes:,} are read: split the motion"
        )
    return found.st_size


def check_suffix(path: Path, *suffixes: str) -> None:
    """Raise FormatError if the name of an output file has another suffix.

    Raises:
        FormatError: naming the file and the suffixes.
    """
    if path.suffix.lower() not in suffixes:
        expected = ", ".join(suffixes)
        raise FormatError(f"{path}: the name of this file must end in {expected}, got {path.suffix!r}")
