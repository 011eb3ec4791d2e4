"""Videos of a server or of object storage are copied once, whatever interrupts it, and follow what is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from typer.testing import CliRunner

from opendance_hf.cli import app
from opendance_hf.pipeline.build import folder_lock
from opendance_hf.pipeline.inputs import BuildError
from opendance_hf.pipeline.remote import local_inputs, mirror


@pytest.fixture
def bucket() -> Iterator[fsspec.AbstractFileSystem]:
    fs = fsspec.filesystem("memory")
    fs.pipe(
        {"/bucket/a.mp4": b"first", "/bucket/more/b.webm": b"second" * 300_000, "/bucket/notes.txt": b"no"}
    )
    yield fs
    fs.rm("/bucket", recursive=True)


def copies(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith(".")
    }


def test_copies_follow_the_bucket(bucket: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    folder = mirror("memory://bucket", tmp_path / "copies")
    assert copies(folder) == {"a.mp4": b"first", "more/b.webm": b"second" * 300_000}
    kept = (folder / "more/b.webm").stat().st_mtime_ns
    bucket.pipe("/bucket/a.mp4", b"other")
    bucket.pipe("/bucket/c.mp4", b"third")
    mirror("memory://bucket", folder)
    assert copies(folder) == {"a.mp4": b"other", "more/b.webm": b"second" * 300_000, "c.mp4": b"third"}
    assert (folder / "more/b.webm").stat().st_mtime_ns == kept, "what did not change is not copied again"
    bucket.rm("/bucket/c.mp4")
    assert "c.mp4" not in copies(mirror("memory://bucket", folder))


def test_what_was_copied_is_kept_when_the_network_fails(
    bucket: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    memory_open = type(bucket).open

    def failing(self: object, path: str, *rest: object, **options: object) -> object:
        opened.append(path)
        if path.endswith(".webm"):
            raise ConnectionResetError("connection reset by peer")
        return memory_open(self, path, *rest, **options)

    monkeypatch.setattr(type(bucket), "open", failing)
    with pytest.raises(
        BuildError, match=r"^memory://bucket: more/b.webm cannot be copied: connection reset .* are kept$"
    ):
        mirror("memory://bucket", tmp_path / "copies")
    assert copies(tmp_path / "copies") == {"a.mp4": b"first"}
    assert len(opened) == 4, "a fault of the network is tried again"
    monkeypatch.setattr(type(bucket), "open", memory_open)
    # A kill while the index is written.
    with (tmp_path / "copies/.copied.jsonl").open("a") as index:
        index.write('["more/b.we')
    assert len(copies(mirror("memory://bucket", tmp_path / "copies"))) == 2


def test_a_copy_that_is_cut_off_is_no_copy(
    bucket: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_one = type(bucket).ls

    def longer(self: object, *rest: object, **options: object) -> object:
        return [{**info, "size": info["size"] + 1} for info in list_one(self, *rest, **options)]

    monkeypatch.setattr(type(bucket), "ls", longer)
    with pytest.raises(BuildError, match=r"a\.mp4 cannot be copied: 5 bytes came, 6 were announced"):
        mirror("memory://bucket", tmp_path / "copies")
    assert copies(tmp_path / "copies") == {}


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("memory://nowhere", "no such file or folder there"),
        ("nosuch://bucket/videos", "Protocol not known: nosuch"),
    ],
)
def test_one_clear_error(url: str, cause: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["build", url, "--out", str(tmp_path / "d")])
    assert done.exit_code == 2, done.output
    said = " ".join(done.output.split())
    assert f"error: {url}: " in said
    assert cause in said
    assert list(tmp_path.iterdir()) == []


def test_a_url_and_a_path_together(tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf/a.mp4").write_bytes(b"x" * 3_000_000)
    names = [f"file://{tmp_path}/shelf/a.mp4", "videos"]
    with local_inputs(names, tmp_path / "copies") as (copied, path):
        assert path == Path("videos")
        assert copied.parent == tmp_path / "copies"
        assert copies(copied) == {"a.mp4": b"x" * 3_000_000}
        with (
            pytest.raises(BuildError, match="another build is using this folder"),
            local_inputs(names, tmp_path / "copies"),
        ):
            pass
    with local_inputs(["videos"], tmp_path / "none") as paths:
        assert paths == [Path("videos")]
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_listed_deletes_no_copy(
    bucket: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = mirror("memory://bucket", tmp_path / "copies")
    list_one = type(bucket).ls

    def failing(self: object, path: str, *rest: object, **options: object) -> object:
        if path.endswith("more"):
            raise ConnectionResetError("503 slow down")
        return list_one(self, path, *rest, **options)

    monkeypatch.setattr(type(bucket), "ls", failing)
    with pytest.raises(BuildError, match="503 slow down"):
        mirror("memory://bucket", folder)
    assert len(copies(folder)) == 2


def test_links_are_followed_or_named(tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (tmp_path / "real.mp4").write_bytes(b"real")
    (shelf / "a.mp4").symlink_to(tmp_path / "real.mp4")
    folder = mirror(f"file://{shelf}", tmp_path / "copies")
    assert copies(folder) == {"a.mp4": b"real"}
    (tmp_path / "real.mp4").unlink()
    with pytest.raises(BuildError, match=r"a\.mp4 is a link, and not to a file"):
        mirror(f"file://{shelf}", folder)
    assert copies(folder) == {"a.mp4": b"real"}


def test_a_folder_that_is_empty_all_at_once_deletes_no_copy(tmp_path: Path) -> None:
    disk = tmp_path / "shelf/disk"
    disk.mkdir(parents=True)
    (tmp_path / "shelf/a.mp4").write_bytes(b"a")
    (disk / "b.mp4").write_bytes(b"b")
    folder = mirror(f"file://{tmp_path}/shelf", tmp_path / "copies")
    (disk / "b.mp4").unlink()
    with pytest.raises(BuildError, match="disk is empty, and videos came from there"):
        mirror(f"file://{tmp_path}/shelf", folder)
    assert set(copies(folder)) == {"a.mp4", "disk/b.mp4"}
    disk.rmdir()
    assert set(copies(mirror(f"file://{tmp_path}/shelf", folder))) == {"a.mp4"}


@pytest.mark.parametrize("line", [b"\xff\xfe\n", b"123\n", b"[]\n", b""])
def test_a_loss_of_power_is_made_good(bucket: fsspec.AbstractFileSystem, tmp_path: Path, line: bytes) -> None:
    folder = mirror("memory://bucket", tmp_path / "copies")
    (folder / "a.mp4").write_bytes(b"")
    with (folder / ".copied.jsonl").open("ab") as index:
        index.write(line)
    assert copies(mirror("memory://bucket", folder))["a.mp4"] == b"first"


def test_a_refused_build_leaves_the_lock_to_its_owner(tmp_path: Path) -> None:
    store = tmp_path / "copies"
    store.mkdir()
    with folder_lock(store, "--out"):
        for _ in range(2):  # the first one must not remove the lock
            with (
                pytest.raises(BuildError, match="another build is using this folder"),
                local_inputs([f"file://{tmp_path}"], store),
            ):
                pass


def test_what_killed_copies_left_is_no_video(bucket: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    folder = mirror("memory://bucket", tmp_path / "copies")
    (folder / "orphan.mp4").write_bytes(b"its line was not written, and it left the bucket")
    (folder / f".a.mp4.{'0' * 32}.partial").write_bytes(b"cut off")
    bucket.rm("/bucket/more", recursive=True)
    bucket.pipe("/bucket/more", b"a file of the name of a folder")
    assert set(copies(mirror("memory://bucket", folder))) == {"a.mp4", "more"}
    assert not list(folder.glob(".*.partial"))


def test_a_storage_that_dates_nothing_is_refused(
    bucket: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_one = type(bucket).ls

    def bare(self: object, *rest: object, **options: object) -> object:
        return [
            {key: info[key] for key in ("name", "size", "type")} for info in list_one(self, *rest, **options)
        ]

    monkeypatch.setattr(type(bucket), "ls", bare)
    with pytest.raises(BuildError, match="changes would not be seen"):
        mirror("memory://bucket", tmp_path / "copies")
