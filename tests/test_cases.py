"""Every case gives the right value; ``make cases`` prints what they find."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.cases import Case
from benchmarks.cases.__main__ import CASES


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.slow else []) for case in CASES],
)
def test_a_case_is_right(case: Case, tmp_path: Path) -> None:
    found, right = case.measure(tmp_path)
    if found.startswith("not measured"):
        pytest.skip(found)
    assert right, f"{found}; right: {case.right}"


def test_cases_have_names_of_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
