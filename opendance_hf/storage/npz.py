"""Read and write one sequence as one ``.npz`` file, the annotation that the pipeline writes and loading scripts read.

Every column of :mod:`opendance_hf.schema` is one array of the archive with the same name. A column that is None is omitted.
A struct (``provenance``) is a JSON string in a 0-d array. Nothing is pickled, and equal sequences give equal bytes (the zip
entries of ``numpy.savez`` have a constant date).
"""

from __future__ import annotations

import json
from collections.abc import Set
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from opendance_hf.archives import ArchiveError, read_arrays
from opendance_hf.errors import one_line
from opendance_hf.files import atomic_write
from opendance_hf.schema import COLUMNS, NOT_A_ROW, DanceSequence, SchemaError, from_row, to_row

SUFFIX: Final = ".npz"
_STRUCTS: Final = tuple(name for name, column in COLUMNS.items() if column.record is not None)


def save_sequence(path: Path | str, seq: DanceSequence) -> Path:
    """Write one sequence to ``path`` atomically: after an error the file is unchanged.

    Raises:
        SchemaError: if ``path`` does not end in ``.npz``.
        OSError: if the file cannot be written.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise SchemaError(f"{path}: the name of a sequence file must end in {SUFFIX}, got {path.suffix!r}")
    row = to_row(seq)
    for name in _STRUCTS:
        row[name] = json.dumps(row[name], sort_keys=True)
    arrays = {name: np.asarray(value) for name, value in row.items() if value is not None}
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return path


def load_sequence(path: Path | str) -> DanceSequence:
    """Read one sequence written by :func:`save_sequence`, of any schema version; it is not validated.

    Raises:
        FileNotFoundError: if the file does not exist.
        SchemaError: naming the file and the error, if it is not an archive, contains pickled objects or lacks a column.
    """
    required = [name for name, column in COLUMNS.items() if column.required]
    row = _read(Path(path), required, set(COLUMNS))
    try:
        for name in _STRUCTS:
            row[name] = json.loads(row[name])
        return from_row(row)
    except NOT_A_ROW as error:
        raise SchemaError(f"{path}: not a valid sequence: {one_line(error)}") from error


class Header(NamedTuple):
    """Columns of a sequence file that are read without its large arrays."""

    id: str
    group: str
    num_dancers: int
    licence: str


def load_header(path: Path | str) -> Header:
    """Read the header of a sequence file without its large arrays.

    Raises:
        FileNotFoundError, SchemaError: as :func:`load_sequence`.
    """
    row = _read(Path(path), ["id", "group", "num_dancers", "provenance"])
    try:
        licence = json.loads(row["provenance"])["licence"]
        return Header(str(row["id"]), str(row["group"]), int(row["num_dancers"]), str(licence))
    except NOT_A_ROW as error:
        raise SchemaError(f"{path}: not a valid sequence: {one_line(error)}") from error


def _read(path: Path, required: list[str], optional: Set[str] = frozenset()) -> dict[str, Any]:
    try:
        row = read_arrays(path, {*required, *optional})
    except ArchiveError as error:
        raise SchemaError(f"{path}: not a sequence file: {str(error).removeprefix(f'{path}: ')}") from error
    if missing := sorted(set(required) - set(row)):
        raise SchemaError(f"{path}: the column(s) {', '.join(missing)} are missing")
    return {name: value.item() if value.ndim == 0 else value for name, value in row.items()}
