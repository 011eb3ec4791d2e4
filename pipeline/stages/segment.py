"""Cut a shot into spans in which the same dancers are visible (paper section 3.1 and table 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.intervals import inside, outside, true_intervals
from opendance_hf.pipeline.box_overlap import covered_shares, filled_boxes
from opendance_hf.pipeline.clip import Clip, Floats, Times, Tracks
from opendance_hf.pipeline.stage import Dropped, Stage

_NO_MUSIC: Final = "no music: the sound is silent"
_NO_PICTURE: Final = "no picture: frames are missing or cannot be decoded"


@dataclass(frozen=True)
class Span:
    """Span of the source in seconds, with the dancers (rows of the shot's tracks) visible in it."""

    start_s: float
    end_s: float
    dancers: tuple[int, ...]


@dataclass(frozen=True)
class Segment(Stage):
    """Split a shot into spans with an unchanged set of dancers, music, and a picture.

    Args:
        min_duration_s: shorter spans are dropped.
        max_duration_s: longer spans are cut into equal parts.
        max_dancers: spans with more dancers are dropped.
        max_gap_s: longest time without a detection, or without a frame, during which a dancer still counts as present.
        max_hidden_s: the same for a dancer who is hidden by another: whose place another dancer's box covers meanwhile.
        hidden_overlap: minimum share of the dancer's interpolated box that another dancer's box covers.
        min_presence_s: shorter presences (false detections, people passing by) are ignored.
        edge_share: margin at the top and bottom edge, as a share of the image height, within which a box is cropped.
    """

    name = "segment"
    version = 3
    reads = ("video", "camera_motion", "tracks")
    writes: ClassVar[tuple[str, ...]] = ("boxes",)
    changes = ("camera_motion",)

    min_duration_s: float = 4.0
    max_duration_s: float = 120.0
    max_dancers: int = 2
    max_gap_s: float = 1.0
    max_hidden_s: float = 2.0
    hidden_overlap: float = 0.4
    min_presence_s: float = 0.5
    edge_share: float = 0.01

    def __call__(self, clip: Clip) -> list[Clip | Dropped]:
        """Process one shot; return one clip per span."""
        results: list[Clip | Dropped] = []
        for span in self.usable_spans(clip, clip.tracks):
            if isinstance(span, Dropped):
                results.append(span)
                continue
            frames = clip.camera_motion.between(span.start_s, span.end_s)
            boxes = boxes_at(clip.tracks.times_s, clip.tracks.boxes[list(span.dancers)], frames.times_s)
            results.append(
                replace(clip, start_s=span.start_s, end_s=span.end_s, boxes=boxes, camera_motion=frames)
            )
        return results

    def usable_spans(self, clip: Clip, tracks: Tracks) -> list[Span | Dropped]:
        """Return the spans of a shot with an unchanged set of dancers, music and a picture, and what is dropped."""
        results: list[Span | Dropped] = []
        frames_s = clip.camera_motion.times_s
        if clip.start_s == 0 and len(frames_s) and frames_s[0] > self.max_gap_s:
            results.append(self._missing(0.0, float(frames_s[0]), _NO_PICTURE))
        for found in self.find_spans(tracks, clip.video.height_px):
            # A span ends one detection interval after its last detected frame, which may lie in the next shot.
            results += [found] if isinstance(found, Dropped) else self._cut(found, clip)
        return results

    def _cut(self, span: Span, clip: Clip) -> list[Span | Dropped]:
        """Cut a span of a shot to the times with music and frames."""
        span = replace(span, end_s=min(span.end_s, clip.end_s))
        frames_s = clip.camera_motion.times_s
        gaps = np.flatnonzero(np.diff(frames_s) > self.max_gap_s)
        frame_s = float(np.median(np.diff(frames_s))) if len(frames_s) > 1 else 0.0
        starts = [-math.inf, *frames_s[gaps + 1].tolist()]
        ends = [*(frames_s[gaps] + frame_s).tolist(), math.inf]
        kept, missing = [(span.start_s, span.end_s)], list[Dropped]()
        for usable, reason in (
            (clip.video.music_s, _NO_MUSIC),
            (list(zip(starts, ends, strict=True)), _NO_PICTURE),
        ):
            missing += [self._missing(*gap, reason) for part in kept for gap in outside(part, usable)]
            kept = [cut for part in kept for cut in inside(part, usable)]
        if not missing:
            return [span]
        parts = [part for start_s, end_s in kept for part in self._spans(start_s, end_s, span.dancers)]
        return sorted([*parts, *missing], key=lambda part: part.start_s)

    def _missing(self, start_s: float, end_s: float, reason: str) -> Dropped:
        return Dropped(start_s, end_s, reason, f"for {end_s - start_s:.1f} s")

    def find_spans(self, tracks: Tracks, height_px: int) -> list[Span | Dropped]:
        """Return the spans of a shot of two frames or more, and what is dropped between them, in order of time."""
        times = tracks.times_s
        present = np.stack(
            [
                self._fill_short_gaps(
                    tracks.seen[k] & ~self._is_cropped(tracks.boxes[k], height_px),
                    times,
                    self._is_hidden(tracks, k),
                )
                for k in range(len(tracks.boxes))
            ]
        )
        edges = np.flatnonzero((present[:, 1:] != present[:, :-1]).any(axis=0)) + 1
        starts = [0, *edges.tolist()]
        ends = [*edges.tolist(), len(times)]
        frame_s = float(np.median(np.diff(times)))
        out: list[Span | Dropped] = []
        for start, end in zip(starts, ends, strict=True):
            dancers = tuple(np.flatnonzero(present[:, start]).tolist())
            start_s = float(times[start])
            end_s = float(times[end]) if end < len(times) else float(times[-1]) + frame_s
            out += self._spans(start_s, end_s, dancers)
        return out

    def _spans(self, start_s: float, end_s: float, dancers: tuple[int, ...]) -> list[Span | Dropped]:
        """Split an interval with unchanged dancers into spans, or drop it with the reason."""
        if not dancers:
            return [Dropped(start_s, end_s, "nobody is visible from head to foot")]
        if len(dancers) > self.max_dancers:
            detail = f"{len(dancers)}, at most {self.max_dancers} allowed"
            return [Dropped(start_s, end_s, "too many people", detail)]
        if end_s - start_s < self.min_duration_s:
            detail = f"{len(dancers)} dancer(s) for {end_s - start_s:.1f} s, at least {self.min_duration_s:g} s needed"
            return [Dropped(start_s, end_s, "too short a time with the same dancers", detail)]
        parts = math.ceil((end_s - start_s) / self.max_duration_s)
        cuts = np.linspace(start_s, end_s, parts + 1).tolist()
        return [Span(a, b, dancers) for a, b in pairwise(cuts)]

    def _is_cropped(self, boxes: npt.NDArray[np.floating], height_px: int) -> npt.NDArray[np.bool_]:
        """Return (T,) true where the image crops the person at the top and at the bottom."""
        margin = self.edge_share * height_px
        with np.errstate(invalid="ignore"):
            return (boxes[:, 1] <= margin) & (boxes[:, 3] >= height_px - margin)

    def _is_hidden(self, tracks: Tracks, dancer: int) -> npt.NDArray[np.bool_]:
        """Return (T,) true where a dancer has no box, and another's box covers the place where it would be."""
        expected = filled_boxes(tracks.times_s, tracks.boxes[dancer])
        others = np.delete(tracks.boxes, dancer, axis=0)
        covered = np.array([covered_shares(expected, other) for other in others]).reshape(
            len(others), len(expected)
        )
        return np.asarray((covered >= self.hidden_overlap).any(axis=0) & ~tracks.seen[dancer])

    def _fill_short_gaps(
        self, detected: npt.NDArray[np.bool_], times: Times, hidden: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Return (T,) presence: detections with short gaps filled and short presences removed."""
        out = detected.copy()
        for a, b in pairwise(np.flatnonzero(detected)):
            is_hidden = 2 * np.count_nonzero(hidden[a + 1 : b]) > b - a - 1
            most_s = self.max_hidden_s if is_hidden else self.max_gap_s
            if times[b] - times[a] <= most_s:
                out[a:b] = True
        for start, end in true_intervals(out):
            if times[end - 1] - times[start] < self.min_presence_s:
                out[start:end] = False
        return out


def boxes_at(times_s: Times, boxes: Floats, at_s: Times) -> Floats:
    """Interpolate boxes linearly at other times.

    Args:
        times_s: (T,) times of the boxes.
        boxes: (D, T, 4) boxes, NaN where a dancer was not detected.
        at_s: (N,) times of the result.

    Returns:
        (D, N, 4) boxes, NaN unless both neighbours were detected.
    """
    after = np.clip(np.searchsorted(times_s, at_s), 1, max(len(times_s) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(times_s) - 1)
    span = np.maximum(times_s[after] - times_s[before], 1e-9)
    share = np.clip((at_s - times_s[before]) / span, 0, 1)[None, :, None]
    # A neighbour with weight 0 may be NaN, so it is replaced by 0.
    low, high = np.where(share < 1, boxes[:, before], 0), np.where(share > 0, boxes[:, after], 0)
    return np.asarray((1 - share) * low + share * high, dtype=np.float32)
