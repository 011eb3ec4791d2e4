from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opendance_hf.storage.splits import RATIOS, SPLITS, assign_splits

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=12)
#: Groups by the split that their hash gives them.
HASHED: dict[str, list[str]] = {split: [] for split in SPLITS}
for _group, _split in assign_splits(f"group-{i}" for i in range(500)).items():
    HASHED[_split].append(_group)


@given(st.lists(names, max_size=80), st.randoms())
def test_order_and_repetition_do_not_matter(groups: list[str], random) -> None:
    shuffled = groups + groups[: len(groups) // 2]
    random.shuffle(shuffled)
    assert assign_splits(shuffled) == assign_splits(groups)


@given(
    st.lists(st.sets(st.sampled_from([g for s in SPLITS for g in HASHED[s][:30]])), min_size=2, max_size=6)
)
def test_what_trained_is_never_held_out_when_groups_are_added(steps: list[set[str]]) -> None:
    groups: set[str] = set()
    train: set[str] = set()
    for added in steps:
        groups |= added
        splits = assign_splits(groups, known_train=train)
        assert set(splits) == groups
        assert all(splits[group] == "train" for group in train)
        train = {group for group, split in splits.items() if split == "train"}
        assert train or not groups


@given(st.sets(names, max_size=60), st.sets(names, max_size=60))
def test_a_group_keeps_its_split_when_the_dataset_grows(groups: set[str], more: set[str]) -> None:
    groups = groups | {HASHED["train"][0]}
    before, after = assign_splits(groups), assign_splits(groups | more)
    assert all(after[group] == before[group] for group in groups)
    assert set(after.values()) <= set(SPLITS)


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21])
def test_the_number_of_groups_does_not_matter(count: int) -> None:
    groups = [*HASHED["test"][:1], *HASHED["train"][:count]]
    assert assign_splits(groups)[groups[0]] == "test"


@pytest.mark.parametrize("count", [1, 3, 12])
def test_all_train_where_nothing_else_would(count: int) -> None:
    held_out = [*HASHED["test"], *HASHED["validation"]][:count]
    assert set(assign_splits(held_out).values()) == {"train"}
    assert assign_splits([*held_out, HASHED["train"][0]])[held_out[0]] == "test"


def test_ratios_of_paper_table_2() -> None:
    sequences = {"train": 22_606, "validation": 1_256, "test": 1_256}
    assert dict(RATIOS) == pytest.approx({split: n / 25_118 for split, n in sequences.items()}, abs=1e-4)
    splits = list(assign_splits(f"song-{i}" for i in range(20_000)).values())
    for split in SPLITS:
        assert splits.count(split) / len(splits) == pytest.approx(RATIOS[split], abs=0.01)


@pytest.mark.parametrize(
    "ratios", [{}, {"train": 0.5}, {"train": 1.5, "test": -0.5}, {"train": 0.5, "dev": 0.5}]
)
def test_bad_ratios(ratios: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="ratios must be shares of train, validation, test"):
        assign_splits(["a"], ratios)
