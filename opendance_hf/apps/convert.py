"""``opendance convert``: official models and motion files of other projects in the form our programs read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from opendance_hf.formats import FORMATS, format_named, opendance
from opendance_hf.modeling.bailando.convert_bailando import ConversionError, convert_bailando
from opendance_hf.modeling.cliff.convert_cliff import convert_cliff
from opendance_hf.modeling.smoothnet.convert_smoothnet import convert_smoothnet

#: Names of keys or files, by kind: what took no part in a conversion, or what was written.
Report = dict[str, list[str]]


def convert(kind: str, files: Sequence[Path], out: Path) -> Report:
    """Convert the official files of a model, or a motion file from or to a format.

    Args:
        kind: a key of :data:`OFFICIAL` or of :data:`opendance_hf.formats.FORMATS`.
        files: the files; all but those of bailando come in one.
        out: folder to write; for smpl and motions the file.

    Returns:
        Keys that took no part, by kind, or the names of the files where there are several.

    Raises:
        OpenDanceError: of the converter, if a file is not what it should be.
        ConversionError: if there is no such converter, there are too many files, or ``out`` cannot be written.
    """
    if kind not in OFFICIAL and kind not in FORMATS:
        raise ConversionError(f"unknown kind {kind!r}: expected one of {', '.join([*OFFICIAL, *FORMATS])}")
    if kind != "bailando" and len(files) != 1:
        raise ConversionError(f"{kind} comes in one file, not {len(files)}")
    try:
        if kind in OFFICIAL:
            return OFFICIAL[kind](files, out)
        written = convert_motion(kind, files[0], out)
        return {"dancers": [path.name for path in written]} if len(written) > 1 else {}
    except OSError as error:  # files that cannot be read have errors of their own
        raise ConversionError(
            f"{error.filename or out}: {error.strerror or error}; give --out a place that can be written"
        ) from None


def convert_motion(name: str, source: Path, out: Path) -> list[Path]:
    """Write a sequence or dance of ours in a format, or read a file of that format into a dance of ours.

    Args:
        name: a key of :data:`opendance_hf.formats.FORMATS`.
        source: which way to go depends on whose file it is.
        out: the file; numbered for several dancers where the format holds one.

    Returns:
        The files written.

    Raises:
        FormatError: if the file is neither, or the format cannot hold the motion.
        OSError: if the files cannot be written.
    """
    motion_format = format_named(name)
    if opendance.is_ours(source):
        return motion_format.write(opendance.read(source), out)
    return opendance.write(motion_format.read(source), out)


def _smpl(files: Sequence[Path], out: Path) -> Report:
    from opendance_hf.motion.smpl import convert_smpl

    convert_smpl(files[0], out)
    return {}


#: Converters of official models: files and output to the keys that took no part.
OFFICIAL: Final[dict[str, Callable[[Sequence[Path], Path], Report]]] = {
    "bailando": lambda files, out: convert_bailando(*files, out=out)[1],
    "cliff": lambda files, out: convert_cliff(files[0], out)[1],
    "smoothnet": lambda files, out: convert_smoothnet(files[0], out)[1],
    "smpl": _smpl,
}
