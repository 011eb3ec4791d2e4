"""Measure what is meant to be fast, beside the plain version of it, in one run on the same inputs.

    python -m benchmarks [SECTION ...]

prints every section and writes it to ``benchmarks/latest.json``; sections that were not asked for stay as they were.
"""

from __future__ import annotations

import os

# Before numpy's threads start: a product split over two threads waits for the slower one, which on a shared machine
# measures the neighbours. Sections that want threads say so themselves.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import importlib
import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import scipy

SECTIONS = (
    "motion_features",
    "music_features",
    "evaluation",
    "generation",
    "gpu_steps",
    "training_reader",
    "exporting",
    "importing",
)
LATEST = Path(__file__).with_name("latest.json")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"one of {', '.join(SECTIONS)}; default: all"
    )
    wanted = parser.parse_args().sections or list(SECTIONS)
    if unknown := set(wanted) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    results: dict[str, Any] = json.loads(LATEST.read_text()) if LATEST.exists() else {}
    for name in wanted:
        print(f"{name} ...", flush=True)
        results[name] = {**importlib.import_module(f"benchmarks.{name}").run(), "machine": machine()}
        for key, value in results[name].items():
            print(f"  {key:28} {_readable(value)}", flush=True)
        partial = LATEST.with_suffix(".partial")
        partial.write_text(json.dumps(results, indent=2) + "\n")
        partial.replace(LATEST)
    print(f"written: {LATEST}")


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _readable(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return json.dumps(value) if isinstance(value, dict) else str(value)


if __name__ == "__main__":
    main()
