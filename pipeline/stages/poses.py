"""Take the people that another program found in a video, instead of detecting them: GVHMR, WHAM or 4DHumans."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.formats import FormatError
from opendance_hf.formats.people import People, Person
from opendance_hf.pipeline.backends import loaded
from opendance_hf.pipeline.backends.base import Backend
from opendance_hf.pipeline.backends.results import GVHMR
from opendance_hf.pipeline.body_landmarks import (
    boxes_around,
    landmarks_in_camera,
    project,
    region_sides,
    relative_to_hips,
)
from opendance_hf.pipeline.clip import Clip, Detections, FoundPeople, Times, VideoInfo
from opendance_hf.pipeline.clothing import CLOTHING_DIM
from opendance_hf.pipeline.stage import Rejected, Stage
from opendance_hf.pipeline.video import read_pictures


@dataclass(frozen=True)
class Poses(Stage):
    """Read the results of another program for a video, and project its bodies to landmarks and boxes.

    A landmark is visible if it is in the picture. Joints are those of a body of mean proportions.

    Args:
        results: backend of the role ``results``.
        max_frames_off: largest difference between the numbers of frames of the video and of the results.
        min_depth_m: a body nearer to the camera than this, or behind it, counts as not found.
    """

    name = "poses"
    reads = ("video",)
    writes = ("detections", "people")

    results: Backend = field(default_factory=GVHMR, metadata={"role": "results"})
    max_frames_off: int = 2
    min_depth_m: float = 0.5

    def refuse(self, videos: list[Path]) -> dict[Path, str]:
        """Return why videos are refused: several of one name have the same results, which belong to one of them."""
        of_stem: dict[str, list[Path]] = {}
        for video in videos:
            of_stem.setdefault(video.stem, []).append(video)
        return {
            video: f"{len(same)} videos are named {video.stem!r}, and results belong to one; give each a name of its own"
            for same in of_stem.values()
            if len(same) > 1
            for video in same
        }

    def __call__(self, clip: Clip) -> Clip:
        """Process a whole video.

        Raises:
            Rejected: if there are no results for the video, or they cannot be read or belong to another video.
        """
        (results,) = loaded(self.results)
        file = results.of_video(clip.path)
        if file is None:
            raise Rejected(f"no results of {self.results.name} for this video")
        try:
            found = results.read(file)
        except (FormatError, OSError) as error:
            raise Rejected(f"results of {self.results.name} cannot be read: {error}") from None
        times: list[float] = []
        for picture in read_pictures(clip.path):
            clip.job.report(picture.time_s / max(clip.video.duration_s, 1e-3))
            times.append(picture.time_s)
        people = self.placed(found, np.asarray(times), clip.video)
        return replace(clip, people=people, detections=_detections(people))

    def placed(self, found: People, times_s: Times, video: VideoInfo) -> FoundPeople:
        """Return the people of a video as landmarks.

        Args:
            found: people as the program saw them.
            times_s: (F,) presentation times of the video's frames.
            video: size of the picture.

        Raises:
            Rejected: if the program processed another number of frames.
        """
        last = max((int(person.frames[-1]) + 1 for person in found.persons), default=0)
        count, least = found.num_frames or last, found.num_frames or 0
        off = self.max_frames_off
        if count > len(times_s) + off or 0 < least < len(times_s) - off:
            raise Rejected(
                f"the results of {self.results.name} are those of another video: {count} frames, the video has {len(times_s)}"
            )
        scale = video.width_px / (found.width_px or video.width_px)
        focal_px = (found.focal_px or video.diagonal_px / scale) * scale
        parts = [self._rows(person, focal_px, len(times_s), video) for person in found.persons]
        numbers = [np.full(len(frames), number) for number, (frames, *_) in enumerate(parts)]
        empty = self._rows(_NOBODY, focal_px, 0, video)
        frames, boxes, image, world, visibility, regions = (
            np.concatenate(values) for values in zip(empty, *parts, strict=True)
        )
        people = np.concatenate([np.zeros(0, np.int64), *numbers])
        return FoundPeople(times_s, people, frames, boxes, image, world, visibility, regions)

    def _rows(
        self, person: Person, focal_px: float, num_frames: int, video: VideoInfo
    ) -> tuple[npt.NDArray[Any], ...]:
        """Return the arrays of :class:`FoundPeople` for one person."""
        kept = (person.pelvis[:, 2] >= self.min_depth_m) & (person.frames < num_frames)
        person = replace(
            person, frames=person.frames[kept], rotations=person.rotations[kept], pelvis=person.pelvis[kept]
        )
        size = video.width_px, video.height_px
        points = landmarks_in_camera(person)
        # A hand that reaches behind the camera has no pixel.
        points[..., 2] = np.maximum(points[..., 2], self.min_depth_m / 4)
        image = project(points, focal_px, *size)
        metre_px = focal_px / person.pelvis[:, 2]
        inside = ((image >= 0) & (image < size)).all(axis=-1)
        return (
            person.frames,
            boxes_around(image, metre_px, *size),
            image.astype(np.float32),
            relative_to_hips(points).astype(np.float32),
            np.asarray(inside, dtype=np.float32),
            region_sides(metre_px),
        )


_NOBODY: Final = Person("", np.zeros(0, np.int64), np.zeros((0, 24, 3, 3)), np.zeros((0, 3)))


def _detections(people: FoundPeople) -> Detections:
    """Return the boxes as detections with a score of 1, whose clothing is not measured."""
    order = np.argsort(people.frames, kind="stable")
    boxes = people.boxes[order]
    return Detections(
        times_s=people.times_s,
        counts=np.bincount(people.frames, minlength=len(people.times_s)),
        boxes=np.hstack([boxes, np.ones((len(boxes), 1), np.float32)]),
        clothing=np.full((len(boxes), CLOTHING_DIM), 1 / CLOTHING_DIM, np.float32),
    )
