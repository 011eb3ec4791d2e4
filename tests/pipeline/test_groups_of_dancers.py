"""Three dancers in one world frame, through the whole pipeline."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from rich.console import Console

from opendance_hf.apps.build import Shortcuts, make_pipeline, run_build
from opendance_hf.pipeline.build import BuildOptions, BuildResult
from opendance_hf.pipeline.ledger import Ledger
from opendance_hf.storage import load_sequence
from opendance_hf.synthetic.clips import render_clip
from opendance_hf.synthetic.score import score_build
from opendance_hf.synthetic.truth import Truth, truth_path
from tests.synthetic.support import needs_body

pytestmark = [pytest.mark.slow, needs_body]


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_clip(216, 3, tmp_path_factory.mktemp("trio"), duration_s=5.0)


def built(video: Path, folder: Path, max_dancers: int | None) -> BuildResult:
    options = BuildOptions(make_pipeline("fast", None, Shortcuts(max_dancers=max_dancers), ()), workers=1)
    page = folder / "index.html"
    return run_build([video], folder / "dataset", folder / "build", page, options, Console(quiet=True))


def test_three_dancers_share_a_world(trio: Path, tmp_path: Path) -> None:
    assert built(trio, tmp_path, 3).count("published") == 1
    (path,) = (tmp_path / "build" / "sequences").glob("*.npz")
    sequence = load_sequence(path)
    assert sequence.num_dancers == 3
    assert list((tmp_path / "build" / "previews").glob("*.mp4"))
    (score,) = score_build(tmp_path / "build", truth_path(trio).parent)
    assert score.coverage > 0.9
    assert score.identity_swaps == 0
    assert score.distance_error_mm is not None
    assert score.distance_error_mm < 150
    # The distances that are to be found differ by more than that.
    roots = Truth.load(truth_path(trio)).root.mean(axis=1)[:, [0, 2]]
    gaps = [float(((roots[a] - roots[b]) ** 2).sum() ** 0.5) for a, b in combinations(range(3), 2)]
    assert max(gaps) - min(gaps) > 0.6
    ledger = Ledger(tmp_path / "build" / "ledger.sqlite")
    (row,) = [row for item in ledger.items() for row in ledger.sequences(item.path)]
    ledger.close()
    assert row["metrics"]["bystanders"] == 0


def test_three_are_too_many_by_default(trio: Path, tmp_path: Path) -> None:
    (item,) = built(trio, tmp_path, None).items
    assert item.status == "rejected"
    assert "too many people (3, at most 2 allowed)" in item.reason
