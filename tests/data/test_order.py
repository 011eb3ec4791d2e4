"""Every window once an epoch: over sequences, processes, workers, and a stop at any batch."""

from __future__ import annotations

from itertools import chain

import numpy as np
from accelerate.data_loader import BatchSamplerShard, SeedableRandomSampler, SkipBatchSampler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler

from opendance_hf.data.order import nearby_order, whole_order
from opendance_hf.data.reader import DancerWindows, Windows
from opendance_hf.training.order import EpochOrder


class Data:
    """Items in the order of windows of sequences that are near each other."""

    def __init__(self, counts: list[int], copies: int, nearby: int) -> None:
        self.counts, self.copies, self.nearby = np.array(counts, np.int64), copies, nearby

    def __len__(self) -> int:
        return int(self.counts.sum()) * self.copies

    def order(self, seed: int, epoch: int):
        return nearby_order(self.counts, self.copies, seed, epoch, self.nearby)


data = st.builds(
    Data, st.lists(st.integers(0, 12), min_size=1, max_size=30), st.integers(1, 3), st.integers(1, 40)
)


@settings(max_examples=100, deadline=None)
@given(data, st.integers(0, 2**63 - 1), st.integers(0, 5))
def test_an_epoch_has_every_number_once(items: Data, seed: int, epoch: int) -> None:
    order = list(EpochOrder(items, seed, lambda: epoch))
    assert sorted(order) == list(range(len(items)))
    assert order == list(EpochOrder(items, seed, lambda: epoch))


@settings(max_examples=100, deadline=None)
@given(data, st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 10))
def test_ranks_and_workers_share_an_epoch(
    items: Data, size: int, ranks: int, workers: int, stopped: int
) -> None:
    """As the Trainer's loader deals batches: to ranks, and each rank's to its workers, from the batch of a stop on."""

    def batches(rank: int, skip: int) -> list[list[int]]:
        whole = BatchSampler(EpochOrder(items, 1, lambda: 2), size, drop_last=True)
        # Not `list`, which asks for a length that is negative if more is skipped than there is.
        dealt = [batch for batch in SkipBatchSampler(BatchSamplerShard(whole, ranks, rank), skip)]
        by_worker = [dealt[worker::workers] for worker in range(workers)]
        assert sorted(chain.from_iterable(by_worker)) == sorted(dealt)
        return dealt

    undisturbed = [batches(rank, 0) for rank in range(ranks)]
    assert len({len(dealt) for dealt in undisturbed}) == 1
    seen = [number for dealt in undisturbed for batch in dealt for number in batch]
    assert len(seen) == len(set(seen)) == len(items) // (size * ranks) * size * ranks
    for rank in range(ranks):
        assert batches(rank, stopped) == undisturbed[rank][stopped:]


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 60), st.integers(1, 10), st.integers(1, 8))
def test_few_sequences_are_needed_at_a_time(sequences: int, nearby: int, windows: int) -> None:
    counts = np.full(sequences, windows)
    order = np.array(list(chain.from_iterable(nearby_order(counts, 1, 0, 0, nearby)))) // windows
    first, last = ([f(np.flatnonzero(order == s)) for s in range(sequences)] for f in (min, max))
    active = [sum(a <= at <= b for a, b in zip(first, last, strict=True)) for at in range(len(order))]
    assert max(active) <= nearby + 1


def test_epochs_and_seeds_differ_and_neighbours_are_mixed() -> None:
    counts = np.full(200, 20)
    orders = [
        list(chain.from_iterable(nearby_order(counts, 1, seed, epoch, 50)))
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    middle = np.array(orders[0][1000:1032]) // 20
    assert len(set(middle.tolist())) > 20, "a batch is of many sequences"


def test_other_data_keep_the_order_of_earlier_versions() -> None:
    before = SeedableRandomSampler(range(25_000), data_seed=7)
    for epoch in (0, 3):
        before.set_epoch(epoch)
        assert list(chain.from_iterable(whole_order(25_000, 7, epoch))) == list(before)


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 3)), min_size=1, max_size=8),
    st.integers(1, 20),
    st.integers(1, 9),
)
def test_windows_are_those_of_the_plain_loops(rows: list[tuple[int, int]], length: int, stride: int) -> None:
    frames, dancers = zip(*rows, strict=True)
    plain = [
        (row, dancer, start)
        for row in range(len(rows))
        for dancer in range(dancers[row])
        for start in range(0, frames[row] - length + 1, stride)
    ]
    windows = DancerWindows(frames, dancers, length, stride)
    assert list(windows) == plain
    assert windows[1:3] == plain[1:3]
    assert windows.counts.tolist() == [sum(row == r for row, _, _ in plain) for r in range(len(rows))]
    pieces = [(row, start) for row, dancer, start in plain if dancer == 0]
    assert list(Windows(frames, length, stride)) == pieces
    if plain:
        assert windows[-1] == plain[-1]
