"""Members of ``.npz`` archives of unknown origin, checked before they are read: kind, size, damage."""

from __future__ import annotations

import math
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import numpy as np

from opendance_hf.formats import FormatError

_KIND_NAMES: Final = {"O": "Python objects", "V": "structures", "U": "text", "S": "bytes", "b": "booleans"}
#: Texts longer than this are not names.
_MAX_TEXT_BYTES: Final = 4096


@dataclass(frozen=True)
class Member:
    """What an array of an archive must be.

    Attributes:
        kinds: kinds of numpy's dtypes, one letter each.
        meaning: what it holds, for messages.
        single: one value, no more.
    """

    kinds: str
    meaning: str
    single: bool = False


def is_array_file(path: Path) -> bool:
    """Return whether a file is a bare ``.npy`` array."""
    with path.open("rb") as file:
        return file.read(6) == b"\x93NUMPY"


def read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Read the array of a member; nothing is unpickled."""
    with archive.open(f"{name}.npy") as opened:
        return np.lib.format.read_array(opened, allow_pickle=False)


def check_members(path: Path, archive: zipfile.ZipFile, members: dict[str, Member], limit: int) -> None:
    """Refuse what is too large or of another kind, by what the archive and the headers in it say.

    Args:
        path: of the archive, for messages.
        archive: opened.
        members: by name; all of them are there.
        limit: bytes that they may unpack to, together.

    Raises:
        FormatError: naming the file, the member and what was expected.
    """
    infos = {name: archive.getinfo(f"{name}.npy") for name in members}
    total = sum(info.file_size for info in infos.values())
    if total > limit:
        raise FormatError(
            f"{path}: unpacks to {total:,} bytes; more than {limit:,} are refused: split the dance"
        )
    for name, info in infos.items():
        with archive.open(info) as opened:
            shape, dtype = _header(path, name, opened)
            num_bytes = info.file_size - opened.tell()
        shown, member = _shown(name), members[name]
        if dtype.kind not in member.kinds:
            held = _KIND_NAMES.get(dtype.kind, dtype.name)
            raise FormatError(f"{path}: '{shown}' holds {held}, but must be {member.meaning}")
        if math.prod(shape) * dtype.itemsize != num_bytes:
            raise FormatError(f"{path}: '{shown}' is damaged: {num_bytes:,} bytes for the shape {shape}")
        if member.single and math.prod(shape) != 1:
            raise FormatError(
                f"{path}: '{shown}' has {math.prod(shape)} values, but must be {member.meaning}"
            )
        if member.single and num_bytes > _MAX_TEXT_BYTES:
            raise FormatError(f"{path}: '{shown}' is too long for a name: {num_bytes:,} bytes")


def _header(path: Path, name: str, opened: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    try:
        version = np.lib.format.read_magic(opened)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # headers written by Python 2
            shape, _, dtype = readers[version](opened)
        if len(shape) > 32 or any(n < 0 for n in shape):
            raise ValueError
    # The header is a Python expression, and evaluating a damaged one raises nearly anything.
    except Exception:
        raise FormatError(f"{path}: '{_shown(name)}' is damaged, or not an array") from None
    return shape, dtype


def _shown(name: str) -> str:
    return ascii(name)[1:-1][:40]
