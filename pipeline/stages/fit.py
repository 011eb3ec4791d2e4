"""Fit a skeleton to the smoothed landmarks of a clip, or refine its bodies (paper section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from opendance_hf.pipeline.backends import loaded
from opendance_hf.pipeline.backends.base import Backend
from opendance_hf.pipeline.backends.skeleton import Skeleton
from opendance_hf.pipeline.clip import Clip
from opendance_hf.pipeline.stage import Stage


@dataclass(frozen=True)
class FitSkeleton(Stage):
    """Fit rotations, translations and bone lengths of all dancers of a clip.

    Attributes:
        fitter: backend of the role ``fitter``.
    """

    fitter: Backend = field(default_factory=Skeleton, metadata={"role": "fitter"})

    name: ClassVar[str] = "fit"
    version: ClassVar[int] = 3
    reads: ClassVar[tuple[str, ...]] = ("smoothed", "video")
    writes: ClassVar[tuple[str, ...]] = ("fit",)

    def __call__(self, clip: Clip) -> Clip:
        """Fit one clip."""
        (fitter,) = loaded(self.fitter)
        found = (clip.smoothed, clip.bodies, clip.video)
        if clip.pins is None:
            return replace(clip, fit=fitter.fit(*found))
        return replace(clip, fit=fitter.fit(*found, pins=clip.pins.at(clip.smoothed.times_s)))
