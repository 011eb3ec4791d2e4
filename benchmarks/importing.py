"""Thousands of AIST++-like pickles imported on one core and on all: items a second, and the memory it takes.

The number of files is 1,000, or that in ``OPENDANCE_IMPORT_FILES``. Rows are at least 4 seconds long, so the files are.
"""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.formats.support import dance

NUM_FILES = int(os.environ.get("OPENDANCE_IMPORT_FILES", "1000"))
NUM_FRAMES = 4 * 60
#: Prints the peak memory of the command and of its largest worker, kB.
_COMMAND = """
import resource, sys
from opendance_hf.cli import main
if __name__ == "__main__":
    try:
        main()
    finally:
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
            print("peak", resource.getrusage(who).ru_maxrss)
"""


def run() -> dict[str, Any]:
    """Return files a second and CPU seconds of the whole command with one and two workers, and peak memory in MB."""
    results: dict[str, Any] = {"files": NUM_FILES, "seconds_a_file": NUM_FRAMES / 60}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        source.mkdir()
        _write(source)
        for workers in (1, 2):
            out = Path(folder) / f"out{workers}"
            start, before = time.perf_counter(), os.times()
            done = subprocess.run(
                [sys.executable, "-c", _COMMAND, "import", "aistpp", str(source), "--out", str(out), "--workers", str(workers)],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            seconds, after = time.perf_counter() - start, os.times()
            assert f"{NUM_FILES} published" in done.stdout, done.stdout
            parent, worker = (int(kb) / 1e3 for kb in re.findall(r"peak (\d+)", done.stdout))
            results[f"{workers}_workers_files_per_s"] = NUM_FILES / seconds
            results[f"{workers}_workers_cpu_s"] = (
                after.children_user + after.children_system - before.children_user - before.children_system
            )
            results[f"{workers}_workers_parent_mb"] = parent
            if workers > 1:
                results["worker_mb"] = worker
            start = time.perf_counter()
            if workers == 2:
                subprocess.run(
                    [sys.executable, "-c", _COMMAND, "import", "aistpp", str(source), "--out", str(out)],
                    check=True, capture_output=True,
                )  # fmt: skip
                results["again_files_per_s"] = NUM_FILES / (time.perf_counter() - start)
    return results


def _write(folder: Path) -> None:
    motion = dance(1, NUM_FRAMES)
    assert motion.poses is not None
    assert motion.transl is not None
    rng = np.random.default_rng(0)
    for number in range(NUM_FILES):
        content = {
            "smpl_poses": motion.poses[0].reshape(NUM_FRAMES, -1) + rng.normal(0, 1e-3, (NUM_FRAMES, 72)),
            "smpl_trans": motion.transl[0] * 90,
            "smpl_scaling": np.array([90.0]),
        }
        name = f"gBR_sBM_cAll_d{number:05d}_mBR{number % 6}_ch01.pkl"
        (folder / name).write_bytes(pickle.dumps(content, protocol=4))
