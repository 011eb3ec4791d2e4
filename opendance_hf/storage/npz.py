"""Read and write one sequence as one ``.npz`` file, the annotation that the pipeline writes and loading scripts read.

Every column of :mod:`opendance_hf.schema` is one array of the archive with the same name. A column that is None is omitted.
A struct (``provenance``) is a JSON string in a 0-d array. Nothing is pickled, and equal sequences give equal bytes (the zip
entries of ``numpy.savez`` have a constant date).
"""

from __future__ import annotations

import json
import math
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from opendance_hf.archives import ArchiveError, read_arrays
from opendance_hf.errors import one_line
from opendance_hf.files import atomic_write
from opendance_hf.schema import (
    COLUMNS,
    FPS,
    NOT_A_ROW,
    DanceSequence,
    SchemaError,
    config_of,
    from_row,
    to_row,
)

SUFFIX: Final = ".npz"
_HEADER: Final = frozenset({"fps", "bpm", "genre", "smpl_betas"})
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


@dataclass(frozen=True)
class Header:
    """Describe a sequence by its columns that are not large arrays.

    Attributes:
        id: name of the sequence.
        group: sequences of one group are in the same split.
        num_dancers: number of dancers.
        num_frames: number of frames.
        fps: frames per second.
        bpm: tempo of the song; None without a song.
        motion_velocity: mean speed of the joints, m/s.
        genre: genre of the song; None if no classifier ran.
        has_betas: True if it has the SMPL shape.
        backends: stage, name and version of every backend.
        licence: licence of the source.
    """

    id: str
    group: str
    num_dancers: int
    num_frames: int
    fps: float
    bpm: float | None
    motion_velocity: float
    genre: str | None
    has_betas: bool
    backends: tuple[tuple[str, str, str], ...]
    licence: str

    @property
    def config(self) -> str:
        """Dataset configuration of the sequence."""
        return config_of(self.num_dancers)


def load_header(path: Path | str) -> Header:
    """Read the header of a sequence file; its large arrays are not read.

    Raises:
        FileNotFoundError, SchemaError: as :func:`load_sequence`.
    """
    row = _read(
        Path(path), ["id", "group", "num_dancers", "num_frames", "motion_velocity", "provenance"], _HEADER
    )
    try:
        source = json.loads(row["provenance"])
        bpm, genre = row.get("bpm"), row.get("genre")
        header = Header(
            id=str(row["id"]),
            group=str(row["group"]),
            num_dancers=int(row["num_dancers"]),
            num_frames=int(row["num_frames"]),
            fps=float(row.get("fps", FPS)),
            bpm=None if bpm is None else float(bpm),
            motion_velocity=float(row["motion_velocity"]),
            genre=None if genre is None else str(genre),
            has_betas="smpl_betas" in row,
            backends=tuple((str(b["stage"]), str(b["name"]), str(b["version"])) for b in source["backends"]),
            licence=str(source["licence"]),
        )
        if not (header.fps > 0 and math.isfinite(header.fps)):
            raise ValueError(f"fps must be positive and finite, got {header.fps:g}")
        for name in (header.id, header.group):
            name.encode()  # splits are made from it; a lone surrogate is a UnicodeEncodeError, a ValueError
        return header
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
