from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from opendance_hf.apps.demo import DemoOptions, _readable, run_demo
from opendance_hf.dance import Dancer
from opendance_hf.metrics import Clip, evaluate
from tests.apps.test_view import data_of


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


@pytest.mark.slow
def test_the_smallest_demo_runs_from_a_rendered_video_to_a_dance(tmp_path: Path) -> None:
    told = io.StringIO()
    options = DemoOptions(tmp_path, [], 2, vqvae_steps=4, gpt_steps=4, clips={1: 11})
    result = run_demo(options, Console(file=told, width=160))
    text, record = told.getvalue(), json.loads((tmp_path / "report.json").read_text())
    assert [row["status"] for row in record["inputs"]] == ["published"]
    assert 20 < record["clips"][0]["pa_mpjpe_mm"] < 150
    assert "Errors against the true 3D motion" in text
    assert "individual" in text
    assert "{" not in text  # tables, not dictionaries
    with np.load(tmp_path / "dance" / "dance.npz") as dance:
        assert np.isfinite(dance["joints"]).all()
    page = (tmp_path / "index.html").read_text()
    assert "dance/dance.mp4" in page
    stages = re.findall(r'href="((?:stages|dance)/[^"]+\.html)"', page)
    assert len(stages) == 2, "of the sequence and of the dance"
    for stage in stages:
        assert data_of((tmp_path / stage).read_text())["song"]
    (dancer,) = [Dancer.from_pretrained(tmp_path / "model" / "bailando")]
    (again,) = dancer([next(str(item.path) for item in result.items)])
    np.testing.assert_array_equal(again.joints[0], np.load(tmp_path / "dance" / "dance.npz")["joints"])
