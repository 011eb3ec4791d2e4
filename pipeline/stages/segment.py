"""Cut a shot into spans in which the same one or two dancers can be seen (paper section 3.1 and table 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.pipeline.outcome import Dropped
from opendance_hf.pipeline.stages.track import Tracks

MIN_SPAN_S: Final = 4.0
MAX_SPAN_S: Final = 120.0
MAX_DANCERS: Final = 2
#: A dancer who is not detected for longer than this is gone, not hidden for a moment.
_MAX_GAP_S: Final = 1.0
#: One who is seen for less than this is a false detection or passes by; nobody's span is cut for it.
_MIN_PRESENCE_S: Final = 0.5
#: Share of the picture's height at its top and bottom edge within which a box is cut off by the edge.
_EDGE: Final = 0.01


@dataclass(frozen=True)
class Span:
    """Seconds ``start_s`` to ``end_s`` of the source, with the dancers (rows of the shot's tracks) seen in it."""

    start_s: float
    end_s: float
    dancers: tuple[int, ...]


def find_spans(tracks: Tracks, height_px: int) -> tuple[list[Span], list[Dropped]]:
    """Spans of 4 to 120 s with one or two dancers, and what was dropped around them."""
    times = tracks.times_s
    if len(times) < 2:
        return [], [Dropped(0.0, float(times[-1]) if len(times) else 0.0, "fewer than two frames")]
    present = np.stack(
        [
            _bridge(tracks.seen[k] & ~_cut_off(tracks.boxes[k], height_px), times)
            for k in range(len(tracks.boxes))
        ]
    )
    edges = np.flatnonzero((present[:, 1:] != present[:, :-1]).any(axis=0)) + 1
    starts = [0, *edges.tolist()]
    ends = [*edges.tolist(), len(times)]
    frame_s = float(np.median(np.diff(times)))

    spans: list[Span] = []
    dropped: list[Dropped] = []
    for start, end in zip(starts, ends, strict=True):
        dancers = tuple(np.flatnonzero(present[:, start]).tolist())
        start_s = float(times[start])
        end_s = float(times[end]) if end < len(times) else float(times[-1]) + frame_s
        if not dancers:
            dropped.append(Dropped(start_s, end_s, "nobody is seen from head to foot"))
        elif len(dancers) > MAX_DANCERS:
            dropped.append(Dropped(start_s, end_s, f"more than two people ({len(dancers)})"))
        elif end_s - start_s < MIN_SPAN_S:
            reason = (
                f"{len(dancers)} dancer(s) for {end_s - start_s:.1f} s; at least {MIN_SPAN_S:.0f} s needed"
            )
            dropped.append(Dropped(start_s, end_s, reason))
        else:
            parts = math.ceil((end_s - start_s) / MAX_SPAN_S)
            cuts = np.linspace(start_s, end_s, parts + 1).tolist()
            spans += [Span(a, b, dancers) for a, b in pairwise(cuts)]
    return spans, dropped


def _cut_off(boxes: npt.NDArray[np.floating], height_px: int) -> npt.NDArray[np.bool_]:
    """(T,) whether the picture cuts the person off at the top and at the bottom alike."""
    margin = _EDGE * height_px
    with np.errstate(invalid="ignore"):
        return (boxes[:, 1] <= margin) & (boxes[:, 3] >= height_px - margin)


def _bridge(seen: npt.NDArray[np.bool_], times: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Presence with short gaps filled and lone moments removed."""
    out = seen.copy()
    frames = np.flatnonzero(seen)
    for a, b in pairwise(frames):
        if times[b] - times[a] <= _MAX_GAP_S:
            out[a:b] = True
    edges = np.flatnonzero(np.diff(out, prepend=False, append=False))
    for a, b in zip(edges[::2], edges[1::2], strict=True):
        if times[b - 1] - times[a] < _MIN_PRESENCE_S:
            out[a:b] = False
    return out
