"""Correct the depth of landmarks, over time (learned lifting; not in the paper, whose estimator is CLIFF)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from opendance_hf.pipeline.backends import loaded
from opendance_hf.pipeline.backends.base import Backend
from opendance_hf.pipeline.backends.lifter import Lifter
from opendance_hf.pipeline.clip import Clip
from opendance_hf.pipeline.stage import Stage


@dataclass(frozen=True)
class Depth(Stage):
    """Replace the landmarks in metres by those of a network that sees a second or two of them.

    Without this stage, the fit's ``landmark_weight`` should be 0.02.

    Attributes:
        corrector: backend of the role ``depth``.
    """

    corrector: Backend = field(default_factory=Lifter, metadata={"role": "depth"})

    name: ClassVar[str] = "depth"
    version: ClassVar[int] = 2
    reads: ClassVar[tuple[str, ...]] = ("landmarks", "video")
    writes: ClassVar[tuple[str, ...]] = ("expected_errors",)
    changes: ClassVar[tuple[str, ...]] = ("landmarks",)

    def __call__(self, clip: Clip) -> Clip:
        """Correct the landmarks of one clip."""
        (corrector,) = loaded(self.corrector)
        landmarks, expected = corrector.correct(clip.landmarks, clip.video)
        return replace(clip, landmarks=landmarks, expected_errors=expected)
