"""The ledger of a build with a million synthetic inputs: enter, resume, look at all, process, inspect.

    python -m benchmarks.ledger [--items 1000000]

Every fortieth input is published with one sequence, as of the paper's videos 2.8 in a hundred were. Writes
``benchmarks/ledger.json``.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.__main__ import machine
from opendance_hf.pipeline.inspection.queue import decide, next_turn
from opendance_hf.pipeline.inspection.results import progress
from opendance_hf.pipeline.inspection.store import Inspection, Person
from opendance_hf.pipeline.ledger import Ledger

OUT = Path(__file__).with_name("ledger.json")
PUBLISHED_EVERY = 40
PROCESSED = 10_000
DECISIONS = 100


def path_of(number: int) -> str:
    return f"/videos/{number // 1000:04d}/{number:07d}.mp4"


def enter(ledger: Ledger, items: int) -> None:
    with ledger.together():
        for number in range(items):
            path = path_of(number)
            ledger.add(path, path[8:], f"{number:032x}" * 2, "pipeline", f"{number} 1 2 3")


def process(ledger: Ledger, numbers: range) -> None:
    for number in numbers:
        path = path_of(number)
        ledger.start(path)
        ledger.stage(path, "probe", 1.0)
        row = {"id": f"{number:016x}_00", "num_frames": 1000, "num_dancers": 1, "start_s": 0.0, "end_s": 16.7}
        ledger.finish(path, "published", "", 1.0, [row])


def write_motions(build: Path, numbers: range) -> None:
    """Write what inspection reads of the file of a sequence; the motion is a single frame."""
    (build / "sequences").mkdir()
    for number in numbers:
        motion = np.full((1, 72), number, np.float32)
        arrays = {"joints": motion, "smpl_pose": motion, "smpl_transl": motion[:, :3]}
        np.savez(build / "sequences" / f"{number:016x}_00.npz", **arrays)


def judge(inspection: Inspection, decisions: int) -> None:
    """Let one person keep the next items of round 1, as the page does."""
    ana = Person("ana")
    for _ in range(decisions):
        item = next_turn(inspection, ana, "round1").item
        assert item is not None
        decide(inspection, ana, "round1", 1, item.subject, "keep")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    items = parser.parse_args().items
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = work()
        seconds[name] = round(time.perf_counter() - start, 2)
        print(f"{name}: {seconds[name]} s", flush=True)
        return result

    with tempfile.TemporaryDirectory(prefix="ledger-") as folder:
        file = Path(folder) / "ledger.sqlite"
        ledger = Ledger(file)
        timed("enter all", lambda: enter(ledger, items))
        published = range(0, items, PUBLISHED_EVERY)
        timed(f"process {len(published):,}", lambda: process(ledger, published))
        ledger.close()
        ledger = timed("open again", lambda: Ledger(file))
        timed(
            "resume: retry, count, first input",
            lambda: (ledger.retry(), ledger.count("pending"), next(ledger.unfinished())),
        )
        timed("look at all", lambda: sum(1 for _ in ledger.each_item()))
        timed(f"process {PROCESSED:,} more", lambda: process(ledger, range(1, PROCESSED)))
        timed("keep all", lambda: ledger.keep_only([path_of(number) for number in range(items)]))
        size = file.stat().st_size
        ledger.close()
        write_motions(Path(folder), published)
        with Inspection(file) as inspection:
            inspection.add_person("ana")
            timed(f"items of inspection, {len(published):,} new", lambda: inspection.refresh(Path(folder)))
            timed("items of inspection, none new", lambda: inspection.refresh(Path(folder)))
            timed(f"{DECISIONS} decisions", lambda: judge(inspection, DECISIONS))
            timed("overview of inspection", lambda: progress(inspection))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    result = {
        "items": items,
        "seconds": seconds,
        "file_mb": round(size / 1e6, 1),
        "peak_mb": round(peak / 1e6),
        "machine": machine(),
    }
    OUT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
