"""Estimate every dancer's 2D and 3D landmarks over a span, in two passes (paper section 3.1).

Landmarks jitter less when the crop moves smoothly. The first pass estimates landmarks in the tracked boxes about 7.5 times
a second, which gives the region that the body fills. These regions are smoothed over time, and the second pass estimates
landmarks in them, 12 times a second, with a larger network. Between these frames landmarks are interpolated. No frame
depends on the result of the previous one, so errors do not accumulate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.pipeline.backends import loaded
from opendance_hf.pipeline.backends.base import Backend, Keypoints, Picture, PoseEstimator, Region
from opendance_hf.pipeline.backends.blazepose import BlazePose, BlazePoseHeavy
from opendance_hf.pipeline.clip import Clip, Floats, Image, Landmarks, Times
from opendance_hf.pipeline.clothing import clothing_of_torso
from opendance_hf.pipeline.exchanges import find_exchanges, undo_exchanges
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.pipeline.stage import Stage
from opendance_hf.pipeline.video import read_pictures
from opendance_hf.threads import in_order

_TORSO: Final = [
    LANDMARK_INDEX[name] for name in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
]
#: An image, and the regions of the dancers in it.
_Request = tuple[Image, list[Region]]


@dataclass(frozen=True)
class Pose(Stage):
    """Estimate landmarks several times a second, and interpolate them between these frames.

    Args:
        estimator: backend of the role ``pose``.
        region_estimator: backend of the first pass, which finds only the region of the body.
        rate_hz: number of frames per second that the second pass processes, if the video has as many.
        first_pass_hz: number of frames per second that the first pass processes.
        min_score: estimates with a lower score are ignored.
        box_median_frames: window of the median over a dancer's boxes.
        box_smooth_frames: standard deviation of the Gaussian after that median.
        max_shift: the region of the first pass is used if its centre is closer to the box's region than this share of the
            region's side (twice this share in frames where the dancer was not detected).
        min_size: minimum side of that region as a share of the box's region (checked where the dancer was detected).
        max_size: maximum side of that region, likewise.
        region_median: window of the median over regions of the first pass.
        region_smooth_frames: standard deviation of the Gaussian after that median, in frames of the video.
        same_person_torsos: two estimates closer than this, in torso lengths, are of the same person.
        apart_torsos: frames with the dancers further apart than this give the clothing histogram of each.
        max_exchange_s: left and right limbs that jump to each other's tracks are exchanged back if they jump back within
            this time, see :func:`opendance_hf.pipeline.exchanges.find_exchanges`; 0 to keep them as found.
        min_exchange_gain_m: minimum decrease of the deviation from smooth tracks.
        max_exchange_share: maximum share of this deviation that is left.
    """

    name = "pose"
    version = 3
    reads = ("boxes",)
    writes = ("landmarks", "scores")

    estimator: Backend = field(default_factory=BlazePoseHeavy, metadata={"role": "pose"})
    region_estimator: Backend = field(default_factory=BlazePose, metadata={"role": "pose"})
    rate_hz: float = 12.0
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
    max_exchange_s: float = 1.0
    min_exchange_gain_m: float = 1.0
    max_exchange_share: float = 0.6

    def __call__(self, clip: Clip) -> Clip:
        """Process one span."""
        passes = 0

        def frames() -> Iterator[Picture]:
            nonlocal passes
            first, passes = passes == 0, passes + 1
            for picture in read_pictures(clip.path, clip.start_s, clip.end_s):
                share = (picture.time_s - clip.start_s) / (clip.end_s - clip.start_s)
                # The second pass takes about four fifths of the time.
                clip.job.report(share / 5 if first else (1 + 4 * share) / 5)
                yield picture

        models = (loaded(backend, clip.job.threads) for backend in (self.estimator, self.region_estimator))
        landmarks, exchanged = self.estimate(frames, clip.boxes, *models)
        return replace(clip, landmarks=landmarks, scores={**clip.scores, "exchanged": exchanged})

    def estimate(
        self,
        frames: Callable[[], Iterable[Picture]],
        boxes: Floats,
        estimators: Sequence[PoseEstimator],
        first: Sequence[PoseEstimator],
    ) -> tuple[Landmarks, float]:
        """Estimate the landmarks of the dancers of a span, and undo exchanges of left and right.

        Returns:
            The landmarks, and the share of the processed frames with an exchange, of the dancer with the largest share.

        Args:
            frames: called twice; returns an iterable over the pictures of the span.
            boxes: (D, T, 4) pixels, NaN where a dancer was not detected; every dancer is detected at least once.
            estimators: equal instances for the second pass, each used by one thread.
            first: the same for the first pass.
        """
        regions = [self._regions(track, estimators[0]) for track in boxes]
        sampled, found = self._first_pass(frames, regions, first)
        smoothed = [
            self._smooth_regions([frame[d] for frame in found], sampled, row, ~np.isnan(boxes[d, :, 0]))
            for d, row in enumerate(regions)
        ]
        return self._second_pass(frames, smoothed, estimators)

    def _regions(self, track: Floats, estimator: PoseEstimator) -> list[Region]:
        """Compute one dancer's region in every frame from the (T, 4) boxes."""
        from scipy.ndimage import gaussian_filter1d, median_filter

        frames = np.arange(len(track))
        detected = ~np.isnan(track[:, 0])
        filled = np.stack(
            [np.interp(frames, frames[detected], track[detected, c]) for c in range(4)], axis=1
        ).astype(np.float32)
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
        """Return the indices of the sampled frames, and the estimates of all dancers in each."""
        sampled: list[int] = []

        def requests() -> Iterator[_Request]:
            for t, picture in looks(frames(), self.first_pass_hz):
                sampled.append(t)
                yield picture.rgb(), [row[t] for row in regions]

        found = list(in_order(_estimate, requests(), estimators))
        return sampled, found

    def _smooth_regions(
        self,
        people: list[Keypoints],
        sampled: list[int],
        boxes: list[Region],
        detected: npt.NDArray[np.bool_],
    ) -> list[Region]:
        """Return one dancer's smoothed regions, from the first pass where its estimate is plausible, else from the boxes."""
        from scipy.ndimage import gaussian_filter1d, median_filter

        rows = []
        for t, person in zip(sampled, people, strict=True):
            estimated, region = person.region, boxes[t]
            shift = np.hypot(estimated.cx - region.cx, estimated.cy - region.cy) / region.size
            plausible = person.score >= self.min_score and (
                shift < self.max_shift and self.min_size < estimated.size / region.size < self.max_size
                if detected[t]
                else shift < 2 * self.max_shift
            )
            best = estimated if plausible else region
            rows.append([best.cx, best.cy, np.log(best.size), np.cos(best.rotation), np.sin(best.rotation)])
        all_frames = np.arange(len(boxes))
        smoothed = median_filter(np.asarray(rows), size=(self.region_median, 1), mode="nearest")
        table = np.stack([np.interp(all_frames, sampled, column) for column in smoothed.T], axis=1)
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
    ) -> tuple[Landmarks, float]:
        """Estimate the landmarks in some frames, undo exchanges of left and right, and interpolate them to all."""
        times: list[float] = []
        sampled: list[int] = []
        size = np.zeros(2)

        def noted() -> Iterator[Picture]:
            for picture in frames():
                times.append(picture.time_s)
                yield picture

        def requests() -> Iterator[_Request]:
            nonlocal size
            for t, picture in looks(noted(), self.rate_hz, last=len(regions[0]) - 1):
                image = picture.rgb()
                sampled.append(t)
                size = np.array([image.shape[1], image.shape[0]])
                yield image, [row[t] for row in regions]

        found = list(in_order(_estimate_with_clothing, requests(), estimators))
        people = [row for row, _ in found]
        result = Landmarks(
            times_s=np.asarray(times)[sampled],
            image=_stack(people, lambda person: person.image),
            world=_stack(people, lambda person: person.world),
            visibility=_stack(people, lambda person: person.visibility),
            regions_px=np.array(
                [[row[t].size for t in range(len(times))] for row in regions], dtype=np.float32
            ),
        )
        scores = _stack(people, lambda person: np.asarray(person.score, np.float32))
        seen = result.visibility * self.usable(result.image, scores, size)
        result = replace(result, visibility=seen)
        if len(regions) > 1:
            result = self._resolve_duplicates(result, np.stack([clothing for _, clothing in found], axis=1))
        limits = (self.max_exchange_s, self.min_exchange_gain_m, self.max_exchange_share)
        exchanged = find_exchanges(result, *limits)
        result = undo_exchanges(result, exchanged)
        share = float(exchanged.any(axis=-1).mean(axis=1).max())
        return interpolated(result, np.asarray(times)), share

    def usable(self, image: Floats, scores: Floats, size: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
        """Return (D, T, 33) True where a landmark is in the picture and the estimate is of a person.

        Args:
            image: (D, T, 33, 2) landmarks, pixels.
            scores: (D, T) of the estimates.
            size: (2,) width and height of the picture.
        """
        inside = ((image >= 0) & (image < size)).all(axis=-1)
        return np.asarray(inside & (scores >= self.min_score)[..., None])

    def _resolve_duplicates(self, found: Landmarks, clothing: Floats) -> Landmarks:
        """Resolve frames in which two estimates are of the same person, by the clothing of the dancers.

        The visibility of the dancer whose clothing fits less becomes 0 in that frame.

        Args:
            found: landmarks of several dancers.
            clothing: (D, T, C) colour histogram of each estimate's torso.
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
                median_a, median_b = (np.median(clothing[d, apart], axis=0) for d in (a, b))
                observed = (clothing[a] + clothing[b]) / 2
                is_a = np.abs(observed - median_a).sum(-1) <= np.abs(observed - median_b).sum(-1)
                visibility[b, same & is_a] = 0
                visibility[a, same & ~is_a] = 0
        return replace(found, visibility=visibility)


def looks(pictures: Iterable[Picture], rate_hz: float, last: int = -1) -> Iterator[tuple[int, Picture]]:
    """Yield the first picture of every 1 / rate_hz seconds with its number, and the picture with the number ``last``.

    The times do not drift: on average there are ``rate_hz`` pictures a second, also if that does not divide their rate.
    """
    start_s, count = None, 0
    for t, picture in enumerate(pictures):
        start_s = picture.time_s if start_s is None else start_s
        due = picture.time_s - start_s >= count / rate_hz - 1e-3
        if due or t == last:
            count = max(count, int((picture.time_s - start_s) * rate_hz + 1e-3)) + 1
            yield t, picture


def interpolated(found: Landmarks, times_s: Times) -> Landmarks:
    """Interpolate landmarks to more frames, by cubic splines through the frames in which the person was found.

    Between two frames of which one shows nothing of a person, visibility is 0 (stage complete fills such gaps).

    Args:
        found: landmarks of some of the frames, ``regions_px`` of all.
        times_s: (T,) times of all frames.
    """
    from scipy.interpolate import make_interp_spline

    if len(found.times_s) == len(times_s):
        return found
    image: list[Floats] = []
    world: list[Floats] = []
    visibility: list[Floats] = []
    for dancer, seen in enumerate(found.visibility):
        good = seen.max(axis=-1) > 0
        known = np.flatnonzero(good) if good.any() else np.arange(len(good))
        for values, out in ((found.image, image), (found.world, world)):
            spline = make_interp_spline(found.times_s[known], values[dancer, known], k=min(3, len(known) - 1))
            clock = np.clip(times_s, found.times_s[known[0]], found.times_s[known[-1]])
            out.append(np.asarray(spline(clock), dtype=np.float32))
        # The weaker of both neighbours where one is missing, else in between.
        after = np.searchsorted(found.times_s, times_s).clip(0, len(good) - 1)
        before = np.where(found.times_s[after] <= times_s + 1e-9, after, (after - 1).clip(0))
        step = found.times_s[after] - found.times_s[before]
        share = np.divide(times_s - found.times_s[before], step, out=np.zeros(len(times_s)), where=step > 0)
        between = seen[before] + share[:, None].clip(0, 1) * (seen[after] - seen[before])
        visibility.append(np.where((good[before] & good[after])[:, None], between, 0.0).astype(np.float32))
    return Landmarks(times_s, np.stack(image), np.stack(world), np.stack(visibility), found.regions_px)


def _estimate(model: PoseEstimator, request: _Request) -> list[Keypoints]:
    image, regions = request
    return [model.estimate(image, region) for region in regions]


def _estimate_with_clothing(model: PoseEstimator, request: _Request) -> tuple[list[Keypoints], Floats]:
    people = _estimate(model, request)
    return people, np.stack([clothing_of_torso(request[0], person.image[_TORSO]) for person in people])


def _stack(frames: list[list[Keypoints]], value: Callable[[Keypoints], Floats]) -> Floats:
    return np.stack([np.stack([value(person) for person in frame]) for frame in frames], axis=1)
