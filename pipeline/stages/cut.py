"""Cut spans that annotators marked out of a sequence (after paper 3.1, Manual Inspection)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np

from opendance_hf.pipeline.clip import Clip
from opendance_hf.pipeline.repairs import REPAIRS, frames_of, repairs_at
from opendance_hf.pipeline.stage import Dropped, Stage

_CUT: Final = "cut by annotators"


@dataclass(frozen=True)
class Cut(Stage):
    """Remove the spans of the repairs ``cut``, and what is left on the shorter side of each.

    Attributes:
        min_duration_s: a clip of which less is left is dropped.
    """

    min_duration_s: float = 4.0

    name: ClassVar[str] = "cut"
    version: ClassVar[int] = 2
    reads: ClassVar[tuple[str, ...]] = ("landmarks", "smoothed")
    changes: ClassVar[tuple[str, ...]] = ("repairs", "landmarks", "smoothed", "bodies")
    keeps_result: ClassVar[bool] = False

    def __call__(self, clip: Clip) -> list[Clip | Dropped]:
        """Process one span; return the rest, and the dropped spans beside it, in order of time."""
        own = repairs_at(self.name, clip)
        others = tuple(repair for repair in clip.repairs if REPAIRS[repair.kind].stage != self.name)
        times_s = clip.smoothed.times_s
        frame_s = float(np.median(np.diff(times_s)))
        kept = slice(0, len(times_s))
        for repair in own:
            gone = frames_of(repair, times_s)
            before = slice(kept.start, max(kept.start, min(gone.start, kept.stop)))
            after = slice(min(kept.stop, max(gone.stop, kept.start)), kept.stop)
            kept = max(before, after, key=lambda part: part.stop - part.start)
        left_s = (kept.stop - kept.start) * frame_s
        if own and left_s < self.min_duration_s:
            detail = f"{left_s:.1f} s are left, at least {self.min_duration_s:g} s needed"
            return [Dropped(clip.start_s, clip.end_s, _CUT, detail)]
        ends_s = [*times_s.tolist(), clip.end_s]
        start_s, end_s = ends_s[kept.start] if kept.start else clip.start_s, ends_s[kept.stop]
        rest = replace(
            clip,
            start_s=start_s,
            end_s=end_s,
            repairs=(*own, *others),
            landmarks=clip.landmarks.part(kept),
            smoothed=clip.smoothed.part(kept),
            bodies=None if clip.bodies is None else clip.bodies.part(kept),
        )
        first = [Dropped(clip.start_s, start_s, _CUT)] if start_s > clip.start_s else []
        last = [Dropped(end_s, clip.end_s, _CUT)] if end_s < clip.end_s else []
        return [*first, rest, *last]

    def item_settings(self, clip: Clip) -> list[dict[str, Any]]:
        """Return the cuts of the clip."""
        return [asdict(repair) for repair in repairs_at(self.name, clip)]
