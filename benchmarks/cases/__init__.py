"""Faults that public bug reports taught us to look for: what each case gives now, beside the right value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """One fault and its measurement.

    Attributes:
        name: as in the table that ``python -m benchmarks.cases`` prints.
        right: the right value or behaviour, in words.
        measure: called with a folder of its own to write into; returns what was found, and True if it is right.
        slow: True if it takes more than a few seconds; the quick tests leave it out.
    """

    name: str
    right: str
    measure: Callable[[Path], tuple[str, bool]]
    slow: bool = False
