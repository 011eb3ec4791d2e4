"""Decide which frames of a span can be used, and complete what is missing in between (paper section 3.1)."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from opendance_hf.pipeline.backends.blazepose import LANDMARK_INDEX
from opendance_hf.pipeline.outcome import Dropped
from opendance_hf.pipeline.stages.pose import Landmarks
from opendance_hf.pipeline.stages.segment import MIN_SPAN_S

#: A gap longer than this is not completed; the span ends there.
MAX_GAP_S: Final = 1.0
#: How much of a body must be seen in a frame, and on average where a run starts and ends (mean visibility).
_MIN_SEEN: Final = 0.5
_MIN_SEEN_AT_EDGE: Final = 0.7
_EDGE_S: Final = 0.5
_BODY: Final = [
    LANDMARK_INDEX[name]
    for name in (
        "nose",
        *(f"{side}_{part}" for part in ("shoulder", "hip", "knee") for side in ("left", "right")),
    )
]


def usable_runs(found: Landmarks) -> tuple[list[slice], list[Dropped]]:
    """Runs of frames in which every dancer can be seen from head to knees, but for short gaps.

    Returns:
        Frame ranges of at least 4 s, and what lies between them with the reason it is not used.
    """
    times = found.times_s
    frame_s = float(np.median(np.diff(times)))
    seen = found.visibility[..., _BODY].mean(axis=-1)
    window = max(1, round(_EDGE_S / frame_s))
    steady = uniform_filter1d(seen, window, axis=1, mode="nearest") >= _MIN_SEEN_AT_EDGE
    edges = _without_strays(np.flatnonzero(steady.all(axis=0)))
    good = (seen >= _MIN_SEEN).all(axis=0)
    if len(edges):
        good[: edges[0]] = good[edges[-1] + 1 :] = False
    frames = np.flatnonzero(good) if len(edges) else edges
    if len(frames) == 0:
        return [], [Dropped(float(times[0]), float(times[-1]), "no frame shows every dancer's body")]
    breaks = np.flatnonzero(np.diff(times[frames]) > MAX_GAP_S)
    starts = [frames[0], *frames[breaks + 1]]
    ends = [*(frames[breaks] + 1), frames[-1] + 1]
    runs, dropped = [], []
    previous = 0
    for start, end in zip(starts, ends, strict=True):
        if times[start] - times[previous] > frame_s:
            why = "a dancer is hidden or cut off by the picture's edge"
            dropped.append(Dropped(float(times[previous]), float(times[start]), why))
        start_s, end_s = float(times[start]), float(times[end - 1]) + frame_s
        if end_s - start_s >= MIN_SPAN_S:
            runs.append(slice(int(start), int(end)))
        else:
            reason = f"only {end_s - start_s:.1f} s without a long gap; at least {MIN_SPAN_S:.0f} s needed"
            dropped.append(Dropped(start_s, end_s, reason))
        previous = end - 1
    if times[-1] - times[previous] > frame_s:
        dropped.append(
            Dropped(float(times[previous]), float(times[-1]), "a dancer is hidden or cut off at the end")
        )
    return runs, dropped


def _without_strays(frames: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Frame numbers without the first and last islands that are shorter than the gap behind them."""
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


def complete(found: Landmarks, run: slice) -> Landmarks:
    """The frames of a run, with landmarks that were not seen replaced by linear interpolation over time.

    Their visibility stays what it was: completed landmarks guide the fit weakly, and ``confidence`` says so.
    """
    out = Landmarks(
        times_s=found.times_s[run],
        image=found.image[:, run].copy(),
        world=found.world[:, run].copy(),
        visibility=found.visibility[:, run],
        regions_px=found.regions_px[:, run],
    )
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
