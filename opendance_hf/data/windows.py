"""Windows of motion, cut from Arrow files on disk without copying a sequence into memory."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from opendance_hf.motion.skeleton import NUM_JOINTS

Floats = npt.NDArray[np.float32]


class SequenceReader:
    """Rows of one or more configurations of a dataset, column by column, memory-mapped.

    Args:
        dataset: folder or Hub id, as ``load_dataset`` takes it.
        configs: configurations to read, one after another; all the dataset has if None.
        split: of each configuration; one that lacks it is left out.
    """

    def __init__(
        self, dataset: str | os.PathLike[str], configs: list[str] | None = None, split: str = "train"
    ) -> None:
        from datasets import get_dataset_config_names, load_dataset

        name = os.fspath(dataset)
        self._parts = []
        for config in configs or get_dataset_config_names(name):
            splits = load_dataset(name, config)
            if split in splits:
                # Arrow format: rows are slices of the file; Python or numpy format would build lists, 50 times slower.
                self._parts.append(splits[split].with_format("arrow"))
        self._starts = np.cumsum([0, *(len(part) for part in self._parts)])
        if len(self) == 0:
            raise ValueError(f"{name}: no rows in split {split!r}")

    def __len__(self) -> int:
        return int(self._starts[-1])

    def row(self, index: int) -> Any:
        """One row as an Arrow table."""
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._parts[part][index - int(self._starts[part])]

    def matrix(self, row: Any, column: str, start: int = 0, length: int | None = None) -> Floats:
        """(length, C) rows of a float matrix column, a view of the file."""
        array = row[column].chunk(0)
        frames = array.storage.flatten()
        width = len(frames.flatten()) // max(len(frames), 1)
        values = frames.slice(start, length).flatten()
        return values.to_numpy(zero_copy_only=True).reshape(-1, width)

    def scalar(self, row: Any, column: str) -> Any:
        """A scalar, or a list, as Python."""
        return row[column][0].as_py()


class MotionWindows(Dataset[dict[str, torch.Tensor]]):
    """Windows of single dancers: every dancer of every row, every ``stride`` frames.

    Args:
        dataset: see :class:`SequenceReader`.
        num_frames: length of a window at 60 FPS.
        stride: frames between the starts of neighbouring windows.
        configs: see :class:`SequenceReader`.
        split: see :class:`SequenceReader`.

    Items are ``{"joints": (num_frames, 24, 3)}`` in metres, world frame.
    """

    def __init__(
        self,
        dataset: str | os.PathLike[str],
        num_frames: int,
        stride: int,
        configs: list[str] | None = None,
        split: str = "train",
    ) -> None:
        self.reader = SequenceReader(dataset, configs, split)
        self.num_frames = num_frames
        windows: list[tuple[int, int, int]] = []
        for index in range(len(self.reader)):
            row = self.reader.row(index)
            frames = self.reader.scalar(row, "num_frames")
            for dancer in range(self.reader.scalar(row, "num_dancers")):
                windows += [(index, dancer, s) for s in range(0, frames - num_frames + 1, stride)]
        if not windows:
            raise ValueError(f"{dataset}: no sequence has {num_frames} frames")
        self.windows = windows

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row_index, dancer, start = self.windows[index]
        row = self.reader.row(row_index)
        joints = self.reader.matrix(row, "joints", start, self.num_frames)
        width = NUM_JOINTS * 3
        mine = joints[:, dancer * width : (dancer + 1) * width].reshape(-1, NUM_JOINTS, 3)
        return {"joints": torch.from_numpy(mine.copy())}
