"""Keep the dance and cut what stands still around it: waiting, posing at the end, frozen pictures (paper section 3.1)."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from opendance_hf.motion.skeleton import LIMB_JOINTS
from opendance_hf.pipeline.backends.blazepose import LANDMARK_INDEX
from opendance_hf.pipeline.outcome import Dropped
from opendance_hf.pipeline.stages.contacts import REGION_M
from opendance_hf.pipeline.stages.contacts import runs as runs_of
from opendance_hf.pipeline.stages.pose import Landmarks
from opendance_hf.pipeline.stages.segment import MIN_SPAN_S

#: Mean speed of the limbs below which nobody dances: people who stand sway by a few centimetres a second.
STILL_MPS: Final = 0.12
#: Stillness is cut when it lasts this long at either end, and in the middle of a dance, where poses are held.
_MIN_STILL_S: Final = 0.75
MAX_HOLD_S: Final = 3.0
#: Who moves for less than this has twitched, or the estimate has in the last frame.
_MIN_MOVE_S: Final = 0.2
_WINDOW_S: Final = 0.25
_LIMBS: Final = [LANDMARK_INDEX[name] for name in LIMB_JOINTS]


def limb_speed(found: Landmarks) -> npt.NDArray[np.float64]:
    """(T,) mean speed of the limbs of the dancer who moves most, metres per second, as far as the picture shows it."""
    path = found.image[:, :, _LIMBS].astype(np.float64)
    step = np.gradient(path, found.times_s, axis=1)
    pace = np.linalg.norm(step, axis=-1).mean(axis=-1) / found.regions_px * REGION_M
    window = max(1, round(_WINDOW_S / float(np.median(np.diff(found.times_s)))))
    return np.asarray(uniform_filter1d(pace, window, axis=1, mode="nearest").max(axis=0))


def dancing_runs(found: Landmarks) -> tuple[list[slice], list[Dropped]]:
    """Runs of frames in which somebody dances, of smooth landmarks.

    Returns:
        Frame ranges of at least 4 s, and the still spans that were cut, each with its reason.
    """
    times = found.times_s
    frame_s = float(np.median(np.diff(times)))
    moves = limb_speed(found) >= STILL_MPS
    for start, end in runs_of(moves):
        if (end - start) * frame_s < _MIN_MOVE_S:
            moves[start:end] = False
    edges = [0, *(np.flatnonzero(np.diff(moves)) + 1).tolist(), len(moves)]
    cuts: list[tuple[int, int]] = []
    for start, end in pairwise(edges):
        lasts_s = float(times[end - 1] - times[start]) + frame_s
        limit_s = _MIN_STILL_S if start == 0 or end == len(moves) else MAX_HOLD_S
        if not moves[start] and lasts_s >= limit_s:
            cuts.append((start, end))
    runs, dropped = [], []
    at = 0
    for start, end in [*cuts, (len(moves), len(moves))]:
        if start > at:
            lasts_s = float(times[start - 1] - times[at]) + frame_s
            if lasts_s >= MIN_SPAN_S:
                runs.append(slice(at, start))
            else:
                why = f"only {lasts_s:.1f} s of dancing; at least {MIN_SPAN_S:.0f} s needed"
                dropped.append(Dropped(float(times[at]), float(times[start - 1]), why))
        if end > start:
            dropped.append(Dropped(float(times[start]), float(times[end - 1]) + frame_s, "nobody moves"))
        at = end
    return runs, dropped
