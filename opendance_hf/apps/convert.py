"""Convert official models and motion files of other projects for OpenDance-HF, and back (``opendance convert``)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from opendance_hf.files import check_folder, check_output, staged_folder
from opendance_hf.formats import FORMATS, FormatError, WritableFormat, format_named, opendance
from opendance_hf.formats.motion import one_file_a_dancer
from opendance_hf.modeling.bailando.convert_bailando import ConversionError, convert_bailando
from opendance_hf.modeling.cliff.convert_cliff import convert_cliff
from opendance_hf.modeling.loading import hide_progress_bars
from opendance_hf.modeling.smoothnet.convert_smoothnet import convert_smoothnet

#: Names of unused keys or of written files, by kind.
Report = dict[str, list[str]]


def convert(
    kind: str,
    files: Sequence[Path],
    out: Path,
    *,
    fps: float | None = None,
    up: str | None = None,
    names: str | None = None,
    overwrite: bool = False,
) -> Report:
    """Convert the official files of a model, or a motion file from or to a format.

    Args:
        kind: a key of :data:`OFFICIAL` or of :data:`opendance_hf.formats.FORMATS`.
        files: the input files; one, except for bailando.
        out: output folder; for smpl and motions the output file.
        fps: frames per second of a motion file, for formats that may lack them.
        up: axis that points up in a motion file, ``y`` or ``z``, for formats that may use either.
        names: table of the names of joints, for formats with a skeleton of their own.
        overwrite: True to replace files that exist; inputs are never replaced.

    Returns:
        Unused keys by kind, or the names of the written files if there are several.

    Raises:
        OpenDanceError: of the converter, if a file is invalid.
        ConversionError: if the kind is unknown or the number of files is wrong.
        OutputError: if ``out`` is an input, or exists and ``overwrite`` is False.
        DiskError: if ``out`` cannot be written.
    """
    if kind not in OFFICIAL and kind not in FORMATS:
        raise ConversionError(f"unknown kind {kind!r}: expected one of {', '.join([*OFFICIAL, *FORMATS])}")
    if kind != "bailando" and len(files) != 1:
        raise ConversionError(f"{kind}: expected one file, got {len(files)}")
    answers = {
        name: value for name, value in (("fps", fps), ("up", up), ("names", names)) if value is not None
    }
    if kind in OFFICIAL and answers:
        raise ConversionError(f"{kind}: takes no --{' or --'.join(answers)}, which are for motions")
    if kind in OFFICIAL and kind != "smpl":
        check_folder(out, files, overwrite=overwrite)
        with hide_progress_bars(), staged_folder(out) as staging:
            return OFFICIAL[kind](files, staging)
    check_output(out, files, overwrite=overwrite)
    if kind == "smpl":
        return _smpl(files, out)
    written = convert_motion(kind, files[0], out, overwrite=overwrite, **answers)
    return {"dancers": [path.name for path in written]} if len(written) > 1 else {}


def convert_motion(
    name: str, source: Path, out: Path, *, overwrite: bool = False, **answers: Any
) -> list[Path]:
    """Convert a sequence or dance of OpenDance-HF to a format, or a file of that format to a dance.

    Args:
        name: a key of :data:`opendance_hf.formats.FORMATS`.
        source: the input file; its type determines the direction.
        out: the output file; numbered for several dancers if the format has one per file.
        overwrite: True to replace files that exist.
        answers: what a file of the format does not tell: ``fps``, ``up`` or ``names``.

    Returns:
        The written files.

    Raises:
        FormatError: if the file is neither, or the format cannot represent the motion.
        OutputError: if a file exists and ``overwrite`` is False, or is the input.
        OSError: if the files cannot be written.
    """
    motion_format = format_named(name)
    taken = inspect.signature(motion_format.read).parameters
    if unknown := [answer for answer in answers if answer not in taken]:
        raise FormatError(f"{name}: takes no --{unknown[0]}, since its files have it")
    if answers.get("up", "y") not in ("y", "z"):
        raise FormatError(f"--up {answers['up']}: expected y or z")
    if opendance.is_opendance_file(source):
        if not isinstance(motion_format, WritableFormat):
            raise FormatError(
                f"{out}: motions are read from {name}, not written; opendance export lists what is"
            )
        motion = opendance.read(source)
        for _, file in one_file_a_dancer(motion, out) if name != "opendance" else ():
            check_output(file, [source], overwrite=overwrite)
        return motion_format.write(motion, out)
    return opendance.write(motion_format.read(source, **answers), out)


def _smpl(files: Sequence[Path], out: Path) -> Report:
    from opendance_hf.motion.smpl import convert_smpl

    convert_smpl(files[0], out)
    return {}


#: Converters of official models: from input files and output to unused keys.
OFFICIAL: Final[dict[str, Callable[[Sequence[Path], Path], Report]]] = {
    "bailando": lambda files, out: convert_bailando(*files, out=out)[1],
    "cliff": lambda files, out: convert_cliff(files[0], out)[1],
    "smoothnet": lambda files, out: convert_smoothnet(files[0], out)[1],
    "smpl": _smpl,
}
