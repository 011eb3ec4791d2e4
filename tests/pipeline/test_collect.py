from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner

from opendance_hf.apps.collect import CollectOptions, run_collect
from opendance_hf.cli import app
from opendance_hf.files import OutputError
from opendance_hf.pipeline.collect import (
    CollectError,
    Columns,
    Counts,
    Criteria,
    listed_name,
    read_selection,
    select,
)
from opendance_hf.pipeline.inputs import find_inputs

ROWS = [
    {"video": "star.mp4", "followers": 5000, "posts_90d": 12, "dance_weight": 0.9},
    {"video": "edge.mp4", "followers": 101, "posts_90d": 2, "dance_weight": 0.51},
    {"video": "few.mp4", "followers": 100, "posts_90d": 9, "dance_weight": 0.9},
    {"video": "idle.mp4", "followers": 900, "posts_90d": 1, "dance_weight": 0.9},
    {"video": "cook.mp4", "followers": 900, "posts_90d": 30, "dance_weight": 0.5},
]
REASONS = [
    "",
    "",
    "100 followers; more than 100",
    "1 time(s) in the past 90 days",
    "0.50; more than 0.5",
]


def write(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_papers_criteria(tmp_path: Path, suffix: str) -> None:
    counts = Counts()
    found = list(select(write(tmp_path / f"t{suffix}", ROWS), Criteria(), Columns(), counts))
    assert [video for video, _ in found] == [row["video"] for row in ROWS]
    for (_, reason), expected in zip(found, REASONS, strict=True):
        assert expected in reason
        assert bool(expected) == bool(reason)
    assert (counts.rows, counts.followers, counts.posts, counts.tag, counts.selected) == (5, 1, 1, 1, 2)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_all_tags_in_one_column_and_other_names(tmp_path: Path, suffix: str) -> None:
    tags = [{"Entertainment-Dance": 0.7, "Food": 0.3}, {"Food": 1.0}]
    rows = [{"file": f"{i}.mp4", "fans": 200, "n": 3, "tags": json.dumps(t)} for i, t in enumerate(tags)]
    columns = Columns.parse(["video=file", "followers=fans", "posts=n", "tag_weight=tags"])
    found = list(select(write(tmp_path / f"t{suffix}", rows), Criteria(), columns, Counts()))
    assert [bool(reason) for _, reason in found] == [False, True]
    again = list(
        select(tmp_path / f"t{suffix}", Criteria(tag="Food", tag_weight_over=0.9), columns, Counts())
    )
    assert [bool(reason) for _, reason in again] == [True, False]


def test_bad_rows_are_named_and_do_not_stop(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(
        "video,followers,posts_90d,dance_weight\na.mp4,many,3,0.9\nb.mp4,500,3,nan\n,500,3,1\nc.mp4,500,3,1\n"
    )
    counts = Counts()
    found = dict(select(table, Criteria(), Columns(), counts))
    assert counts.num_bad == 3
    assert counts.bad[0].startswith(f"{table}, line 2: column 'followers'")
    assert counts.bad[0].endswith("got 'many'")
    assert "line 3: column 'dance_weight'" in counts.bad[1]
    assert "line 4: column 'video' must name a video" in counts.bad[2]
    assert found["c.mp4"] == ""
    assert all(found[name] for name in ("a.mp4", "b.mp4", "line 4"))
    with pytest.raises(CollectError, match="line 2"):
        list(select(table, Criteria(), Columns(), Counts(), strict=True))


def test_rows_of_any_kind_do_not_stop_the_others(tmp_path: Path) -> None:
    good = '{"video": "a.mp4", "followers": 500, "posts_90d": 3, "dance_weight": %s}'
    weights = ["0.9", "[1, 2]", "9" * 400, '"{' + "[" * 5000 + '"', '{"Dance": 0.9}']
    table, out = tmp_path / "t.jsonl", tmp_path / "out.csv"
    lines = [good % weight for weight in weights]
    table.write_text("\n".join([*lines, '{"video": "cut', '{"video": "\\ud800", "followers": "x"}']))
    counts = Counts()
    found = list(select(table, Criteria(), Columns(), counts))
    assert [bool(reason) for _, reason in found] == [False, True, True, True, True, True, True]
    assert counts.num_bad == 5
    assert "line 6: not a JSON object" in counts.bad[3]
    done = CliRunner().invoke(app, ["collect", str(table), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert len(out.read_text().splitlines()) == 8


def test_a_rejected_row_without_a_reason_is_rejected(tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text("video,status,reason\na.mp4,rejected,\nb.mp4,selected,\n")
    assert read_selection(listed) == {"a.mp4": "rejected in the list", "b.mp4": ""}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "t.csv",
            "video,fans\na.mp4,3\n",
            "no column 'followers': the table has video, fans",
        ),
        ("t.jsonl", "{}\nnot json", "no column 'video'"),
        ("t.jsonl", "[1]", "line 1: not a JSON object"),
        ("t.parquet", "PAR1", "not a readable Parquet file"),
        ("t.txt", "", "expected .csv, .jsonl, .ndjson or .parquet"),
        ("t.csv", "", "has no rows"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    done = CliRunner().invoke(app, ["collect", str(tmp_path / name), "--out", str(tmp_path / "out.csv")])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert not (tmp_path / "out.csv").exists()


def test_the_command_and_the_list(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "star.mp4").touch()
    (videos / "stray.mp4").touch()
    (tmp_path / "secret.mp4").touch()
    rows = [*ROWS, {**ROWS[0], "video": "../secret.mp4"}]
    out, counts = tmp_path / "selected.csv", tmp_path / "counts.json"
    command = ["collect", str(write(tmp_path / "t.csv", rows)), "--out", str(out), "--videos", str(videos)]
    done = CliRunner().invoke(app, [*command, "--json", str(counts)])
    assert done.exit_code == 0, done.output
    found = json.loads(counts.read_text())
    assert (found["rows"], found["selected"], found["no_video"], found["followers"]) == (6, 1, 2, 1)
    selection = read_selection(out)
    assert selection["star.mp4"] == ""
    assert selection["../secret.mp4"] == selection["edge.mp4"] == "no such file in the folder of videos"
    assert len(selection) == 6
    done = CliRunner().invoke(app, ["build", str(videos), "--selected", str(write(tmp_path / "u.csv", ROWS))])
    assert done.exit_code == 2
    assert "not a list of opendance collect" in " ".join(done.output.split())
    assert {source.name for source in find_inputs([videos])} == {"star.mp4", "stray.mp4"}


def test_a_video_has_one_name_in_the_table_the_list_and_the_build(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    (videos / "more").mkdir(parents=True)
    for name in ("a.mp4", "more/b.mp4", "c\x1b.mp4", ".d.mp4"):
        (videos / name).touch()
    (videos / "other").symlink_to(videos / "more")
    written = [
        "./a.mp4",
        "more//./b.mp4",
        "more/../c\x1b.mp4",
        ".d.mp4",
        "other/b.mp4",
        str(videos / "a.mp4"),
    ]
    table = write(tmp_path / "t.jsonl", [{**ROWS[0], "video": name} for name in written])
    out = tmp_path / "selected.csv"
    done = CliRunner().invoke(app, ["collect", str(table), "--out", str(out), "--videos", str(videos)])
    assert done.exit_code == 0, done.output
    selected = {name for name, reason in read_selection(out).items() if not reason}
    assert selected == {source.name for source in find_inputs([videos])}
    # A list written by hand is read in the same way.
    out.write_text(out.read_text().replace("more/b.mp4", "./more/b.mp4"))
    assert "more/b.mp4" in read_selection(out)
    # Half a character is no name of a file, and stops nothing.
    assert listed_name("\ud800.mp4") == "\\ud800.mp4"


def test_a_video_in_several_rows_is_selected_if_one_of_them_is(tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    rows = [
        "a.mp4,selected,",
        "a.mp4,rejected,dull",
        "b.mp4,rejected,dull",
        "b.mp4,selected,",
        "c.mp4,rejected,dull",
    ]
    listed.write_text("\n".join(["video,status,reason", *rows, "c.mp4,rejected,far"]))
    assert read_selection(listed) == {"a.mp4": "", "b.mp4": "", "c.mp4": "far"}


@pytest.mark.parametrize("row", ["a.mp4,maybe,", "a.mp4,selected", "a.mp4,selected,,"])
def test_a_row_of_another_form_is_named_with_its_line(tmp_path: Path, row: str) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text(f"video,status,reason\nb.mp4,selected,\n{row}\n")
    with pytest.raises(CollectError, match=r"list\.csv, line 3"):
        read_selection(listed)


def test_of_many_bad_rows_a_hundred_are_named(tmp_path: Path) -> None:
    table = write(tmp_path / "t.jsonl", [{**ROWS[0], "followers": True}] * 150)
    counts = Counts()
    assert all(reason for _, reason in select(table, Criteria(), Columns(), counts))
    assert (counts.num_bad, len(counts.bad)) == (150, 100)
    for fact in ("line 1", "'followers'", "True"):
        assert fact in counts.bad[0]


def test_a_list_is_replaced_if_wanted(tmp_path: Path) -> None:
    table, out = write(tmp_path / "t.csv", ROWS), tmp_path / "out.csv"
    out.write_text("mine")
    arguments = (table, out, Criteria(), Columns())
    with pytest.raises(OutputError, match="with --overwrite"):
        run_collect(*arguments, console=Console(file=io.StringIO()))
    assert out.read_text() == "mine"
    run_collect(*arguments, CollectOptions(overwrite=True), console=Console(file=io.StringIO()))
    assert out.read_text().startswith("video,status,reason")


@pytest.mark.parametrize("place", ["value", "name"])
def test_a_parquet_table_with_text_that_is_not_utf8_is_refused(tmp_path: Path, place: str) -> None:
    table = write(tmp_path / "t.parquet", ROWS)
    old, new = (ROWS[0]["video"].encode(), b"\xff\x80") if place == "value" else (b"followers", b"\xff\x80")
    table.write_bytes(table.read_bytes().replace(old, new.ljust(len(old), b"x")))
    with pytest.raises(CollectError, match=r"t\.parquet: not a readable Parquet file"):
        list(select(table, Criteria(), Columns(), Counts()))
