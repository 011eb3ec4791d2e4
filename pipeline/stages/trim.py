"""Cut stillness at the ends of a dance and long stillness inside it: waiting, final poses, frozen video (paper 3.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.intervals import true_intervals
from opendance_hf.motion.skeleton import LIMB_JOINTS
from opendance_hf.pipeline.clip import Clip, Landmarks
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX, REGION_SIDE_M
from opendance_hf.pipeline.stage import Dropped, Stage

_LIMBS: Final = [LANDMARK_INDEX[name] for name in LIMB_JOINTS]


@dataclass(frozen=True)
class Trim(Stage):
    """Cut spans in which nobody moves from the ends of a clip, and long ones from its middle.

    Args:
        min_duration_s: shorter dances are dropped.
        still_mps: mean speed of the limbs below which a person stands still; standing people sway by a few cm/s.
        min_still_s: minimum duration of stillness that is cut at the ends.
        max_hold_s: minimum duration of stillness that is cut in the middle; shorter ones are held poses.
        min_move_s: shorter movements are ignored: they are twitches or estimation errors.
        window_s: window over which speeds are averaged.
        region_side_m: assumed side of a person's region, which holds the whole body with a margin.
    """

    name = "trim"
    reads = ("landmarks", "smoothed")
    changes = ("landmarks", "smoothed", "bodies")

    min_duration_s: float = 4.0
    still_mps: float = 0.12
    min_still_s: float = 0.75
    max_hold_s: float = 3.0
    min_move_s: float = 0.2
    window_s: float = 0.25
    region_side_m: float = REGION_SIDE_M

    def __call__(self, clip: Clip) -> list[Clip | Dropped]:
        """Process one span; return one clip per dance."""
        times = clip.smoothed.times_s
        frame_s = _frame_s(clip.smoothed)
        results: list[Clip | Dropped] = []
        for run in self.dancing_runs(clip.smoothed):
            if isinstance(run, Dropped):
                results.append(run)
                continue
            results.append(
                replace(
                    clip,
                    start_s=float(times[run.start]),
                    end_s=float(times[run.stop - 1]) + frame_s,
                    landmarks=clip.landmarks.part(run),
                    smoothed=clip.smoothed.part(run),
                    bodies=None if clip.bodies is None else clip.bodies.part(run),
                )
            )
        return results

    def limb_speed(self, found: Landmarks) -> npt.NDArray[np.float64]:
        """Compute the (T,) mean limb speed of the fastest dancer, parallel to the image, metres per second."""
        from scipy.ndimage import uniform_filter1d

        path = found.image[:, :, _LIMBS].astype(np.float64)
        step = np.gradient(path, found.times_s, axis=1)
        speed = np.linalg.norm(step, axis=-1).mean(axis=-1) / found.regions_px * self.region_side_m
        window = max(1, round(self.window_s / _frame_s(found)))
        return np.asarray(uniform_filter1d(speed, window, axis=1, mode="nearest").max(axis=0))

    def dancing_runs(self, found: Landmarks) -> list[slice | Dropped]:
        """Return the runs of frames in which a dancer moves, and the dropped spans between them, in order of time.

        Args:
            found: smoothed landmarks.
        """
        times, frame_s = found.times_s, _frame_s(found)
        moving = self.limb_speed(found) >= self.still_mps
        for start, end in true_intervals(moving):
            if (end - start) * frame_s < self.min_move_s:
                moving[start:end] = False
        edges = [0, *(np.flatnonzero(np.diff(moving)) + 1).tolist(), len(moving)]
        cuts: list[tuple[int, int]] = []
        for start, end in pairwise(edges):
            duration_s = float(times[end - 1] - times[start]) + frame_s
            limit_s = self.min_still_s if start == 0 or end == len(moving) else self.max_hold_s
            if not moving[start] and duration_s >= limit_s:
                cuts.append((start, end))
        out: list[slice | Dropped] = []
        position = 0
        for start, end in [*cuts, (len(moving), len(moving))]:
            if start > position:
                duration_s = float(times[start - 1] - times[position]) + frame_s
                if duration_s >= self.min_duration_s:
                    out.append(slice(position, start))
                else:
                    detail = f"{duration_s:.1f} s, at least {self.min_duration_s:g} s needed"
                    out.append(
                        Dropped(
                            float(times[position]), float(times[start - 1]), "the dance is too short", detail
                        )
                    )
            if end > start:
                out.append(Dropped(float(times[start]), float(times[end - 1]) + frame_s, "nobody moves"))
            position = end
        return out


def _frame_s(found: Landmarks) -> float:
    return float(np.median(np.diff(found.times_s)))
