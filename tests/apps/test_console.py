"""Tables that can be read in a narrow terminal and in a log."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from opendance_hf.apps.console import ConsoleProgress, make_console, print_report
from opendance_hf.apps.report import BuildReport, InputRow, SequenceRow, write_report
from opendance_hf.pipeline.ledger import Item

REASON = "not a readable video: damaged, cut off, or another kind of file (Invalid data found); check that it plays"
NAME = "holidays 2024/a [very] long name of a file that does not seem to end/bytes_\\xff.mp4"
METRICS = {
    "pck_02": 0.93,
    "speed_correlation": 0.81,
    "foot_slide_mps": 0.12,
    "fit_residual_mm": 24.5,
    "depth_jitter_mm": 131.0,
    "ground_tilt_deg": 3.25,
}


def report() -> BuildReport:
    ids = ["0123456789abcdef_00", "0123456789abcdef_01"]
    return BuildReport(
        [InputRow("solo.mp4", "published", "", 2, 36.6), InputRow(NAME, "rejected", REASON, 0, 0.04)],
        [SequenceRow(key, "individual", 1, 9.5, 120.0, 1.0, 0.9, None, "solo.mp4", METRICS) for key in ids],
    )


def printed(width: int) -> str:
    out = io.StringIO()
    print_report(Console(file=out, width=width), report())
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_nothing_is_cut_off(width: int) -> None:
    text = printed(width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for word in REASON.split():
        assert word in text
    # A long name is folded: its characters are all there, in the order of its column's lines.
    start = text.index("rejected")
    rows = text[start : text.index("Sequences", start)].splitlines()
    left, right = rows[0].index("holidays"), rows[0].index(" 0 ")
    assert "".join(row[left:right] for row in rows).replace(" ", "").startswith(NAME.replace(" ", ""))


@pytest.mark.parametrize("width", [80, 120])
def test_every_metric_of_every_sequence_stands_on_the_sequences_line(width: int) -> None:
    text = printed(width)
    for key in ("0123456789abcdef_00", "0123456789abcdef_01"):
        numbers = [word for line in text.splitlines() if key in line for word in line.split() if word != key]
        assert numbers == ["1", "9.50", "120.0", "0.93", "0.81", "0.12", "24.5", "131", "3.25"]
    assert ("continued" in text) == (width == 80)


def test_scores_and_seconds_are_explained() -> None:
    text = " ".join(printed(120).split())
    assert (
        "speed correlation: correlation of projected and 2D speeds of wrists and ankles, -1 to 1; good: near 1"
        in text
    )
    assert "foot slide, m/s: " in text
    assert "processing" in text


@pytest.mark.parametrize(("bpm", "warned"), [(211.8, True), (120.0, False)])
def test_an_unusual_tempo_is_published_with_a_warning(bpm: float, warned: bool, tmp_path: Path) -> None:
    build = report()
    build = dataclasses.replace(
        build, sequences=[dataclasses.replace(row, bpm=bpm) for row in build.sequences]
    )
    out = io.StringIO()
    print_report(Console(file=out, width=120), build)
    write_report(tmp_path / "index.html", build)
    for text in (out.getvalue(), (tmp_path / "index.html").read_text()):
        assert ("105.9 BPM, half of it" in " ".join(text.split())) == warned
    assert f"{bpm:.1f}" in out.getvalue()


def test_a_pipe_is_wide_unless_it_is_wider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.setenv("COLUMNS", "80")
    assert make_console().width == 120
    monkeypatch.setenv("COLUMNS", "300")
    assert make_console().width == 300


def test_a_log_names_each_stage_once_and_never_wraps() -> None:
    out = io.StringIO()
    item = Item("/videos/" + NAME, NAME, "", "running", "", 1, 0.0)
    with ConsoleProgress(Console(file=out, width=80)) as progress:
        progress.started(item)
        for stage in ("detect", "track", "detect", "detect", "track"):
            progress.step(item, stage, 0.5)
        progress.ended(item, "rejected", REASON)
    assert out.getvalue().splitlines() == [
        f"  {NAME}: detect",
        f"  {NAME}: track",
        f"{NAME}: rejected ({REASON})",
    ]
