"""Read and write sequences as WebDataset tars: ``webdataset/{config}/{split}-00000.tar``, for streaming pre-training.

A sample is ``{id}.json`` (scalars and strings; ``provenance`` is a JSON string in it) and one ``{id}.{column}.npy``
for each array column. ``load_dataset("webdataset")`` infers types from the first samples and expects the same members
in all of them, so nothing is null: a vector that is None is stored without elements, a matrix as one row of NaN, text as
"", a rank as -1 (:meth:`opendance_hf.columns.Column.missing`). Tars stream about 3.5 times more sequences per CPU second than Parquet
but have neither random access nor column projection, unless an index is made (:mod:`opendance_hf.data.tars`).

    webdataset.WebDataset("webdataset/individual/train-00000.tar").decode()
    datasets.load_dataset("webdataset", data_files="webdataset/individual/train-*.tar", streaming=True)
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np

from opendance_hf.archives import array_of
from opendance_hf.errors import one_line, shown
from opendance_hf.schema import COLUMNS, NOT_A_ROW, DanceSequence, SchemaError, from_row, to_row
from opendance_hf.storage.parquet import SplitNotFoundError

SHARD_BYTES: Final = 500_000_000
#: Every array column of the schema, in the order of the schema.
ARRAYS: Final = tuple(name for name, column in COLUMNS.items() if column.shape)


class WebDatasetWriter:
    """Write the sequences of one config and split as tars; only one sequence is in memory.

    The same sequences give the same bytes. After an error all shards are removed.

    Args:
        root: the dataset folder; files go to ``root/webdataset/{config}``.
        config: name of the configuration, see :func:`opendance_hf.schema.config_of`.
        split: ``train``, ``validation`` or ``test``.
        shard_bytes: a new shard starts once the members of the current one reach this size.
    """

    def __init__(self, root: Path | str, config: str, split: str, *, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder = Path(root) / "webdataset" / config
        self._split = split
        self._shard_bytes = shard_bytes
        self._size = 0
        self._tar: tarfile.TarFile | None = None
        self.shards: list[Path] = []

    def __enter__(self) -> WebDatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tar is not None:
            self._tar.close()
        if kind is not None:
            for shard in self.shards:
                shard.unlink(missing_ok=True)

    def write(self, seq: DanceSequence) -> None:
        """Append one validated sequence."""
        if self._tar is None or self._size >= self._shard_bytes:
            if self._tar is not None:
                self._tar.close()
            self._folder.mkdir(parents=True, exist_ok=True)
            self.shards.append(self._folder / f"{self._split}-{len(self.shards):05d}.tar")
            self._tar = tarfile.open(self.shards[-1], "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
            self._size = 0
        self._size += _write_sample(self._tar, seq.id, _sample(seq))


def write_webdataset(
    root: Path | str,
    config: str,
    split: str,
    sequences: Iterable[DanceSequence],
    *,
    shard_bytes: int = SHARD_BYTES,
) -> list[Path]:
    """Write all ``sequences`` with a :class:`WebDatasetWriter` and return the shards; none for no sequences."""
    writer = WebDatasetWriter(root, config, split, shard_bytes=shard_bytes)
    with writer:
        for seq in sequences:
            writer.write(seq)
    return writer.shards


def _write_sample(tar: tarfile.TarFile, key: str, members: dict[str, bytes]) -> int:
    """Append the members of a sample as ``webdataset.ShardWriter`` does, which imports torch; return their size.

    Time, owner and mode are constant: the same sequences give the same bytes on every machine.
    """
    for name in sorted(members):
        info = tarfile.TarInfo(f"{key}.{name}")
        info.size = len(members[name])
        tar.addfile(info, io.BytesIO(members[name]))
    return sum(map(len, members.values()))


def _sample(seq: DanceSequence) -> dict[str, bytes]:
    """Encode a sequence as the members of a sample."""
    row, letters = to_row(seq), {"D": seq.num_dancers}
    for name, column in COLUMNS.items():
        if column.nullable and row[name] is None:
            row[name] = column.missing(letters)
        elif column.record is not None:
            row[name] = json.dumps(row[name], sort_keys=True)
    sample: dict[str, bytes] = {}
    for name in ARRAYS:
        buffer = io.BytesIO()
        np.save(buffer, row.pop(name), allow_pickle=False)
        sample[f"{name}.npy"] = buffer.getvalue()
    return {**sample, "json": json.dumps(row, sort_keys=True).encode()}


def read_webdataset(root: Path | str, config: str, split: str) -> Iterator[DanceSequence]:
    """Yield the sequences of one config and split in the order they were written. Nothing is ever unpickled.

    Raises:
        SplitNotFoundError: if the dataset has no such config and split.
        SchemaError: naming the tar and the sample, if a sample is incomplete or its members are invalid.
    """
    folder = Path(root) / "webdataset" / config
    shards = sorted(folder.glob(f"{split}-?????.tar"))
    if not shards:
        raise SplitNotFoundError(f"{folder} has no WebDataset shards of the split {split!r}")
    for shard in shards:
        for key, members in _samples(shard):
            try:
                yield _sequence(members)
            except NOT_A_ROW as error:
                raise SchemaError(
                    f"{shard}, sample {shown(key)}: {type(error).__name__}: {one_line(error)}"
                ) from error


def _samples(shard: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Group the members of a tar by key; WebDataset keeps the members of a sample next to each other.

    The library's own reader is not used: it unpickles members whose names end in ``.pyd`` or ``.pickle``.
    """
    try:
        yield from _grouped(shard)
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, SchemaError | FileNotFoundError):
            raise
        raise SchemaError(f"{shard}: not a readable tar: {' '.join(str(error).split())}") from error


def _grouped(shard: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    current, members = "", dict[str, bytes]()
    for name, content in _members(shard):
        key, _, column = name.partition(".")
        if members and key != current:
            yield current, members
            members = {}
        current = key
        members[column] = content
    if members:
        yield current, members


def _members(shard: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the files in a tar.

    Raises:
        SchemaError: if it is damaged, or has anything but files.
    """
    try:
        with tarfile.open(shard, "r|") as tar:
            for info in tar:
                if (
                    not info.isreg() or info.issparse()
                ):  # a link leads elsewhere; a sparse file may be of any size
                    raise SchemaError(f"{shard}: {shown(info.name)} is not a plain file")
                file = tar.extractfile(info)
                assert file is not None
                yield info.name, file.read()
    except (tarfile.TarError, ValueError, EOFError, OverflowError, IndexError) as error:
        if isinstance(error, SchemaError):
            raise
        raise SchemaError(f"{shard}: not a readable tar file ({one_line(error)})") from None


def _sequence(members: dict[str, bytes]) -> DanceSequence:
    """Decode the members of a sample; columns that do not exist in an older schema stay absent."""
    row: dict[str, Any] = json.loads(members["json"])
    for name in ARRAYS:
        if COLUMNS[name].required or f"{name}.npy" in members:
            row[name] = array_of(members[f"{name}.npy"])
    for name, column in COLUMNS.items():
        if column.nullable and name in row and column.is_missing(row[name]):
            row[name] = None
        elif column.record is not None and name in row:
            row[name] = json.loads(row[name])
    return from_row(row)
