"""Builds under faults of disks, clocks and ledgers: each must end in one clear error and go on with the same command.

    unshare --mount python -m benchmarks.faults VIDEOS [--clips 3] [--only NAME]

VIDEOS are files, which are cut into short clips. Every fault meets a build of its own. When the fault is over, the same command
must give the dataset of an undisturbed build, byte by byte. Disks are file systems in memory, mounted where nobody else sees them
(root, or ``unshare --user --map-root-user --mount``); clocks are those of ``faketime``. Writes ``benchmarks/faults.json``.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.__main__ import machine
from benchmarks.kills import PROFILE, cut, dataset_hash, runs_of

OUT = Path(__file__).with_name("faults.json")
#: The fault comes when this stage has ended for some clip.
STAGE = "track"
#: A clock is set forward and back by ten years.
DAYS = 3650
DISK = "size=600m"


class Build:
    """A folder with clips and the build of them, each on a disk of its own.

    Args:
        folder: empty; disks are mounted in it.
        clips: files that are copied.
    """

    def __init__(self, folder: Path, clips: list[Path]) -> None:
        self.videos, self.disk = folder / "videos", folder / "disk"
        self.source = folder / "source"
        self.out = self.disk / "opendance-3d"
        self.ledger = self.disk / "opendance-3d.build" / "ledger.sqlite"
        self.log = folder / "log"
        self.environment = dict(os.environ)
        self.prefix: list[str] = []
        for place in (self.videos, self.source, self.disk):
            place.mkdir(parents=True)
        for clip in clips:
            shutil.copy2(clip, self.source)
        self.mount_videos()
        subprocess.run(["mount", "-t", "tmpfs", "-o", DISK, "t", str(self.disk)], check=True)

    def mount_videos(self) -> None:
        subprocess.run(["mount", "--bind", str(self.source), str(self.videos)], check=True)

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        code = "from opendance_hf.cli import main; main()"
        again = "--continue" in options
        inputs = [] if again else [str(self.videos), "--profile", PROFILE]
        command = [*self.prefix, sys.executable, "-c", code, "build", *inputs, "--out", str(self.out)]
        command += ["--licence", "cc-by-4.0", "--workers", "2", *options]
        with self.log.open("wb") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, env=self.environment, start_new_session=True
            )

    def until(self, process: subprocess.Popen[bytes], stage: str = STAGE) -> None:
        """Wait until a stage has ended for some clip."""
        while process.poll() is None and not runs_of(self.ledger, stage):
            time.sleep(0.02)
        if process.poll() is not None:
            raise RuntimeError(f"the build ended before {stage}: {self.log.read_text()[-2000:]}")

    def half(self) -> None:
        """Leave a build that was killed in the middle."""
        process = self.start()
        self.until(process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(1)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def close(self) -> None:
        for place in (self.videos, self.disk):
            subprocess.run(["umount", "-l", str(place)], check=False, stderr=subprocess.DEVNULL)


def calm(build: Build) -> int | None:
    """Nothing happens."""
    return build.start().wait()


def disk_full(build: Build) -> int | None:
    """The disk of the build fills up while clips are processed."""
    process = build.start()
    build.until(process, "probe")
    ballast = build.disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        size = 2**22
        while process.poll() is None:  # what is freed meanwhile is taken as well
            try:
                file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size = 2**12
                time.sleep(0.01)
    code = process.wait()
    ballast.unlink()
    return code


def read_only(build: Build) -> int | None:
    """The disk of the build is read-only when a killed build goes on."""
    build.half()
    subprocess.run(["mount", "-o", "remount,ro", str(build.disk)], check=True)
    code = build.start().wait()
    subprocess.run(["mount", "-o", "remount,rw", str(build.disk)], check=True)
    return code


def videos_vanish(build: Build) -> int | None:
    """The disk of the videos vanishes while they are processed, and is there again later."""
    process = build.start()
    build.until(process, "probe")
    subprocess.run(["umount", "-l", str(build.videos)], check=True)
    code = process.wait()
    build.mount_videos()
    return code


def videos_are_gone(build: Build) -> int | None:
    """The disk of the videos is not there when a killed build goes on."""
    build.half()
    subprocess.run(["umount", "-l", str(build.videos)], check=True)
    code = build.start("--continue").wait()
    build.mount_videos()
    return code


def one_disk_of_two_is_gone(build: Build) -> int | None:
    """A disk below the folder of the videos is not there when a finished build is run again."""
    below = build.source / "below"
    below.mkdir()
    clip = next(path for path in sorted(build.source.iterdir()) if path.is_file())
    clip.rename(below / clip.name)
    if build.start().wait() != 0:
        raise RuntimeError(build.said()[-2000:])
    hidden = build.videos / "below"
    subprocess.run(["mount", "-t", "tmpfs", "t", str(hidden)], check=True)
    code = build.start().wait()
    subprocess.run(["umount", str(hidden)], check=True)
    return code


def disk_vanishes(build: Build) -> int | None:
    """The disk of the build itself vanishes, and is there again later."""
    process = build.start()
    build.until(process)
    hidden = build.disk.with_name("hidden")
    hidden.mkdir()
    subprocess.run(["mount", "--bind", str(build.disk), str(hidden)], check=True)
    subprocess.run(["umount", "-l", str(build.disk)], check=True)
    code = process.wait()
    subprocess.run(["mount", "--bind", str(hidden), str(build.disk)], check=True)
    subprocess.run(["umount", str(hidden)], check=True)
    return code


def ledger_locked(build: Build) -> int | None:
    """Another program holds a lock on the ledger for longer than a build waits."""
    build.half()
    with closing(sqlite3.connect(build.ledger, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        code = build.start().wait()
    return code


def ledger_damaged(build: Build) -> int | None:
    """The ledger is overwritten in the middle, and a copy put back later."""
    build.half()
    with closing(sqlite3.connect(build.ledger)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    copy = build.ledger.read_bytes()
    damaged = bytearray(copy)
    damaged[200:] = os.urandom(len(damaged) - 200)
    build.ledger.write_bytes(damaged)
    code = build.start().wait()
    for suffix in ("-wal", "-shm"):
        build.ledger.with_name(build.ledger.name + suffix).unlink(missing_ok=True)
    build.ledger.write_bytes(copy)
    return code


def clock_jumps(build: Build) -> int | None:
    """The clock is ten years ahead in a build that is killed, and ten years behind when it goes on."""
    if shutil.which("faketime") is None:
        return None
    build.environment |= {"DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    build.prefix = ["faketime", "-f", f"+{DAYS}d"]
    build.half()
    build.prefix = ["faketime", "-f", f"-{DAYS}d"]
    code = build.start().wait()
    build.prefix = []
    return code


def two_builds(build: Build) -> int | None:
    """A second build starts in the same folder."""
    first = build.start()
    build.until(first, "probe")
    log, build.log = build.log, build.log.with_name("second")
    code = build.start().wait()
    if first.wait() != 0:
        raise RuntimeError(log.read_text()[-2000:])
    return code


#: Every fault, and whether the build must end with an error.
FAULTS: dict[Callable[[Build], int | None], bool] = {
    disk_full: True,
    read_only: True,
    videos_vanish: True,
    videos_are_gone: True,
    one_disk_of_two_is_gone: True,
    disk_vanishes: True,
    ledger_locked: True,
    ledger_damaged: True,
    clock_jumps: False,
    two_builds: True,
}


def is_one_error(text: str) -> bool:
    """Return True if a command said one error, without a traceback."""
    return "Traceback" not in text and sum(line.startswith("error:") for line in text.splitlines()) == 1


def measure(videos: list[Path], clips: int, only: str | None = None) -> dict[str, Any]:
    """Run all faults and return what each gave."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        cut(videos, clips, folder / "clips")
        sources = sorted((folder / "clips").iterdir())
        wanted = ""
        for fault, fails in ({calm: False} | FAULTS).items():
            if only and fault.__name__ not in (only, "calm"):
                continue
            build = Build(folder / fault.__name__, sources)
            start = time.monotonic()
            try:
                code = fault(build)
                said = build.said()
                after = build.start().wait()
                found = dataset_hash(build.out) if build.out.is_dir() else "no dataset"
            finally:
                build.close()
            wanted = wanted or found
            results[fault.__name__] = {
                "what": (fault.__doc__ or "").strip(),
                "exit": code,
                "error": next(
                    (re.sub(r"\S*/", "", line) for line in said.splitlines() if line.startswith("error:")), ""
                ),
                "one_error": code is None or (is_one_error(said) if fails else code == 0),
                "then_exit": after,
                "same_dataset": found == wanted,
                "seconds": round(time.monotonic() - start, 1),
            }
            results[fault.__name__]["passed"] = (
                results[fault.__name__]["one_error"] and after == 0 and found == wanted
            )
            print(json.dumps({fault.__name__: results[fault.__name__]}, indent=1), flush=True)
            if not results[fault.__name__]["passed"]:
                print(said[-1500:], build.said()[-1500:], sep="\n---\n", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--only", help="one fault")
    options = parser.parse_args()
    results = measure(options.videos, options.clips, options.only)
    if not options.only:
        OUT.write_text(json.dumps({"machine": machine(), "faults": results}, indent=2) + "\n")
    if failed := [name for name, result in results.items() if not result["passed"]]:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
