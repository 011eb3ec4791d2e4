"""Motion files of ours and of other projects, one module a format.

A format is a module with ``read(path) -> Motion`` and ``write(motion, path) -> list[Path]``, and a line in
:data:`FORMATS`. ``opendance convert`` and ``opendance evaluate`` find it there; it is imported when it is used.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, cast

from opendance_hf.errors import OpenDanceError

if TYPE_CHECKING:
    from opendance_hf.formats.motion import Motion

#: Name of every format, and its module.
FORMATS: Final[dict[str, str]] = {
    "aistpp": "opendance_hf.formats.aistpp",
    "humandata": "opendance_hf.formats.humandata",
    "opendance": "opendance_hf.formats.opendance",
}


class FormatError(OpenDanceError, ValueError):
    """A motion file that cannot be read or written; the message names the file, what is wrong and what to do."""


class Format(Protocol):
    """What a module of a format has."""

    def read(self, path: Path, /) -> Motion:
        """Read a file.

        Raises:
            FileNotFoundError: if there is no such file.
            FormatError: if it is not a file of this format.
        """

    def write(self, motion: Motion, path: Path, /) -> list[Path]:
        """Write a motion and return the files: ``path``, or numbered ones where a file holds one dancer.

        Raises:
            FormatError: if the format cannot hold the motion, or ``path`` has another suffix.
            OSError: if a file cannot be written.
        """


def format_named(name: str) -> Format:
    """Import the module of a format.

    Raises:
        FormatError: if there is no such format.
    """
    if name not in FORMATS:
        raise FormatError(f"unknown format {name!r}: expected one of {', '.join(FORMATS)}")
    return cast(Format, import_module(FORMATS[name]))
