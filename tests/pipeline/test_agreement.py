"""Kappas equal the worked examples of the textbooks."""

from __future__ import annotations

import pytest

from opendance_hf.pipeline.inspection.agreement import agreement

# Fleiss 1971's own kind of table, as in the worked example of most textbooks: 10 items, 14 people, 5 verdicts.
FLEISS = [
    (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
]  # fmt: skip


def test_fleiss() -> None:
    items = []
    for counts in FLEISS:
        verdicts = [verdict for verdict, count in enumerate(counts) for _ in range(count)]
        items.append({f"person {n}": verdict for n, verdict in enumerate(verdicts)})
    found = agreement(items)
    assert (found.method, found.items) == ("fleiss", 10)
    assert found.observed == pytest.approx(0.378, abs=5e-4)
    assert found.kappa == pytest.approx(0.210, abs=5e-4)


def test_cohen() -> None:
    table = {("yes", "yes"): 20, ("yes", "no"): 5, ("no", "yes"): 10, ("no", "no"): 15}
    items = [{"a": a, "b": b} for (a, b), count in table.items() for _ in range(count)]
    found = agreement([*items, {"a": "yes"}, {"c": "no"}])
    assert (found.method, found.items) == ("cohen", 50)
    assert found.observed == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)


@pytest.mark.parametrize("people", ["ab", "abc"])
def test_extremes(people: str) -> None:
    alike = [dict.fromkeys(people, verdict) for verdict in ("keep", "reject", "keep")]
    assert agreement(alike).kappa == pytest.approx(1)
    # All keep everything: chance alone agrees, so kappa says nothing.
    assert agreement([dict.fromkeys(people, "keep")] * 3).kappa is None
    assert agreement([dict.fromkeys(people, "keep")] * 3).observed == 1


def test_nothing_to_compare() -> None:
    for items in ([], [{"a": "keep"}, {"b": "keep"}]):
        found = agreement(items)
        assert (found.items, found.observed, found.kappa) == (0, None, None)


def test_pairs_out_of_many_people() -> None:
    """Each item judged by two of three, as a queue gives them out: Fleiss with two judgements an item."""
    items = [{"a": "keep", "b": "keep"}, {"b": "keep", "c": "reject"}, {"a": "reject", "c": "reject"}]
    found = agreement(items)
    assert found.method == "fleiss"
    assert found.observed == pytest.approx(2 / 3)
    assert found.kappa == pytest.approx((2 / 3 - 1 / 2) / (1 - 1 / 2))
