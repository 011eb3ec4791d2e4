"""Estimate every dancer's 2D and 3D landmarks over a span, in two passes (paper section 3.1).

A landmark model is steadiest when its crop is. The first pass looks at the tracked boxes six to eight times a second and
yields the region the body really fills; these regions are smoothed over time, and the second pass looks at them in
every frame. Nothing is carried from frame to frame, so nothing drifts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d, median_filter

from opendance_hf.pipeline.backends import loaded
from opendance_hf.pipeline.backends.base import Backend, Keypoints, Picture, PoseEstimator, Region
from opendance_hf.pipeline.backends.blazepose import BlazePose
from opendance_hf.pipeline.clip import Clip, Floats, Image, Landmarks
from opendance_hf.pipeline.clothing import clothing_of_torso
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.pipeline.stage import Stage
from opendance_hf.pipeline.video import read_pictures
from opendance_hf.threads import in_order

_TORSO: Final = [
    LANDMARK_INDEX[name] for name in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
]
#: An image, the regions of the dancers in it, and whether to look at them in a mirror.
_Look = tuple[Image, list[Region], bool]


@dataclass(frozen=True)
class Pose(Stage):
    """Estimates landmarks in every frame.

    Args:
        estimator: finds the landmarks of one person in a region of a frame.
        first_pass_hz: how many frames a second the first pass looks at; a body does not outgrow its region faster.
        min_score: estimates with a lower score are of nobody.
        box_median_frames: window of the median over a dancer's boxes,
        box_smooth_frames: and the standard deviation of the Gaussian after it.
        max_shift: the first pass counts where its centre lies within this share of the box's own region; within twice
            of it in frames where the dancer was not detected,
        min_size: where its region is not smaller than this share of the box's region,
        max_size: and not larger.
        region_median: window of the median over regions of the first pass,
        region_smooth_frames: and the standard deviation of the Gaussian after it, in frames of the video.
        same_person_torsos: two estimates closer than this, in torso lengths, are of the same person.
        apart_torsos: two further apart than this show what each dancer wears.
    """

    name = "pose"
    reads = ("boxes",)
    writes = ("landmarks",)

    estimator: Backend = field(default_factory=BlazePose)
    first_pass_hz: float = 7.5
    min_score: float = 0.5
    box_median_frames: int = 5
    box_smooth_frames: float = 1.0
    max_shift: float = 0.35
    min_size: float = 0.5
    max_size: float = 1.6
    region_median: int = 3
    region_smooth_frames: float = 2.0
    same_person_torsos: float = 0.25
    apart_torsos: float = 1.0

    def __call__(self, clip: Clip) -> Clip:
        """Process one span."""
        passes = 0

        def frames() -> Iterator[Picture]:
            nonlocal passes
            first, passes = passes == 0, passes + 1
            for picture in read_pictures(clip.path, clip.start_s, clip.end_s):
                share = (picture.time_s - clip.start_s) / (clip.end_s - clip.start_s)
                # The second pass looks at every frame: of 30 a second, four fifths of the work.
                clip.job.report(share / 5 if first else (1 + 4 * share) / 5)
                yield picture

        return replace(
            clip, landmarks=self.estimate(frames, clip.boxes, loaded(self.estimator, clip.job.threads))
        )

    def estimate(
        self, frames: Callable[[], Iterable[Picture]], boxes: Floats, estimators: Sequence[PoseEstimator]
    ) -> Landmarks:
        """Return the landmarks of the dancers of a span.

        Args:
            frames: called twice; each time gives the pictures of the span anew.
            boxes: (D, T, 4) pixels, NaN where a dancer was not detected; every dancer is detected at least once.
            estimators: alike; one thread for each.
        """
        regions = [self._regions(track, estimators[0]) for track in boxes]
        looked, first = self._first_pass(frames, regions, estimators)
        steady = [
            self._steady([frame[d] for frame in first], looked, row, ~np.isnan(boxes[d, :, 0]))
            for d, row in enumerate(regions)
        ]
        return self._second_pass(frames, steady, estimators)

    def _regions(self, track: Floats, estimator: PoseEstimator) -> list[Region]:
        """Return one dancer's region in every frame from the (T, 4) boxes alone."""
        frames = np.arange(len(track))
        seen = ~np.isnan(track[:, 0])
        filled = np.stack([np.interp(frames, frames[seen], track[seen, c]) for c in range(4)], axis=1).astype(
            np.float32
        )
        filled = median_filter(filled, size=(self.box_median_frames, 1), mode="nearest")
        return [
            estimator.region_of_box(box) for box in gaussian_filter1d(filled, self.box_smooth_frames, axis=0)
        ]

    def _first_pass(
        self,
        frames: Callable[[], Iterable[Picture]],
        regions: list[list[Region]],
        estimators: Sequence[PoseEstimator],
    ) -> tuple[list[int], list[list[Keypoints]]]:
        """Return the numbers of the frames that were looked at, and the people in each."""
        looked: list[int] = []

        def chosen() -> Iterator[_Look]:
            due_s = -np.inf
            for t, picture in enumerate(frames()):
                if picture.time_s >= due_s - 1e-3:
                    due_s = picture.time_s + 1 / self.first_pass_hz
                    looked.append(t)
                    yield picture.rgb(), [row[t] for row in regions], False

        found = list(in_order(_estimate, chosen(), estimators))
        return looked, found

    def _steady(
        self, people: list[Keypoints], looked: list[int], boxes: list[Region], seen: npt.NDArray[np.bool_]
    ) -> list[Region]:
        """Return one dancer's smooth regions: of the first pass where it looked and counts, else of the boxes."""
        rows = []
        for t, person in zip(looked, people, strict=True):
            own, region = person.region, boxes[t]
            shift = np.hypot(own.cx - region.cx, own.cy - region.cy) / region.size
            counts = person.score >= self.min_score and (
                shift < self.max_shift and self.min_size < own.size / region.size < self.max_size
                if seen[t]
                else shift < 2 * self.max_shift
            )
            best = own if counts else region
            rows.append([best.cx, best.cy, np.log(best.size), np.cos(best.rotation), np.sin(best.rotation)])
        every = np.arange(len(boxes))
        steady = median_filter(np.asarray(rows), size=(self.region_median, 1), mode="nearest")
        table = np.stack([np.interp(every, looked, column) for column in steady.T], axis=1)
        table = gaussian_filter1d(table, self.region_smooth_frames, axis=0, mode="nearest")
        return [
            Region(cx, cy, float(np.exp(size)), float(np.arctan2(sin, cos)))
            for cx, cy, size, cos, sin in table.tolist()
        ]

    def _second_pass(
        self,
        frames: Callable[[], Iterable[Picture]],
        regions: list[list[Region]],
        estimators: Sequence[PoseEstimator],
    ) -> Landmarks:
        """Return the landmarks of all frames."""
        times: list[float] = []
        size = np.zeros(2)

        def every() -> Iterator[_Look]:
            nonlocal size
            for t, picture in enumerate(frames()):
                image = picture.rgb()
                times.append(picture.time_s)
                size = np.array([image.shape[1], image.shape[0]])
                # Left and right err differently: seen in a mirror every other time, they err alike once smoothed.
                yield image, [row[t] for row in regions], t % 2 == 1

        found = list(in_order(_estimate_and_dress, every(), estimators))
        people = [row for row, _ in found]
        result = Landmarks(
            times_s=np.asarray(times),
            image=_stack(people, lambda person: person.image),
            world=_stack(people, lambda person: person.world),
            visibility=_stack(people, lambda person: person.visibility),
            regions_px=np.array([[region.size for region in row] for row in regions], dtype=np.float32),
        )
        inside = ((result.image >= 0) & (result.image < size)).all(axis=-1)
        scores = _stack(people, lambda person: np.asarray(person.score, np.float32))
        visibility = result.visibility * (inside & (scores >= self.min_score)[..., None])
        result = replace(result, visibility=visibility)
        if len(regions) > 1:
            return self._without_strangers(result, np.stack([worn for _, worn in found], axis=1))
        return result

    def _without_strangers(self, found: Landmarks, clothing: Floats) -> Landmarks:
        """Where two estimates are of the same person, keep the dancer whose clothes these are.

        The other dancer's visibility becomes 0 in that frame.

        Args:
            found: landmarks of several dancers.
            clothing: (D, T, C) colours of each estimate's torso.
        """
        torso = found.image[:, :, _TORSO].mean(axis=2)
        shoulders = found.image[:, :, _TORSO[:2]].mean(axis=2)
        hips = found.image[:, :, _TORSO[2:]].mean(axis=2)
        length = np.linalg.norm(shoulders - hips, axis=-1)
        visibility = found.visibility.copy()
        usable = visibility.max(axis=-1) > 0
        for a in range(len(torso)):
            for b in range(a + 1, len(torso)):
                distance = np.linalg.norm(torso[a] - torso[b], axis=-1)
                same = (
                    usable[a] & usable[b] & (distance < self.same_person_torsos * (length[a] + length[b]) / 2)
                )
                apart = usable[a] & usable[b] & (distance > self.apart_torsos * (length[a] + length[b]) / 2)
                if not same.any():
                    continue
                if not apart.any():
                    visibility[b, same] = 0
                    continue
                usual_a, usual_b = (np.median(clothing[d, apart], axis=0) for d in (a, b))
                here = (clothing[a] + clothing[b]) / 2
                like_a = np.abs(here - usual_a).sum(-1) <= np.abs(here - usual_b).sum(-1)
                visibility[b, same & like_a] = 0
                visibility[a, same & ~like_a] = 0
        return replace(found, visibility=visibility)


def _estimate(model: PoseEstimator, look: _Look) -> list[Keypoints]:
    image, regions, mirrored = look
    return [model.estimate(image, region, mirrored) for region in regions]


def _estimate_and_dress(model: PoseEstimator, look: _Look) -> tuple[list[Keypoints], Floats]:
    people = _estimate(model, look)
    return people, np.stack([clothing_of_torso(look[0], person.image[_TORSO]) for person in people])


def _stack(frames: list[list[Keypoints]], value: Callable[[Keypoints], Floats]) -> Floats:
    return np.stack([np.stack([value(person) for person in frame]) for frame in frames], axis=1)
