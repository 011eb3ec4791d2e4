"""Whatever lies in the folder: every input gets one clear reason everywhere, and nothing crashes."""

from __future__ import annotations

import html
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from typer.testing import CliRunner

from opendance_hf.assets import AssetError, asset_files
from opendance_hf.cli import app
from opendance_hf.pipeline.build import BuildError, find_inputs, register_inputs
from opendance_hf.pipeline.ledger import Ledger
from opendance_hf.pipeline.pipelines import default_pipeline
from opendance_hf.pipeline.printable import printable
from tests.pipeline.media import write_clip

_NO_VIDEO = "not a readable video: damaged, cut off, or another kind of file"
REASONS = {
    "copy.mp4": "same content as bytes_\\xff\\xfe.mp4",
    "bytes_\\xff\\xfe.mp4": "nobody in the picture",
    "empty.mp4": "the file is empty (0 bytes)",
    "half.mp4": _NO_VIDEO,
    "link.mp4": "a link that leads out of the folder",
    "photo.gif": "a still image, not a video",
    "silent.mp4": "no audio track: a music-dance pair needs the music",
    "song.wav": "not a video: audio only",
    "text.mp4": _NO_VIDEO,
}


@pytest.fixture(scope="module")
def weights() -> None:
    try:
        for name in ("nanodet", "blazepose"):
            asset_files(name)
    except AssetError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    clip = write_clip(folder / "copy.mp4").read_bytes()
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/bytes_\xff\xfe.mp4")).write_bytes(clip)
    except OSError:
        pytest.skip("this file system takes only names of UTF-8")
    write_clip(folder / "silent.mp4", sound=False)
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("not a video at all\n" * 20)
    (folder / "half.mp4").write_bytes(clip[: len(clip) // 2])
    Image.new("RGB", (320, 240), "red").save(folder / "photo.gif")
    soundfile.write(folder / "song.wav", np.zeros(44_100), 44_100)
    secret = write_clip(tmp_path_factory.mktemp("elsewhere") / "secret.mp4")
    (folder / "link.mp4").symlink_to(secret)
    (folder / ".hidden.mp4").write_bytes(clip)
    return folder


@pytest.fixture(scope="module")
def built(
    weights: None, videos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The command's end, and where it was told to write."""
    out = tmp_path_factory.mktemp("build") / "opendance-3d"
    code = "from opendance_hf.cli import main; main()"
    command = [sys.executable, "-c", code, "build", str(videos), "--out", str(out), "--workers", "2"]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False), out


def _again(videos: Path, out: Path, *options: str) -> int:
    return CliRunner().invoke(app, ["build", str(videos), "--out", str(out), *options]).exit_code


def test_the_table_gives_every_input_its_reason(built: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, _ = built
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    table = done.stdout[done.stdout.index("Result of each input") :]
    unfolded = " ".join(table.split())
    for name, reason in REASONS.items():
        assert name in table
        # A reason may be folded over lines of its row, so look for its first words in the row and for all in the text.
        row = next(line for line in table.splitlines() if f" {name} " in line)
        assert "rejected" in row
        assert " ".join(reason.split()[:4]) in row
        assert reason in unfolded or reason.split()[-1] in unfolded
    assert "9 input(s): 0 published, 9 rejected, 0 failed" in done.stdout
    assert "No sequence was published, so no dataset was written." in done.stdout
    assert ".hidden" not in done.stdout
    assert "…" not in done.stdout
    assert "cpu capabilities" not in done.stderr


def test_the_ledger_and_the_page_say_the_same(built: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    _, out = built
    build = out.with_name("opendance-3d.build")
    ledger = Ledger(build / "ledger.sqlite")
    items = {item.name: item for item in ledger.items()}
    ledger.close()
    assert items.keys() == REASONS.keys()
    page = html.unescape((build / "index.html").read_text())
    for name, reason in REASONS.items():
        assert items[name].status == "rejected"
        assert items[name].reason.startswith(reason)
        assert items[name].reason in page
        assert name in page


def test_nothing_is_written_to_out(built: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    _, out = built
    assert not out.exists()
    assert sorted(path.name for path in out.parent.iterdir()) == ["opendance-3d.build"]
    assert not list(out.with_name("opendance-3d.build").glob("previews/*"))


@pytest.mark.parametrize(
    ("options", "code"),
    [((), 1), (("--allow-empty",), 0), (("--strict",), 1), (("--allow-empty", "--strict"), 1)],
    ids=str,
)
def test_exit_codes(
    built: tuple[subprocess.CompletedProcess[str], Path], videos: Path, options: tuple[str, ...], code: int
) -> None:
    _, out = built
    assert _again(videos, out, *options) == code


def test_a_missing_folder_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["build", str(tmp_path / "absent"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "absent: no such file or folder" in result.output


def test_an_out_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.tex").write_text("precious")
    result = CliRunner().invoke(app, ["build", str(tmp_path / "a.mp4"), "--out", str(out)])
    assert result.exit_code == 2
    assert "choose another output folder" in result.output
    assert [path.name for path in out.iterdir()] == ["chapter1.tex"]


def test_links(tmp_path: Path) -> None:
    inside, outside = tmp_path / "videos", tmp_path / "private"
    (inside / "more").mkdir(parents=True)
    outside.mkdir()
    for file in (inside / "more" / "a.mp4", outside / "b.mp4"):
        file.touch()
    (inside / "again.mp4").symlink_to(Path("more", "a.mp4"))
    (inside / "broken.mp4").symlink_to(inside / "gone.mp4")
    (inside / "folder").symlink_to(outside)
    (inside / "leak.mp4").symlink_to(outside / "b.mp4")
    (inside / "loop.mp4").symlink_to("loop.mp4")
    (inside / "same_folder").symlink_to("more")
    refused = {source.name: bool(source.refused) for source in find_inputs([inside])}
    assert refused == {
        "again.mp4": False,
        "broken.mp4": False,
        "folder": True,
        "leak.mp4": True,
        "loop.mp4": False,
        "more/a.mp4": False,
    }
    # Given by name, a link is what the user means; and the folder itself may be reached through one.
    assert [s.refused for s in find_inputs([inside / "leak.mp4"])] == [""]
    (tmp_path / "shortcut").symlink_to(inside)
    assert {s.name: bool(s.refused) for s in find_inputs([tmp_path / "shortcut"])} == refused
    with pytest.raises(BuildError, match="no videos in"):
        find_inputs([tmp_path / "private"], leave_out=[outside])


def test_the_builds_own_files_are_no_inputs(tmp_path: Path) -> None:
    for name in ("a.mp4", "out.build/previews/x.mp4", "out/README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_inputs([tmp_path], leave_out=(tmp_path / "out", tmp_path / "out.build"))
    assert [source.name for source in found] == ["a.mp4"]


def test_a_duplicate_takes_over_when_the_first_is_gone(tmp_path: Path) -> None:
    first, second = tmp_path / "v" / "1.mp4", tmp_path / "v" / "2.mp4"
    first.parent.mkdir()
    for file in (first, second):
        file.write_bytes(b"the same")
    ledger = Ledger(tmp_path / "ledger.sqlite")
    register_inputs(ledger, find_inputs([tmp_path / "v"]), default_pipeline())
    assert [(item.status, item.reason) for item in ledger.items()] == [
        ("pending", ""),
        ("rejected", "same content as 1.mp4"),
    ]
    first.unlink()
    register_inputs(ledger, find_inputs([tmp_path / "v"]), default_pipeline())
    assert [(item.name, item.status, item.reason) for item in ledger.items()] == [("2.mp4", "pending", "")]
    ledger.close()


def test_printable() -> None:
    assert printable("dance/тан\u200bец.mp4") == "dance/тан\u200bец.mp4"
    assert printable(os.fsdecode(b"a\xffb")) == "a\\xffb"
    assert printable("\x1b[31mred\n\u202e4pm") == r"\x1b[31mred\n\u202e4pm"
