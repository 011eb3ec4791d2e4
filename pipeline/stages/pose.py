"""Estimate every dancer's 2D and 3D landmarks over a span, in two passes.

A landmark model is steadiest when its crop is. The first pass looks at the tracked boxes six to eight times a second and
yields the region the body really fills; these regions are smoothed over time, and the second pass looks at them in
every frame. Nothing is carried from frame to frame, so nothing drifts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d, median_filter

from opendance_hf.motion.skeleton import LIMB_JOINTS
from opendance_hf.pipeline.arrays import load_arrays, save_arrays
from opendance_hf.pipeline.backends.base import Floats, Image, Keypoints, Picture, PoseEstimator, Region
from opendance_hf.pipeline.backends.blazepose import LANDMARK_INDEX, region_of_box
from opendance_hf.pipeline.stages.detect import clothing_of
from opendance_hf.threads import in_order

_MIN_SCORE: Final = 0.5
#: The first pass is believed where its centre lies within this share of the box's own region.
_MAX_SHIFT: Final = 0.35
_SMOOTH_FRAMES: Final = 2.0
#: A body does not outgrow its region in so little time: the first pass looks this often, at most.
_FIRST_PASS_S: Final = 1 / 7.5
#: Two estimates closer than this (in torso lengths) are of the same person.
_SAME_PERSON: Final = 0.25
_TORSO: Final = tuple(
    LANDMARK_INDEX[name] for name in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
)
_LIMBS: Final = tuple(LANDMARK_INDEX[name] for name in LIMB_JOINTS)


@dataclass
class Landmarks:
    """Landmarks of D dancers over T source frames; a landmark that must not be used has visibility 0.

    Attributes:
        times_s: (T,) seconds of the source.
        image: (D, T, 33, 2) pixels.
        world: (D, T, 33, 3) metres from the mid hip, x right, y up, z towards the camera.
        visibility: (D, T, 33) in [0, 1].
        regions_px: (D, T) side of each person's region, the scale their pixels are to be read at.
    """

    times_s: npt.NDArray[np.float64]
    image: Floats
    world: Floats
    visibility: Floats
    regions_px: Floats

    def confidence(self) -> Floats:
        """(D, T) mean visibility of the limbs, 0 where a frame had to be completed."""
        return np.asarray(self.visibility[..., list(_LIMBS)].mean(axis=-1), dtype=np.float32)

    def part(self, frames: slice) -> Landmarks:
        """Some of the frames."""
        return Landmarks(
            self.times_s[frames],
            self.image[:, frames],
            self.world[:, frames],
            self.visibility[:, frames],
            self.regions_px[:, frames],
        )

    def save(self, path: Path) -> None:
        """Write to an npz file."""
        save_arrays(path, **{f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Landmarks:
        """Read what :meth:`save` wrote."""
        return cls(**load_arrays(path))


def estimate_landmarks(
    frames: Callable[[], Iterable[Picture]],
    boxes: Floats,
    estimators: Sequence[PoseEstimator],
) -> Landmarks:
    """Landmarks of the dancers of a span.

    Args:
        frames: called twice; each time gives the pictures of the span anew.
        boxes: (D, T, 4) pixels, NaN where a dancer was not detected; every dancer is detected at least once.
        estimators: alike; one thread for each.
    """
    regions = _regions_of_boxes(boxes)

    def look(model: PoseEstimator, item: tuple[Image, list[Region], bool]) -> list[Keypoints]:
        image, where, mirrored = item
        return [model.estimate(image, region, mirrored) for region in where]

    looked: list[int] = []

    def some() -> Iterator[tuple[Image, list[Region], bool]]:
        due_s = -np.inf
        for t, picture in enumerate(frames()):
            if picture.time_s >= due_s - 1e-3:
                due_s = picture.time_s + _FIRST_PASS_S
                looked.append(t)
                yield picture.rgb(), [row[t] for row in regions], False

    first = list(in_order(look, some(), estimators))
    better = [
        _steady([frame[d] for frame in first], looked, row, ~np.isnan(boxes[d, :, 0]))
        for d, row in enumerate(regions)
    ]
    times: list[float] = []
    second: list[list[Keypoints]] = []
    clothing: list[Floats] = []
    sizes: list[tuple[int, int]] = []

    def timed() -> Iterator[tuple[Image, list[Region], bool]]:
        for t, picture in enumerate(frames()):
            image = picture.rgb()
            times.append(picture.time_s)
            sizes.append((image.shape[1], image.shape[0]))
            # Left and right err differently: seen in a mirror every other time, they err alike once smoothed.
            yield image, [row[t] for row in better], t % 2 == 1

    def look_and_note(
        model: PoseEstimator, item: tuple[Image, list[Region], bool]
    ) -> tuple[list[Keypoints], Floats]:
        people = look(model, item)
        return people, np.stack([_clothing(item[0], person) for person in people])

    for people, worn in in_order(look_and_note, timed(), estimators):
        second.append(people)
        clothing.append(worn)
    result = Landmarks(
        times_s=np.asarray(times),
        image=_stack(second, lambda person: person.image),
        world=_stack(second, lambda person: person.world),
        visibility=_stack(second, lambda person: person.visibility),
        regions_px=np.array([[region.size for region in row] for row in better], dtype=np.float32),
    )
    size = np.array(sizes[-1])
    inside = ((result.image >= 0) & (result.image < size)).all(axis=-1)
    scores = _stack(second, lambda person: np.asarray(person.score, np.float32))
    result.visibility *= inside & (scores >= _MIN_SCORE)[..., None]
    if len(boxes) > 1:
        _drop_strangers(result, np.stack(clothing, axis=1))
    return result


def _stack(frames: list[list[Keypoints]], value: Callable[[Keypoints], Floats]) -> Floats:
    return np.stack([np.stack([value(person) for person in frame]) for frame in frames], axis=1)


def _regions_of_boxes(boxes: Floats) -> list[list[Region]]:
    frames = np.arange(boxes.shape[1])
    out = []
    for track in boxes:
        seen = ~np.isnan(track[:, 0])
        filled = np.stack([np.interp(frames, frames[seen], track[seen, c]) for c in range(4)], axis=1).astype(
            np.float32
        )
        steady = gaussian_filter1d(median_filter(filled, size=(5, 1), mode="nearest"), 1.0, axis=0)
        out.append([region_of_box(box) for box in steady])
    return out


def _steady(
    people: list[Keypoints], looked: list[int], fallback: list[Region], seen: npt.NDArray[np.bool_]
) -> list[Region]:
    """Regions of the first pass where it looked and can be believed, else of the boxes, smoothed over time."""
    rows = []
    for t, person in zip(looked, people, strict=True):
        own, region = person.region, fallback[t]
        shift = np.hypot(own.cx - region.cx, own.cy - region.cy) / region.size
        believed = person.score >= _MIN_SCORE and (
            shift < _MAX_SHIFT and 0.5 < own.size / region.size < 1.6 if seen[t] else shift < 2 * _MAX_SHIFT
        )
        best = own if believed else region
        rows.append([best.cx, best.cy, np.log(best.size), np.cos(best.rotation), np.sin(best.rotation)])
    every = np.arange(len(fallback))
    steady = median_filter(np.asarray(rows), size=(3, 1), mode="nearest")
    table = np.stack([np.interp(every, looked, column) for column in steady.T], axis=1)
    table = gaussian_filter1d(table, _SMOOTH_FRAMES, axis=0, mode="nearest")
    return [
        Region(cx, cy, float(np.exp(size)), float(np.arctan2(sin, cos)))
        for cx, cy, size, cos, sin in table.tolist()
    ]


def _clothing(image: Image, person: Keypoints) -> Floats:
    """Colours of the torso between the shoulders and the hips."""
    torso = person.image[list(_TORSO)]
    low, high = torso.min(axis=0), torso.max(axis=0)
    middle, half = (low + high) / 2, np.maximum((high - low) / 2, 2.0)
    # clothing_of looks at the upper middle of a whole person's box: hand it a box whose middle is this torso.
    x, y = half[0] / 0.5, half[1] / 0.35
    return clothing_of(
        image,
        np.array(
            [middle[0] - x, middle[1] - 0.65 * y, middle[0] + x, middle[1] + 1.35 * y], dtype=np.float32
        ),
    )


def _drop_strangers(found: Landmarks, clothing: Floats) -> None:
    """Where two estimates are of the same person, keep the dancer whose clothes these are.

    Args:
        found: changed in place: the other dancer's visibility becomes 0 in that frame.
        clothing: (D, T, C) colours of each estimate's torso.
    """
    torso = found.image[:, :, list(_TORSO)].mean(axis=2)
    shoulders = found.image[:, :, list(_TORSO[:2])].mean(axis=2)
    hips = found.image[:, :, list(_TORSO[2:])].mean(axis=2)
    length = np.linalg.norm(shoulders - hips, axis=-1)
    usable = found.visibility.max(axis=-1) > 0
    for a in range(len(torso)):
        for b in range(a + 1, len(torso)):
            distance = np.linalg.norm(torso[a] - torso[b], axis=-1)
            same = usable[a] & usable[b] & (distance < _SAME_PERSON * (length[a] + length[b]) / 2)
            apart = usable[a] & usable[b] & (distance > 1.0 * (length[a] + length[b]) / 2)
            if not same.any():
                continue
            if not apart.any():
                found.visibility[b, same] = 0
                continue
            usual_a, usual_b = (np.median(clothing[d, apart], axis=0) for d in (a, b))
            here = (clothing[a] + clothing[b]) / 2
            like_a = np.abs(here - usual_a).sum(-1) <= np.abs(here - usual_b).sum(-1)
            found.visibility[b, same & like_a] = 0
            found.visibility[a, same & ~like_a] = 0
