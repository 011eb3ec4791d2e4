"""``opendance convert``: official files of other projects in the form our programs read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from opendance_hf.modeling.bailando.convert_bailando import ConversionError, convert_bailando
from opendance_hf.modeling.cliff.convert_cliff import convert_cliff
from opendance_hf.modeling.smoothnet.convert_smoothnet import convert_smoothnet

Report = dict[str, list[str]]


def convert_official(model: str, files: Sequence[Path], out: Path) -> Report:
    """Convert the official files of a model; returns the keys that took no part, by kind.

    Args:
        model: ``bailando``, ``cliff``, ``smoothnet`` or ``smpl``.
        files: its files; all but bailando come in one.
        out: folder to write, for smpl the npz file.

    Raises:
        ConversionError: if there is no such model, too many files, or a file is not what it should be.
        SMPLFileError: of smpl likewise.
    """
    if model not in _CONVERTERS:
        raise ConversionError(f"no converter for {model!r}: {', '.join(_CONVERTERS)}")
    if model != "bailando" and len(files) != 1:
        raise ConversionError(f"{model} comes in one file, not {len(files)}")
    return _CONVERTERS[model](files, out)


def _smpl(files: Sequence[Path], out: Path) -> Report:
    from opendance_hf.motion.smpl import convert_smpl

    convert_smpl(files[0], out)
    return {}


_CONVERTERS: Final[dict[str, Callable[[Sequence[Path], Path], Report]]] = {
    "bailando": lambda files, out: convert_bailando(*files, out=out)[1],
    "cliff": lambda files, out: convert_cliff(files[0], out)[1],
    "smoothnet": lambda files, out: convert_smoothnet(files[0], out)[1],
    "smpl": _smpl,
}
