"""Smooth landmarks and bodies (paper section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from opendance_hf.pipeline.backends import loaded
from opendance_hf.pipeline.backends.base import Backend
from opendance_hf.pipeline.backends.filters import Filters
from opendance_hf.pipeline.clip import Clip
from opendance_hf.pipeline.stage import Stage


@dataclass(frozen=True)
class Smooth(Stage):
    """Write smoothed landmarks to ``smoothed``, and replace ``bodies`` by smoothed bodies.

    Attributes:
        smoother: backend of the role ``smoother``.
    """

    smoother: Backend = field(default_factory=Filters, metadata={"role": "smoother"})

    name: ClassVar[str] = "smooth"
    reads: ClassVar[tuple[str, ...]] = ("landmarks",)
    writes: ClassVar[tuple[str, ...]] = ("smoothed",)
    changes: ClassVar[tuple[str, ...]] = ("bodies",)

    def __call__(self, clip: Clip) -> Clip:
        """Smooth one clip."""
        (smoother,) = loaded(self.smoother)
        landmarks, bodies = smoother.smooth(clip.landmarks, clip.bodies)
        return replace(clip, smoothed=landmarks, bodies=bodies)
