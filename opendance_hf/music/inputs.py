"""Compose what a model hears: columns of music features, columns of the place in the beat, or both side by side.

A column of a dataset is named as it is there; columns of the beat are computed from the beats, at the rate of the model's
codes. Names joined by ``+`` stand side by side: ``music_features_7p5fps+beat_phase_7p5fps``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.phase import beat_phase
from opendance_hf.music.layout import Floats

#: Columns of a dataset: their width, and frames of 1/60 s a row.
STORED: Final[dict[str, tuple[int, int]]] = {
    "music_features_7p5fps": (438, 8),
    "music_features": (438, 1),
    "music_features_fact": (35, 1),
}
#: Columns of the beat, see :func:`phase_columns`: likewise.
PHASES: Final[dict[str, tuple[int, int]]] = {
    "beat_phase": (5, 1),
    "beat_phase_30fps": (5, 2),
    "beat_phase_15fps": (5, 4),
    "beat_phase_7p5fps": (5, 8),
}
_COLUMNS: Final = {**STORED, **PHASES}
#: What models hear: the features, the beat alone, or both.
HEARINGS: Final = ("features", "beats", "both")
#: Beats of a bar, counted from the first beat.
_BAR: Final = 4
#: Tempo whose logarithm is 0, beats per minute.
_BPM: Final = 120.0
_FPS: Final = 60


def input_of(column: str, width: int, hears: str, frames_per_row: int) -> tuple[str, int]:
    """Return the name and the width of what a model hears.

    Args:
        column: of the features.
        width: number of its first features.
        hears: see :data:`HEARINGS`.
        frames_per_row: frames of 1/60 s of a row of the beat.

    Raises:
        ValueError: for another hearing, or rows of the beat that are not as long as those of the features beside them or that
            no column of the beat has.
    """
    if hears not in HEARINGS:
        raise ValueError(f"hears {hears!r}: give one of {', '.join(HEARINGS)}")
    if hears == "features":
        return column, width
    names = [name for name, (_, frames) in PHASES.items() if frames == frames_per_row]
    if not names:
        raise ValueError(
            f"hears {hears!r}: there are no columns of the beat for rows of {frames_per_row} frames"
        )
    if hears == "beats":
        return names[0], PHASES[names[0]][0]
    if STORED[column][1] != frames_per_row:
        raise ValueError(
            f"hears 'both': rows of {column} last {STORED[column][1]} frames, the model's {frames_per_row}; let it hear 'beats'"
        )
    return f"{column}+{names[0]}", width + PHASES[names[0]][0]


def full_width(column: str) -> int:
    """Return the width of a column, or of columns joined by ``+``.

    Raises:
        ValueError: for a name that does not exist.
    """
    parts = column.split("+")
    if unknown := [part for part in parts if part not in _COLUMNS]:
        raise ValueError(f"unknown column {unknown[0]!r}: expected one of {', '.join(_COLUMNS)}")
    return sum(_COLUMNS[part][0] for part in parts)


def hears_beats(column: str) -> bool:
    """Return True for a column, or columns joined by ``+``, with a column of the beat among them."""
    return any(part in PHASES for part in column.split("+"))


def read_input(
    column: str, size: int, stored: Callable[[str, int], Floats], beats: npt.ArrayLike, num_frames: int
) -> Floats:
    """Return the (rows, size) that a model hears.

    Args:
        column: name, or names joined by ``+``; of the first as many features are taken as make up ``size``.
        size: width of the result.
        stored: from the name of a column of a dataset and a width to its rows, cut to that width.
        beats: (B,) frames of the beats.
        num_frames: of the dance, at 60 FPS.
    """
    first, *others = column.split("+")
    width = size - sum(_COLUMNS[name][0] for name in others)
    parts = [
        phase_columns(beats, num_frames, PHASES[name][1]) if name in PHASES else stored(name, taken)
        for name, taken in [(first, width), *((name, _COLUMNS[name][0]) for name in others)]
    ]
    if len(parts) == 1:
        return parts[0]
    rows = min(len(part) for part in parts)
    return np.concatenate([part[:rows] for part in parts], axis=1, dtype=np.float32)


def phase_columns(beats: npt.ArrayLike, num_frames: int, frames_per_row: int) -> Floats:
    """Return where in the beat each row is: (rows, 5), ``ceil(num_frames / frames_per_row)`` rows.

    Columns: sine and cosine of the phase in the beat, sine and cosine of the phase in four beats from the first, and the
    logarithm to base 2 of the tempo over 120 beats a minute. A row stands for the first of its frames. All are zero with
    fewer than two beats, and the tempo is that of the beats around.

    Args:
        beats: (B,) frames of the beats, increasing.
        num_frames: of the dance, at 60 FPS.
        frames_per_row: frames of 1/60 s of a row.
    """
    rows = -(-num_frames // frames_per_row)
    times = np.asarray(beats, dtype=np.float64)
    if len(times) < 2:
        return np.zeros((rows, 5), np.float32)
    at = np.arange(rows) * float(frames_per_row)
    phase = beat_phase(at, times)
    gaps = np.diff(times)
    # The median of nine intervals: trackers find beats to within a frame or two.
    around = np.floor(phase).astype(int)[:, None] + np.arange(-4, 5)
    interval = np.median(gaps[np.clip(around, 0, len(gaps) - 1)], axis=1)
    angle, bar = 2 * np.pi * phase, 2 * np.pi * phase / _BAR
    tempo = np.log2(60 * _FPS / interval / _BPM)
    columns = [np.sin(angle), np.cos(angle), np.sin(bar), np.cos(bar), tempo]
    return np.stack(columns, axis=1).astype(np.float32)
