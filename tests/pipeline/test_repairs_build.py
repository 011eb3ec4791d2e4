"""``opendance build`` and ``inspect`` together: a repair comes into the dataset, is judged again, and leaves no trace."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from opendance_hf.cli import app
from opendance_hf.pipeline.clip import Repair
from opendance_hf.pipeline.inspection.queue import decide, next_turn
from opendance_hf.pipeline.inspection.repairs import add_repair, list_repairs, shown_span, withdraw_repair
from opendance_hf.pipeline.inspection.results import outcomes
from opendance_hf.pipeline.inspection.store import Inspection
from opendance_hf.schema import Camera, DanceSequence
from opendance_hf.storage import load_sequence
from tests.pipeline.media import write_clip
from tests.pipeline.result_files import dancers_before, write_wham
from tests.pipeline.test_inspection import ANA
from tests.pipeline.truth import camera_at

FPS, FRAMES = 10, 60


def run(*options: str) -> str:
    done = CliRunner().invoke(app, list(options))
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def rows(out: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(out.glob("data/*/*.parquet")) for row in pq.read_table(file).to_pylist()]


def sequence(build: Path, name: str) -> DanceSequence:
    (file,) = (build / "sequences").glob(f"{name}*.npz")
    return load_sequence(file)


def computed(build: Path) -> dict[str, set[str]]:
    """Stages that were computed in the last run of each input."""
    ledger = sqlite3.connect(build / "ledger.sqlite")
    found: dict[str, set[str]] = {}
    for path, stage, count in ledger.execute("SELECT path, stage, computed FROM stages"):
        found.setdefault(Path(path.decode()).stem, set()).update({stage} if count else ())
    ledger.close()
    return found


@pytest.mark.slow
def test_a_repair_from_the_page_to_the_dataset_and_back(tmp_path: Path) -> None:
    videos, results, out = tmp_path / "videos", tmp_path / "results", tmp_path / "set"
    build = tmp_path / "set.build"
    videos.mkdir()
    results.mkdir()
    level = camera_at(1.2, 5.5, pitch_deg=5)
    camera = Camera(320, 240, 400.0, level.rotation, level.translation)
    for name, count in (("duo", 2), ("solo", 1)):
        write_clip(videos / f"{name}.mp4", FRAMES / FPS, FPS + (count == 1))
        frames = FRAMES + 6 * (count == 1)
        write_wham(dancers_before(camera, frames, count, FPS), results / f"{name}.pkl")
    run(
        "build",
        str(videos),
        "--out",
        str(out),
        "--poses",
        str(results),
        "--workers",
        "1",
        "--no-quality-gate",
    )
    with Inspection(build / "ledger.sqlite") as inspection:
        inspection.refresh(build)
        for desk in ("round1", "round2"):
            while item := next_turn(inspection, ANA, desk).item:  # type: ignore[arg-type]
                decide(inspection, ANA, desk, item.round, item.subject, "keep")  # type: ignore[arg-type]
                duo = item if item.num_dancers == 2 else None
                if desk == "round2" and duo:
                    found = duo
        span = shown_span(inspection, found.subject, 60, 119)
        add_repair(inspection, ANA, found.subject, Repair("exchange_dancers", *span, 1, 2))
    before = sequence(build, found.sequence)
    others = {row["id"]: row for row in rows(out) if row["id"] != found.sequence}

    run("build", "--out", str(out), "--continue")
    after = sequence(build, found.sequence)
    assert after.provenance.repairs == ("exchange dancers 1 and 2, frames 120 to 238",)
    published = {row["id"]: row for row in rows(out)}
    assert published[found.sequence]["provenance"]["repairs"] == list(after.provenance.repairs)
    assert published[found.sequence]["provenance"]["schema_version"] == "1.6"
    assert np.abs(after.joints - before.joints).max() > 0.3
    assert not {"probe", "poses", "shots", "dancers"} & computed(build)["duo"]
    for name, row in others.items():
        assert published[name]["joints"] == row["joints"], "the other input is as it was"
    with Inspection(build / "ledger.sqlite") as inspection:
        inspection.refresh(build)
        outcome = outcomes(inspection)[found.sequence]
        assert (outcome.state, outcome.round) == ("open", 2), "judged again"
        withdraw_repair(inspection, ANA, list_repairs(inspection)[0].number)

    run("build", "--out", str(out), "--continue")
    undone = sequence(build, found.sequence)
    for name in ("joints", "smpl_pose", "smpl_transl", "rest_offsets", "confidence", "music_features"):
        np.testing.assert_array_equal(getattr(undone, name), getattr(before, name))
    assert undone.provenance == before.provenance
    assert computed(build)["duo"] <= {"repair", "cut", "sequence", "fingerprint", "preview"}
    with Inspection(build / "ledger.sqlite") as inspection:
        inspection.refresh(build)
        assert outcomes(inspection)[found.sequence].state == "kept", "of this motion it was decided before"
