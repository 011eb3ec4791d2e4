"""The benchmark of ``joint_confidence``: an order by the error is found, and its control loses what changes over time."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.joint_confidence import Judged, scores


def judged(order: float, seed: int = 0) -> list[Judged]:
    """Errors that grow as the confidence falls in a share of the joints, and not in the others."""
    rng = np.random.default_rng(seed)
    error = rng.uniform(0, 100, (2, 300, 14))
    sure = 1 - error / 100
    return [
        Judged(np.where(rng.uniform(size=error.shape) < order, sure, rng.uniform(size=error.shape)), error)
    ]


def test_a_perfect_order() -> None:
    found = scores(judged(1.0))
    assert found["joints"] == 2 * 300 * 14
    assert found["correlation"] == pytest.approx(-1)
    assert found["correlation_over_time"] == pytest.approx(-1)
    assert found["quarters_mm"] == pytest.approx([87.5, 62.5, 37.5, 12.5], abs=1.5)
    assert abs(found["shuffled_correlation"]) < 0.05
    assert abs(found["shuffled_correlation_over_time"]) < 0.05


def test_no_order() -> None:
    found = scores(judged(0.0))
    assert abs(found["correlation"]) < 0.05
    assert np.ptp(found["quarters_mm"]) < 5


def test_joints_that_differ_keep_their_order_in_the_control() -> None:
    error = np.broadcast_to(np.linspace(0, 100, 14), (1, 200, 14))
    noise = np.random.default_rng(0).uniform(0, 0.01, error.shape)
    found = scores([Judged(1 - error / 200 - noise, error + 1000 * noise)])
    assert found["shuffled_correlation"] < -0.95
    assert found["correlation_over_time"] == pytest.approx(-1)
    assert abs(found["shuffled_correlation_over_time"]) < 0.1
