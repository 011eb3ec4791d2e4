"""Read rows of datasets, their columns, and the windows of frames in them: the part that all readers share."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from opendance_hf.data.order import whole_order
from opendance_hf.errors import OpenDanceError
from opendance_hf.music.inputs import hears_beats, read_input

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


class NoWindowsError(OpenDanceError, ValueError):
    """No sequence is long enough for a window."""


class NoMusicError(OpenDanceError, ValueError):
    """A sequence has no song, and what reads it needs one."""


class Windows(Sequence[tuple[int, int]]):
    """(item, start) of every window, item by item: eight bytes of memory an item, whatever its number of windows.

    Attributes:
        counts: (N,) number of windows of each item.

    Args:
        lengths: (N,) length of each item.
        length: of a window.
        stride: distance of the starts of neighbouring windows.
    """

    def __init__(self, lengths: npt.ArrayLike, length: int, stride: int) -> None:
        self._stride = stride
        room = np.asarray(lengths, dtype=np.int64) - length
        self.counts: Integers = np.where(room < 0, 0, room // stride + 1)
        self._ends: Integers = np.cumsum(self.counts)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, index: int) -> tuple[int, int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[int, int]]: ...
    def __getitem__(self, index: int | slice) -> tuple[int, int] | list[tuple[int, int]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        item = int(self._ends.searchsorted(index, "right"))
        return item, (index - int(self._ends[item] - self.counts[item])) * self._stride


class DancerWindows(Sequence[tuple[int, int, int]]):
    """(row, dancer, first frame) of every window, dancer by dancer, see :class:`Windows`.

    Attributes:
        counts: (R,) number of windows of each row.

    Args:
        frames: (R,) number of frames of each row.
        dancers: (R,) number of dancers of each row.
        length: of a window, in frames.
        stride: frames between the starts of neighbouring windows.
    """

    def __init__(self, frames: npt.ArrayLike, dancers: npt.ArrayLike, length: int, stride: int) -> None:
        dancers = np.asarray(dancers, dtype=np.int64)
        self._rows = np.repeat(np.arange(len(dancers)), dancers)
        self._first = np.cumsum(dancers) - dancers
        self._windows = Windows(np.asarray(frames, dtype=np.int64)[self._rows], length, stride)
        self.counts: Integers = np.zeros(len(dancers), np.int64)
        np.add.at(self.counts, self._rows, self._windows.counts)

    def __len__(self) -> int:
        return len(self._windows)

    @overload
    def __getitem__(self, index: int) -> tuple[int, int, int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[int, int, int]]: ...
    def __getitem__(self, index: int | slice) -> tuple[int, int, int] | list[tuple[int, int, int]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        item, start = self._windows[index]
        row = int(self._rows[item])
        return row, item - int(self._first[row]), start


class Reader(ABC):
    """Rows of a dataset, column by column.

    Attributes:
        name: of the dataset, for messages.
    """

    name: str

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def row(self, index: int) -> Any:
        """Return one row, which the other methods take."""

    @abstractmethod
    def scalar(self, row: Any, column: str) -> Any:
        """Return a scalar, or a list, as Python."""

    @abstractmethod
    def matrix(self, row: Any, column: str, start: int = 0, length: int | None = None) -> Floats:
        """Return (length, C) rows of a float matrix column, a view of a file.

        Raises:
            NoMusicError: if it is null, as features of music are in rows without a song.
        """

    @abstractmethod
    def column(self, name: str) -> list[Any]:
        """Return ``id``, ``num_dancers`` or ``num_frames`` of all rows; no row is read."""

    @abstractmethod
    def fingerprint(self, columns: tuple[str, ...]) -> str:
        """Return a SHA-256 that differs if ids, numbers of dancers or some columns of the rows do, as hex digits."""

    def windows(self, length: int, stride: int) -> DancerWindows:
        """List (row, dancer, first frame) of every window of ``length`` frames, of every dancer, every ``stride`` frames.

        Raises:
            NoWindowsError: if no row is long enough.
        """
        found = DancerWindows(self.column("num_frames"), self.column("num_dancers"), length, stride)
        if not len(found):
            raise NoWindowsError(f"{self.name}: no sequence has {length} frames")
        return found

    def order(self, windows: DancerWindows, copies: int, seed: int, epoch: int) -> Iterator[list[int]]:
        """Yield the numbers of all windows and their copies in the order of an epoch, some at a time.

        Args:
            windows: of this reader.
            copies: window ``i`` of ``n`` has the numbers ``i``, ``n + i``, ``2 n + i`` ...
            seed: of the training.
            epoch: from 0.
        """
        return whole_order(len(windows) * copies, seed, epoch)

    def beats(self, row: Any) -> list[int]:
        """Return the frames of the music's beats.

        Raises:
            NoMusicError: if the row has no song.
        """
        found = self.scalar(row, "music_beats")
        if found is None:
            raise NoMusicError(self._without_music(row, "music_beats"))
        return list(found)

    def heard(self, row: Any, column: str, size: int) -> Floats:
        """Return the (rows, size) that a model hears, see :mod:`opendance_hf.music.inputs`; for features a view of the file.

        Raises:
            NoMusicError: if the row has no song.
        """
        return read_input(
            column,
            size,
            lambda name, width: self.matrix(row, name)[:, :width],
            # A list to be built, which the features alone do not need.
            self.beats(row) if hears_beats(column) else (),
            self.scalar(row, "num_frames"),
        )

    def check_heard(self, column: str, size: int) -> None:
        """Check that every row has what a model hears.

        Raises:
            NoMusicError: naming a row without a song.
        """
        for index in range(len(self)):
            self.heard(self.row(index), column, size)

    def _without_music(self, row: Any, column: str) -> str:
        return (
            f"{self.name}: sequence {self.scalar(row, 'id')} has no {column}, since it was imported without its song; train "
            "on sequences with music (import them with --audio), or leave it out with data.leave_out"
        )


def chosen(
    dataset: str | os.PathLike[str], ids: list[str], only: list[str] | None, leave_out: list[str] | None
) -> set[str]:
    """Return the ids that are to be read.

    Raises:
        ValueError: if an id that is named does not exist.
    """
    if unknown := (set(only or []) | set(leave_out or [])) - set(ids):
        raise ValueError(f"{dataset}: no sequence {', '.join(sorted(unknown))}")
    return (set(only) if only is not None else set(ids)) - set(leave_out or [])
