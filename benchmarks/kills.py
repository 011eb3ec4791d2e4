"""Kill a build at random moments, a hundred times, and compare its dataset with that of an undisturbed build.

    python -m benchmarks.kills VIDEOS [--clips 20] [--kills 100] [--seed 1] [--runner local]

VIDEOS are files, which are cut into short clips that overlap. Every kill is a SIGKILL, of the build's process group (as when a
machine fails) or of its parent alone. It comes within a quarter of a second of the moment when a certain stage of some clip has
ended, each stage in turn, so that every boundary between stages is hit; where no clip comes to that stage any more, at
another moment. A build that ended in between starts again from nothing, which is counted. Writes ``benchmarks/kills.json`` and
one line for every kill to ``benchmarks/kills.log``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import av

from benchmarks.__main__ import machine
from opendance_hf.pipeline.ledger import Ledger
from opendance_hf.pipeline.pipelines import PROFILES

OUT = Path(__file__).with_name("kills.json")
LOG = OUT.with_suffix(".log")
CLIP_S = 4.5
PROFILE = "fast"
#: A stage that no clip reaches within this time is given up, seconds.
PATIENCE_S = 60.0
#: Between a stage's end and the kill at most, seconds.
LATE_S = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runner", default="local")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        campaign = Campaign(Path(name), options.runner, random.Random(options.seed))
        result = campaign.run(options.videos, options.clips, options.kills)
    OUT.write_text(json.dumps({"seed": options.seed, "machine": machine(), **result}, indent=2) + "\n")
    LOG.write_text("".join(line + "\n" for line in campaign.lines))
    print(json.dumps(result, indent=2))
    if not (result["same_dataset"] and result["same_states"]):
        sys.exit("the builds differ")


def cut(videos: list[Path], count: int, folder: Path) -> None:
    """Write clips of :data:`CLIP_S` seconds, taken from the videos in turn, at starts that spread over each."""
    folder.mkdir()
    for number in range(count):
        source = videos[number % len(videos)]
        with av.open(str(source)) as container:
            length = float(container.duration or 0) / av.time_base
        rounds = -(-count // len(videos))
        start = (length - CLIP_S) * (number // len(videos)) / max(1, rounds - 1)
        target = folder / f"clip{number:02d}.mp4"
        command = ["ffmpeg", "-v", "error", "-ss", f"{start:.3f}", "-i", str(source), "-t", str(CLIP_S)]
        subprocess.run([*command, "-c:v", "libx264", "-crf", "18", "-c:a", "aac", str(target)], check=True)


def dataset_hash(folder: Path) -> str:
    """Return the SHA-256 over the names and contents of a dataset's files."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(path.relative_to(folder).as_posix().encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


class Campaign:
    """Builds of the same clips, with and without kills.

    Args:
        folder: for everything.
        runner: ``local`` or ``ray``.
        moments: source of all random choices.
    """

    def __init__(self, folder: Path, runner: str, moments: random.Random) -> None:
        self.folder, self.runner, self.moments = folder, runner, moments
        self.lines: list[str] = []
        self.stages = [stage.name for stage in PROFILES[PROFILE]()]

    def run(self, videos: list[Path], clips: int, kills: int) -> dict[str, Any]:
        """Run the campaign and return what was found."""
        cut(videos, clips, self.folder / "clips")
        calm, stormy = self.folder / "calm" / "opendance-3d", self.folder / "stormy" / "opendance-3d"
        start = time.perf_counter()
        self.finish(calm)
        calm_s = time.perf_counter() - start
        hit: Counter[str] = Counter()
        fresh_starts, start = 0, time.perf_counter()
        for number in range(kills):
            wanted = self.stages[number % len(self.stages)]
            while (found := self.strike(stormy, wanted)) is None:
                fresh_starts += 1  # the build had ended before the kill
                shutil.rmtree(stormy.parent)
            hit[found] += 1
            self.say(f"kill {number + 1}: {found}" + ("" if found == wanted else f" (not {wanted})"))
        self.finish(stormy)
        states = self.states(stormy)
        return {
            "what": f"{clips} clips of {CLIP_S:g} s, profile {PROFILE}, runner {self.runner}",
            "kills": kills,
            "fresh_starts": fresh_starts,
            "calm_s": round(calm_s, 1),
            "stormy_s": round(time.perf_counter() - start, 1),
            "boundaries_hit": {stage: hit[stage] for stage in self.stages},
            "other_moments": hit.total() - sum(hit[stage] for stage in self.stages),
            "states": states,
            "same_states": states == self.states(calm),
            "same_dataset": dataset_hash(calm) == dataset_hash(stormy),
            "dataset": dataset_hash(calm),
        }

    def start(self, out: Path) -> subprocess.Popen[bytes]:
        """Start a build."""
        code = "from opendance_hf.cli import main; main()"
        command = [sys.executable, "-c", code, "build", str(self.folder / "clips"), "--out", str(out)]
        command += ["--profile", PROFILE, "--runner", self.runner, "--licence", "cc-by-4.0", "--workers", "2"]
        out.parent.mkdir(exist_ok=True)
        with (out.parent / "build.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def finish(self, out: Path) -> None:
        """Let a build end."""
        if self.start(out).wait() != 0:
            sys.exit((out.parent / "build.log").read_text()[-3000:])

    def strike(self, out: Path, stage: str) -> str | None:
        """Kill a build soon after a stage of some clip has ended, and return the stage, or another moment in words.

        None if the build ended first.
        """
        ledger = out.with_name(f"{out.name}.build") / "ledger.sqlite"
        before = runs_of(ledger, stage)
        process = self.start(out)
        end = time.monotonic() + PATIENCE_S
        moment = stage
        while process.poll() is None:
            if runs_of(ledger, stage) - before:
                time.sleep(self.moments.uniform(0, LATE_S))
                break
            if time.monotonic() > end:
                moment = "late"
                break
            time.sleep(0.01)
        if process.poll() is not None:
            return None
        if self.moments.random() < 0.5:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        time.sleep(1)  # workers notice that their parent is dead
        return moment

    def states(self, out: Path) -> dict[str, int]:
        """Return how many clips ended in each state."""
        ledger = Ledger(out.with_name(f"{out.name}.build") / "ledger.sqlite")
        found = Counter(item.status for item in ledger.each_item())
        ledger.close()
        return dict(sorted(found.items()))

    def say(self, line: str) -> None:
        """Keep a line of the log and print it."""
        self.lines.append(line)
        print(line, flush=True)


def runs_of(ledger: Path, stage: str) -> set[tuple[bytes, int]]:
    """Return the inputs in which a stage has ended, each with the number of the record."""
    if not ledger.is_file():
        return set()
    try:
        with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=5)) as db:
            found = db.execute("SELECT path, rowid FROM stages WHERE stage = ?", (stage,)).fetchall()
        return set(found)
    except sqlite3.OperationalError:  # the tables are being made
        return set()


if __name__ == "__main__":
    main()
