"""Errors of full and read-only disks, as the libraries that write raise them, and as commands tell them."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from opendance_hf import disk
from opendance_hf.cli import app
from opendance_hf.disk import DiskError, check_room, describe_disk_error, disk_fault
from opendance_hf.errors import OpenDanceError
from opendance_hf.files import atomic_write
from opendance_hf.render.video import VideoWriter
from tests.training.media import write_song

NUMBERS = np.random.default_rng(0).standard_normal(500_000)


@contextmanager
def small_files(limit: int = 4096) -> Iterator[None]:
    """No file of this process may become larger: writing fails midway, as on a full disk (EFBIG)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_npz(path: Path) -> None:
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez(file, a=NUMBERS)


def write_parquet(path: Path) -> None:
    with atomic_write(path) as partial:
        pq.write_table(pa.table({"a": NUMBERS}), partial)


def write_safetensors(path: Path) -> None:
    with atomic_write(path) as partial:
        save_file({"a": torch.from_numpy(NUMBERS)}, partial)


def write_video(path: Path) -> None:
    with VideoWriter(path) as video:
        for seed in range(20):
            noise = np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8)
            video.write(noise)


@pytest.mark.parametrize("write", [write_npz, write_parquet, write_safetensors, write_video])
def test_what_every_writer_says_of_a_file_that_may_not_grow(write: object, tmp_path: Path) -> None:
    path = tmp_path / "new" / "result"
    path.parent.mkdir()
    with small_files(), pytest.raises(Exception) as found:  # noqa: PT011 of every library another
        write(path)  # type: ignore[operator]
    told = describe_disk_error(found.value, [path])
    assert told is not None, repr(found.value)
    assert told.startswith(f"{path}: the file would be larger")
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), errno.ENOSPC),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), errno.EDQUOT),
        (OSError(errno.EMFILE, "Too many open files"), errno.EMFILE),
        (av.error.OSError(errno.ENOSPC, "No space left on device", "x.mp4"), errno.ENOSPC),
        (RuntimeError("I/O error: No space left on device (os error 28)"), errno.ENOSPC),
        (OSError("Not enough disk space. Needed: Unknown size"), errno.ENOSPC),
        (NotImplementedError("FileSystem does not appear to support flock; use SoftFileLock"), errno.ENOLCK),
        (RuntimeError("the file 'no space left (os error 28)' is damaged"), None),
        (RuntimeError("no space left on device"), None),  # there is
        (OpenDanceError("no space left.mp3: cannot be decoded"), None),
        (requests.HTTPError("507: no space left, quota exceeded"), None),
        (av.error.InvalidDataError(1094995529, "Invalid data found", "no space left.mp3"), None),
        (ValueError("nothing of the kind"), None),
        (PermissionError(errno.EACCES, "Permission denied", "x"), None),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), None),
    ],
)
def test_errors_that_say_that_a_disk_is_full(error: Exception, number: int | None) -> None:
    try:
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("wrapped by a library") from cause
    except RuntimeError as wrapped:
        found = disk_fault(wrapped)
    assert (found and found[0]) == number


def test_words_count_if_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("writing failed: no space left on device")
    assert describe_disk_error(error, [tmp_path]) is None
    monkeypatch.setattr(disk, "free_bytes", lambda path: 1000 if path == tmp_path else 10**9)
    assert str(describe_disk_error(error, [tmp_path])).startswith(f"{tmp_path}: no space left")


def test_the_name_of_a_song_is_no_error_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("no space left.mp3").write_text("garbage")
    done = CliRunner().invoke(app, ["music", "no space left.mp3", "--out", "q.npz"])
    assert done.exit_code == 2
    assert "are free" not in done.output
    assert "cannot be decoded as audio" in done.output


def test_sqlite_on_a_full_disk(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "l.sqlite")
    database.execute("CREATE TABLE t (a BLOB)")
    database.execute("PRAGMA max_page_count = 3")
    with pytest.raises(sqlite3.Error) as found:
        database.execute("INSERT INTO t VALUES (zeroblob(100000))")
    told = describe_disk_error(found.value, [tmp_path])
    assert told is not None
    assert "no space left" in told


def test_permissions_are_told_of_the_error_itself_only() -> None:
    error = PermissionError(errno.EACCES, "Permission denied", "/x/a.npz")
    assert str(describe_disk_error(error)).startswith("/x/a.npz: permission denied")
    assert describe_disk_error(OpenDanceError("its own message")) is None


def test_too_little_room_is_an_error_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_room(tmp_path / "a" / "b.npz")
    monkeypatch.setattr(disk, "free_bytes", lambda path: 3_000_000)
    with pytest.raises(
        DiskError,
        match=r"b\.npz: no space left.*3\.0 of about 10\.0 MB.*free about 7\.0 MB or choose another --out",
    ):
        check_room(tmp_path / "a" / "b.npz", 10_000_000)
    check_room(tmp_path / "a" / "b.npz", 2_000_000)
    assert list(tmp_path.iterdir()) == []


def test_a_command_tells_it_without_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    song = write_song(tmp_path / "song.wav", 2.0)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    done = CliRunner().invoke(app, ["music", str(song), "--out", str(tmp_path / "new" / "m.npz")])
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    told = " ".join(done.output.split())
    assert (
        f"{tmp_path}/new/m.npz: no space left on this disk; free some space or choose another place" in told
    )
    assert [path.name for path in tmp_path.iterdir()] == ["song.wav"]


@pytest.mark.parametrize("number", [errno.ENOTCONN, errno.ESTALE])
def test_a_disk_that_does_not_answer_is_told_without_a_traceback(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as the mount point of a program of FUSE that has died."""
    videos, stat = tmp_path / "videos", os.stat

    def dead(path: object, *args: object, **options: object) -> os.stat_result:
        if path == videos:
            raise OSError(number, os.strerror(number), os.fspath(videos))
        return stat(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", dead)
    done = CliRunner().invoke(app, ["build", str(videos), "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    told = " ".join(done.output.split())
    assert f"{videos}: the disk or network folder does not answer ({os.strerror(number)}); mount it" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare for mounts of its own")
@pytest.mark.parametrize(("options", "told"), [("size=64k", "no space left"), ("size=9m,ro", "read-only")])
def test_a_real_disk(options: str, told: str, tmp_path: Path) -> None:
    song, place = write_song(tmp_path / "song.wav", 2.0), tmp_path / "disk"
    place.mkdir()
    script = (
        f"mount -t tmpfs -o {options} t '{place}' || exit 77\n"
        f"'{sys.executable}' -c 'from opendance_hf.cli import main; main()' music '{song}' --out '{place}/m.npz'; code=$?\n"
        f"find '{place}' -mindepth 1; exit $code"
    )
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    done = subprocess.run(["unshare", *user, "--mount", "sh", "-c", script], capture_output=True, text=True)
    if done.returncode == 77 or done.stderr.startswith("unshare:"):
        pytest.skip("this machine allows no mounts")
    assert done.returncode == 2, done.stderr
    assert f"{place}/m.npz" in done.stderr
    assert told in done.stderr
    assert done.stdout == "", "nothing is left"
