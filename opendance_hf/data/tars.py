"""Read WebDataset tars where they are: windows out of mapped files, or out of ranges of remote ones. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Final

import numpy as np

from opendance_hf.data.order import nearby_order
from opendance_hf.data.reader import DancerWindows, Floats, NoMusicError, Reader, chosen
from opendance_hf.data.tar_files import Bytes, RemoteTar, TarError, TarFile, find_tars, names_tars
from opendance_hf.data.tar_index import HEADER_BYTES, MEMBERS, TarIndex, index_of
from opendance_hf.errors import without_unsafe_advice
from opendance_hf.schema import COLUMNS

__all__ = ["TarError", "TarReader", "names_tars"]

#: Sequences whose windows are mixed; so many are needed at a time, of remote tars on disk.
NEARBY: Final = 500
#: Remote tars whose headers are read at a time.
_THREADS: Final = 16
#: Columns that the index has, see :class:`~opendance_hf.data.tar_index.TarIndex`.
_INDEXED: Final = {"id": "ids", "num_dancers": "dancers", "num_frames": "frames"}


class TarReader(Reader):
    """Sequences in tars that ``opendance build`` wrote; a row is a number.

    Args:
        dataset: pattern of the tars, see :func:`~opendance_hf.data.tar_files.find_tars`.
        configs: must be None; the pattern says it.
        split: tars whose names begin with another split and ``-``, in the folders of the pattern; its own tars for
            ``train``.
        subset: only the samples whose ``subset_rank`` is below it.
        only: ids of the sequences to read; all if None.
        leave_out: ids of the sequences not to read.

    Raises:
        TarError: if a tar cannot be read, a sample is damaged, or two have one id.
        ValueError: if no sample is left, a named sequence does not exist, or the samples have no subsets.
    """

    def __init__(
        self,
        dataset: str | os.PathLike[str],
        configs: list[str] | str | None = None,
        split: str = "train",
        subset: int | None = None,
        only: list[str] | None = None,
        leave_out: list[str] | None = None,
    ) -> None:
        self.name = os.fspath(dataset)
        if configs is not None:
            raise ValueError(
                f"{self.name}: data.configs={configs!r}, expected null: the pattern names the tars"
            )
        self._tars = find_tars(_of_split(self.name, split))
        indices = _indices(self._tars)
        self._tar = np.repeat(np.arange(len(indices)), [len(index) for index in indices])
        self._ids, self._dancers, self._frames, ranks, self._digests, self._offsets, self._sizes = (
            np.concatenate([getattr(index, name) for index in indices])
            for name in ("ids", "dancers", "frames", "ranks", "digests", "offsets", "sizes")
        )
        names, times = np.unique(self._ids, return_counts=True)
        if len(names) < len(self._ids):
            twice = names[times.argmax()]
            places = [self._tars[self._tar[row]].name for row in np.flatnonzero(self._ids == twice)[:2]]
            raise TarError(f"{places[1]}, sample {str(twice)!r}: is also in {places[0]}")
        kept = np.ones(len(self._ids), bool)
        if subset is not None:
            if (ranks < 0).any():
                raise ValueError(f"{self.name}: has no subsets (column subset_rank)")
            kept &= ranks < subset
        if only is not None or leave_out:
            wanted = chosen(self.name, self._ids[kept].tolist(), only, leave_out)
            kept &= np.isin(self._ids, list(wanted))
        self._rows = np.flatnonzero(kept)
        if len(self) == 0:
            raise ValueError(f"{self.name}: no samples")

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> int:
        """Return the number of a sample in all tars."""
        return int(self._rows[index])

    def column(self, name: str) -> list[Any]:
        """Return ``id``, ``num_dancers`` or ``num_frames`` of all samples, from the index."""
        found: list[Any] = getattr(self, f"_{_INDEXED[name]}")[self._rows].tolist()
        return found

    def order(self, windows: DancerWindows, copies: int, seed: int, epoch: int) -> Iterator[list[int]]:
        """Yield the numbers of all windows and their copies, mixed with those of :data:`NEARBY` sequences."""
        return nearby_order(windows.counts, copies, seed, epoch, NEARBY)

    def fingerprint(self, columns: tuple[str, ...]) -> str:
        """Return the SHA-256 of the samples' digests, which are in the index, in order.

        No array is read: of each, all columns included, its size and its first 1,024 bytes count.
        """
        return hashlib.sha256(self._digests[self._rows].tobytes()).hexdigest()

    def scalar(self, row: int, column: str) -> Any:
        """Return a scalar, or a vector as a list."""
        if column in _INDEXED:
            return getattr(self, f"_{_INDEXED[column]}")[row].item()
        about = COLUMNS[column]
        if about.shape:
            array = self._array(row, column)
            return None if about.nullable and about.is_missing(array) else array.tolist()
        try:
            value = json.loads(self._member(row, "json").tobytes())[column]
        except (KeyError, ValueError) as error:
            raise self._damaged(row, f"json: {error!r}") from None
        return None if about.nullable and about.is_missing(value) else value

    def matrix(self, row: int, column: str, start: int = 0, length: int | None = None) -> Floats:
        """Return (length, C) rows of a float matrix column, a view of a file."""
        array = self._array(row, column)
        # What stands for None has one row, which a matrix of so short a sequence may have, too.
        if len(array) == 1 and COLUMNS[column].is_missing(array):
            raise NoMusicError(self._without_music(row, column))
        return array[start : None if length is None else start + length]

    def check_heard(self, column: str, size: int) -> None:
        """Check that every sample has a song; only arrays of the size of a missing one are read."""
        member = MEMBERS.index("music_features.npy")
        for row in self._rows:
            if self._sizes[row, member] <= HEADER_BYTES:
                self.heard(int(row), column, size)

    def _array(self, row: int, column: str) -> Any:
        """Return the array of a column, a view of a file.

        Raises:
            TarError: if it is absent, or has another type or shape than the schema says.
        """
        about, content = COLUMNS[column], self._member(row, f"{column}.npy")
        try:
            dtype, shape, begin = _header(content[:HEADER_BYTES].tobytes())
        except ValueError as error:
            raise self._damaged(row, f"{column}.npy: {without_unsafe_advice(error)}") from None
        letters = {"T": int(self._frames[row]), "D": int(self._dancers[row])}
        missing = about.nullable and shape == np.shape(about.missing(letters))
        fits = len(shape) == len(about.shape) and all(
            want in (None, have) for want, have in zip(about.sizes(letters), shape, strict=True)
        )
        if not (fits or missing) or dtype != about.dtype:
            raise self._damaged(
                row, f"{column}.npy: {dtype} {shape}, expected {about.dtype} {about.sizes(letters)}"
            )
        count = int(np.prod(shape))
        if len(content) != begin + count * dtype.itemsize:
            raise self._damaged(row, f"{column}.npy: has {len(content)} bytes, too few or too many")
        return np.frombuffer(content, dtype, count, begin).reshape(shape)

    def _member(self, row: int, name: str) -> Bytes:
        place = MEMBERS.index(name)
        offset, size = int(self._offsets[row, place]), int(self._sizes[row, place])
        if offset < 0:
            raise self._damaged(row, f"{name} is missing")
        return self._tars[self._tar[row]].view(offset, size)

    def _damaged(self, row: int, why: str) -> TarError:
        return TarError(f"{self._tars[self._tar[row]].name}, sample {str(self._ids[row])!r}: {why}")


def _of_split(pattern: str, split: str) -> str:
    """Return the pattern of the tars of a split, beside those of ``train``."""
    if split == "train":
        return pattern
    folder, slash, file = pattern.rpartition("/")
    if not file.startswith("train-"):
        raise ValueError(
            f"{pattern}: no split {split!r}, since the names of these tars do not begin with 'train-'"
        )
    return f"{folder}{slash}{split}-*.tar"


def _indices(tars: list[TarFile]) -> list[TarIndex]:
    """Return the indices of tars; headers of remote ones are read side by side, since that is waiting."""
    if not any(isinstance(tar, RemoteTar) for tar in tars):
        return [index_of(tar) for tar in tars]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(index_of, tars))


@lru_cache(maxsize=4096)
def _parsed(header: bytes) -> tuple[np.dtype[Any], tuple[int, ...]]:
    file = io.BytesIO(header)
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"format {version} of .npy, expected (1, 0)")
    shape, fortran, dtype = read[version](file)
    if fortran and len(shape) > 1:
        raise ValueError("columns first, expected rows first")
    return dtype, shape


def _header(start: bytes) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Return type, shape and first byte of an array of a ``.npy`` file, from its beginning."""
    if len(start) < 12 or start[:6] != b"\x93NUMPY":
        raise ValueError("not a .npy file")
    wide = start[6] > 1
    begin = 12 + int.from_bytes(start[8:12], "little") if wide else 10 + int.from_bytes(start[8:10], "little")
    if begin > len(start):
        raise ValueError(f"the header has {begin} bytes, expected at most {len(start)}")
    return *_parsed(start[:begin]), begin
