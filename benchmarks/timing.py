"""Honest clocks for benchmarks."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any


def seconds(*functions: Callable[[], Any], repeats: int = 5, at_least_s: float = 0.1) -> list[float]:
    """The median seconds of one call of each function, warm.

    Functions take turns, so that a busy moment of the machine hits all of them; in its turn a function is called until
    ``at_least_s`` have passed, once at least.
    """
    for function in functions:
        function()
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, found in zip(functions, times, strict=True):
            calls, start, passed = 0, time.perf_counter(), 0.0
            while passed < at_least_s:
                function()
                calls, passed = calls + 1, time.perf_counter() - start
            found.append(passed / calls)
    return [statistics.median(found) for found in times]


def cold_seconds(program: str, repeats: int = 3) -> float:
    """The median seconds of a program in a new Python process, from start to exit."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True)
        found.append(time.perf_counter() - start)
    return statistics.median(found)
