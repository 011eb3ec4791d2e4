"""SMPL bodies of every dancer over a span from an estimator that looks at single frames (paper section 3.1).

CLIFF answers frame by frame; frames in which a dancer could not be seen are completed on the sphere and in a line, and
SmoothNet takes the jitter out of the rotations, in the six-number form that MMHuman3D smooths them in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter1d, median_filter

from opendance_hf.modeling.cliff import six_to_rotations
from opendance_hf.modeling.smoothnet import SmoothNetModel
from opendance_hf.motion.rotations import matrix_to_quaternion, quaternion_to_matrix, slerp
from opendance_hf.pipeline.arrays import load_arrays, save_arrays
from opendance_hf.pipeline.backends.base import Floats, Image
from opendance_hf.pipeline.backends.cliff import CLIFF
from opendance_hf.pipeline.stages.pose import Landmarks
from opendance_hf.pipeline.stages.smooth import both_sides, smooth_paths
from opendance_hf.threads import in_order

_FRAMES_AT_ONCE: Final = 8

Frames = Iterable[tuple[float, Image]]


@dataclass
class Bodies:
    """SMPL bodies of D dancers over T source frames, before the camera: x right, y down, z away from it.

    Attributes:
        times_s: (T,) seconds of the source.
        rotations: (D, T, 24, 3, 3) each joint relative to its parent, the root to the camera.
        betas: (D, T, 10) shape as seen in each frame.
        transl: (D, T, 3) SMPL's transl, metres.
    """

    times_s: npt.NDArray[np.float64]
    rotations: Floats
    betas: Floats
    transl: Floats

    def part(self, frames: slice) -> Bodies:
        """Some of the frames."""
        return Bodies(
            self.times_s[frames], self.rotations[:, frames], self.betas[:, frames], self.transl[:, frames]
        )

    def save(self, path: Path) -> None:
        """Write to an npz file."""
        save_arrays(path, **{f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Bodies:
        """Read what :meth:`save` wrote."""
        return cls(**load_arrays(path))


def estimate_bodies(
    frames: Callable[[], Frames], boxes: Floats, estimator: CLIFF, threads: int = 1
) -> Bodies:
    """Bodies of the dancers of a span.

    Args:
        frames: gives the span's (time, RGB image) pairs.
        boxes: (D, T, 4) pixels, NaN where a dancer was not detected; every dancer is detected at least once.
        estimator: looks at several frames at a time, the same ones however many threads there are.
        threads: that share the estimator.
    """
    steady = _steady_boxes(boxes)
    times: list[float] = []

    def batches() -> Iterator[tuple[list[Image], list[Floats]]]:
        stream = iter(frames())
        while some := list(islice(stream, _FRAMES_AT_ONCE)):
            first = len(times)
            times.extend(time_s for time_s, _ in some)
            yield [image for _, image in some], [steady[:, first + i] for i in range(len(some))]

    def look(model: CLIFF, batch: tuple[list[Image], list[Floats]]) -> list[tuple[Floats, Floats, Floats]]:
        return model.estimate(*batch)

    found = [body for some in in_order(look, batches(), [estimator] * threads) for body in some]
    rotations, betas, transl = (np.stack(values, axis=1) for values in zip(*found, strict=True))
    return Bodies(np.asarray(times), rotations, betas, transl)


def _steady_boxes(boxes: Floats) -> Floats:
    frames = np.arange(boxes.shape[1])
    out = np.empty_like(boxes)
    for track, steady in zip(boxes, out, strict=True):
        seen = ~np.isnan(track[:, 0])
        for c in range(4):
            steady[:, c] = np.interp(frames, frames[seen], track[seen, c])
    out = median_filter(out, size=(1, 5, 1), mode="nearest")
    return np.asarray(gaussian_filter1d(out, 1.0, axis=1), dtype=np.float32)


def complete_bodies(found: Bodies, landmarks: Landmarks) -> Bodies:
    """Bodies with those replaced whose dancer was not seen in the frame: between the frames before and after it.

    Args:
        found: bodies at the frames of ``landmarks``.
        landmarks: of visibility 0 where a whole person was not seen.
    """
    rotations, betas, transl = found.rotations.copy(), found.betas.copy(), found.transl.copy()
    for dancer, shown in enumerate(landmarks.visibility):
        lost = np.flatnonzero(shown.max(axis=-1) == 0)
        known = np.flatnonzero(shown.max(axis=-1) > 0)
        if len(lost) == 0 or len(known) == 0:
            continue
        after = np.searchsorted(known, lost)
        a, b = known[np.maximum(after - 1, 0)], known[np.minimum(after, len(known) - 1)]
        times = found.times_s
        share = (times[lost] - times[a]) / np.where(b > a, times[b] - times[a], 1.0)
        share = np.clip(share, 0, 1)
        quaternions = matrix_to_quaternion(rotations[dancer].astype(np.float64))
        between = np.broadcast_to(share[:, None], (len(lost), quaternions.shape[1]))
        rotations[dancer, lost] = quaternion_to_matrix(slerp(quaternions[a], quaternions[b], between))
        for values in (betas[dancer], transl[dancer]):
            values[lost] = (1 - share[:, None]) * values[a] + share[:, None] * values[b]
    return Bodies(found.times_s, rotations, betas, transl)


def smooth_bodies(found: Bodies, model: SmoothNetModel | None) -> Bodies:
    """Bodies without jitter: rotations by SmoothNet, or by the filters of the landmarks without one; places by these."""
    rate = (len(found.times_s) - 1) / float(found.times_s[-1] - found.times_s[0])
    six = np.ascontiguousarray(found.rotations[..., :2]).reshape(*found.rotations.shape[:3], 6)
    steady = smooth_paths(six, rate) if model is None else smoothed(model, six)
    rotations = six_to_rotations(torch.from_numpy(np.ascontiguousarray(steady))).numpy()
    transl = smooth_paths(found.transl[:, :, None], rate)[:, :, 0]
    return replace(found, rotations=rotations, transl=transl)


@torch.no_grad()
def smoothed(model: SmoothNetModel, paths: Floats) -> Floats:
    """(D, T, N, C) paths through SmoothNet along T, at the rate of the source."""
    flat = torch.from_numpy(np.ascontiguousarray(paths, dtype=np.float32)).flatten(2)
    return model(flat).smoothed.reshape(paths.shape).numpy()


def smooth_landmarks(found: Landmarks, model: SmoothNetModel) -> Landmarks:
    """Landmarks whose points in metres went through SmoothNet; those in the picture through our filters."""
    rate = (len(found.times_s) - 1) / float(found.times_s[-1] - found.times_s[0])
    return replace(
        found, image=smooth_paths(found.image, rate), world=smoothed(model, both_sides(found.world))
    )
