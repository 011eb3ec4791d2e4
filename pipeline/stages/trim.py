"""Keep the dance and cut what stands still around it: waiting, final poses, frozen pictures (paper section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from opendance_hf.motion.skeleton import LIMB_JOINTS
from opendance_hf.pipeline.clip import Clip, Landmarks
from opendance_hf.pipeline.intervals import true_intervals
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.pipeline.stage import Dropped, Stage

_LIMBS: Final = [LANDMARK_INDEX[name] for name in LIMB_JOINTS]


@dataclass(frozen=True)
class Trim(Stage):
    """Cuts spans in which nobody moves from the ends of a clip, and out of its middle where they are long.

    Args:
        min_duration_s: shorter dances are dropped.
        still_mps: mean speed of the limbs below which nobody dances: people who stand sway by a few centimetres a
            second.
        min_still_s: stillness at either end is cut when it lasts this long.
        max_hold_s: stillness in the middle of a dance, where poses are held, is cut when it lasts this long.
        min_move_s: shorter movements are a twitch, or an error of the estimate in the last frame.
        window_s: speeds are averaged over this time.
        region_side_m: what the side of a person's region measures; it holds the whole body with a margin.
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
    region_side_m: float = 2.2

    def __call__(self, clip: Clip) -> list[Clip | Dropped]:
        """Process one span; returns one clip a dance."""
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
        """Return the (T,) mean speed of the limbs of the dancer who moves most, metres per second in the picture."""
        path = found.image[:, :, _LIMBS].astype(np.float64)
        step = np.gradient(path, found.times_s, axis=1)
        speed = np.linalg.norm(step, axis=-1).mean(axis=-1) / found.regions_px * self.region_side_m
        window = max(1, round(self.window_s / _frame_s(found)))
        return np.asarray(uniform_filter1d(speed, window, axis=1, mode="nearest").max(axis=0))

    def dancing_runs(self, found: Landmarks) -> list[slice | Dropped]:
        """Return the runs of frames in which somebody dances, and the spans cut around them, in order of time.

        Args:
            found: smooth landmarks.
        """
        times, frame_s = found.times_s, _frame_s(found)
        moves = self.limb_speed(found) >= self.still_mps
        for start, end in true_intervals(moves):
            if (end - start) * frame_s < self.min_move_s:
                moves[start:end] = False
        edges = [0, *(np.flatnonzero(np.diff(moves)) + 1).tolist(), len(moves)]
        cuts: list[tuple[int, int]] = []
        for start, end in pairwise(edges):
            lasts_s = float(times[end - 1] - times[start]) + frame_s
            limit_s = self.min_still_s if start == 0 or end == len(moves) else self.max_hold_s
            if not moves[start] and lasts_s >= limit_s:
                cuts.append((start, end))
        out: list[slice | Dropped] = []
        at = 0
        for start, end in [*cuts, (len(moves), len(moves))]:
            if start > at:
                lasts_s = float(times[start - 1] - times[at]) + frame_s
                if lasts_s >= self.min_duration_s:
                    out.append(slice(at, start))
                else:
                    detail = f"{lasts_s:.1f} s, at least {self.min_duration_s:g} s needed"
                    out.append(
                        Dropped(float(times[at]), float(times[start - 1]), "too short a dance", detail)
                    )
            if end > start:
                out.append(Dropped(float(times[start]), float(times[end - 1]) + frame_s, "nobody moves"))
            at = end
        return out


def _frame_s(found: Landmarks) -> float:
    return float(np.median(np.diff(found.times_s)))
