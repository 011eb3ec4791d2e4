"""Videos of a server or of object storage are copied once, whatever interrupts it, and follow what is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from typer.testing import CliRunner

from opendance_hf.cli import app
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
    find = type(bucket).find

    def longer(self: object, *rest: object, **options: object) -> object:
        found = find(self, *rest, **options)
        return {path: {**info, "size": info["size"] + 1} for path, info in found.items()}

    monkeypatch.setattr(type(bucket), "find", longer)
    with pytest.raises(BuildError, match=r"a\.mp4 cannot be copied: 5 bytes came, 6 were announced"):
        mirror("memory://bucket", tmp_path / "copies")
    assert copies(tmp_path / "copies") == {}


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("memory://nowhere", "no videos there"),
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
    copied, path = local_inputs([f"file://{tmp_path}/shelf/a.mp4", "videos"], tmp_path / "copies")
    assert path == Path("videos")
    assert copied.parent == tmp_path / "copies"
    assert copies(copied) == {"a.mp4": b"x" * 3_000_000}
