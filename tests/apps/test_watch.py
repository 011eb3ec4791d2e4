"""A watched folder is built when videos come and stay as they are."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from opendance_hf.apps.build import watch


class Stopped(Exception):
    """Ends a watch, as Ctrl-C does."""


def test_new_videos_are_built_when_they_are_complete(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    builds: list[dict[str, int]] = []

    def run(leave_out: set[Path]) -> None:
        builds.append({path.name: path.stat().st_size for path in {*videos.iterdir()} - leave_out})
        if len(builds) == 4:
            raise Stopped

    def copy() -> None:
        time.sleep(0.3)
        (videos / "a.mp4").write_bytes(b"a")
        wait_for(builds, 1)
        with (videos / "b.mp4").open("wb") as slow:  # takes longer than the time between two looks
            for number in range(40):
                slow.write(b"b")
                slow.flush()
                time.sleep(0.05)
                if number == 10:  # another is not kept waiting
                    (videos / "c.mp4").write_bytes(b"c")
        wait_for(builds, 3)
        for path in videos.iterdir():  # an empty folder is no reason to build, nor to end
            path.unlink()
        time.sleep(0.5)
        (videos / "d.mp4").write_bytes(b"d")

    copying = threading.Thread(target=copy)
    copying.start()
    with pytest.raises(Stopped):
        watch([videos], videos / "out", videos / "out.build", 0.1, run)
    copying.join()
    assert builds == [
        {"a.mp4": 1},
        {"a.mp4": 1, "c.mp4": 1},
        {"a.mp4": 1, "b.mp4": 40, "c.mp4": 1},
        {"d.mp4": 1},
    ]


def wait_for(builds: list[dict[str, int]], count: int) -> None:
    end = time.monotonic() + 20
    while len(builds) < count:
        assert time.monotonic() < end
        time.sleep(0.01)
