"""Builds apply what people decided, account for it, and bring back what they decide otherwise."""

from __future__ import annotations

import html
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from opendance_hf.cli import app
from opendance_hf.pipeline import build as build_module
from opendance_hf.pipeline.backends.yolox import YOLOX
from opendance_hf.pipeline.build import CONFIG, _dataset_identity, _withdraw
from opendance_hf.pipeline.config import dump_config, pipeline_fingerprint, prepare_pipeline, work_fingerprint
from opendance_hf.pipeline.inspection.queue import decide, last_number, next_turn, undo
from opendance_hf.pipeline.inspection.store import Inspection, Person
from opendance_hf.pipeline.ledger import Item, Ledger
from opendance_hf.pipeline.stages.detect import Detect
from tests.pipeline.builds import LICENCE, PIPELINE, make_build
from tests.pipeline.test_paper_backends import yolox_file

ANA = Person("ana")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where the dataset is to go; the build beside it has videos of 2, 1 and 1 sequences."""
    make_build(tmp_path / "dance.build", (2, 1, 1), videos=True, sources=tmp_path / "videos")
    return tmp_path / "dance"


def inspect(out: Path, round1: dict[str, str], round2: dict[str, str] | None = None) -> None:
    """Keep everything that is not named in round 1, and then in round 2; None leaves round 2 undone."""
    build = out.with_name("dance.build")
    with Inspection(build / "ledger.sqlite") as inspection:
        inspection.refresh(build)
        for desk, reasons in (("round1", round1), ("round2", round2)):
            while reasons is not None and (item := next_turn(inspection, ANA, desk).item):  # type: ignore[arg-type]
                why = reasons.get(item.sequence, "").split()
                verdict = "reject" if why else "keep"
                decide(inspection, ANA, desk, item.round, item.subject, verdict, why)  # type: ignore[arg-type]


def run(out: Path, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["build", "--out", str(out), *options])
    return done.exit_code, " ".join(done.output.split())


def published(out: Path) -> list[str]:
    """Ids in the dataset."""
    files = sorted(out.glob("data/*/*.parquet"))
    return sorted(name for file in files for name in pq.read_table(file, columns=["id"])["id"].to_pylist())


def items(out: Path) -> list[Item]:
    ledger = Ledger(out.with_name("dance.build") / "ledger.sqlite")
    found = ledger.items()
    ledger.close()
    return found


def sequences(out: Path) -> list[str]:
    return sorted(path.stem for path in (out.with_name("dance.build") / "sequences").glob("*.npz"))


def test_without_an_inspection_everything_is_published(out: Path) -> None:
    code, said = run(out, "--continue")
    assert (code, published(out)) == (0, sequences(out))
    assert "Inspection:" not in said
    assert {item.status for item in items(out)} == {"published"}


def test_what_people_reject_is_left_out_and_accounted_for(out: Path) -> None:
    names = sequences(out)
    of_video = {item.name: item.sha256[:16] for item in items(out)}
    half, whole = of_video["dance_00.mp4"] + "_01", of_video["dance_01.mp4"] + "_00"
    inspect(out, {half: "camera people"}, {whole: "body_jitter"})
    code, said = run(out, "--continue")
    assert (code, published(out)) == (0, sorted(set(names) - {half, whole}))
    assert "Inspection: 2 kept, 2 rejected, 0 not decided" in said
    found = {item.name: (item.status, item.reason) for item in items(out)}
    assert found["dance_00.mp4"] == ("published", "")
    assert found["dance_01.mp4"] == ("rejected", "rejected by people in round 2: body jitter")
    assert found["dance_02.mp4"] == ("published", "")
    assert "3 input(s): 2 published, 1 rejected, 0 failed; 2 sequence(s)" in said
    # The page and the terminal name the sequence that is missing from a video, and why.
    why = f"without {half}: rejected by people in round 1: the camera is moving dramatically; more than two people"
    page = (out.with_name("dance.build") / "index.html").read_text()
    assert why in html.unescape(page)
    assert "body jitter" in page
    assert f"previews/{half}.mp4" not in page
    # It is not published, and not lost: its files stay for those who look again.
    assert sequences(out) == names
    for folder in ("previews", "clips"):
        assert (out.with_name("dance.build") / folder / f"{half}.mp4").is_file()
    assert run(out, "--continue", "--strict")[0] == 1


def test_another_decision_brings_a_sequence_back_without_processing(out: Path) -> None:
    names = sequences(out)
    inspect(out, dict.fromkeys(names, "tools"))
    assert run(out, "--continue")[0] == 1, "nothing is published"
    assert not out.exists()
    assert {item.status for item in items(out)} == {"rejected"}
    build = out.with_name("dance.build")
    before = {path: path.stat().st_mtime_ns for path in (build / "sequences").iterdir()}
    with Inspection(build / "ledger.sqlite") as inspection:
        number = last_number(inspection, ANA, "round1")
        assert number is not None
        undo(inspection, ANA, "round1", number)
    inspect(out, {}, {})
    code, said = run(out, "--continue")
    assert (code, len(published(out))) == (0, 1)
    assert "1 kept, 3 rejected" in said
    assert "weights" not in said
    assert {path: path.stat().st_mtime_ns for path in (build / "sequences").iterdir()} == before


def test_what_is_not_decided_is_published_unless_only_the_inspected_is_wanted(out: Path) -> None:
    names = sequences(out)
    assert run(out, "--continue", "--inspected-only")[0] == 1
    assert {(item.status, item.reason) for item in items(out)} == {("waiting", "not decided yet in round 1")}
    inspect(out, {names[0]: "back"})
    code, said = run(out, "--continue")
    assert (code, published(out)) == (0, names[1:])
    assert "3 not decided" in said
    assert "--inspected-only" in said
    code, said = run(out, "--continue", "--inspected-only", "--allow-empty")
    assert (code, published(out)) == (0, [])
    assert "3 not decided (withheld)" in said
    assert "waiting" in said
    inspect(out, {}, {})
    assert run(out, "--continue", "--inspected-only")[0] == 0
    assert published(out) == names[1:]


def test_a_plain_build_applies_decisions_too(out: Path) -> None:
    names = sequences(out)
    inspect(out, {names[0]: "repeat"})
    code, said = run(out, str(out.parent / "videos"), "--licence", LICENCE)
    assert (code, published(out)) == (0, names[1:])
    assert "weights" not in said, "nothing was processed again"
    # With the names of the videos, --continue keeps the settings and looks for new videos.
    assert run(out, str(out.parent / "videos"), "--continue")[0] == 0
    (out.parent / "videos" / "dance_02.mp4").unlink()
    assert run(out, "--continue")[0] == 0
    assert published(out) == names[1:], "nobody looks for the videos"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "PATHS are missing"),
        (("--continue", "--detector", "yolox"), "uses the configuration"),
        (("--continue", "--no-previews"), "uses the configuration"),
        (("--continue", "--set", "gate.reject=false"), "uses the configuration"),
        (("--continue", "--build-dir", "elsewhere"), "no build to continue"),
    ],
)
def test_what_cannot_continue_says_why(out: Path, options: tuple[str, ...], message: str) -> None:
    code, said = run(out, *options)
    assert code == 2
    assert message in said.replace("│ ", "").replace(" │", "")
    assert not out.exists()


def test_a_dataset_of_another_build_is_left_alone(out: Path, tmp_path: Path) -> None:
    assert run(out, "--continue")[0] == 0
    junk = tmp_path / "junk"
    junk.mkdir()
    (junk / "a.mp4").write_bytes(b"no video")
    code, said = run(out, str(junk), "--build-dir", str(tmp_path / "other.build"))
    assert code == 1
    assert "is not removed" in said
    assert published(out) == sequences(out)


def test_a_dataset_whose_every_row_is_rejected_is_withdrawn(out: Path) -> None:
    assert run(out, "--continue")[0] == 0
    inspect(out, dict.fromkeys(sequences(out), "camera"))
    code, said = run(out, "--continue", "--allow-empty")
    assert code == 0
    assert "removing the dataset" in said
    assert not out.exists()
    assert not list(out.parent.glob(".*.replaced"))


def test_a_selection_chooses_by_the_same_name_however_it_is_written(out: Path) -> None:
    listed = out.parent / "list.csv"
    listed.write_text("video,status,reason\n./dance_00.mp4,selected,\nx/../dance_01.mp4,rejected,dull\n")
    videos = str(out.parent / "videos")
    assert run(out, videos, "--licence", LICENCE, "--selected", str(listed))[0] == 0
    found = {item.name: item.reason for item in items(out)}
    assert found == {
        "dance_00.mp4": "",
        "dance_01.mp4": "dull",
        "dance_02.mp4": "not in the list of selected videos",
    }
    listed.write_text("video,status,reason\nvideos/dance_00.mp4,selected,\n")
    code, said = run(out, videos, "--licence", LICENCE, "--selected", str(listed))
    assert code == 2
    assert "names none of the 3 input(s)" in " ".join(said.replace("│", "").split())
    assert {item.name: item.reason for item in items(out)} == found
    code, said = run(out, "--continue", "--selected", str(listed))
    assert code == 2
    assert "needs PATHS" in said.replace("│ ", "").replace(" │", "")


def test_a_folder_that_cannot_be_a_build_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    (tmp_path / "file").touch()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "ledger.sqlite").write_bytes(b"garbage" * 1000)
    for folder, message in (("file", "File exists"), ("bad", "not a ledger")):
        code, said = run(tmp_path / "d", str(tmp_path / "a.mp4"), "--build-dir", str(tmp_path / folder))
        assert code == 2
        assert message in said


def change(out: Path, statement: str, *values: Any) -> None:
    ledger = sqlite3.connect(out.with_name("dance.build") / "ledger.sqlite")
    with ledger:
        ledger.execute(statement, values)
    ledger.close()


def test_a_build_of_another_version_takes_decisions_but_no_more_videos(out: Path) -> None:
    change(
        out, "UPDATE settings SET value = ? WHERE name = 'build'", json.dumps({"licence": "mit", "odd": 1})
    )
    assert run(out, "--continue")[0] == 0
    assert "license: mit" in (out / "README.md").read_text()
    change(out, "UPDATE items SET status = 'failed' WHERE name = 'dance_00.mp4'")
    code, said = run(out, "--continue")
    assert code == 2
    assert "another version" in said
    change(out, "UPDATE items SET status = 'published'")
    change(out, "DELETE FROM settings")
    assert "another version" in run(out, "--continue")[1]


@pytest.mark.parametrize("gone", [False, True])
def test_a_build_continues_with_the_same_models_only(out: Path, gone: bool) -> None:
    model = yolox_file(out.with_name("mine.onnx"), [])
    pipeline = tuple(
        Detect(detector=YOLOX(str(model))) if stage.name == "detect" else stage for stage in PIPELINE
    )
    pipeline = prepare_pipeline(pipeline)
    (out.with_name("dance.build") / CONFIG).write_text(dump_config(pipeline))
    kept = {"licence": LICENCE, "pipeline": pipeline_fingerprint(pipeline)}
    change(out, "UPDATE settings SET value = ? WHERE name = 'build'", json.dumps(kept))
    model.unlink() if gone else yolox_file(model, [(4.0, 2.0, 60.0, 62.0, 0.9, 0)])
    assert run(out, "--continue")[0] == 0, "nothing is left to process"
    change(out, "UPDATE items SET status = 'failed' WHERE name = 'dance_00.mp4'")
    code, said = run(out, "--continue")
    assert code == 2
    assert "detect.detector" in said
    assert "mine.onnx" in said
    assert ("no such file" if gone else "not the file that the configuration was made with") in said


def test_another_licence_is_written_without_processing(out: Path) -> None:
    assert run(out, "--continue")[0] == 0
    for licence, options in (("cc-by-3.0", ["--continue"]), ("cc-by-4.0", [str(out.parent / "videos")])):
        code, said = run(out, *options, "--licence", licence)
        assert code == 0
        assert "weights" not in said, "nothing was processed"
        (file,) = sorted(out.glob("data/individual/*.parquet"))[:1]
        rows = pq.read_table(file, columns=["provenance"])["provenance"].to_pylist()
        assert {row["licence"] for row in rows} == {licence}
        assert run(out, "--continue")[0] == 0
        assert f"license: {licence}" in (out / "README.md").read_text(), "until another one is named"


def test_previews_that_are_not_wanted_cost_nothing(out: Path) -> None:
    videos = str(out.parent / "videos")
    assert "weights" not in run(out, videos, "--no-previews")[1]
    assert "weights" not in run(out, videos)[1], "they are still there"


def test_a_dataset_is_known_by_any_name(out: Path) -> None:
    assert run(out, "--continue")[0] == 0
    odd = out.rename(os.fsdecode(os.fsencode(out) + b"\xff"))
    ledger = Ledger(odd.with_name("dance.build") / "ledger.sqlite")
    assert ledger.noted_dataset() != _dataset_identity(odd)
    ledger.note_dataset(_dataset_identity(odd))
    assert ledger.noted_dataset() == _dataset_identity(odd)
    ledger.close()


@pytest.mark.parametrize("known", [True, False])
def test_rows_of_a_video_that_fails_now_were_not_withdrawn(
    out: Path, known: bool, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(out, "--continue")[0] == 0
    caplog.set_level("INFO")
    ledger = Ledger(out.with_name("dance.build") / "ledger.sqlite")
    ledger.withhold(dict.fromkeys(sequences(out), (True, "rejected by people")))
    if known:  # a video with rows in the dataset
        change(out, "UPDATE items SET status = 'failed' WHERE name = 'dance_01.mp4'")
    else:
        ledger.add("/bad.mp4", "bad.mp4", "f" * 64, work_fingerprint(PIPELINE))
        ledger.finish("/bad.mp4", "failed", "took longer than 1 s, 2 times", 2.0)
    _withdraw(ledger, out)
    ledger.close()
    assert out.exists() == known
    assert ("is not removed" if known else "removing the dataset") in caplog.text


def test_a_damaged_sequence_is_named_and_nothing_published(out: Path) -> None:
    build, (first, damaged, *_) = out.with_name("dance.build"), sequences(out)
    inspect(out, {first: "camera"}, {})
    file = build / "sequences" / f"{damaged}.npz"
    content = file.read_bytes()  # a block inside, which only reading it all finds
    file.write_bytes(content[:100] + bytes(100) + content[200:])
    code, said = run(out, "--continue")
    assert code == 2, said
    assert f"error: {file}: not a sequence file" in said
    assert "restore a copy" in said
    assert not out.exists()


def fake_fingerprint(build: Path, name: str, content: bytes) -> Path:
    file = build / "fingerprints" / f"{name}.npz"
    file.parent.mkdir()
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("lost", ["gone", "empty", "zeros", "cut", "fingerprint"])
def test_a_sequence_whose_file_is_gone_or_damaged_is_made_again(
    out: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """As when the disk of a build vanished, or the power went, while the file was written."""
    build, first = out.with_name("dance.build"), sequences(out)[0]
    file = build / "sequences" / f"{first}.npz"
    content = file.read_bytes()
    if lost == "gone":
        file.unlink()
    elif lost == "fingerprint":
        file = fake_fingerprint(build, first, b"")
    else:
        file.write_bytes({"empty": b"", "zeros": bytes(len(content)), "cut": content[:-100]}[lost])
    seen: list[tuple[str, str]] = []
    monkeypatch.setattr(
        build_module,
        "_process",
        lambda ledger, *rest: seen.extend((item.name, item.status) for item in ledger.items()),
    )
    code, said = run(out, "--continue")
    assert code == 0, said
    assert "Files of sequences are gone or damaged: 1 video(s) are processed again" in said
    assert not file.exists()
    assert [status for _, status in seen] == ["pending", "published", "published"]
    assert len(sequences(out)) == 2


@pytest.mark.parametrize("lost", ["sequences", "fingerprints"])
def test_what_is_left_of_a_video_that_is_not_there_stays(
    out: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    monkeypatch.setattr(build_module, "_process", lambda *_: None)
    build, before = out.with_name("dance.build"), sequences(out)
    video = out.with_name("videos") / "dance_00.mp4"
    video.rename(out.with_name("away.mp4"))
    if lost == "sequences":
        file = build / "sequences" / f"{before[0]}.npz"
        file.unlink()
    else:
        file = fake_fingerprint(build, before[0], b"")
    files = sorted(build.glob("*/*.npz"))
    code, said = run(out, "--continue")
    assert code == 2, said
    assert f"{file}: is gone or damaged, and its video {video} is not there" in said
    assert "put the video back" in said
    assert sorted(build.glob("*/*.npz")) == files
    ledger = Ledger(build / "ledger.sqlite")
    assert ledger.sequence_ids() == before
    ledger.close()
    code, said = run(out, str(video.parent))
    assert code == 0, said
    assert sequences(out) == before[2:], "the video that is not named any more is left out"
