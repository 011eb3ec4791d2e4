"""Three minutes of two dancers written for other tools: how long it takes and how large the files are."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from opendance_hf.formats import format_named, opendance
from tests.formats.support import dance

NUM_DANCERS, NUM_FRAMES = 2, 180 * 60
FORMATS = ("glb", "bvh", "usd", "vrma")


def run() -> dict[str, Any]:
    """Return seconds in this process, megabytes of all files, and seconds of the whole command for GLB."""
    motion, results = dance(NUM_DANCERS, NUM_FRAMES), {}
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS:
            module: Any = format_named(name)
            start = time.perf_counter()
            files = module.write(motion, Path(folder) / f"dance{module.SUFFIX}")
            results[f"{name}_s"] = time.perf_counter() - start
            results[f"{name}_mb"] = sum(file.stat().st_size for file in files) / 1e6
        (source,) = opendance.write(motion, Path(folder) / "dance.npz")
        command = "import sys; from opendance_hf.cli import main; main()"
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", command, "export", str(source), "--to", "glb", "--out", f"{folder}/other.glb"],
            check=True, capture_output=True,
        )  # fmt: skip
        results["glb_command_s"] = time.perf_counter() - start
    return {**results, "dancers": NUM_DANCERS, "frames": NUM_FRAMES}
