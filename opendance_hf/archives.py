"""Read arrays of files that may be hostile: nothing is unpickled, and sizes are checked before memory is taken."""

from __future__ import annotations

import io
import lzma
import math
import os
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO, Final

import numpy as np

from opendance_hf.errors import OpenDanceError, without_unsafe_advice

#: Bytes of an archive unpack to at most this many, beside some that any archive may have. Zeros pack a thousandfold.
_MAX_RATIO: Final = 60
_SPARE_BYTES: Final = 48 * 2**20
#: Most bytes that the arrays of a file may have.
MAX_UNPACKED: Final = 4 * 2**30
#: Most bytes from the start of the last record of a zip archive to its end.
_ZIP_TAIL_BYTES: Final = 22 + 2**16

#: Exceptions of numpy and zipfile for archives that are damaged, encrypted or declare absurd sizes.
DAMAGED: Final = (
    ValueError, EOFError, KeyError, OSError, RuntimeError, OverflowError, MemoryError, IndexError, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError, struct.error,
)  # fmt: skip


class ArchiveError(OpenDanceError, ValueError):
    """Raised for a file of arrays that cannot be read; the message names the file, what is wrong and what was expected."""


def cause(error: BaseException) -> str:
    """Return what an exception of numpy or zipfile says, on one line: it may have names of the file, of any length."""
    return ascii(without_unsafe_advice(error) or type(error).__name__)[1:-1][:200]


def allowed_bytes(path: Path, limit: int = MAX_UNPACKED) -> int:
    """Return how many bytes an archive may unpack to: not far more than archives of numbers of its size do."""
    return min(limit, _SPARE_BYTES + _MAX_RATIO * path.stat().st_size)


def check_zip(path: Path, limit: int = MAX_UNPACKED) -> None:
    """Check that all members of a zip archive together unpack to a size that may be read.

    Raises:
        ArchiveError: if they do not, or the archive is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(info.file_size for info in archive.infolist())
    except DAMAGED as error:
        raise ArchiveError(f"{path}: a damaged archive ({cause(error)})") from None
    if total > (allowed := allowed_bytes(path, limit)):
        raise ArchiveError(
            f"{path}: unpacks to {total:,} bytes, at most {allowed:,} are read from an archive of this size"
        )


def is_archive(path: Path) -> bool:
    """Return True if a zip archive has its list of members, which is written last; False if it is missing or damaged.

    Members are not read, so damage inside one is not found.

    Raises:
        OSError: if the file is there and cannot be read.
    """
    try:
        with path.open("rb") as file:
            # Read first: zipfile reports errors of the disk as damage.
            file.seek(-min(_ZIP_TAIL_BYTES, path.stat().st_size), os.SEEK_END)
            file.read()
            try:
                zipfile.ZipFile(file).close()
            except DAMAGED:
                return False
    except FileNotFoundError:
        return False
    return True


def read_header(opened: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Read the shape and the type in the header of a ``.npy`` array.

    Raises:
        Exception: of almost any type if it is damaged, since it is parsed as a Python literal.
    """
    version = np.lib.format.read_magic(opened)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers written by Python 2
        shape, _, dtype = readers[version](opened)
    if len(shape) > 32 or any(n < 0 for n in shape):
        raise ValueError(f"the shape {shape}")
    return shape, dtype


def read_array(opened: IO[bytes], size: int) -> np.ndarray:
    """Read a ``.npy`` array of ``size`` bytes, its header included; nothing is unpickled.

    Raises:
        ValueError: if it is damaged, of Python objects, or of another size than its header states.
    """
    try:
        shape, dtype = read_header(opened)
    except Exception as error:
        raise ValueError(f"its header is damaged ({cause(error)})") from None
    if dtype.hasobject:
        raise ValueError("it has Python objects, which are never read")
    if math.prod(shape) * dtype.itemsize != size - opened.tell():
        raise ValueError(f"{size:,} bytes do not match the shape {shape}")
    opened.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array: np.ndarray = np.lib.format.read_array(opened, allow_pickle=False)
    return array


def array_of(data: bytes) -> np.ndarray:
    """Return the array of the bytes of a ``.npy`` file; see :func:`read_array`."""
    return read_array(io.BytesIO(data), len(data))


def read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Read arrays of an ``.npz`` file by name: those of ``names`` that it has, or all.

    Raises:
        FileNotFoundError: if the file does not exist.
        ArchiveError: if it is not such an archive, damaged, holds Python objects, or unpacks to far more than numbers do.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ArchiveError(f"{path}: not a file; expected an .npz archive of arrays")
    name = ""
    try:
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                raise ArchiveError(f"{path}: a single .npy array, expected an .npz archive of arrays")
        with zipfile.ZipFile(path) as archive:
            infos = {
                key: info
                for info in archive.infolist()
                if (key := info.filename.removesuffix(".npy")) != info.filename
                and (names is None or key in names)
            }
            total = sum(info.file_size for info in infos.values())
            if total > (allowed := allowed_bytes(path)):
                raise ArchiveError(
                    f"{path}: unpacks to {total:,} bytes, at most {allowed:,} are read from an archive of this size"
                )
            arrays = {}
            for name, info in infos.items():
                with archive.open(info) as opened:
                    arrays[name] = read_array(opened, info.file_size)
            return arrays
    except (ArchiveError, FileNotFoundError):
        raise
    except DAMAGED as error:
        where = f"'{ascii(name)[1:-1][:40]}': " if name else "not an .npz archive: "
        raise ArchiveError(f"{path}: {where}{cause(error)}") from None
