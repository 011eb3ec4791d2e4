"""Push and pull a dataset of large files over loopback: undisturbed, then through faults and kills.

    python -m benchmarks.hub [--files 60] [--mb 10] [--rate 0.05] [--kills 5] [--seed 1]

The Hub is that of the tests (``tests/fakehub.py``), in this process; clients are processes of their own with the real
``huggingface_hub``. A fault is an answer 429, 500, 502 or 503, or a connection that is closed in the middle, of each request
with the probability ``rate``. A kill is a SIGKILL at a random one of the next requests for content. Writes
``benchmarks/hub.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.__main__ import machine
from opendance_hf.storage import pack
from tests.factories import make_sequence
from tests.fakehub import FakeHub, Fault

OUT = Path(__file__).with_name("hub.json")
_CLIENT = """
import json, resource, sys, time
import huggingface_hub
from opendance_hf.hub import pull, push
start = time.perf_counter()
done = push(sys.argv[2], sys.argv[3]) if sys.argv[1] == "push" else pull(sys.argv[3], sys.argv[2])
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": seconds, "peak_mib": peak}))
"""


class FlakyHub(FakeHub):
    """A Hub whose requests fail at random."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.rate = 0.0
        self.injected = 0
        self.random = random.Random(seed)

    def fault_of(self, request: str) -> Fault | None:
        fault = super().fault_of(request)
        with self.lock:
            if fault is not None or self.random.random() >= self.rate:
                return fault
            self.injected += 1
            status = self.random.choice((429, 500, 502, 503, 0))
            retry_after = "1" if status == 429 else ""
            # A dropped connection: in the middle of a content, or instead of the answer to another request.
            content = request.startswith("PUT /objects") or (
                request.startswith("GET") and "/resolve/" in request
            )
            drop = self.random.randrange(1, 1_000_000) if not status and content else None
            return Fault(
                "", status=status, retry_after=retry_after, drop_after=drop, lost=not (status or content)
            )


def make_dataset(folder: Path, files: int, mb: float) -> None:
    """Write a dataset folder with ``files`` shards, each a row of random bytes."""
    pack([make_sequence(0)], folder, splits={"train": 1.0}, webdataset=False)
    for shard in folder.glob("data/*/*.parquet"):
        shard.unlink()
    for number in range(files):
        write_shard(folder / f"data/individual/train-{number:05d}-of-{files:05d}.parquet", mb)
    described = json.loads((folder / "statistics.json").read_text())
    described["configs"]["individual"]["train"]["sequences"] = files
    (folder / "statistics.json").write_text(json.dumps(described))


def write_shard(path: Path, mb: float) -> None:
    row = pa.table({"id": [path.stem], "bytes": [os.urandom(int(mb * 1_000_000))]})
    pq.write_table(row, path, write_statistics=False)


def run_client(
    hub: FakeHub, home: Path, what: str, folder: Path, repo: str, *, kill_at: int = 0
) -> dict[str, Any]:
    """Push or pull in a new process; kill it at a request for content, counted from 1, if ``kill_at`` is given."""
    running = subprocess.Popen(
        [sys.executable, "-c", _CLIENT, what, folder, repo],
        env=hub.env(home) | {"PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if kill_at:
        match = "PUT /objects" if what == "push" else "GET .*/resolve/.*parquet"
        kill = Fault(match, hook=lambda: os.kill(running.pid, signal.SIGKILL))
        hub.faults = [Fault(match, times=kill_at - 1), kill]
    told, errors = running.communicate()
    hub.faults = []
    if running.returncode == -signal.SIGKILL:
        return {"killed": True}
    if running.returncode:
        raise RuntimeError(f"{what} failed: {errors[-2000:]}")
    result: dict[str, Any] = json.loads(told.splitlines()[-1])
    return result


def same(first: Path, second: Path) -> bool:
    """Compare two folders byte for byte, but for the card, which a push renames."""
    names = {p.relative_to(first) for p in first.rglob("*") if p.is_file() and p.name != "README.md"}
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def undisturbed(hub: FlakyHub, work: Path, folder: Path, size_mb: float, mb: float) -> dict[str, Any]:
    """Push, pull, change one file, push and pull again, without faults."""
    found: dict[str, Any] = {}
    peak = 0.0
    for what, place in (("push", folder), ("pull", work / "out")):
        told = run_client(hub, work / "home", what, place, "org/quiet")
        found[f"{what}_mb_per_s"] = round(size_mb / told["seconds"], 1)
        peak = max(peak, told["peak_mib"])
    found["push_of_nothing_s"] = round(
        run_client(hub, work / "home", "push", folder, "org/quiet")["seconds"], 2
    )
    write_shard(next(iter(sorted(folder.glob("data/*/*.parquet")))), mb)
    for what, place in (("push", folder), ("pull", work / "out")):
        before = len(hub.requests)
        told = run_client(hub, work / "home", what, place, "org/quiet")
        found[f"{what}_of_one_file_s"] = round(told["seconds"], 2)
        verb = "PUT /objects" if what == "push" else "GET "
        contents = [
            r for r in hub.requests[before:] if r.startswith(verb) and ("objects" in r or "parquet" in r)
        ]
        found[f"{what}_of_one_file_sent"] = len(contents)
    return found | {"peak_memory_mib": round(peak), "pulled_is_pushed": same(folder, work / "out")}


def disturbed(hub: FlakyHub, work: Path, folder: Path, files: int, kills: int) -> dict[str, Any]:
    """Push and pull through faults and kills."""
    found: dict[str, Any] = {}
    survived = 0
    choose = random.Random(hub.random.random())
    for what, place in (("push", folder), ("pull", work / "flaky-out")):
        start, before, tries = time.perf_counter(), len(hub.requests), 0
        while True:
            kill_at = choose.randint(1, max(1, files // 4)) if tries < kills else 0
            told = run_client(hub, work / "flaky-home", what, place, "org/flaky", kill_at=kill_at)
            tries += 1
            if not told.get("killed"):
                break
            survived += 1
        sent = [
            r for r in hub.requests[before:] if r.startswith("PUT /objects" if what == "push" else "GET ")
        ]
        found[f"{what}_s"] = round(time.perf_counter() - start, 1)
        found[f"{what}_contents_requested"] = sum("objects" in r or "parquet" in r for r in sent)
    commits = len(hub.repos["dataset", "org/flaky"].commits) - 1
    return found | {
        "kills_survived": survived,
        "faults": hub.injected,
        "commits": commits,
        "pulled_is_pushed": same(folder, work / "flaky-out"),
    }


def measure(
    *, files: int = 60, mb: float = 10.0, rate: float = 0.05, kills: int = 5, seed: int = 1
) -> dict[str, Any]:
    """Measure pushes and pulls of ``files`` files of ``mb`` megabytes.

    Args:
        files: number of shards.
        mb: size of each, in megabytes.
        rate: probability that a request fails, in the second part.
        kills: largest number of kills of a push and of a pull.
        seed: of faults and kills.
    """
    work = Path(tempfile.mkdtemp(prefix="hub-"))
    try:
        folder = work / "dances"
        make_dataset(folder, files, mb)
        with FlakyHub(seed) as hub:
            size = files * mb
            quiet = undisturbed(hub, work, folder, size, mb)
            hub.rate = rate
            # Contents that the quiet part has sent would not be sent again.
            for shard in folder.glob("data/*/*.parquet"):
                write_shard(shard, mb)
            flaky = disturbed(hub, work, folder, files, kills)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return {
        "files": files,
        "megabytes": size,
        "seed": seed,
        "undisturbed": quiet,
        "with_faults": {"rate": rate, **flaky},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--mb", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    found = {"machine": machine(), **measure(**vars(parser.parse_args()))}
    text = json.dumps(found, indent=2) + "\n"
    OUT.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
