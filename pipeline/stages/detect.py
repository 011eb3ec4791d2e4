"""Find people in every frame, and note what each of them wears."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from opendance_hf.pipeline.arrays import load_arrays, save_arrays
from opendance_hf.pipeline.backends.base import Detector, Floats, Image

#: Torso inside a person's box, as fractions of its width and height.
_TORSO_X = (0.25, 0.75)
_TORSO_Y = (0.15, 0.5)
_LAB_BINS = (8, 16, 16)
DESCRIPTOR_DIM = sum(_LAB_BINS)


@dataclass
class Detections:
    """People per frame of one shot.

    Attributes:
        times_s: (T,) presentation times.
        boxes: T arrays (N_t, 5), ``x1 y1 x2 y2 score`` in pixels.
        clothing: T arrays (N_t, C), colour histogram of each torso, each row of unit sum.
    """

    times_s: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    boxes: list[Floats] = field(default_factory=list)
    clothing: list[Floats] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write to an npz file."""
        save_arrays(
            path,
            times_s=self.times_s,
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
            return cls()
        return cls(data["times_s"], np.split(data["boxes"], cuts), np.split(data["clothing"], cuts))


def detect_people(frames: Iterable[tuple[float, Image]], detector: Detector) -> Detections:
    """Run the detector over (time, RGB image) frames."""
    found = Detections()
    times = []
    for time_s, image in frames:
        boxes = detector.detect(image)
        times.append(time_s)
        found.boxes.append(boxes)
        found.clothing.append(
            np.stack([clothing_of(image, box) for box in boxes])
            if len(boxes)
            else np.zeros((0, DESCRIPTOR_DIM), np.float32)
        )
    found.times_s = np.asarray(times, dtype=np.float64)
    return found


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
