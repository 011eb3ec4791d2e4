"""Read arrays of ``.npz`` and ``.npy`` files of anybody: nothing is unpickled, and sizes are checked before memory is taken."""

from __future__ import annotations

import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Set
from pathlib import Path
from typing import IO, Final

import numpy as np

from opendance_hf.errors import without_unsafe_advice
from opendance_hf.schema import SchemaError

#: Exceptions of numpy and zipfile for archives that are damaged, encrypted or state absurd sizes.
DAMAGED: Final = (
    OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, OverflowError, MemoryError, SyntaxError, zipfile.BadZipFile,
    zlib.error, lzma.LZMAError, tokenize.TokenError,
)  # fmt: skip
#: Bytes of an archive unpack to at most this many, beside some that any archive may have.
_MAX_RATIO: Final = 60
_SPARE_BYTES: Final = 48 * 2**20


def read_arrays(path: Path, wanted: Set[str] | None = None) -> dict[str, np.ndarray]:
    """Read arrays of an ``.npz`` file; sizes are checked before memory is taken.

    Args:
        path: the file, of anybody.
        wanted: names; those that are not there are left out. None for all.

    Raises:
        FileNotFoundError: if the file does not exist.
        SchemaError: naming the file and the error, if it is not such an archive, is damaged, or has objects or other sizes than it states.
    """
    try:
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                raise SchemaError(f"{path}: a single .npy array, expected an .npz sequence file")
        with zipfile.ZipFile(path) as archive:
            infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            infos = {name: info for name, info in infos.items() if wanted is None or name in wanted}
            total, limit = (
                sum(info.file_size for info in infos.values()),
                _MAX_RATIO * path.stat().st_size + _SPARE_BYTES,
            )
            if total > limit:
                raise SchemaError(
                    f"{path}: unpacks to {total / 1e6:,.0f} MB, the limit is {limit / 1e6:,.0f} MB"
                )
            return {name: _member(archive, info) for name, info in infos.items()}
    except (SchemaError, FileNotFoundError):
        raise
    except DAMAGED as error:
        text = " ".join(without_unsafe_advice(error).split()) or type(error).__name__
        raise SchemaError(f"{path}: not a sequence file: {ascii(text)[1:-1][:200]}") from error


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as file:
        return read_npy(file, info.file_size)


def read_npy(file: IO[bytes], size: int) -> np.ndarray:
    """Read a ``.npy`` array of ``size`` bytes from a file at its start.

    Raises:
        ValueError: if it is none, has objects, or its header states another size.
    """
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in headers:
        raise ValueError(f"version {version} of the .npy format is not supported")
    shape, _, dtype = headers[version](file)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded: they would be unpickled")
    if (stated := math.prod(shape) * dtype.itemsize) != size - file.tell():
        raise ValueError(f"the header states {stated} bytes of data, {size - file.tell()} are there")
    file.seek(0)
    return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
