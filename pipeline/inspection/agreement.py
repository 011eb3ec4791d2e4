"""Compute the agreement of annotators beyond chance: Cohen's kappa for two annotators, Fleiss' for more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Agreement:
    """Agreement of annotators who judged the same items.

    Attributes:
        method: ``cohen`` for two annotators, ``fleiss`` for more.
        items: number of items that at least two annotators judged.
        observed: share of pairs of verdicts that agree; None without items.
        kappa: (observed - chance) / (1 - chance): 1 is perfect agreement, 0 is chance. None without items, and if only one
            verdict was ever given, since chance agreement is then 1.
    """

    method: str
    items: int
    observed: float | None
    kappa: float | None


def agreement(items: Sequence[Mapping[str, Hashable]]) -> Agreement:
    """Compute the agreement over items, each a mapping from an annotator's name to the verdict.

    Items that fewer than two annotators judged are ignored.
    """
    judged = [item for item in items if len(item) >= 2]
    people = sorted({name for item in judged for name in item})
    if len(people) == 2:
        observed, chance = _cohen([(item[people[0]], item[people[1]]) for item in judged])
        return Agreement("cohen", len(judged), observed, _kappa(observed, chance))
    if not judged:
        return Agreement("fleiss", 0, None, None)
    observed, chance = _fleiss([Counter(item.values()) for item in judged])
    return Agreement("fleiss", len(judged), observed, _kappa(observed, chance))


def _kappa(observed: float, chance: float) -> float | None:
    return None if chance >= 1 - 1e-12 else (observed - chance) / (1 - chance)


def _cohen(pairs: Sequence[tuple[Hashable, Hashable]]) -> tuple[float, float]:
    """Return observed and chance agreement after Cohen 1960: each annotator has a separate distribution of verdicts."""
    observed = sum(a == b for a, b in pairs) / len(pairs)
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    chance = sum(first[verdict] * second[verdict] for verdict in first) / len(pairs) ** 2
    return observed, chance


def _fleiss(items: Sequence[Counter[Hashable]]) -> tuple[float, float]:
    """Return observed and chance agreement after Fleiss 1971: all annotators share one distribution of verdicts.

    Items may have different numbers of verdicts and have equal weights.
    """
    observed = 0.0
    share: dict[Hashable, float] = {}
    for counts in items:
        total = counts.total()
        observed += sum(n * (n - 1) for n in counts.values()) / (total * (total - 1))
        for verdict, n in counts.items():
            share[verdict] = share.get(verdict, 0.0) + n / total
    return observed / len(items), sum((value / len(items)) ** 2 for value in share.values())
