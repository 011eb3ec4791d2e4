"""What a worker does with an input: reads it if it is a file, and gives its stages what they need."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from opendance_hf.assets import sha256_of
from opendance_hf.pipeline.clip import Clip, Job
from opendance_hf.pipeline.config import pipeline_fingerprint
from opendance_hf.pipeline.ledger import UNREAD, Item
from opendance_hf.pipeline.process import VideoProcessor, stamp_of
from opendance_hf.pipeline.stage import Dropped, Rejected, Stage, VanishedError
from tests.factories import make_sequence

SEEN: list[Clip] = []


@dataclass(frozen=True)
class Note(Stage):
    name = "note"
    writes = ("sequence",)
    keeps_result = False

    def __call__(self, clip: Clip) -> Clip | Dropped:
        SEEN.append(clip)
        content = clip.path.read_bytes()
        if content == b"vanish":
            clip.path.unlink()
        if content == b"append":
            clip.path.write_bytes(b"append, still being copied")
        if content in (b"dull", b"vanish"):
            return Dropped(0.0, 9.0, "dull", "2, at least 3 needed")
        return replace(clip, sequence=make_sequence(0, id=clip.id))


def process(build: Path, file: Path, threads: int = 3, sha256: str = "b" * 64) -> list[str]:
    item = Item(os.fspath(file), file.name, sha256, "pending", "", 0, 0.0)
    outcome = VideoProcessor((Note(),), build, threads)(item, lambda *values: None, lambda *values: None)
    return [row["id"] for row in outcome.sequences]


def test_a_file_is_processed_in_the_build_with_its_threads(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"dance")
    SEEN.clear()
    assert process(tmp_path, tmp_path / "a.mp4") == [f"{'b' * 16}_00"]
    process(tmp_path, tmp_path / "a.mp4", threads=64)
    clip, crowded = SEEN
    assert (clip.path, clip.sha256, clip.key) == (tmp_path / "a.mp4", "b" * 64, "b" * 64)
    assert (clip.start_s, clip.end_s) == (0.0, float("inf"))
    assert clip.job == Job(tmp_path, pipeline_fingerprint((Note(),)), 3, clip.job.report)
    assert crowded.job.threads == 8, "more would hold many frames and gain nothing"


def test_an_input_that_gives_nothing_is_rejected_with_reason_and_number(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"dull")
    with pytest.raises(Rejected, match=r"^dull \(2, at least 3 needed\)$"):
        process(tmp_path, tmp_path / "a.mp4")


def test_what_is_not_a_file_is_rejected_unread(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").symlink_to(tmp_path / "gone.mp4")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    for name, reason in (
        ("broken.mp4", "a broken link"),
        ("loop.mp4", "a broken link"),
        ("folder.mp4", "not a regular file"),
        ("pipe.mp4", "not a regular file"),
    ):
        with pytest.raises(Rejected, match=reason):
            process(tmp_path, tmp_path / name, sha256=UNREAD)


def test_a_file_that_is_gone_is_not_rejected(tmp_path: Path) -> None:
    """A rejection is for good, and the file may be back tomorrow."""
    (tmp_path / "other.mp4").write_bytes(b"dance")
    with pytest.raises(FileNotFoundError, match="the file is gone since the build began; put it back"):
        process(tmp_path, tmp_path / "gone.mp4")
    (tmp_path / "vanishing.mp4").write_bytes(b"vanish")
    with pytest.raises(FileNotFoundError, match="the file is gone"):
        process(tmp_path, tmp_path / "vanishing.mp4")


@pytest.mark.parametrize("below", ["a.mp4", "2024/a.mp4"])
def test_an_empty_mount_point_is_the_fault_of_no_video(tmp_path: Path, below: str) -> None:
    (tmp_path / "disk").mkdir()
    with pytest.raises(VanishedError, match=r"disk: this folder of videos is empty; .* mount it again"):
        process(tmp_path, tmp_path / "disk" / below)


def test_a_file_that_was_not_read_and_is_gone_is_not_a_broken_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    with pytest.raises(VanishedError, match=r"disk: this folder of videos is empty"):
        process(tmp_path, tmp_path / "disk" / "a.mp4", sha256=UNREAD)
    (tmp_path / "a.mp4").symlink_to(tmp_path / "disk" / "a.mp4")
    with pytest.raises(VanishedError, match=r"disk: this folder of videos is empty"):
        process(tmp_path, tmp_path / "a.mp4", sha256=UNREAD)


def test_a_disk_that_does_not_answer_is_the_fault_of_no_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(path: Path, **_: object) -> os.stat_result:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), os.fspath(path))

    processor = VideoProcessor((Note(),), tmp_path, 1)
    item = Item("/videos/a.mp4", "a.mp4", "b" * 64, "pending", "", 0, 0.0)
    monkeypatch.setattr(Path, "stat", dead)
    with pytest.raises(VanishedError, match=r"/videos: the disk of this folder of videos does not answer"):
        processor(item, lambda *values: None, lambda *values: None)


@dataclass(frozen=True)
class Scan(Stage):
    """A stage whose result is kept; renames files as a user may meanwhile."""

    name = "scan"
    writes = ("scores",)
    swaps: bool = False

    def __call__(self, clip: Clip) -> Clip:
        if self.swaps:
            swap(clip.path.parent)
        return replace(clip, scores={"content": float(clip.path.read_bytes())})


def swap(folder: Path) -> None:
    (folder / "1.mp4").rename(folder / "3.mp4")
    (folder / "2.mp4").rename(folder / "1.mp4")
    (folder / "3.mp4").rename(folder / "2.mp4")


@pytest.mark.parametrize("during", [False, True])
def test_no_result_is_kept_for_the_content_of_another_file(tmp_path: Path, during: bool) -> None:
    """Files of equal size and time that are renamed between their hash and their turn, or while a stage runs."""
    items, build = {}, tmp_path / "build"
    for name in ("1.mp4", "2.mp4"):
        file = tmp_path / name
        file.write_bytes(name[:1].encode())
        os.utime(file, (0, 0))
        items[name] = Item(os.fspath(file), name, sha256_of(file), "pending", "", 0, 0.0, stamp_of(file))
    build.mkdir()

    def run(name: str, *, swaps: bool = False) -> None:
        pipeline = (Scan(swaps), Note())
        SEEN.clear()
        VideoProcessor(pipeline, build, 1)(items[name], lambda *values: None, lambda *values: None)

    if not during:
        swap(tmp_path)
    with pytest.raises(
        OSError, match="the file has changed since the build began; run the same command again"
    ):
        run("1.mp4", swaps=during)
    assert SEEN == []
    assert list(build.rglob("*.npz")) == []
    swap(tmp_path)  # back: another stamp, the same content
    run("1.mp4")
    assert [clip.scores for clip in SEEN] == [{"content": 1.0}]


def test_a_file_that_changes_in_a_stage_that_keeps_nothing_is_not_published(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(b"append")
    item = Item(os.fspath(file), "a.mp4", sha256_of(file), "pending", "", 0, 0.0, stamp_of(file))
    processor = VideoProcessor((Note(),), tmp_path, 1)
    with pytest.raises(OSError, match="the file has changed"):
        processor(item, lambda *values: None, lambda *values: None)


def test_a_folder_that_was_deleted_with_its_video_costs_that_video_alone(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(FileNotFoundError, match="the file is gone since the build began"):
        process(tmp_path, tmp_path / "deleted" / "a.mp4")


def test_neither_the_command_nor_a_worker_waits_for_slow_imports() -> None:
    """Each of these takes up to three seconds, and most commands and stages do without them."""
    slow = ("torch", "transformers", "scipy", "datasets", "numba", "supervision", "onnxruntime")
    modules = "opendance_hf.apps.build, opendance_hf.pipeline.process"
    command = f"import sys, {modules}; print(*(name for name in {slow} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_tars_are_written_without_torch() -> None:
    modules = "opendance_hf.storage, opendance_hf.pipeline.group"
    command = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_build_folder_that_vanished_is_the_fault_of_no_video(tmp_path: Path) -> None:
    """An unmounted disk leaves an empty folder at the same path, where nothing must be published."""
    video, build, away = tmp_path / "a.mp4", tmp_path / "build", tmp_path / "away"
    video.write_bytes(b"dance")
    build.mkdir()
    item = Item(os.fspath(video), video.name, "b" * 64, "pending", "", 0, 0.0)
    processor = VideoProcessor((Note(),), build, 1)
    processor(item, lambda *values: None, lambda *values: None)
    build.rename(away)
    build.mkdir()
    with pytest.raises(VanishedError, match=r"build: this folder is gone, or another one; .* mount it again"):
        processor(item, lambda *values: None, lambda *values: None)
