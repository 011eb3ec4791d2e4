"""Estimate the SMPL body of every dancer in every frame (paper section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import ClassVar

import numpy as np

from opendance_hf.pipeline.backends import loaded
from opendance_hf.pipeline.backends.base import Backend, BodyEstimator
from opendance_hf.pipeline.backends.cliff import CLIFF
from opendance_hf.pipeline.clip import Bodies, Clip, Floats, Image
from opendance_hf.pipeline.stage import Stage
from opendance_hf.pipeline.video import read_frames
from opendance_hf.threads import in_order

Batch = tuple[list[Image], list[Floats]]


@dataclass(frozen=True)
class Lift(Stage):
    """Estimate bodies from single frames; boxes are interpolated where a dancer was not detected.

    Attributes:
        lifter: backend of the role ``lifter``.
        frames_at_once: number of frames in a batch for the lifter, independent of the number of threads.
        box_median_frames: window of the median over each box.
        box_gaussian_frames: standard deviation of the Gaussian over each box.
    """

    lifter: Backend = field(default_factory=CLIFF, metadata={"role": "lifter"})
    frames_at_once: int = 8
    box_median_frames: int = 5
    box_gaussian_frames: float = 1.0

    name: ClassVar[str] = "lift"
    reads: ClassVar[tuple[str, ...]] = ("boxes",)
    writes: ClassVar[tuple[str, ...]] = ("bodies",)

    def __call__(self, clip: Clip) -> Clip:
        """Estimate the bodies of one clip."""
        boxes = self.steady_boxes(clip.boxes)
        times: list[float] = []

        def batches() -> Iterator[Batch]:
            stream = read_frames(clip.path, clip.start_s, clip.end_s)
            while batch := list(islice(stream, self.frames_at_once)):
                first = len(times)
                times.extend(time_s for time_s, _ in batch)
                clip.job.report((times[-1] - clip.start_s) / (clip.end_s - clip.start_s))
                yield [image for _, image in batch], [boxes[:, first + i] for i in range(len(batch))]

        models = loaded(self.lifter, clip.job.threads)
        found = [body for bodies in in_order(_estimate, batches(), models) for body in bodies]
        rotations, betas, transl = (np.stack(values, axis=1) for values in zip(*found, strict=True))
        return replace(clip, bodies=Bodies(np.asarray(times), rotations, betas, transl))

    def steady_boxes(self, boxes: Floats) -> Floats:
        """Interpolate and smooth (D, T, 4) boxes, NaN where a dancer was not detected."""
        from scipy.ndimage import gaussian_filter1d, median_filter

        frames = np.arange(boxes.shape[1])
        out = np.empty_like(boxes)
        for track, filled in zip(boxes, out, strict=True):
            detected = ~np.isnan(track[:, 0])
            for c in range(4):
                filled[:, c] = np.interp(frames, frames[detected], track[detected, c])
        out = median_filter(out, size=(1, self.box_median_frames, 1), mode="nearest")
        return np.asarray(gaussian_filter1d(out, self.box_gaussian_frames, axis=1), dtype=np.float32)


def _estimate(model: BodyEstimator, batch: Batch) -> list[tuple[Floats, Floats, Floats]]:
    return model.estimate(*batch)
