from __future__ import annotations

import numpy as np

from opendance_hf.apps.demo import _readable
from opendance_hf.metrics import Clip, evaluate


def clips(count: int, dancers: int = 1) -> list[Clip]:
    rng = np.random.default_rng(count)
    return [
        Clip(f"c{i}", rng.normal(0, 0.1, (dancers, 90, 24, 3)).cumsum(1), np.arange(5, 90, 20))
        for i in range(count)
    ]


def test_scores_of_too_few_dances_say_what_they_need() -> None:
    scores = _readable(evaluate(clips(1), clips(3)))
    assert scores["fid_k"] == "needs N >= 73"
    assert scores["fid_g"] == "needs N >= 33"
    assert scores["div_k"] == "needs N >= 2"
    assert scores["motion_motion_score"] == "needs two dancers"
    assert isinstance(scores["music_motion_score"], float)


def test_scores_of_enough_dances_are_numbers() -> None:
    scores = _readable(evaluate(clips(80, 2), clips(90)))
    assert all(isinstance(value, float) for value in scores.values())
