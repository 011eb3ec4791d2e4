"""Choose the dancers among the people that another program found, and cut a shot into spans with the same dancers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.pipeline.clip import Clip, FoundPeople, Landmarks, Times, Tracks
from opendance_hf.pipeline.stage import Dropped
from opendance_hf.pipeline.stages.segment import Segment, boxes_at
from opendance_hf.pipeline.stages.track import Track

#: Rules that tell dancers from bystanders by their boxes.
_RULES: Final = Track()


@dataclass(frozen=True)
class Dancers(Segment):
    """Split a shot as ``segment`` does, by the people of another program; its numbers of people are kept.

    Args:
        min_duration_s: see :class:`~opendance_hf.pipeline.stages.segment.Segment`, as all fields but the last.
        max_duration_s: see there.
        max_dancers: see there.
        max_gap_s: see there.
        max_hidden_s: see there.
        hidden_overlap: see there.
        min_presence_s: see there.
        edge_share: see there.
        min_person_s: people who are found for less than this in a shot are not dancers: a second number of the same person,
            or somebody who is not there.
    """

    name = "dancers"
    version = 1
    reads = ("video", "camera_motion", "people")
    writes = ("boxes", "landmarks", "scores")
    changes = ("camera_motion",)

    min_person_s: float = 1.0

    def __call__(self, clip: Clip) -> list[Clip | Dropped]:
        """Process one shot; return one clip per span."""
        times_s = clip.camera_motion.times_s
        end_s = min(clip.end_s, clip.video.duration_s)
        if len(times_s) < 2:
            return [Dropped(clip.start_s, end_s, "fewer than two frames")]
        numbers, tracks, results = self.tracks_of(clip.people, times_s)
        if not len(numbers):
            return [*results, Dropped(clip.start_s, end_s, "nobody in the picture")]
        are_dancers = _RULES.are_dancers(tracks, clip.video.width_px)
        numbers, tracks = numbers[are_dancers], Tracks(times_s, tracks.boxes[are_dancers])
        scores = {**clip.scores, "bystanders": float((~are_dancers).sum())}
        for span in self.usable_spans(clip, tracks):
            if isinstance(span, Dropped):
                results.append(span)
                continue
            frames = clip.camera_motion.between(span.start_s, span.end_s)
            dancers = list(span.dancers)
            results.append(
                replace(
                    clip,
                    start_s=span.start_s,
                    end_s=span.end_s,
                    boxes=boxes_at(times_s, tracks.boxes[dancers], frames.times_s),
                    landmarks=landmarks_of(clip.people, numbers[dancers], frames.times_s),
                    camera_motion=frames,
                    scores=scores,
                )
            )
        return results

    def tracks_of(
        self, people: FoundPeople, times_s: Times
    ) -> tuple[npt.NDArray[np.int64], Tracks, list[Clip | Dropped]]:
        """Return the numbers and the boxes of the people of a shot, from left to right, and who is left out.

        Args:
            people: of the whole video.
            times_s: (T,) times of the frames of the shot.
        """
        step_s = float(np.median(np.diff(times_s)))
        inside, at = _places(people, times_s)
        numbers, counts = np.unique(people.people[inside], return_counts=True)
        ghosts = counts * step_s < self.min_person_s
        kept = numbers[~ghosts]
        boxes = np.full((len(kept), len(times_s), 4), np.nan, dtype=np.float32)
        for row, number in enumerate(kept):
            own = inside & (people.people == number)
            boxes[row, at[own]] = people.boxes[own]
        first = [float(np.nanmean(track[~np.isnan(track[:, 0])][:5, [0, 2]])) for track in boxes]
        order = np.argsort(first, kind="stable")
        left_out: list[Clip | Dropped] = []
        if ghosts.any():
            spans = times_s[at[inside & np.isin(people.people, numbers[ghosts])]]
            detail = f"{ghosts.sum()}, the longest for {counts[ghosts].max() * step_s:.1f} s, at least {self.min_person_s:g} s needed"
            left_out.append(
                Dropped(
                    float(spans.min()),
                    float(spans.max()) + step_s,
                    "people who are found for too short a time",
                    detail,
                )
            )
        return kept[order], Tracks(times_s, boxes[order]), left_out


def landmarks_of(people: FoundPeople, numbers: npt.NDArray[np.int64], times_s: Times) -> Landmarks:
    """Return the landmarks of D people at T frames of the video; visibility is 0 where a person is not found.

    Args:
        people: of the whole video.
        numbers: (D,) numbers of people, each of whom is found in at least one of the frames.
        times_s: (T,) times of frames.
    """
    inside, at = _places(people, times_s)
    shape = (len(numbers), len(times_s))
    image, world = np.zeros((*shape, 33, 2), np.float32), np.zeros((*shape, 33, 3), np.float32)
    visibility, regions = np.zeros((*shape, 33), np.float32), np.zeros(shape, np.float32)
    every = np.arange(len(times_s))
    for row, number in enumerate(numbers):
        own = inside & (people.people == number)
        found = at[own]
        # Where somebody is not found, the nearest frame has a place for them until stage ``complete`` interpolates.
        nearest = np.flatnonzero(own)[np.rint(np.interp(every, found, np.arange(len(found)))).astype(np.intp)]
        image[row], world[row], regions[row] = (
            people.image[nearest],
            people.world[nearest],
            people.regions_px[nearest],
        )
        visibility[row, found] = people.visibility[own]
    return Landmarks(times_s, image, world, visibility, regions)


def _places(people: FoundPeople, times_s: Times) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """Return for each row whether its frame is among some consecutive ones, and the number of its frame among them."""
    first = int(np.searchsorted(people.times_s, times_s[0] - 1e-6))
    at = people.frames - first
    return (at >= 0) & (at < len(times_s)), at
