"""Read and write motion files of OpenDance-HF and of other projects, one module per format.

A format is a module with ``read(path) -> Motion`` and, unless it is only read, ``write(motion, path) -> list[Path]``, and a
line in :data:`FORMATS`, which ``opendance convert`` and ``opendance evaluate`` use. The module is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, cast, runtime_checkable

from opendance_hf.errors import OpenDanceError

if TYPE_CHECKING:
    from opendance_hf.formats.motion import Motion

#: Modules of the formats by name.
FORMATS: Final[dict[str, str]] = {
    "aistpp": "opendance_hf.formats.aistpp",
    "amass": "opendance_hf.formats.amass",
    "amc": "opendance_hf.formats.amc",
    "bvh": "opendance_hf.formats.bvh",
    "c3d": "opendance_hf.formats.c3d",
    "coco": "opendance_hf.formats.coco",
    "csv": "opendance_hf.formats.csvtable",
    "dd100": "opendance_hf.formats.dd100",
    "edge": "opendance_hf.formats.edge",
    "fbx": "opendance_hf.formats.fbx",
    "gdance": "opendance_hf.formats.gdance",
    "glb": "opendance_hf.formats.glb",
    "gvhmr": "opendance_hf.formats.gvhmr",
    "humandata": "opendance_hf.formats.humandata",
    "humanml3d": "opendance_hf.formats.humanml3d",
    "lodge": "opendance_hf.formats.lodge",
    "opendance": "opendance_hf.formats.opendance",
    "phantomdance": "opendance_hf.formats.phantomdance",
    "smplcodec": "opendance_hf.formats.smplcodec",
    "usd": "opendance_hf.formats.usd",
    "vrma": "opendance_hf.formats.vrma",
    "wham": "opendance_hf.formats.wham",
}


class FormatError(OpenDanceError, ValueError):
    """Raised for a motion file that cannot be read or written; the message has the file, the error and the remedy."""


class Format(Protocol):
    """Interface of the module of a format that is read."""

    def read(self, path: Path, /, **answers: Any) -> Motion:
        """Read a file.

        Args:
            path: the file.
            answers: what the file does not tell: ``fps`` and ``up`` (``y`` or ``z``), for formats whose files may lack them.

        Raises:
            FileNotFoundError: if the file does not exist.
            FormatError: if it is not a file of this format.
        """


@runtime_checkable
class WritableFormat(Format, Protocol):
    """Interface of the module of a format that is read and written."""

    def write(self, motion: Motion, path: Path, /) -> list[Path]:
        """Write a motion and return the files: ``path``, or numbered files if the format has one dancer per file.

        Raises:
            FormatError: if the format cannot represent the motion, or ``path`` has another suffix.
            OSError: if a file cannot be written.
        """


def format_named(name: str) -> Format:
    """Import the module of a format.

    Raises:
        FormatError: if the format is unknown.
    """
    if name not in FORMATS:
        raise FormatError(f"unknown format {name!r}: expected one of {', '.join(FORMATS)}")
    return cast(Format, import_module(FORMATS[name]))
