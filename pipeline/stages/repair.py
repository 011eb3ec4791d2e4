"""Apply the repairs of annotators that concern landmarks: sides, identities and feet (after paper 3.1, Manual Inspection)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from opendance_hf.pipeline.clip import Clip, Pins
from opendance_hf.pipeline.repairs import REPAIRS, Dancers, frames_of, repairs_at
from opendance_hf.pipeline.stage import Stage


@dataclass(frozen=True)
class Repair(Stage):
    """Change the landmarks, boxes and bodies of a clip as annotators decided; feet that they pinned go to the stage ``fit``.

    The clip keeps the repairs that are applied here or later. Without any, it is not changed.
    """

    name: ClassVar[str] = "repair"
    version: ClassVar[int] = 2
    reads: ClassVar[tuple[str, ...]] = ("boxes", "landmarks")
    writes: ClassVar[tuple[str, ...]] = ("pins",)
    changes: ClassVar[tuple[str, ...]] = ("repairs", "landmarks", "boxes", "bodies")
    keeps_result: ClassVar[bool] = False

    def __call__(self, clip: Clip) -> Clip:
        """Process one span."""
        own = repairs_at(self.name, clip)
        later = tuple(one for one in clip.repairs if REPAIRS[one.kind].stage != self.name)
        if not own:
            return replace(clip, repairs=later)
        times_s, found = clip.landmarks.times_s, Dancers.of(clip.landmarks, clip.boxes, clip.bodies)
        for repair in own:
            frames, apply = frames_of(repair, times_s), REPAIRS[repair.kind].apply
            assert apply is not None
            if frames.start < frames.stop:
                apply(found, repair, frames)
        return replace(
            clip,
            repairs=(*own, *later),
            landmarks=found.landmarks,
            boxes=found.boxes,
            bodies=found.bodies,
            pins=Pins(times_s, found.feet) if found.feet.any() else None,
        )

    def item_settings(self, clip: Clip) -> list[dict[str, Any]]:
        """Return the repairs that are applied to the clip."""
        return [asdict(repair) for repair in repairs_at(self.name, clip)]
