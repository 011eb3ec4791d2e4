"""Figure 5 of the paper for any dances: the speed of the body, its beats and those of the music."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from opendance_hf.files import atomic_write
from opendance_hf.metrics import (
    joint_speed,
    matched_beats,
    motion_beats,
    music_motion_score,
)
from opendance_hf.metrics.beats import FPS, SPEED_SIGMA, beats_within

_SPEED, _MUSIC, _MOTION = "#2166ac", "#e08214", "#c0272d"
#: Longer dances are cut: beats closer than a line's width show nothing.
MAX_SECONDS: Final = 20.0


@dataclass(frozen=True, eq=False)
class BeatRow:
    """One curve of :func:`beat_figure`.

    Attributes:
        label: whose dance it is.
        joints: (T, 24, 3), metres, y-up.
        music_beats: (B,) frame indices; None if unknown.
        fps: frames a second.
    """

    label: str
    joints: npt.NDArray[np.floating]
    music_beats: npt.NDArray[np.integer] | npt.NDArray[np.floating] | None = None
    fps: float = FPS


def beat_figure(rows: Sequence[BeatRow], path: Path | str) -> Path:
    """Draw one curve a dance, with its scores, one below the other, to a PNG, SVG or PDF file.

    The blue curve is the kinetic velocity (paper section 4.2), red dots are its minima, the motion beats; orange lines
    are the beats of the music. Only the first 20 s are drawn; the scores are those of the whole dance.

    Raises:
        ValueError: for no rows, or as :func:`opendance_hf.metrics.motion_beats`.
    """
    if not rows:
        raise ValueError("no dance to draw")
    path = Path(path)
    with matplotlib.rc_context({"font.size": 9.0, "svg.hashsalt": "opendance"}):
        figure = Figure(figsize=(9.0, 0.5 + 1.9 * len(rows)), layout="constrained")
        for axes, row in zip(figure.subplots(len(rows), squeeze=False)[:, 0], rows, strict=True):
            _draw(axes, row)
        axes.set_xlabel("seconds")
        figure.legend(
            *figure.axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False
        )
        with atomic_write(path) as partial:
            figure.savefig(partial, dpi=150, format=path.suffix[1:] or "png")
    return path


def _draw(axes: matplotlib.axes.Axes, row: BeatRow) -> None:
    speed = joint_speed(row.joints, sigma=SPEED_SIGMA * row.fps / FPS) * row.fps
    beats = motion_beats(row.joints, fps=row.fps)
    music = None if row.music_beats is None else beats_within(row.music_beats, len(row.joints))
    seconds = np.arange(len(speed)) / row.fps
    shown = seconds <= MAX_SECONDS
    if music is not None:
        for i, beat in enumerate(music[music / row.fps <= MAX_SECONDS] / row.fps):
            axes.axvline(beat, color=_MUSIC, linewidth=1, label="music beat" if i == 0 else None)
    axes.plot(seconds[shown], speed[shown], color=_SPEED, linewidth=1.2, label="kinetic velocity")
    axes.plot(
        beats[shown[beats]] / row.fps,
        speed[beats][shown[beats]],
        "o",
        color=_MOTION,
        markersize=4,
        label="motion beat",
    )
    axes.set_xlim(0, seconds[shown][-1])
    axes.set_ylim(bottom=0)
    axes.set_ylabel("m/s")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{row.label}: {_scores(row, beats, music)}", loc="left", fontsize=9)


def _scores(row: BeatRow, beats: npt.NDArray[np.intp], music: npt.NDArray[np.floating] | None) -> str:
    density = f"{len(beats) / (len(row.joints) - 1) * row.fps:.2f} motion beats/s"
    if music is None:
        return f"{density}, no music beats"
    classic = music_motion_score(row.joints, music, fps=row.fps)
    agreement = matched_beats(music, beats, len(row.joints) - 1, fps=row.fps)
    parts = [
        f"{name} {value:.4f}" if value is not None else f"{name} undefined"
        for name, value in (
            ("music-motion", classic),
            ("F1 above chance", agreement.corrected_f1),
        )
    ]
    return ", ".join([*parts, density])
