"""Rows of memory-mapped Arrow files: in memory are only the places of their record batches.

A ``datasets.Dataset`` holds a batch as some 25 kB of objects, whatever its size: of 28,051 sequences in batches of four a quarter of a
gigabyte in every process that reads them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import ipc


class ArrowFiles(Sequence[pa.RecordBatch]):
    """Rows of files in Arrow's stream format, one after another; a row is a batch of one row, a view of its file.

    Attributes:
        column_names: of the files.

    Args:
        files: with one schema, without dictionaries.

    Raises:
        OSError: if a file cannot be opened.
        pyarrow.ArrowInvalid: if it is not such a file.
    """

    def __init__(self, files: Sequence[str | os.PathLike[str]]) -> None:
        self._files = [os.fspath(file) for file in files]
        self._buffers: list[pa.Buffer] = []
        self._schema = pa.schema([])
        places, counts = [], []
        for number, file in enumerate(self._files):
            self._buffers.append(pa.memory_map(file).read_buffer())
            stream = pa.BufferReader(self._buffers[-1])
            self._schema = ipc.read_schema(stream)
            while (place := stream.tell()) < self._buffers[-1].size:
                try:
                    message = ipc.read_message(stream)
                except EOFError:  # the mark at the end
                    break
                counts.append(ipc.read_record_batch(message, self._schema).num_rows)
                places.append((number, place))
        self._places = np.array(places, np.int64).reshape(-1, 2)
        self._ends = np.cumsum(np.array(counts, np.int64))
        self.column_names: list[str] = self._schema.names

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: Any) -> Any:
        index = range(len(self))[index]
        number = int(self._ends.searchsorted(index, "right"))
        batch = self._batch(number)
        return batch.slice(index - int(self._ends[number]) + batch.num_rows, 1)

    def column(self, name: str) -> list[Any]:
        """Return a scalar column of all rows as Python."""
        return [value for number in range(len(self._ends)) for value in self._batch(number)[name].to_pylist()]

    def __reduce__(self) -> Any:
        return type(self), (self._files,)

    def _batch(self, number: int) -> pa.RecordBatch:
        file, place = self._places[number]
        message = ipc.read_message(self._buffers[int(file)].slice(int(place)))
        return ipc.read_record_batch(message, self._schema)
