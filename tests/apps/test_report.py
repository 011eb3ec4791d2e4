"""The page lists everything, escapes everything and links to what is there."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from opendance_hf.apps.report import (
    BUILD_SCORES,
    BuildReport,
    DanceRow,
    InputRow,
    SequenceRow,
    metric_label,
    write_report,
)
from opendance_hf.pipeline.stages import gate

EVIL = "<script>alert('x')</script>\"&.mp4"


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def sequence(number: int = 0, **changes: object) -> SequenceRow:
    row = SequenceRow(
        id=f"dance-{number:03d}",
        config="collaborative" if number % 2 else "individual",
        num_dancers=1 + number % 2,
        duration_s=5.0 + number,
        bpm=100.0 + number,
        motion_velocity=0.8,
        mean_confidence=0.9,
        preview=None,
        source="solo.mp4",
        metrics={"fit_residual_mm": 24.31, "foot_skate_mps": 0.031, "share": 0.5},
    )
    return dataclasses.replace(row, **changes)  # type: ignore[arg-type]


def inputs() -> list[InputRow]:
    return [
        InputRow("solo.mp4", "published", "", 1, 71.2, {"detect": 12.0, "fit": 20.4}),
        InputRow("duo.mp4", "rejected", "no span of 4 s", 0, 11.0),
        InputRow(EVIL, "failed", f"cannot open {EVIL}", 0, 0.2),
        InputRow("late.mp4", "pending", "", 0, 0.0),
    ]


def test_every_input_and_number_is_listed(tmp_path: Path) -> None:
    write_report(tmp_path / "demo" / "index.html", BuildReport(inputs(), [sequence(0), sequence(1)]))
    page = Page(tmp_path / "demo" / "index.html")
    for row in inputs():
        assert row.name in page.text
        assert row.reason in page.text
        assert row.status in page.text
    for word in (
        "dance-000",
        "dance-001",
        "24.3 mm",
        "0.03 m/s",
        "fit residual",
        "detect",
        "11.0 s",
        "100 bpm",
    ):
        assert word in page.text


def test_every_score_of_the_pipeline_is_explained(tmp_path: Path) -> None:
    names = {
        *gate._SCORES,
        "reprojection_pck",
        "speed_correlation",
        "foot_slide_mps",
        "legs_out",
        "exchanged",
        "bystanders",
    }
    names |= {"camera_turn_deg", "camera_zoom", "camera_parallax_deg"}
    assert set(BUILD_SCORES) == names
    for name, (field, _) in gate._SCORES.items():
        side = "at least" if field.startswith("min") else "at most"
        assert BUILD_SCORES[name].wanted == f"limit: {side} {getattr(gate.Gate(), field):g}"
    row = sequence(metrics={name: 0.25 for name in names})
    write_report(tmp_path / "index.html", BuildReport(inputs(), [row]))
    text = " ".join(Page(tmp_path / "index.html").text.split())
    assert "mps2" not in text
    assert "0.25 m/s²" in text
    for score in BUILD_SCORES.values():
        assert score.meaning in text
        assert score.wanted in text


def test_names_cannot_break_out(tmp_path: Path) -> None:
    row = sequence(0, id=EVIL, source=EVIL, metrics={EVIL: 1.0}, preview="a \"b'<i>.mp4", config=EVIL)
    build = BuildReport(inputs(), [row, sequence(1)], title=EVIL, dataset=EVIL)
    write_report(tmp_path / "index.html", build)
    page = Page(tmp_path / "index.html")
    assert "script" not in page.tags
    assert "<script" not in (tmp_path / "index.html").read_text()
    assert "i" not in page.tags


def test_links_lead_to_the_previews_and_nowhere_else(tmp_path: Path) -> None:
    names = ["plain.mp4", "previews/with space & #1?.mp4", "ünï.mp4"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"video")
    (tmp_path / "stages").mkdir()
    names.append("stages/a b.html")
    (tmp_path / names[-1]).write_text("a page")
    rows = [sequence(n, preview=name) for n, name in enumerate(names[:-1])]
    rows[-1] = dataclasses.replace(rows[-1], stage=names[-1])
    write_report(tmp_path / "index.html", BuildReport(inputs(), rows))
    page = Page(tmp_path / "index.html")
    assert page.tags.count("video") == 3
    outward = [link for link in page.links if not link.startswith("#")]
    assert [unquote(link) for link in outward] == names
    assert all((tmp_path / unquote(link)).is_file() for link in outward)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


@pytest.mark.parametrize(
    "preview", ["/etc/passwd", "../up.mp4", "a/../../b.mp4", "https://x.org/a.mp4", "javascript:1", ""]
)
def test_previews_elsewhere_are_refused(tmp_path: Path, preview: str) -> None:
    for report in (
        BuildReport([], [sequence(preview=preview)]),
        BuildReport([], [sequence(stage=preview)]),
        BuildReport([], [], dances=[DanceRow("a.mp4", "", stage=preview)]),
    ):
        with pytest.raises(ValueError, match="relative"):
            write_report(tmp_path / "index.html", report)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("count", "plots"), [(0, 0), (1, 0), (2, 4), (30, 4)])
def test_plots_need_something_to_compare(tmp_path: Path, count: int, plots: int) -> None:
    write_report(tmp_path / "index.html", BuildReport(inputs(), [sequence(n) for n in range(count)]))
    assert Page(tmp_path / "index.html").tags.count("svg") == plots


def test_numbers_that_are_not_numbers_do_no_harm(tmp_path: Path) -> None:
    rows = [
        sequence(n, bpm=0.0, mean_confidence=float("nan"), metrics={"fit_mm": float("nan")}) for n in range(3)
    ]
    write_report(tmp_path / "index.html", BuildReport([], rows))
    assert "nan" not in Page(tmp_path / "index.html").text.lower().split()


def test_the_same_build_gives_the_same_page(tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, BuildReport(inputs(), [sequence(n) for n in range(3)]))
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_scores_are_written_as_in_the_paper() -> None:
    assert metric_label("fid_k") == "FID_k"
    assert metric_label("motion_motion_score") == "motion-motion score"
    assert metric_label("raw_pa_mpjpe_mm") == "raw PA-MPJPE"
    assert metric_label("facing_error_deg") == "facing error"
