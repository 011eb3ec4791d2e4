"""Check the members of untrusted ``.npz`` archives before they are read: type, size, damage."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import numpy as np

from opendance_hf.archives import DAMAGED as DAMAGED
from opendance_hf.archives import allowed_bytes, read_header
from opendance_hf.archives import cause as cause
from opendance_hf.formats import FormatError
from opendance_hf.formats.motion import check_input

_KIND_NAMES: Final = {"O": "Python objects", "V": "structures", "U": "text", "S": "bytes", "b": "booleans"}
#: Maximum size of a name.
_MAX_TEXT_BYTES: Final = 4096


@dataclass(frozen=True)
class Member:
    """Expected type of a member of an archive.

    Attributes:
        kinds: allowed kinds of numpy dtypes, one letter each.
        meaning: description of the content, for messages.
        single: True if it must have exactly one value.
    """

    kinds: str
    meaning: str
    single: bool = False


def is_array_file(path: Path) -> bool:
    """Return whether a file is a single ``.npy`` array."""
    with path.open("rb") as file:
        return file.read(6) == b"\x93NUMPY"


def read_array_file(path: Path, max_bytes: int) -> np.ndarray:
    """Read a ``.npy`` file; nothing is unpickled.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is too large, damaged, or an array of Python objects.
    """
    size = check_input(path, max_bytes)
    with path.open("rb") as file:
        shape, dtype = _header(path, path.name, file)
        if dtype.hasobject:
            raise FormatError(f"{path}: contains Python objects, which are never read")
        if math.prod(shape) * dtype.itemsize != size - file.tell():
            raise FormatError(
                f"{path}: {size:,} bytes do not match the shape {shape}; the file is damaged or truncated"
            )
        file.seek(0)
        try:
            return np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise FormatError(f"{path}: not an .npy array ({cause(error)})") from None


def read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Read the array of a member; nothing is unpickled."""
    with archive.open(f"{name}.npy") as opened:
        return np.lib.format.read_array(opened, allow_pickle=False)


def check_unpacked(path: Path, total: int, limit: int) -> None:
    """Refuse members of an archive that unpack to too many bytes, or to far more than motions do.

    Raises:
        FormatError: naming the file and both numbers.
    """
    allowed = allowed_bytes(path, limit)
    if total > allowed:
        raise FormatError(
            f"{path}: unpacks to {total:,} bytes, at most {allowed:,} are allowed for an archive of this size: split the dance"
        )


def check_members(path: Path, archive: zipfile.ZipFile, members: dict[str, Member], limit: int) -> None:
    """Refuse members that are too large or of another type, according to the directory and the headers.

    Args:
        path: path of the archive, for messages.
        archive: the opened archive.
        members: expected types by name; all of them exist.
        limit: maximum total unpacked size, bytes.

    Raises:
        FormatError: naming the file, the member and what was expected.
    """
    infos = {name: archive.getinfo(f"{name}.npy") for name in members}
    check_unpacked(path, sum(info.file_size for info in infos.values()), limit)
    for name, info in infos.items():
        with archive.open(info) as opened:
            shape, dtype = _header(path, name, opened)
            num_bytes = info.file_size - opened.tell()
        shown, member = _escape_name(name), members[name]
        if dtype.kind not in member.kinds:
            held = _KIND_NAMES.get(dtype.kind, dtype.name)
            raise FormatError(f"{path}: '{shown}' contains {held}, expected {member.meaning}")
        if math.prod(shape) * dtype.itemsize != num_bytes:
            raise FormatError(
                f"{path}: '{shown}' is damaged: {num_bytes:,} bytes do not match the shape {shape}"
            )
        if member.single and math.prod(shape) != 1:
            raise FormatError(f"{path}: '{shown}' has {math.prod(shape)} values, expected {member.meaning}")
        if member.single and num_bytes > _MAX_TEXT_BYTES:
            raise FormatError(
                f"{path}: '{shown}' has {num_bytes:,} bytes, at most {_MAX_TEXT_BYTES:,} are allowed"
            )


def _header(path: Path, name: str, opened: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    try:
        return read_header(opened)
    # The header is a Python literal, and parsing a damaged one may raise almost any exception.
    except Exception:
        raise FormatError(f"{path}: '{_escape_name(name)}' is damaged or not an array") from None


def _escape_name(name: str) -> str:
    return ascii(name)[1:-1][:40]
