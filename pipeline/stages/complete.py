"""Select the usable frames of a clip and interpolate over short gaps between them (paper section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from opendance_hf.motion.rotations import matrix_to_quaternion, quaternion_to_matrix, slerp
from opendance_hf.pipeline.clip import Bodies, Clip, Landmarks
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.pipeline.stage import Dropped, Stage

#: Landmarks from head to knees. Feet are not required, as they may leave the image.
_BODY: Final = [
    LANDMARK_INDEX[name]
    for name in (
        "nose",
        *(f"{side}_{part}" for part in ("shoulder", "hip", "knee") for side in ("left", "right")),
    )
]


@dataclass(frozen=True)
class Complete(Stage):
    """Cut a clip into runs in which every dancer is visible from head to knees, and interpolate over short gaps.

    Attributes:
        min_duration_s: shorter runs are dropped.
        max_gap_s: longest gap that is interpolated; a longer one ends the run.
        min_seen: minimum mean visibility of a body in a usable frame.
        min_seen_at_edge: minimum mean visibility, averaged over ``edge_s``, at the first and the last usable frame.
        edge_s: window of that average.
    """

    min_duration_s: float = 4.0
    max_gap_s: float = 1.0
    min_seen: float = 0.5
    min_seen_at_edge: float = 0.7
    edge_s: float = 0.5

    name: ClassVar[str] = "complete"
    reads: ClassVar[tuple[str, ...]] = ("landmarks",)
    changes: ClassVar[tuple[str, ...]] = ("landmarks", "bodies")

    def __call__(self, clip: Clip) -> list[Clip | Dropped]:
        """Return one clip for each usable run, and the dropped spans between them, in order of time."""
        found, bodies = clip.landmarks, clip.bodies
        frame_s = float(np.median(np.diff(found.times_s)))
        out: list[Clip | Dropped] = []
        for run in self.usable_runs(found):
            if isinstance(run, Dropped):
                out.append(run)
                continue
            landmarks = complete_landmarks(found.part(run))
            times_s = landmarks.times_s
            out.append(
                replace(
                    clip,
                    start_s=float(times_s[0]),
                    end_s=float(times_s[-1]) + frame_s,
                    landmarks=landmarks,
                    bodies=None if bodies is None else complete_bodies(bodies.part(run), landmarks),
                )
            )
        return out

    def usable_runs(self, found: Landmarks) -> list[slice | Dropped]:
        """Return runs of frames in which every dancer is visible except for short gaps, and the spans between them."""
        frames = self._usable_frames(found)
        times = found.times_s
        if len(frames) == 0:
            return [Dropped(float(times[0]), float(times[-1]), "no frame shows every dancer's body")]
        return list(self._split_at_gaps(frames, times))

    def _usable_frames(self, found: Landmarks) -> npt.NDArray[np.intp]:
        """Return the indices of the frames in which every dancer is visible."""
        frame_s = float(np.median(np.diff(found.times_s)))
        visibility = found.visibility[..., _BODY].mean(axis=-1)
        window = max(1, round(self.edge_s / frame_s))
        visible = uniform_filter1d(visibility, window, axis=1, mode="nearest") >= self.min_seen_at_edge
        edges = without_strays(np.flatnonzero(visible.all(axis=0)))
        if len(edges) == 0:
            return edges
        usable = (visibility >= self.min_seen).all(axis=0)
        usable[: edges[0]] = usable[edges[-1] + 1 :] = False
        return np.flatnonzero(usable)

    def _split_at_gaps(
        self, frames: npt.NDArray[np.intp], times: npt.NDArray[np.float64]
    ) -> Iterator[slice | Dropped]:
        frame_s = float(np.median(np.diff(times)))
        breaks = np.flatnonzero(np.diff(times[frames]) > self.max_gap_s)
        starts = [frames[0], *frames[breaks + 1]]
        ends = [*(frames[breaks] + 1), frames[-1] + 1]
        previous = 0
        for start, end in zip(starts, ends, strict=True):
            if times[start] - times[previous] > frame_s:
                reason = "a dancer is hidden or cut off by the picture's edge"
                yield Dropped(float(times[previous]), float(times[start]), reason)
            start_s, end_s = float(times[start]), float(times[end - 1]) + frame_s
            if end_s - start_s >= self.min_duration_s:
                yield slice(int(start), int(end))
            else:
                detail = f"{end_s - start_s:.1f} s, at least {self.min_duration_s:g} s needed"
                yield Dropped(start_s, end_s, "too short between two long gaps", detail)
            previous = end - 1
        if times[-1] - times[previous] > frame_s:
            yield Dropped(
                float(times[previous]), float(times[-1]), "a dancer is hidden or cut off at the end"
            )


def without_strays(frames: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Remove isolated frame indices at both ends: runs that are shorter than the gap between them and the rest."""
    while len(frames):
        breaks = np.flatnonzero(np.diff(frames) > 1)
        if len(breaks) == 0:
            break
        first, last = breaks[0], breaks[-1]
        if first + 1 < frames[first + 1] - frames[first]:
            frames = frames[first + 1 :]
        elif len(frames) - 1 - last < frames[last + 1] - frames[last]:
            frames = frames[: last + 1]
        else:
            break
    return frames


def complete_landmarks(found: Landmarks) -> Landmarks:
    """Replace missing estimates by linear interpolation over time.

    Their visibility stays 0: interpolated landmarks have little weight in the fit, and ``confidence`` is 0 for them.
    """
    out = replace(found, image=found.image.copy(), world=found.world.copy())
    for dancer, visibility in enumerate(out.visibility):
        # Only frames without any visible landmark (another person, or nobody) are replaced: the estimate of a hidden limb
        # is still better than interpolation.
        missing = visibility.max(axis=-1) == 0
        if not missing.any():
            continue
        known = np.flatnonzero(~missing)
        for values in (out.image[dancer], out.world[dancer]):
            flat = values.reshape(len(values), -1)
            for column in flat.T:
                column[missing] = np.interp(out.times_s[missing], out.times_s[known], column[known])
    return out


def complete_bodies(found: Bodies, landmarks: Landmarks) -> Bodies:
    """Replace bodies of dancers who are not visible in a frame by interpolation between the frames before and after.

    Args:
        found: bodies at the frames of ``landmarks``.
        landmarks: landmarks whose visibility is 0 where the person is not visible.
    """
    rotations, betas, transl = found.rotations.copy(), found.betas.copy(), found.transl.copy()
    for dancer, visibility in enumerate(landmarks.visibility):
        missing = np.flatnonzero(visibility.max(axis=-1) == 0)
        known = np.flatnonzero(visibility.max(axis=-1) > 0)
        if len(missing) == 0 or len(known) == 0:
            continue
        after = np.searchsorted(known, missing)
        a, b = known[np.maximum(after - 1, 0)], known[np.minimum(after, len(known) - 1)]
        times = found.times_s
        share = (times[missing] - times[a]) / np.where(b > a, times[b] - times[a], 1.0)
        share = np.clip(share, 0, 1)
        quaternions = matrix_to_quaternion(rotations[dancer].astype(np.float64))
        between = np.broadcast_to(share[:, None], (len(missing), quaternions.shape[1]))
        rotations[dancer, missing] = quaternion_to_matrix(slerp(quaternions[a], quaternions[b], between))
        for values in (betas[dancer], transl[dancer]):
            values[missing] = (1 - share[:, None]) * values[a] + share[:, None] * values[b]
    return Bodies(found.times_s, rotations, betas, transl)
