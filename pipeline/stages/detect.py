"""Detect people several times a second and compute a clothing histogram of each (paper section 3.1, Pre-Processing)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from opendance_hf.pipeline.backends import loaded
from opendance_hf.pipeline.backends.base import Backend, Detector, Picture
from opendance_hf.pipeline.backends.movenet import MoveNet
from opendance_hf.pipeline.clip import Clip, Detections, Floats, Image
from opendance_hf.pipeline.clothing import CLOTHING_DIM, clothing_of
from opendance_hf.pipeline.stage import Stage
from opendance_hf.pipeline.video import read_pictures
from opendance_hf.threads import in_order


@dataclass(frozen=True)
class Detect(Stage):
    """Run a detector on frames of the video.

    Args:
        detector: backend of the role ``detector``.
        rate_hz: number of frames per second that are processed; boxes are interpolated between them.
    """

    name = "detect"
    reads = ("video",)
    writes = ("detections",)
    runs_while_loading = True

    detector: Backend = field(default_factory=MoveNet, metadata={"role": "detector"})
    rate_hz: float = 7.5

    def __call__(self, clip: Clip) -> Clip:
        """Process a whole video."""

        def pictures() -> Iterator[Picture]:
            for picture in read_pictures(clip.path):
                clip.job.report(picture.time_s / max(clip.video.duration_s, 1e-3))
                yield picture

        return replace(
            clip, detections=self.detect_people(pictures(), loaded(self.detector, clip.job.threads))
        )

    def detect_people(self, pictures: Iterable[Picture], detectors: Sequence[Detector]) -> Detections:
        """Detect people in at most ``rate_hz`` pictures per second.

        Args:
            pictures: frames of one video, in order of time.
            detectors: equal instances, each used by one thread.
        """
        times: list[float] = []

        def sampled() -> Iterator[Image]:
            next_s = -np.inf
            for picture in pictures:
                if picture.time_s >= next_s - 1e-3:
                    next_s = picture.time_s + 1 / self.rate_hz
                    times.append(picture.time_s)
                    yield picture.rgb()

        found = list(in_order(_detect_with_clothing, sampled(), detectors))
        empty = np.zeros((0, 5), np.float32), np.zeros((0, CLOTHING_DIM), np.float32)
        return Detections(
            times_s=np.asarray(times, dtype=np.float64),
            counts=np.array([len(boxes) for boxes, _ in found], dtype=np.int64),
            boxes=np.concatenate([empty[0], *(boxes for boxes, _ in found)]),
            clothing=np.concatenate([empty[1], *(clothing for _, clothing in found)]),
        )


def _detect_with_clothing(detector: Detector, image: Image) -> tuple[Floats, Floats]:
    boxes = detector.detect(image)
    clothing = [clothing_of(image, box) for box in boxes]
    return boxes, np.stack(clothing) if clothing else np.zeros((0, CLOTHING_DIM), np.float32)
