"""The cases of files, disks, formats and settings give the right value; ``make cases`` prints what they find."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.cases import Case, files

#: Cases that take more than a few seconds, or have tests of their own.
SLOW = {"disks", "tempo"}


@pytest.mark.parametrize(
    "case", [case for case in files.CASES if case.name not in SLOW], ids=lambda case: case.name
)
def test_a_case_is_right(case: Case, tmp_path: Path) -> None:
    found, right = case.measure(tmp_path)
    assert right, f"{found}; right: {case.right}"
