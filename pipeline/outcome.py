"""Define the result of processing one video."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from opendance_hf.pipeline.clip import Clip
from opendance_hf.pipeline.stage import Dropped


@dataclass
class Outcome:
    """The result of one video.

    Attributes:
        sequences: the :func:`summary` of each sequence; its ``id`` names the files.
        dropped: spans that were not used.
    """

    sequences: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)


def summary(clip: Clip) -> dict[str, Any]:
    """Return the values of a finished sequence that the ledger stores."""
    sequence = clip.sequence
    return {
        "id": sequence.id,
        "config": sequence.config,
        "num_dancers": sequence.num_dancers,
        "num_frames": sequence.num_frames,
        "start_s": sequence.provenance.start_s,
        "end_s": sequence.provenance.end_s,
        "bpm": sequence.bpm,
        "motion_velocity": sequence.motion_velocity,
        "mean_confidence": float(sequence.confidence.mean()),
        "metrics": dict(clip.scores),
        "repairs": list(sequence.provenance.repairs),
    }


def main_reason(dropped: Iterable[Dropped]) -> str:
    """Return the reason for which the most seconds of a video were dropped."""
    seconds_by_reason: dict[str, float] = {}
    for span in dropped:
        seconds_by_reason[str(span)] = seconds_by_reason.get(str(span), 0.0) + span.end_s - span.start_s
    return (
        max(seconds_by_reason, key=lambda reason: seconds_by_reason[reason])
        if seconds_by_reason
        else "no frame could be decoded"
    )
