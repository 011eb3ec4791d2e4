"""Hold the people that another program found in a video, in the frame of its camera."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.formats import FormatError
from opendance_hf.formats.body import Floats

#: Largest absolute value of a coordinate, metres; PHALP's depths are those of a lens of a focal length of up to 80 times
#: the picture's width.
_MAX_M: Final = 1e5
#: More than an hour at 120 frames per second; the matrices of a body of so many frames take 1 GB.
_MAX_FRAMES: Final = 500_000
#: Sizes of bodies, relative to the mean skeleton.
_SIZES: Final = (0.4, 1.6)


@dataclass(frozen=True)
class Person:
    """One person in T frames of a video.

    Attributes:
        name: what the program calls the person.
        frames: (T,) numbers of the frames, ascending, from 0.
        rotations: (T, 24, 3, 3) each joint of SMPL relative to its parent, the root relative to the camera.
        pelvis: (T, 3) metres, in the camera frame: x right, y down, z away from the camera.
        size: size of the body relative to the mean skeleton; 1 if the file does not tell.
    """

    name: str
    frames: npt.NDArray[np.int64]
    rotations: Floats
    pelvis: Floats
    size: float = 1.0


@dataclass(frozen=True)
class People:
    """People of a video, and the camera with which the program placed them; its centre is that of the picture.

    Attributes:
        persons: the people.
        num_frames: number of frames that the program processed; None if the file does not tell.
        focal_px: focal length, pixels; None if the file does not tell: then it is the diagonal of the picture.
        width_px: width of the program's picture, to which the focal length belongs; None if the file does not tell.
    """

    persons: tuple[Person, ...]
    num_frames: int | None = None
    focal_px: float | None = None
    width_px: float | None = None


def check_length(path: Path, frames: int) -> None:
    """Check the number of frames before matrices are made of them.

    Raises:
        FormatError: if there are too many.
    """
    if frames > _MAX_FRAMES:
        raise FormatError(f"{path}: {frames:,} frames, at most {_MAX_FRAMES:,} are read")


def make_person(
    path: Path, name: str, frames: npt.NDArray[Any], rotations: Floats, pelvis: Floats, size: float = 1.0
) -> Person:
    """Check and return a person; see :class:`Person` for the arrays.

    Raises:
        FormatError: naming the file and the person: shapes that do not match, frames that do not ascend, values that are not
            finite or absurd, matrices that are not rotations, or an absurd size.
    """
    where = f"{path}: person {name}"
    count = len(frames)
    if rotations.shape != (count, 24, 3, 3) or pelvis.shape != (count, 3):
        raise FormatError(
            f"{where}: {count} frames, rotations {rotations.shape} and places {pelvis.shape} do not match"
        )
    if not count or (np.diff(frames) <= 0).any() or frames[0] < 0 or (frames != np.round(frames)).any():
        raise FormatError(f"{where}: the numbers of the frames do not ascend from 0 or more")
    if not (np.isfinite(rotations).all() and np.isfinite(pelvis).all() and np.abs(pelvis).max() < _MAX_M):
        raise FormatError(f"{where}: rotations or places are not finite numbers, or absurdly large")
    error = np.abs(rotations @ np.swapaxes(rotations, -1, -2) - np.eye(3)).max()
    if error > 0.01 or (np.linalg.det(rotations) < 0).any():
        raise FormatError(f"{where}: matrices that should be rotations are not (off by {error:.3g})")
    if not _SIZES[0] <= size <= _SIZES[1]:
        raise FormatError(
            f"{where}: a body of {size:.3g} times the mean size, expected {_SIZES[0]:g} to {_SIZES[1]:g}"
        )
    return Person(name, frames.astype(np.int64), rotations, pelvis, size)
