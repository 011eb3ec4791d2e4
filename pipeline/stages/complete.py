"""Select the usable frames of a clip and interpolate over short gaps between them (paper section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.intervals import true_intervals
from opendance_hf.motion.rotations import matrix_to_quaternion, quaternion_to_matrix, slerp
from opendance_hf.pipeline.clip import Bodies, Clip, Floats, Landmarks, VideoInfo
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
_ANKLES: Final = [LANDMARK_INDEX["left_ankle"], LANDMARK_INDEX["right_ankle"]]


@dataclass(frozen=True)
class Complete(Stage):
    """Cut a clip into runs in which every dancer is visible from head to knees, and interpolate over short gaps.

    Spans in which the picture's edge cuts off the legs of a dancer are dropped first: the estimator invents legs there,
    often inside the picture.

    Attributes:
        min_duration_s: shorter runs are dropped.
        keep_half_bodies: True to keep spans without legs and only measure the score ``legs_out``. Their legs are invented.
        max_legs_out: maximum share of frames without legs within ``legs_window_s``; frames without an estimate of the
            dancer do not count.
        legs_window_s: window of this share, and minimum duration of a span that is dropped for it.
        edge_share: margin at the bottom of the picture, as a share of its height, within which a box is cut off.
        foot_gap: maximum distance from the lower ankle to the bottom of such a box, as a share of the box's height; the
            ankle of an adult is at 5 percent of the height.
        min_ankle_seen: minimum visibility of a visible ankle.
        max_gap_s: longest gap that is interpolated; a longer one ends the run.
        min_seen: minimum mean visibility of a body in a usable frame.
        min_seen_at_edge: minimum mean visibility, averaged over ``edge_s``, at the first and the last usable frame.
        edge_s: window of that average.
    """

    min_duration_s: float = 4.0
    keep_half_bodies: bool = False
    max_legs_out: float = 0.5
    legs_window_s: float = 2.0
    edge_share: float = 0.02
    foot_gap: float = 0.15
    min_ankle_seen: float = 0.5
    max_gap_s: float = 1.0
    min_seen: float = 0.5
    min_seen_at_edge: float = 0.7
    edge_s: float = 0.5

    name: ClassVar[str] = "complete"
    version: ClassVar[int] = 2
    reads: ClassVar[tuple[str, ...]] = ("video", "boxes", "landmarks")
    writes: ClassVar[tuple[str, ...]] = ("scores",)
    changes: ClassVar[tuple[str, ...]] = ("landmarks", "bodies")

    def __call__(self, clip: Clip) -> list[Clip | Dropped]:
        """Return one clip for each usable run, and the dropped spans between them, in order of time."""
        found, bodies = clip.landmarks, clip.bodies
        frame_s = float(np.median(np.diff(found.times_s)))
        legs_out = self.legs_out(found, clip.boxes, clip.video)
        out: list[Clip | Dropped] = []
        for part in self.parts_with_legs(found.times_s, legs_out):
            for run in [part] if isinstance(part, Dropped) else self.usable_runs(found.part(part)):
                if isinstance(run, Dropped):
                    out.append(run)
                    continue
                assert isinstance(part, slice)
                run = slice(part.start + run.start, part.start + run.stop)
                landmarks = complete_landmarks(found.part(run))
                times_s = landmarks.times_s
                out.append(
                    replace(
                        clip,
                        start_s=float(times_s[0]),
                        end_s=float(times_s[-1]) + frame_s,
                        landmarks=landmarks,
                        bodies=None if bodies is None else complete_bodies(bodies.part(run), landmarks),
                        scores={**clip.scores, "legs_out": _worst_share(legs_out[:, run])},
                    )
                )
        return out

    def legs_out(self, found: Landmarks, boxes: Floats, video: VideoInfo) -> npt.NDArray[np.float64]:
        """Return (D, T) 1 where a dancer's legs are outside the picture, 0 where not, NaN without an estimate.

        If the bottom of the picture cuts off the dancer's box, the legs are inside only if an ankle is visible near that
        edge. Otherwise they are outside if no ankle is visible and one is estimated beyond an edge; legs that somebody or
        something hides inside the picture are not outside.

        Args:
            found: landmarks of D dancers in T frames.
            boxes: (D, T, 4) boxes in these frames, pixels, NaN where a dancer was not detected.
            video: size of the picture.
        """
        ankles = found.image[:, :, _ANKLES]
        visible = found.visibility[:, :, _ANKLES] >= self.min_ankle_seen
        beyond = ((ankles < 0) | (ankles >= (video.width_px, video.height_px))).any(axis=(-1, -2))
        top, bottom = boxes[..., 1], boxes[..., 3]
        with np.errstate(invalid="ignore"):
            cut_off = bottom >= (1 - self.edge_share) * video.height_px
            at_bottom = ankles[..., 1] >= (bottom - self.foot_gap * (bottom - top))[..., None]
        out = np.where(cut_off, ~(visible & at_bottom).any(axis=-1), ~visible.any(axis=-1) & beyond)
        return np.where(found.visibility.max(axis=-1) > 0, out, np.nan)

    def parts_with_legs(
        self, times: npt.NDArray[np.float64], legs_out: npt.NDArray[np.float64]
    ) -> list[slice | Dropped]:
        """Return the parts of a clip in which the legs of every dancer are in the picture, and the spans between them.

        Args:
            times: (T,) seconds of the source.
            legs_out: (D, T) as :meth:`legs_out` returns it.
        """
        frame_s = float(np.median(np.diff(times)))
        cut = self._without_legs(legs_out, frame_s)
        out: list[slice | Dropped] = []
        edges = [0, *(np.flatnonzero(np.diff(cut)) + 1).tolist(), len(times)]
        for start, end in pairwise(edges):
            start_s, end_s = float(times[start]), float(times[end - 1]) + frame_s
            if cut[start]:
                share = _worst_share(legs_out[:, start:end])
                detail = f"legs outside in {share:.0%} of the frames, at most {self.max_legs_out:.0%} allowed"
                out.append(Dropped(start_s, end_s, "lower body not in the picture", detail))
            elif end - start < len(times) and end_s - start_s < self.min_duration_s:
                detail = f"{end_s - start_s:.1f} s, at least {self.min_duration_s:g} s needed"
                out.append(
                    Dropped(start_s, end_s, "too short a time with the lower body in the picture", detail)
                )
            else:
                out.append(slice(start, end))
        return out

    def _without_legs(self, legs_out: npt.NDArray[np.float64], frame_s: float) -> npt.NDArray[np.bool_]:
        """Return (T,) true in the spans that are dropped because a dancer's legs are outside the picture."""
        cut = np.zeros(legs_out.shape[1], dtype=bool)
        if self.keep_half_bodies:
            return cut
        from scipy.ndimage import uniform_filter1d

        window = max(1, round(self.legs_window_s / frame_s))
        judged = np.isfinite(legs_out).astype(np.float64)
        without = uniform_filter1d(np.nan_to_num(legs_out), window, axis=1, mode="nearest")
        judged = uniform_filter1d(judged, window, axis=1, mode="nearest")
        # Filters accumulate rounding errors: without a margin, frames that are not judged may count.
        share_is_large = np.asarray((without > self.max_legs_out * judged + 1e-9).any(axis=0))
        for start, end in true_intervals(share_is_large):
            cut[start:end] = (end - start) * frame_s >= self.legs_window_s
        # A rest that is too short to be used belongs to the span beside it, unless that has legs on average with it.
        for start, end in true_intervals(~cut):
            if cut.any() and (end - start) * frame_s < self.min_duration_s:
                wider = cut.copy()
                wider[start:end] = True
                around = next(slice(a, b) for a, b in true_intervals(wider) if a <= start < b)
                if _worst_share(legs_out[:, around]) > self.max_legs_out:
                    cut = wider
        return cut

    def usable_runs(self, found: Landmarks) -> list[slice | Dropped]:
        """Return runs of frames in which every dancer is visible except for short gaps, and the spans between them."""
        frames = self._usable_frames(found)
        times = found.times_s
        if len(frames) == 0:
            return [Dropped(float(times[0]), float(times[-1]), "no frame shows every dancer's body")]
        return list(self._split_at_gaps(frames, times))

    def _usable_frames(self, found: Landmarks) -> npt.NDArray[np.intp]:
        """Return the indices of the frames in which every dancer is visible."""
        from scipy.ndimage import uniform_filter1d

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


def _worst_share(legs_out: npt.NDArray[np.float64]) -> float:
    """Return the largest mean over the dancers' rows of (D, T) values, without NaN; 0 if all values are NaN."""
    judged = np.isfinite(legs_out)
    return float((np.nan_to_num(legs_out).sum(axis=1) / np.maximum(judged.sum(axis=1), 1)).max())


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
