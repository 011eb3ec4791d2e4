"""How inputs are entered, what a build starts its workers with, and what it clears away."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from opendance_hf.assets import sha256_of
from opendance_hf.cli import app
from opendance_hf.files import restore_replaced
from opendance_hf.pipeline import build as build_module
from opendance_hf.pipeline import inputs as inputs_module
from opendance_hf.pipeline import runners
from opendance_hf.pipeline.backends.base import Backend
from opendance_hf.pipeline.build import (
    BuildError,
    BuildOptions,
    _process,
    _remove_interrupted_output,
    _remove_stale_files,
    build_dataset,
    find_inputs,
    folder_lock,
)
from opendance_hf.pipeline.inputs import check_not_vanished, refresh_pending, register_inputs, selected
from opendance_hf.pipeline.ledger import Item, Ledger
from opendance_hf.pipeline.pipelines import Pipeline, default_pipeline
from opendance_hf.pipeline.stage import Stage, VanishedError
from opendance_hf.pipeline.stages.genre import Genre
from opendance_hf.schema import DanceSequence
from opendance_hf.storage import pack
from tests.factories import make_sequence
from tests.pipeline.builds import PIPELINE, make_build
from tests.pipeline.fakes import Quiet


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    (tmp_path / "b").mkdir()
    return Ledger(tmp_path / "b" / "ledger.sqlite")


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "v"
    folder.mkdir()
    for name in ("1.mp4", "2.mp4", "3.mp4"):
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose content was read."""
    names: list[str] = []

    def note(path: Path) -> str:
        names.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(inputs_module, "sha256_of", note)
    return names


def enter(ledger: Ledger, videos: Path) -> dict[str, tuple[str, str]]:
    register_inputs(ledger, find_inputs([videos]), default_pipeline())
    return {item.name: (item.status, item.reason) for item in ledger.items()}


def test_a_resumed_build_reads_only_the_files_that_were_touched(
    ledger: Ledger, videos: Path, hashed: list[str]
) -> None:
    enter(ledger, videos)
    assert hashed == ["1.mp4", "2.mp4", "3.mp4"]
    hashed.clear()
    enter(ledger, videos)
    assert hashed == []
    (videos / "1.mp4").write_bytes(b"longer than it was")
    stat = (videos / "2.mp4").stat()
    os.utime(videos / "2.mp4", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    # Another file of the same size and time in its place.
    stat = (videos / "3.mp4").stat()
    (videos / "new").write_bytes(b"x.mp4")
    os.utime(videos / "new", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (videos / "new").rename(videos / "3.mp4")
    enter(ledger, videos)
    assert hashed == ["1.mp4", "2.mp4", "3.mp4"]


def test_copies_are_refused_and_empty_files_are_not_copies(ledger: Ledger, videos: Path) -> None:
    (videos / "4.mp4").write_bytes(b"2.mp4")
    for name in ("5.mp4", "6.mp4"):
        (videos / name).touch()
    found = enter(ledger, videos)
    assert found["4.mp4"] == ("rejected", "same content as 2.mp4")
    assert {name for name, (status, _) in found.items() if status == "pending"} == {
        "1.mp4", "2.mp4", "3.mp4", "5.mp4", "6.mp4",
    }  # fmt: skip
    assert enter(ledger, videos) == found


def test_a_refused_file_is_not_read(ledger: Ledger, videos: Path, hashed: list[str]) -> None:
    sources = [replace(source, refused="dull") for source in find_inputs([videos])]
    register_inputs(ledger, sources, default_pipeline())
    assert hashed == []
    assert {(item.status, item.reason) for item in ledger.items()} == {("rejected", "dull")}
    enter(ledger, videos)
    assert {item.status for item in ledger.items()} == {"pending"}, "the next build may decide otherwise"


def test_a_selected_file_that_is_refused_anyway_stays_refused(videos: Path) -> None:
    first, *rest = find_inputs([videos])
    sources = [replace(first, refused="a link that leads out"), *rest]
    chosen = selected(sources, {"1.mp4": "", "2.mp4": "", "3.mp4": "dull"})
    assert [source.refused for source in chosen] == ["a link that leads out", "", "dull"]
    assert selected(sources, None) == sources


def test_hidden_files_and_those_of_file_managers_are_no_inputs(
    videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (videos / ".trash").mkdir()
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", ".trash/4.mp4", "4.part"):
        (videos / name).touch()
    names = [source.name for source in find_inputs([videos])]
    assert names == ["1.mp4", "2.mp4", "3.mp4", "4.part"], "an unknown suffix is reported, not overlooked"
    assert [source.name for source in find_inputs([videos / "2.mp4", videos])] == names, "each once"
    monkeypatch.chdir(videos.parent)
    found = find_inputs([Path("v/2.mp4"), Path("v")])
    assert [source.path for source in found] == [videos / name for name in names], "wherever it is called"


def forbid(monkeypatch: pytest.MonkeyPatch, *forbidden: Path) -> None:
    """Let these folders be entered but not listed, also for root."""
    scandir = os.scandir

    def guarded(path: str | Path) -> Any:
        if Path(path) in forbidden:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)


def test_a_folder_that_cannot_be_listed_is_told(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse a folder whose videos would be left out, and their results forgotten."""
    for name in ("2024", "lost+found", ".trash"):
        (videos / name).mkdir()
    (videos / "2024" / "4.mp4").touch()
    forbid(monkeypatch, videos / "lost+found", videos / ".trash")
    assert [source.name for source in find_inputs([videos])][-1] == "3.mp4", (
        "a disk's own folders do not count"
    )
    forbid(monkeypatch, videos / "2024")
    with pytest.raises(BuildError, match=r"2024: this folder of videos cannot be listed \(Permission denied"):
        find_inputs([videos])
    forbid(monkeypatch, videos)
    with pytest.raises(BuildError, match=r"v: this folder of videos cannot be listed"):
        find_inputs([videos])


def test_links_to_folders_are_not_searched(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "5.mp4").touch()
    (videos / "2024").mkdir()
    (videos / "2024" / "4.mp4").touch()
    (videos / "inside").symlink_to("2024")
    (videos / "outside").symlink_to(tmp_path / "elsewhere")
    found = {source.name: source.refused[:22] for source in find_inputs([videos])}
    assert found == {
        "1.mp4": "", "2.mp4": "", "3.mp4": "", "2024/4.mp4": "", "outside": "a link that leads out ",
    }  # fmt: skip


def test_files_that_are_not_media_are_ignored_in_one_line(
    videos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "opendance_hf")
    find_inputs([videos])
    assert caplog.messages == []
    for name in ("notes.txt", "1.info.json", "1.en.SRT", "cover.jpg", "song.wav"):
        (videos / name).touch()
    assert [source.name for source in find_inputs([videos])] == ["1.mp4", "2.mp4", "3.mp4", "song.wav"]
    (line,) = caplog.messages
    assert line.startswith("Ignored 4 files that are not media: 1.en.SRT, 1.info.json, cover.jpg, ...")
    assert [source.name for source in find_inputs([videos / "notes.txt"])] == ["notes.txt"], "given by name"
    only = videos / "texts"
    only.mkdir()
    (only / "a.txt").touch()
    with pytest.raises(BuildError, match=r"no videos in .*texts.* 1 file that is not media: a\.txt"):
        find_inputs([only])


@pytest.mark.parametrize(
    ("out", "build"), [("v", "b"), (".", "b"), ("o", "v"), ("o", "."), ("v/../v", "b"), ("v/1.mp4", "b")]
)
def test_the_output_must_not_replace_the_videos(
    videos: Path, monkeypatch: pytest.MonkeyPatch, out: str, build: str
) -> None:
    monkeypatch.chdir(videos.parent)
    command = ["build", "v", "v/1.mp4", "--out", out, "--build-dir", build]
    done = CliRunner().invoke(app, command)
    text = " ".join(done.output.split())
    assert done.exit_code == 2
    assert ("--out" if build == "b" else "--build-dir") in text
    assert "choose another folder" in text
    assert sorted(path.name for path in videos.iterdir()) == ["1.mp4", "2.mp4", "3.mp4"]


@pytest.mark.parametrize("out", [".", "..", "v/.."])
def test_an_output_that_is_the_current_folder_is_one_line(
    videos: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    monkeypatch.chdir(videos.parent)
    done = CliRunner().invoke(app, ["build", "v", "--out", out])
    assert done.exit_code == 2
    assert f"--out {out} contains the input v" in " ".join(done.output.split())


def test_a_system_without_file_locks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(BuildError, match="WSL"), folder_lock(tmp_path):
        pass


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOLCK, "file locks are not supported there"),
        (errno.EOPNOTSUPP, "file locks are not supported there"),
        (errno.ENOSYS, "file locks are not supported there"),
        (errno.EAGAIN, "another build is using this folder"),
        (errno.EIO, "cannot be locked"),
    ],
)
def test_a_lock_that_fails_has_its_cause(
    number: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(BuildError, match=told), folder_lock(tmp_path):
        pass


def test_a_working_folder_is_new_or_that_of_a_build(videos: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "index.html").write_text("my page")
    run = CliRunner().invoke
    for build, told in (
        (mine, "is not the working folder of a build"),
        (tmp_path / "o" / "b", "lies in --out"),
    ):
        done = run(app, ["build", str(videos), "--out", str(tmp_path / "o"), "--build-dir", str(build)])
        assert done.exit_code == 2
        assert told in " ".join(done.output.split())
    assert (mine / "index.html").read_text() == "my page"
    assert not (tmp_path / "o").exists()


def test_a_ledger_that_cannot_be_created_leaves_nothing(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __init__(self, path: Path) -> None:
            path.write_bytes(b"partial")
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorname = "SQLITE_FULL"
            raise error

    monkeypatch.setattr(build_module, "Ledger", Full)
    done = CliRunner().invoke(app, ["build", str(videos), "--out", str(tmp_path / "o")])
    assert done.exit_code == 2
    told = " ".join(done.output.split())
    assert "no space left on this disk" in told
    assert "restore" not in told
    assert not (tmp_path / "o.build").exists()


@pytest.mark.parametrize("option", ["--licence", "--license"])
def test_a_licence_is_checked_before_anything_else(
    videos: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.chdir(videos.parent)
    done = CliRunner().invoke(app, ["build", "v", "--out", "o", option, "cc-by"])
    assert done.exit_code == 2
    assert "unknown licence 'cc-by': did you mean 'cc-by-4.0'?" in " ".join(done.output.split())
    assert [path.name for path in videos.parent.iterdir()] == ["v"], "nothing was written"


@dataclass(frozen=True)
class Brought(Backend):
    """A classifier that notes when its weights are fetched."""

    name = "brought"
    version = "1"
    needs_gpu: bool = False

    @property
    def uses_gpu(self) -> bool:  # type: ignore[override]
        return self.needs_gpu

    def fetch(self) -> None:
        FETCHED.append(self.name)


FETCHED: list[str] = []


@pytest.mark.parametrize(
    ("cores", "inputs", "gpus", "workers", "threads"),
    [
        (1, 3, 0, 1, 1),
        (2, 3, 0, 2, 1),
        (8, 3, 0, 3, 2),
        (8, 1, 0, 1, 8),
        (8, 3, 2, 2, 4),
        (1, 3, 4, 1, 1),
        (8, 1, 4, 1, 8),
    ],
)
def test_cores_are_shared_by_workers_and_threads(
    tmp_path: Path, ledger: Ledger, videos: Path, monkeypatch: pytest.MonkeyPatch,
    cores: int, inputs: int, gpus: int, workers: int, threads: int,
) -> None:  # fmt: skip
    """A worker a video, and a GPU a worker; cores that are left over become threads."""
    for name in ("1.mp4", "2.mp4", "3.mp4")[inputs:]:
        (videos / name).unlink()
    enter(ledger, videos)
    FETCHED.clear()
    given: dict[str, Any] = {}
    monkeypatch.setattr(runners, "run_local", lambda ledger, make, **values: given.update(values, make=make))
    monkeypatch.setattr(runners, "_count_gpus", lambda: gpus)
    pipeline = (Genre(Brought(needs_gpu=gpus > 0)),)
    options = BuildOptions(workers=cores, timeout_s=7.0)
    _process(ledger, pipeline, tmp_path / "b", options, Quiet())
    assert (given["workers"], given["make"].threads, given["gpus"]) == (workers, threads, gpus)
    assert (given["limits"].timeout_s, given["make"].pipeline) == (7.0, pipeline)
    assert given["make"].build == tmp_path / "b"
    assert FETCHED == ["brought"], "before any worker needs it"


def test_gpus_are_counted_only_for_backends_that_use_them(
    tmp_path: Path, ledger: Ledger, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(ledger, videos)
    given: dict[str, Any] = {}
    monkeypatch.setattr(runners, "run_local", lambda ledger, make, **values: given.update(values))
    monkeypatch.setattr(runners, "_count_gpus", lambda: 1)
    _process(ledger, (Genre(Brought()),), tmp_path / "b", BuildOptions(workers=3), Quiet())
    assert (given["workers"], given["gpus"]) == (3, 0)


def test_nothing_is_fetched_where_nothing_is_to_do(tmp_path: Path, ledger: Ledger) -> None:
    FETCHED.clear()
    _process(ledger, (Genre(Brought()),), tmp_path / "b", BuildOptions(), Quiet())
    assert FETCHED == []


def test_two_builds_do_not_use_one_folder(tmp_path: Path) -> None:
    make_build(tmp_path / "d.build", (1,))
    with folder_lock(tmp_path / "d.build"):
        second = folder_lock(tmp_path / "d.build")
        with pytest.raises(BuildError, match="another build is using this folder"):
            second.__enter__()
        done = CliRunner().invoke(app, ["build", "--out", str(tmp_path / "d"), "--continue"])
    assert done.exit_code == 2
    assert not (tmp_path / "d").exists()
    with folder_lock(tmp_path / "d.build"):
        pass


def test_files_of_sequences_that_are_gone_are_cleared_away(tmp_path: Path) -> None:
    kept, gone = [], []
    for folder, suffix in (
        ("sequences", "npz"),
        ("fingerprints", "npz"),
        ("previews", "mp4"),
        ("clips", "mp4"),
    ):
        (tmp_path / folder).mkdir()
        kept.append(tmp_path / folder / f"a_00.{suffix}")
        kept.append(tmp_path / folder / "note.txt")  # not a file of any stage
        gone.append(tmp_path / folder / f"a_01.{suffix}")
        gone.append(tmp_path / folder / f".a_00.{suffix}.12.partial")
        gone.append(tmp_path / folder / f".a_00.{suffix}.12.part")
    (tmp_path / "work" / "a").mkdir(parents=True)
    kept += [tmp_path / "work" / "a" / "fit-1.npz", tmp_path / "ledger.sqlite"]
    gone.append(tmp_path / "work" / "a" / ".fit-2.npz.12.partial")
    for file in (*kept, *gone):
        file.touch()
    _remove_stale_files(tmp_path, {"a_00"})
    assert [file for file in (*kept, *gone) if file.exists()] == kept


@pytest.mark.parametrize("disk", ["b", "a/disk"])
def test_results_of_a_disk_that_is_not_there_are_not_forgotten(
    tmp_path: Path, ledger: Ledger, disk: str
) -> None:
    """Of several folders, one is the mount point of a disk that was unmounted."""
    folders = [tmp_path / "a", tmp_path / "b"]
    for name in ("a/1.mp4", "b/2.mp4", "a/disk/3.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    register_inputs(ledger, find_inputs(folders), default_pipeline())
    for file in (tmp_path / disk).iterdir():
        file.unlink()
    with pytest.raises(BuildError, match=f"{disk}: this folder of videos is empty; .* mount it again"):
        check_not_vanished(ledger, folders, find_inputs(folders))
    # Left out on purpose: the folder is deleted, or not named.
    if disk == "b":
        check_not_vanished(ledger, folders[:1], find_inputs(folders[:1]))
    else:
        (tmp_path / disk).rmdir()
        check_not_vanished(ledger, folders, find_inputs(folders))


def publish_all(ledger: Ledger, folder: Path) -> list[Item]:
    """Register the videos of a folder, and give each of them a sequence."""
    register_inputs(ledger, find_inputs([folder]), default_pipeline())
    for item in list(ledger.unfinished()):
        ledger.start(item.path)
        ledger.finish(item.path, "published", "", 1.0, [{"id": f"{item.sha256[:16]}_00"}])
    return ledger.items()


def empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


@pytest.mark.parametrize("goes_at", ["", "1.mp4", "3.mp4"])
@pytest.mark.parametrize("together", [1, 1000])
def test_a_disk_that_goes_while_inputs_are_read_changes_nothing(
    ledger: Ledger, videos: Path, monkeypatch: pytest.MonkeyPatch, goes_at: str, together: int
) -> None:
    monkeypatch.setattr(inputs_module, "_TOGETHER", together)
    (videos / "0.mp4").symlink_to("3.mp4")
    before = publish_all(ledger, videos)
    sources = find_inputs([videos])
    for file in videos.iterdir():
        os.utime(file)  # all are read again

    def read(path: Path) -> str:
        if path.name == goes_at:
            empty(videos)
        return sha256_of(path)

    monkeypatch.setattr(inputs_module, "sha256_of", read)
    if not goes_at:
        empty(videos)
    with pytest.raises(VanishedError, match=r"v: this folder of videos is empty; .* mount it again"):
        register_inputs(ledger, sources, default_pipeline())
    read_again = [replace(item, stamp=old.stamp) for item, old in zip(ledger.items(), before, strict=True)]
    assert read_again == before
    assert len(ledger.sequence_ids()) == 3


@pytest.mark.parametrize("number", [errno.ENOTCONN, errno.ESTALE])
def test_a_disk_that_stops_answering_changes_nothing(
    ledger: Ledger, videos: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = publish_all(ledger, videos)
    sources = find_inputs([videos])
    monkeypatch.setattr(inputs_module, "_content", failing(number))
    with pytest.raises(VanishedError, match=r"v: the disk of this folder of videos does not answer"):
        register_inputs(ledger, sources, default_pipeline())
    assert ledger.items() == before


def failing(number: int, *names: str) -> Callable[..., tuple[str, str]]:
    """Reads no file of these names, or none at all."""
    content = inputs_module._content

    def read(ledger: Ledger, path: Path) -> tuple[str, str]:
        if not names or path.name in names:
            raise OSError(number, os.strerror(number), os.fspath(path))
        return content(ledger, path)

    return read


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_results_of_a_file_that_cannot_be_read_any_more_stay(
    ledger: Ledger,
    videos: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    (videos / "4.mp4").write_bytes(b"1.mp4")
    before = publish_all(ledger, videos)
    (videos / "5.mp4").write_bytes(b"5.mp4")
    monkeypatch.setattr(inputs_module, "_content", failing(number, "1.mp4", "5.mp4"))
    register_inputs(ledger, find_inputs([videos]), default_pipeline())
    *old, new = ledger.items()
    assert old == before, "the copy, too, is still one"
    assert (new.status, new.reason) == (
        "rejected",
        f"the file cannot be read ({os.strerror(number)}); check its permissions",
    )
    assert (
        "1 file(s) cannot be read, or were deleted meanwhile, and keep their earlier results: 1.mp4"
        in caplog.text
    )


def test_a_file_that_is_deleted_while_inputs_are_read_is_forgotten_by_the_next_build(
    ledger: Ledger, videos: Path
) -> None:
    before = publish_all(ledger, videos)
    (videos / "4.mp4").write_bytes(b"4.mp4")
    sources = find_inputs([videos])
    for name in ("1.mp4", "4.mp4"):
        (videos / name).unlink()
    register_inputs(ledger, sources, default_pipeline())
    *old, new = ledger.items()
    assert old == before
    assert new.status == "pending", "which the worker says of it: it is gone"
    assert list(enter(ledger, videos)) == ["2.mp4", "3.mp4"]
    assert len(ledger.sequence_ids()) == 2


def test_results_of_a_file_that_is_left_for_later_stay(ledger: Ledger, videos: Path) -> None:
    """As --watch does with a video that was touched, or is being copied."""
    before = publish_all(ledger, videos)
    (videos / "0.mp4").write_bytes(b"2.mp4")
    later = [videos / "2.mp4", videos / "new.mp4"]
    register_inputs(ledger, find_inputs([videos], later), default_pipeline(), later=later)
    copy, *old = ledger.items()
    assert old == before
    assert (copy.status, copy.reason) == ("rejected", "same content as 2.mp4")
    assert len(ledger.sequence_ids()) == 3
    # What was not finished is not processed behind the back of who writes it.
    ledger.reopen([os.fspath(videos / "3.mp4")])
    later = [videos / "3.mp4"]
    register_inputs(ledger, find_inputs([videos], later), default_pipeline(), later=later)
    assert [item.name for item in ledger.items()] == ["0.mp4", "1.mp4", "2.mp4"]


def test_a_build_publishes_what_is_left_for_later(tmp_path: Path) -> None:
    make_build(tmp_path / "d.build", (1, 1), sources=tmp_path / "v")
    options = BuildOptions(pipeline=PIPELINE, leave_out={tmp_path / "v" / "dance_00.mp4"})
    assert build_dataset([tmp_path / "v"], tmp_path / "d", tmp_path / "d.build", options).counts == {
        "published": 2
    }


@pytest.mark.parametrize("when", ["check_not_vanished", "_register", "_process"])
def test_a_build_whose_disk_goes_keeps_its_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """At whatever moment, even if all videos were rejected before anybody noticed."""
    videos, out, build = tmp_path / "v", tmp_path / "d", tmp_path / "d.build"
    make_build(build, (1, 1), sources=videos)
    build_dataset([], out, build, BuildOptions())
    files = sorted(path for path in tmp_path.rglob("*.npz"))
    step = getattr(build_module, when)

    def then_gone(ledger: Ledger, *values: Any) -> None:
        step(ledger, *values)
        empty(videos)
        for item in ledger.items() if when == "_process" else ():
            ledger.start(item.path)
            ledger.finish(item.path, "rejected", "not a video", 0.0)

    monkeypatch.setattr(build_module, when, then_gone)
    options = BuildOptions(pipeline=PIPELINE)
    if when == "_register":  # nothing is read any more: the videos are done
        assert build_dataset([videos], out, build, options).counts == {"published": 2}
    else:
        with pytest.raises((BuildError, VanishedError), match="v: this folder of videos is empty"):
            build_dataset([videos], out, build, options)
    assert sorted(path for path in tmp_path.rglob("*.npz")) == files
    assert (out / "statistics.json").is_file()


def test_a_build_puts_back_a_dataset_that_was_being_replaced(tmp_path: Path) -> None:
    make_build(tmp_path / "d.build", (1,))
    assert CliRunner().invoke(app, ["build", "--out", str(tmp_path / "d"), "--continue"]).exit_code == 0
    (tmp_path / "d").rename(tmp_path / f".d.{'0' * 32}.replaced")  # killed between two renames
    restore_replaced(tmp_path / "d")
    assert (tmp_path / "d" / "README.md").is_file()
    (tmp_path / ".d.x.replaced").mkdir()
    restore_replaced(tmp_path / "d")
    assert (tmp_path / "d" / "README.md").is_file(), "what is there stays"


@pytest.mark.parametrize("older", ["0", "1"])
def test_the_only_dataset_is_put_back_among_leftovers(tmp_path: Path, older: str) -> None:
    out, name = tmp_path / "d", f".d.{{}}{'0' * 31}.replaced"
    half = tmp_path / name.format(older)  # killed while it was removed
    half.mkdir()
    (half / "statistics.json").write_text("{}")
    newer = Path(shutil.copytree(half, tmp_path / "moved"))
    (newer / "README.md").write_text("ours")
    time.sleep(0.02)  # a tick of the clock of the file system
    newer.rename(tmp_path / name.format(1 - int(older)))  # killed between two renames
    _remove_interrupted_output(out)
    assert len(list(tmp_path.iterdir())) == 2, "nothing is removed while no dataset is there"
    restore_replaced(out)
    assert (out / "README.md").read_text() == "ours"
    _remove_interrupted_output(out)
    assert list(tmp_path.iterdir()) == [out]


def test_what_a_killed_pack_left_is_cleared_away_and_other_datasets_are_not(tmp_path: Path) -> None:
    gone = [".d.12.partial", ".d.12.replaced", ".d.x1_y.partial"]
    kept = ["d", ".d.v2.12.partial", ".other.12.partial", ".d.12.kept"]
    for name in (*gone, *kept):
        (tmp_path / name / "data").mkdir(parents=True)
    (tmp_path / "d" / "statistics.json").write_text("{}")
    _remove_interrupted_output(tmp_path / "d")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_what_another_process_packs_into_is_not_cleared_away(tmp_path: Path) -> None:
    """Two builds with one --out: the lock of a build covers its working folder only."""

    def sequences() -> Iterator[DanceSequence]:
        yield make_sequence(1)
        _remove_interrupted_output(tmp_path / "d")
        yield make_sequence(2)

    assert pack(sequences(), tmp_path / "d").num_sequences == 2
    script = (
        "import os, sys; from pathlib import Path; from opendance_hf.storage.pack import _staging\n"
        "with _staging(Path(sys.argv[1])) as staging: os._exit(3)"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "d"], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    _remove_interrupted_output(tmp_path / "d")
    assert [path.name for path in tmp_path.iterdir()] == ["d"], "a killed process uses nothing"


def test_a_stage_that_writes_beside_the_ledger_costs_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass(frozen=True)
    class Export(Stage):
        name = "export"
        files = ("{id}.bvh", "meshes/{id}_left.obj")

    monkeypatch.setattr(build_module, "STAGES", {"export": Export})
    (tmp_path / "meshes").mkdir()
    kept = ["ledger.sqlite", "lock", "pipeline.yaml", "a_00.bvh", "meshes/a_00_left.obj"]
    for name in (*kept, "a_01.bvh", "meshes/a_01_left.obj"):
        (tmp_path / name).touch()
    _remove_stale_files(tmp_path, {"a_00"})
    assert sorted(f.relative_to(tmp_path).as_posix() for f in tmp_path.rglob("*") if f.is_file()) == sorted(
        kept
    )


def test_a_file_that_could_not_be_read_is_hashed_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = tmp_path / "v"
    videos.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (videos / name).write_bytes(name.encode())
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with monkeypatch.context() as patch:
        patch.setattr(inputs_module, "sha256_of", _raise_permission_error)
        register_inputs(ledger, find_inputs([videos]), default_pipeline())
    assert {item.status for item in ledger.items()} == {"rejected"}
    register_inputs(ledger, find_inputs([videos]), default_pipeline())
    assert [item.status for item in ledger.items()] == ["pending", "pending"]
    assert len({item.sha256 for item in ledger.items()} - {"unread"}) == 2


def _raise_permission_error(path: Path) -> str:
    raise PermissionError(13, "Permission denied")


def test_a_pending_file_that_was_replaced_is_hashed_again(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"one")
    ledger = Ledger(tmp_path / "ledger.sqlite")
    register_inputs(ledger, find_inputs([video]), default_pipeline())
    before = ledger.items()[0].sha256
    video.write_bytes(b"another")
    refresh_pending(ledger, default_pipeline())
    assert ledger.items()[0].sha256 not in (before, "unread")


def test_a_build_clears_away_when_it_is_complete(tmp_path: Path) -> None:
    make_build(tmp_path / "d.build", (1,))
    stray, killed = tmp_path / "d.build" / "previews" / "gone_00.mp4", tmp_path / ".d.12.partial"
    stray.parent.mkdir()
    stray.touch()
    killed.mkdir()
    done = CliRunner().invoke(app, ["build", "--out", str(tmp_path / "d"), "--continue"])
    assert done.exit_code == 0, done.output
    assert not stray.exists()
    assert not killed.exists()
    assert len(list((tmp_path / "d.build" / "sequences").iterdir())) == 1
    assert (tmp_path / "d" / "figures" / "statistics.png").is_file()


def test_what_failed_or_was_cut_short_is_processed_when_the_build_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_build(tmp_path / "d.build", (1, 1, 1))
    kept = Ledger(tmp_path / "d.build" / "ledger.sqlite")
    failed, running, _ = (item.path for item in kept.items())
    kept.finish(failed, "failed", "took longer than 1 s, 2 times", 1.0)
    kept.start(running)
    kept.close()
    seen: list[str] = []
    monkeypatch.setattr(
        build_module, "_process", lambda ledger, *rest: seen.extend(item.status for item in ledger.items())
    )
    CliRunner().invoke(app, ["build", "--out", str(tmp_path / "d"), "--continue"])
    assert seen == ["pending", "pending", "published"]


def test_a_build_continues_with_the_pipeline_that_it_was_given_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_build(tmp_path / "d.build", (1,), sources=tmp_path / "v")
    used: list[bool] = []

    def process(ledger: Ledger, pipeline: Pipeline, *rest: object) -> None:
        used.append(next(stage.reject for stage in pipeline if stage.name == "gate"))  # type: ignore[attr-defined]

    monkeypatch.setattr(build_module, "_process", process)
    command = ["build", "--out", str(tmp_path / "d")]
    CliRunner().invoke(app, [*command, str(tmp_path / "v"), "--set", "gate.reject=false"])
    CliRunner().invoke(app, [*command, "--continue"])
    assert used == [False, False]
