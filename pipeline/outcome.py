"""How a stage says no, and what comes out of a video.

A worker sends this to the process that started it, which must not load the workers' models and libraries for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class Rejected(Exception):
    """An input, or a span of it, that is not for the dataset. The message is the reason people read.

    Not an error: a rejection is a decision, it is recorded as such and not retried.
    """


@dataclass(frozen=True)
class Dropped:
    """A span that is not used, and why."""

    start_s: float
    end_s: float
    reason: str


@dataclass
class Outcome:
    """What came out of one video: a summary of each sequence (its ``id`` names the files), and unused spans."""

    sequences: list[dict[str, Any]]
    dropped: list[Dropped]
