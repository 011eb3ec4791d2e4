"""Find people some times a second, and note what each of them wears."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from opendance_hf.pipeline.arrays import load_arrays, save_arrays
from opendance_hf.pipeline.backends.base import Detector, Floats, Image, Picture
from opendance_hf.pipeline.stages.shake import CameraMotion
from opendance_hf.threads import in_order

EVERY_S = 1 / 7.5
#: Torso inside a person's box, as fractions of its width and height.
_TORSO_X = (0.25, 0.75)
_TORSO_Y = (0.15, 0.5)
_LAB_BINS = (8, 16, 16)
DESCRIPTOR_DIM = sum(_LAB_BINS)


@dataclass
class Detections:
    """People in the frames that were looked at, six to eight a second.

    Attributes:
        times_s: (T,) presentation times of those frames.
        boxes: T arrays (N_t, 5), ``x1 y1 x2 y2 score`` in pixels.
        clothing: T arrays (N_t, C), colour histogram of each torso, each row of unit sum.
        frames_s: (F,) presentation times of all frames.
        shifts: (F,) how far the background moved since the frame before, picture heights.
    """

    times_s: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    boxes: list[Floats] = field(default_factory=list)
    clothing: list[Floats] = field(default_factory=list)
    frames_s: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    shifts: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def between(self, start_s: float, end_s: float) -> Detections:
        """What was found from ``start_s`` until before ``end_s``."""
        rows = np.flatnonzero((self.times_s >= start_s - 1e-6) & (self.times_s < end_s - 1e-6))
        inside = (self.frames_s >= start_s - 1e-6) & (self.frames_s < end_s - 1e-6)
        return Detections(
            self.times_s[rows],
            [self.boxes[row] for row in rows],
            [self.clothing[row] for row in rows],
            self.frames_s[inside],
            self.shifts[inside],
        )

    def save(self, path: Path) -> None:
        """Write to an npz file."""
        save_arrays(
            path,
            times_s=self.times_s,
            frames_s=self.frames_s,
            shifts=self.shifts,
            counts=np.array([len(boxes) for boxes in self.boxes], dtype=np.int64),
            boxes=np.concatenate([np.zeros((0, 5), np.float32), *self.boxes]),
            clothing=np.concatenate([np.zeros((0, DESCRIPTOR_DIM), np.float32), *self.clothing]),
        )

    @classmethod
    def load(cls, path: Path) -> Detections:
        """Read what :meth:`save` wrote."""
        data = load_arrays(path)
        cuts = np.cumsum(data["counts"])[:-1]
        if len(data["counts"]) == 0:
            return cls(frames_s=data["frames_s"], shifts=data["shifts"])
        parts = np.split(data["boxes"], cuts), np.split(data["clothing"], cuts)
        return cls(data["times_s"], *parts, data["frames_s"], data["shifts"])


def detect_people(
    pictures: Iterable[Picture], detectors: Sequence[Detector], every_s: float = EVERY_S
) -> Detections:
    """Run a detector over pictures, at most one every ``every_s`` seconds.

    Args:
        pictures: of one video.
        detectors: alike; one thread for each.
        every_s: people do not move far in a seventh of a second, and their boxes are interpolated.
    """
    times: list[float] = []
    all_times: list[float] = []
    camera = CameraMotion()

    def chosen() -> Iterator[Image]:
        due_s = -np.inf
        for picture in pictures:
            all_times.append(picture.time_s)
            camera.see(picture.small)
            if picture.time_s >= due_s - 1e-3:
                due_s = picture.time_s + every_s
                times.append(picture.time_s)
                yield picture.rgb()

    def look(detector: Detector, image: Image) -> tuple[Floats, Floats]:
        boxes = detector.detect(image)
        worn = [clothing_of(image, box) for box in boxes]
        return boxes, np.stack(worn) if worn else np.zeros((0, DESCRIPTOR_DIM), np.float32)

    results = list(in_order(look, chosen(), detectors))
    return Detections(
        np.asarray(times, dtype=np.float64),
        [boxes for boxes, _ in results],
        [worn for _, worn in results],
        np.asarray(all_times, dtype=np.float64),
        np.asarray(camera.shifts, dtype=np.float64),
    )


def boxes_at(times_s: npt.NDArray[np.float64], boxes: Floats, at_s: npt.NDArray[np.float64]) -> Floats:
    """(D, T, 4) boxes at some times, interpolated at others: (D, N, 4), NaN unless both neighbours were found."""
    after = np.clip(np.searchsorted(times_s, at_s), 1, max(len(times_s) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(times_s) - 1)
    span = np.maximum(times_s[after] - times_s[before], 1e-9)
    share = np.clip((at_s - times_s[before]) / span, 0, 1)[None, :, None]
    # An end that counts for nothing may be missing.
    low, high = np.where(share < 1, boxes[:, before], 0), np.where(share > 0, boxes[:, after], 0)
    return np.asarray((1 - share) * low + share * high, dtype=np.float32)


def clothing_of(image: Image, box: Floats) -> Floats:
    """(C,) histogram of the torso's L, a and b values, one after another; the three parts weigh the same.

    Hue and lightness are binned apart: a blue top keeps its a and b under any light on the stage.
    """
    x1, y1, x2, y2 = box[:4]
    columns = np.clip([x1 + (x2 - x1) * f for f in _TORSO_X], 0, image.shape[1]).astype(int)
    rows = np.clip([y1 + (y2 - y1) * f for f in _TORSO_Y], 0, image.shape[0]).astype(int)
    patch = image[rows[0] : max(rows[1], rows[0] + 1), columns[0] : max(columns[1], columns[0] + 1)]
    if patch.size == 0:
        return np.full(DESCRIPTOR_DIM, 1 / DESCRIPTOR_DIM, np.float32)
    if max(patch.shape[:2]) > 64:
        patch = np.asarray(cv2.resize(patch, (32, 32), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    lab = cv2.cvtColor(np.ascontiguousarray(patch), cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.int64)
    # a and b of clothes lie within +-64 of grey; finer bins there tell more.
    lab[:, 1:] = np.clip((lab[:, 1:] - 128) * 2 + 128, 0, 255)
    parts = [np.bincount(lab[:, c] * bins // 256, minlength=bins) for c, bins in enumerate(_LAB_BINS)]
    histogram = np.concatenate(parts).astype(np.float32)
    return histogram / histogram.sum()
