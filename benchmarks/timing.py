"""Honest clocks for benchmarks."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any


def seconds(*functions: Callable[[], Any], repeats: int = 5) -> list[float]:
    """The median seconds of each function, called in turns so that a busy moment hits all of them; first calls warm up."""
    for function in functions:
        function()
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, found in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]


def cold_seconds(program: str, repeats: int = 3) -> float:
    """The median seconds of a program in a new Python process, from start to exit."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True)
        found.append(time.perf_counter() - start)
    return statistics.median(found)
