"""Pickles like those of AIST++ imported into a dataset: files a second, and the memory of the command and of a worker."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.formats.support import dance

#: Number of files, and frames of each: four seconds, the shortest row.
FILES, FRAMES = 10_000, 240
_RUN = """
import json, resource, sys
from pathlib import Path
from opendance_hf.apps.importing import ImportOptions, import_dataset
if __name__ == "__main__":
    report = import_dataset("aistpp", Path(sys.argv[1]), Path(sys.argv[2]), ImportOptions(workers=2))
    peak = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps([report.count("published"), *peak]))
"""


def write_files(folder: Path, count: int) -> None:
    """Write motions in the layout of AIST++, each another part of one dance."""
    motion = dance(1, FRAMES + 3600)
    assert motion.poses is not None
    assert motion.transl is not None
    poses = motion.poses[0].reshape(-1, 72).astype(np.float32)
    transl = motion.transl[0].astype(np.float32)
    (folder / "motions").mkdir(parents=True)
    for number in range(count):
        part = slice(number % 3600, number % 3600 + FRAMES)
        content = {
            "smpl_poses": poses[part], "smpl_trans": transl[part] * 93.78 + number / 1e3,
            "smpl_scaling": np.array([93.78]), "smpl_loss": 1.0,
        }  # fmt: skip
        name = f"gBR_sBM_cAll_d{number // 100:04}_mBR{number % 10}_ch{number % 100:02}"
        (folder / "motions" / f"{name}.pkl").write_bytes(pickle.dumps(content, protocol=4))


def run(count: int = FILES) -> dict[str, Any]:
    """Return files a second and peak memory in MB."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "aist"
        write_files(source, count)
        size = sum(path.stat().st_size for path in source.rglob("*.pkl")) / 1e6
        script = Path(folder) / "run.py"
        script.write_text(_RUN)
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, str(script), str(source), f"{folder}/set"],
            capture_output=True,
            text=True,
            check=True,
        )
        seconds = time.perf_counter() - start
        published, own, worker = map(float, done.stdout.strip().splitlines()[-1].strip("[]").split(","))
        written = sum(path.stat().st_size for path in (Path(folder) / "set").rglob("*.parquet")) / 1e6
    return {
        "files": count, "published": int(published), "files_mb": size, "seconds": seconds, "files_per_s": count / seconds,
        "command_peak_mb": own, "worker_peak_mb": worker, "parquet_mb": written,
    }  # fmt: skip
