"""Assign groups to train, validation and test. Splits never share a group (same song, near-duplicate motion)."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from typing import Final

SPLITS: Final = ("train", "validation", "test")
#: Paper table 2: 22,606 / 1,256 / 1,256 individual sequences.
RATIOS: Final[Mapping[str, float]] = {"train": 0.9, "validation": 0.05, "test": 0.05}


def assign_splits(
    groups: Iterable[str], ratios: Mapping[str, float] = RATIOS, known_train: Iterable[str] = ()
) -> dict[str, str]:
    """Map every group to a split.

    The split is computed from the SHA-256 of the group's name, so a group keeps its split when the dataset grows and in
    every configuration. The ratios hold in expectation, and a small dataset may lack a split. There are two exceptions: a
    group of ``known_train`` stays in ``train``, and if no group would be in ``train``, all are.

    Args:
        groups: names of the groups; they may be repeated.
        ratios: share of each split; the shares add up to 1.
        known_train: groups that were in ``train`` before, which must not be used to test models trained on them.

    Raises:
        ValueError: if the ratios name an unknown split, are negative or do not add up to 1.
    """
    if (
        set(ratios) - set(SPLITS)
        or min(ratios.values(), default=-1) < 0
        or abs(sum(ratios.values()) - 1) > 1e-9
    ):
        raise ValueError(f"ratios must be shares of {', '.join(SPLITS)} that add up to 1, got {dict(ratios)}")
    unique, known = sorted(set(groups)), set(known_train)
    edges = list(itertools.accumulate(ratios.values()))
    edges[-1] = 1.0
    assigned = {
        group: "train" if group in known else _pick(_fraction(group), list(ratios), edges) for group in unique
    }
    return assigned if "train" in assigned.values() else dict.fromkeys(unique, "train")


def _fraction(group: str) -> float:
    """Return a number in [0, 1) that depends only on the name."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:6], "big") / 2**48


def _pick(fraction: float, names: list[str], edges: list[float]) -> str:
    return next(name for name, edge in zip(names, edges, strict=True) if fraction < edge)


def subset_ranks(ids: Iterable[str]) -> dict[str, int]:
    """Return the rank of every sequence of a split in an order that depends only on the ids.

    The first N sequences are the subset of size N. Subsets are nested, exact in size, and independent of groups, as in the
    paper's 1K, 5K and 15K (table 3). When a split grows by a tenth, about a tenth of a subset changes.
    """
    ids = list(ids)
    order = sorted(ids, key=lambda key: hashlib.sha256(f"subset {key}".encode()).digest())
    rank = {key: place for place, key in enumerate(order)}
    return {key: rank[key] for key in ids}
