"""Choose the frames of a clip that can be used, and complete what is missing in between (paper section 3.1)."""

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

#: From head to knees: feet may leave the image.
_BODY: Final = [
    LANDMARK_INDEX[name]
    for name in (
        "nose",
        *(f"{side}_{part}" for part in ("shoulder", "hip", "knee") for side in ("left", "right")),
    )
]


@dataclass(frozen=True)
class Complete(Stage):
    """Cut a clip into runs in which every dancer is seen from head to knees, and interpolate over short gaps.

    Attributes:
        min_duration_s: shorter runs are dropped.
        max_gap_s: a longer gap is not completed; the run ends there.
        min_seen: mean visibility of a body in a frame that is used.
        min_seen_at_edge: mean visibility, over ``edge_s``, where a clip's first run starts and its last one ends.
        edge_s: window of that mean.
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
        """Return one clip for each usable run, and what lies between them, in order of time."""
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
        """Return runs of frames in which every dancer is seen, but for short gaps, and what lies between them."""
        frames = self._usable_frames(found)
        times = found.times_s
        if len(frames) == 0:
            return [Dropped(float(times[0]), float(times[-1]), "no frame shows every dancer's body")]
        return list(self._runs_of(frames, times))

    def _usable_frames(self, found: Landmarks) -> npt.NDArray[np.intp]:
        """Return the numbers of the frames in which every dancer is seen."""
        frame_s = float(np.median(np.diff(found.times_s)))
        seen = found.visibility[..., _BODY].mean(axis=-1)
        window = max(1, round(self.edge_s / frame_s))
        steady = uniform_filter1d(seen, window, axis=1, mode="nearest") >= self.min_seen_at_edge
        edges = without_strays(np.flatnonzero(steady.all(axis=0)))
        if len(edges) == 0:
            return edges
        good = (seen >= self.min_seen).all(axis=0)
        good[: edges[0]] = good[edges[-1] + 1 :] = False
        return np.flatnonzero(good)

    def _runs_of(
        self, frames: npt.NDArray[np.intp], times: npt.NDArray[np.float64]
    ) -> Iterator[slice | Dropped]:
        frame_s = float(np.median(np.diff(times)))
        breaks = np.flatnonzero(np.diff(times[frames]) > self.max_gap_s)
        starts = [frames[0], *frames[breaks + 1]]
        ends = [*(frames[breaks] + 1), frames[-1] + 1]
        previous = 0
        for start, end in zip(starts, ends, strict=True):
            if times[start] - times[previous] > frame_s:
                why = "a dancer is hidden or cut off by the picture's edge"
                yield Dropped(float(times[previous]), float(times[start]), why)
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
    """Remove the first and last islands of frame numbers that are shorter than the gap between them and the rest."""
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
    """Replace estimates that were dropped by linear interpolation over time.

    Their visibility stays 0: completed landmarks guide the fit weakly, and ``confidence`` reports them.
    """
    out = replace(found, image=found.image.copy(), world=found.world.copy())
    for dancer, shown in enumerate(out.visibility):
        # A whole estimate that was dropped (a stranger, or nobody) is worthless; a hidden limb's is a fair guess.
        lost = shown.max(axis=-1) == 0
        if not lost.any():
            continue
        known = np.flatnonzero(~lost)
        for values in (out.image[dancer], out.world[dancer]):
            flat = values.reshape(len(values), -1)
            for column in flat.T:
                column[lost] = np.interp(out.times_s[lost], out.times_s[known], column[known])
    return out


def complete_bodies(found: Bodies, landmarks: Landmarks) -> Bodies:
    """Replace bodies of dancers who were not seen in a frame: interpolate between the frames before and after.

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
