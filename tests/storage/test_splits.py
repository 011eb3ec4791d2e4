from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opendance_hf.storage.splits import MIN_GROUPS, RATIOS, SPLITS, assign_splits

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=12)


@given(st.lists(names, max_size=80), st.randoms())
def test_order_and_repetition_do_not_matter(groups: list[str], random) -> None:
    shuffled = groups + groups[: len(groups) // 2]
    random.shuffle(shuffled)
    assert assign_splits(shuffled) == assign_splits(groups)


@given(st.sets(names, min_size=MIN_GROUPS, max_size=60), st.sets(names, max_size=60))
def test_a_group_keeps_its_split_when_the_dataset_grows(groups: set[str], more: set[str]) -> None:
    before, after = assign_splits(groups), assign_splits(groups | more)
    assert all(after[group] == before[group] for group in groups)
    assert set(after.values()) <= set(SPLITS)


@given(st.sets(names, max_size=MIN_GROUPS - 1))
def test_small_datasets_only_train(groups: set[str]) -> None:
    assert set(assign_splits(groups).values()) <= {"train"}


def test_ratios_of_paper_table_2() -> None:
    splits = list(assign_splits(f"song-{i}" for i in range(20_000)).values())
    for split in SPLITS:
        assert splits.count(split) / len(splits) == pytest.approx(RATIOS[split], abs=0.01)


@pytest.mark.parametrize(
    "ratios", [{}, {"train": 0.5}, {"train": 1.5, "test": -0.5}, {"train": 0.5, "dev": 0.5}]
)
def test_bad_ratios(ratios: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="ratios must be shares of train, validation, test"):
        assign_splits(["a"], ratios)
