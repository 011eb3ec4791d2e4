"""Windows of motion out of a dataset of 2,000 sequences: how fast, and in how much memory of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from opendance_hf.storage import write_parquet
from tests.factories import make_sequence

SEQUENCES, NUM_FRAMES, WINDOW, STRIDE = 2000, 300, 240, 4

# In a process of its own, so that what wrote the dataset does not count; and once more, since the first to open a
# dataset converts its Parquet to Arrow, and keeps memory that this took. Pages of mapped files are not anonymous.
_READ = """
import json, sys, time
import torch
from opendance_hf.data import MotionWindows

def anonymous_mb():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))

torch.set_num_threads(1)
before = anonymous_mb()
windows = MotionWindows(sys.argv[1], {window}, {stride})
order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0)).tolist()
for index in order[:200]:
    windows[index]
start, count, most = time.perf_counter(), 0, anonymous_mb()
while time.perf_counter() - start < 5:
    for index in order[count : count + 500]:
        windows[index]
    count += 500
    most = max(most, anonymous_mb())
seconds = time.perf_counter() - start
print(json.dumps(dict(windows=len(windows), windows_per_s=count / seconds, anonymous_mb=most, imports_mb=before)))
"""


def run() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "opendance-3d"
        write_parquet(
            root, "individual", "train", (make_sequence(i, num_frames=NUM_FRAMES) for i in range(SEQUENCES))
        )
        (root / "README.md").write_text(
            "---\nconfigs:\n- config_name: individual\n  data_files: data/individual/*.parquet\n---\n"
        )
        program = _READ.format(window=WINDOW, stride=STRIDE)
        first, then = (
            subprocess.run(
                [sys.executable, "-c", program, str(root)],
                check=True,
                capture_output=True,
                text=True,
                env={**os.environ, "HF_DATASETS_CACHE": str(Path(folder) / "cache")},
            )
            for _ in range(2)
        )
    return {
        "what": f"windows of {WINDOW} frames, in random order, of {SEQUENCES} sequences of {NUM_FRAMES} frames",
        **json.loads(then.stdout.splitlines()[-1]),
        "converting_anonymous_mb": json.loads(first.stdout.splitlines()[-1])["anonymous_mb"],
    }
