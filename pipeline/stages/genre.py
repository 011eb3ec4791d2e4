"""Classify the genre of the music (paper section 3.2) with a classifier that the user provides."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from opendance_hf.pipeline.backends import loaded
from opendance_hf.pipeline.backends.base import Backend
from opendance_hf.pipeline.clip import Clip
from opendance_hf.pipeline.stage import Stage


@dataclass(frozen=True)
class Genre(Stage):
    """Add the columns ``genre`` and ``genre_scores``.

    Args:
        classifier: backend of the role ``genre``; None leaves the columns null.
    """

    name = "genre"
    reads = ("motion",)
    writes = ("columns",)
    columns = ("genre", "genre_scores")

    classifier: Backend | None = field(default=None, metadata={"role": "genre"})

    def __call__(self, clip: Clip) -> Clip:
        """Process one sequence."""
        if self.classifier is None:
            return clip
        (classifier,) = loaded(self.classifier)
        genre, scores = classifier.classify(clip.path, clip.motion.start_s, clip.motion.end_s)
        found: dict[str, Any] = {"genre": genre, "genre_scores": scores}
        return replace(clip, columns={**clip.columns, **found})
