"""Orders of the windows of an epoch: functions of the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

Integers = npt.NDArray[np.int64]

#: Numbers that are Python objects at a time.
_AT_A_TIME: Final = 10_000


def whole_order(count: int, seed: int, epoch: int) -> Iterator[list[int]]:
    """Yield the numbers below ``count`` in random order, 10,000 at a time.

    The order is that of ``accelerate.data_loader.SeedableRandomSampler``, which holds them all as Python objects.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed + epoch))
    for part in order.split(_AT_A_TIME):
        yield part.tolist()


def nearby_order(counts: Integers, copies: int, seed: int, epoch: int, nearby: int) -> Iterator[list[int]]:
    """Yield the numbers of all windows in an order for which few sequences are needed at a time.

    The sequences are put in random order. A window of the sequence at place p has a random key between p and p + ``nearby``,
    and windows are in the order of their keys. So those of about ``nearby`` sequences are mixed, and a sequence that is
    left behind is not needed again. The windows of at most twice as many sequences are in memory.

    Args:
        counts: (R,) number of windows of each sequence.
        copies: window ``i`` of ``n`` has the numbers ``i``, ``n + i``, ``2 n + i`` ...
        seed: of the training.
        epoch: from 0.
        nearby: number of sequences that are mixed.
    """
    draw = np.random.default_rng([seed, epoch])
    first, total = np.cumsum(counts) - counts, int(counts.sum())
    sequences = np.argsort(draw.random(len(counts)), kind="stable")
    keys, numbers = np.zeros(0), np.zeros(0, np.int64)
    for begin in range(0, len(sequences), nearby):
        some = sequences[begin : begin + nearby]
        several = counts[some]
        within = np.arange(several.sum()) - np.repeat(np.cumsum(several) - several, several)
        new = np.repeat(first[some], several) + within
        places = np.repeat(np.arange(begin, begin + len(some)), several)
        numbers = np.concatenate([numbers, *(new + copy * total for copy in range(copies))])
        keys = np.concatenate([keys, np.tile(places, copies) + nearby * draw.random(copies * len(new))])
        # All later windows have keys of at least `end`.
        end = begin + nearby if begin + nearby < len(sequences) else np.inf
        ready = np.flatnonzero(keys < end)
        ready = ready[np.argsort(keys[ready], kind="stable")]
        for part in range(0, len(ready), _AT_A_TIME):
            yield numbers[ready[part : part + _AT_A_TIME]].tolist()
        later = keys >= end
        keys, numbers = keys[later], numbers[later]
