from __future__ import annotations

from typing import Any

import pytest

from benchmarks.pipeline_truth import CONDITIONS, DEVELOPMENT, EVALUATION, REFUSED, SETS, means
from opendance_hf.synthetic.pairs import HELD_OUT


def test_every_clip_has_its_own_seed_and_a_known_condition() -> None:
    specs = [spec for clips in SETS.values() for spec in clips]
    assert len({spec.seed for spec in specs}) == len(specs)
    assert {spec.condition for spec in specs} <= set(CONDITIONS)
    assert set(REFUSED) <= {spec.condition for spec in EVALUATION}


def test_only_the_evaluation_has_held_out_trials() -> None:
    captured = [spec.trial.removeprefix("modern_") for spec in EVALUATION if spec.trial]
    assert set(captured) == set(HELD_OUT)
    assert sum(spec.seed <= 340 and bool(spec.trial) for spec in EVALUATION) == 20
    assert not {spec.trial.removeprefix("modern_") for spec in DEVELOPMENT} & set(HELD_OUT)


def row(condition: str, pa: float | None) -> dict[str, Any]:
    return {
        "name": "solo", "condition": condition, "pa_mpjpe_mm": pa, "constant_pa_mpjpe_mm": 150.0, "facing_error_deg": 3.0,
        "start_error_s": 0.1, "end_error_s": -0.2, "clock_error_ms": 0.5,
    }  # fmt: skip


def test_clips_that_must_be_refused_do_not_count_as_missing() -> None:
    rows = [row("plain", 60.0), row("roll", 70.0), row("roll", None), row(REFUSED[0], None)]
    found = means(rows)
    assert (found["clips"], found["published"], found["wrongly_published"]) == (3, 2, 0)
    assert found["published_share"] == pytest.approx(2 / 3)
    assert found["pa_mpjpe_mm"] == pytest.approx(65.0)
    assert found["pa_mpjpe_of_all_mm"] == pytest.approx((60 + 70 + 150) / 3)
    found = means([*rows, row(REFUSED[0], 90.0)])
    assert (found["published"], found["wrongly_published"]) == (2, 1)
    assert found["pa_mpjpe_mm"] == pytest.approx(65.0)
    assert means([row(REFUSED[0], None)])["clips"] == 0
