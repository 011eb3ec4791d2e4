"""The same clip gives the same arrays, whatever the number of processes and threads that made them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opendance_hf.pipeline.build import BuildOptions, build_dataset
from opendance_hf.pipeline.pipelines import default_pipeline
from opendance_hf.schema import DanceSequence
from opendance_hf.storage import load_sequence
from tests.pipeline.media import trim


def build(videos: list[Path], work: Path, workers: int) -> dict[str, DanceSequence]:
    """The sequences of a build by id, without previews."""
    stages = tuple(stage for stage in default_pipeline() if stage.changes_rows)
    build_dataset(videos, work / "out", work / "build", BuildOptions(stages, workers=workers))
    return {path.stem: load_sequence(path) for path in (work / "build" / "sequences").glob("*.npz")}


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.timeout(1800)
def test_the_number_of_workers_changes_no_array(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "videos" / "solo_sea.mp4"
    if not source.is_file():
        pytest.skip(f"{source} is not there")
    videos = [trim(source, tmp_path / f"{seconds}.mp4", seconds=seconds) for seconds in (4.6, 4.8)]

    alone = build(videos, tmp_path / "one", workers=1)
    assert len({seq.provenance.source_sha256 for seq in alone.values()}) == 2, (
        "something of both is published"
    )
    others = {
        "two processes": build(videos, tmp_path / "two", workers=2),
        "two threads": build(videos[:1], tmp_path / "threads", workers=2),
    }
    assert set(others["two processes"]) == set(alone)
    assert others["two threads"]
    for how, sequences in others.items():
        for name, seq in sequences.items():
            assert seq.provenance == alone[name].provenance, how
            for field, value in vars(alone[name]).items():
                if isinstance(value, np.ndarray):
                    np.testing.assert_array_equal(getattr(seq, field), value, err_msg=f"{how}: {field}")
