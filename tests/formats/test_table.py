"""Independent fixtures are read within their tolerance, and the tables of docs/formats.md are those measured."""

from __future__ import annotations

import pytest

from tests.formats.table import DOCUMENT, Case, cases, measure, updated

#: Joints of markers are regressions, and bones of keypoints are made rigid: the fixture's markers are not where Plug-in Gait puts them.
LIMITS_MM = {"c3d": 80.0, "coco": 2.0}
#: Pelvis of HumanData and AIST++ are read at the translation, not at the rest pelvis below it; the ground is found afterwards.
#: The person of the keypoints is smaller.
SHIFTS_MM = {"c3d": 60.0, "humandata": 245.0, "aistpp": 245.0, "coco": 100.0}


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.file)
def test_a_fixture_is_read_as_its_truth(case: Case) -> None:
    if case.format == "c3d":
        pytest.importorskip("ezc3d", reason="ezc3d is not installed (extra c3d)")
    found = measure(case)
    assert found.joints_mm < LIMITS_MM.get(case.format, 1.0)
    assert case.faced or found.shift_mm < SHIFTS_MM.get(case.format, 20.0)
    if case.with_rotations:
        assert found.rotations_deg is not None
        assert found.rotations_deg < 0.1


def test_the_tables_of_the_document_are_those_measured() -> None:
    pytest.importorskip("ezc3d", reason="ezc3d is not installed (extra c3d)")
    pytest.importorskip("pxr", reason="usd-core is not installed (extra usd)")
    document = DOCUMENT.read_text(encoding="utf-8")
    assert updated(document) == document, "run python -m tests.formats.table --write"
