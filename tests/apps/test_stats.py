from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from opendance_hf.apps.stats import read_parts, stats, summarise, tables
from opendance_hf.cli import app
from opendance_hf.storage import pack
from tests.factories import make_sequence


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list]:
    folder = tmp_path_factory.mktemp("stats") / "opendance-3d"
    sequences = [make_sequence(i, 1 + (i >= 24) + (i >= 28), 60 + 6 * i, full=i % 2 == 0) for i in range(30)]
    pack(sequences, folder)
    return folder, sequences


def test_numbers_are_those_of_the_rows(dataset: tuple[Path, list]) -> None:
    folder, sequences = dataset
    parts = read_parts(folder)
    found = summarise(parts)
    seconds = np.array([s.num_frames / 60 for s in sequences])
    assert found.sequences == 30
    assert found.groups == len({s.group for s in sequences})
    assert found.dancers == 3
    assert found.hours == pytest.approx(seconds.sum() / 3600)
    assert found.mean_duration_s == pytest.approx(seconds.mean())
    assert (found.min_duration_s, found.max_duration_s) == (seconds.min(), seconds.max())
    assert found.min_bpm == pytest.approx(min(s.bpm for s in sequences))
    assert found.mean_velocity_m_per_s == pytest.approx(
        sum(s.motion_velocity * t for s, t in zip(sequences, seconds, strict=True)) / seconds.sum(), rel=1e-5
    )
    assert sum(found.genres.values()) == 15
    solos = summarise([part for part in parts if part.config == "individual"])
    assert solos.sequences == 24
    assert {part.split for part in parts if part.config == "individual"} > {"train"}


def test_tables_json_and_figure(dataset: tuple[Path, list], tmp_path: Path) -> None:
    folder, _ = dataset
    numbers, figure = tmp_path / "stats.json", tmp_path / "stats.png"
    done = CliRunner().invoke(app, ["stats", str(folder), "--json", str(numbers), "--figure", str(figure)])
    assert done.exit_code == 0, done.output
    assert "Collaborative" in done.output
    found = json.loads(numbers.read_text())
    assert found["all"]["sequences"] == 30
    assert sum(split["sequences"] for split in found["splits"]["group_3"].values()) == 2
    with Image.open(figure) as picture:
        colours = picture.convert("RGB").getcolors(1 << 24)
    assert len(colours or []) > 50


def test_headers_are_whole_in_80_columns(dataset: tuple[Path, list]) -> None:
    out = io.StringIO()
    console = Console(file=out, width=80)  # as notebooks run a command
    for table in tables(stats(dataset[0])):
        console.print(table)
    assert "…" not in out.getvalue()
    for word in ("configuration", "collaborative", "sequences", "individual"):
        assert word in out.getvalue()


def test_other_things_are_no_datasets(dataset: tuple[Path, list], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["stats", str(dataset[0]), "--figure", str(tmp_path / "stats.txt")])
    assert done.exit_code == 2
    assert "ends in .png, .pdf or .svg" in done.stderr
    done = CliRunner().invoke(app, ["stats", str(tmp_path / "nothing")])
    assert done.exit_code == 2
    done = CliRunner().invoke(app, ["stats", "nothing"])
    assert (done.exit_code, "nothing: no such folder" in done.stderr) == (2, True), "the Hub is not asked"
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    done = CliRunner().invoke(app, ["stats", str(tmp_path)])
    assert done.exit_code == 2
    assert "not a dataset of ours" in done.stderr
