"""Draw the windows of every epoch, all of them once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import Sampler

from opendance_hf.data.order import whole_order


class EpochOrder(Sampler[int]):
    """Numbers of all items, each once, in an order that the seed and the epoch alone decide.

    Batches are cut from it, and dealt to processes and their workers in turn. So every window is in one batch of one process;
    what is left for less than a batch of every process is dropped (``dataloader_drop_last``), other windows in every epoch.

    Args:
        data: items. Its method ``order(seed, epoch)`` yields lists of their numbers; without one they are all permuted.
        seed: of the data.
        epoch: returns the number of the epoch that begins, from 0.
    """

    def __init__(self, data: Any, seed: int, epoch: Callable[[], int]) -> None:
        self._data, self._seed, self._epoch = data, seed, epoch

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[int]:
        epoch = self._epoch()
        order = getattr(self._data, "order", None)
        parts = whole_order(len(self), self._seed, epoch) if order is None else order(self._seed, epoch)
        for part in parts:
            yield from part
