"""Cut a video into shots (PySceneDetect, paper section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Final

from scenedetect import ContentDetector, FrameTimecode
from scenedetect.common import Timecode

from opendance_hf.pipeline.backends.base import Image

#: Cuts closer together than this are one.
_MIN_SHOT_S: Final = 0.5
_TICK: Final = Fraction(1, 1_000_000)


@dataclass(frozen=True)
class Shot:
    """A span without a cut, in seconds of the source."""

    start_s: float
    end_s: float


class ShotFinder:
    """Finds cuts in frames that are shown to it one after another."""

    def __init__(self) -> None:
        # Fed with our own frames: PySceneDetect's reader counts from the first frame, which may start after the sound.
        self._detector = ContentDetector(min_scene_len=_MIN_SHOT_S)
        self._cuts: set[float] = set()

    def see(self, time_s: float, image: Image) -> None:
        """Look at the next frame, (H, W, 3) RGB; small ones will do."""
        # The rate serves only to count frames, which nothing here asks for.
        clock = FrameTimecode(Timecode(round(time_s / _TICK), _TICK), fps=30.0)
        self._cuts.update(cut.seconds for cut in self._detector.process_frame(clock, image[..., ::-1]))

    @property
    def shots(self) -> list[Shot]:
        """The shots in order, together covering all of the video; a video without a cut is one shot."""
        edges = [0.0, *sorted(cut for cut in self._cuts if cut > 0), float("inf")]
        return [Shot(start, end) for start, end in pairwise(edges)]
