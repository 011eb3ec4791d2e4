"""Beats that the user knows: from a file of times, or from a tempo and the time of the first beat."""

from __future__ import annotations

import math
from os import PathLike
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.errors import OpenDanceError

#: Largest file and longest list that are read: hours of beats.
_MAX_BYTES: Final = 4_000_000
_BPM_RANGE: Final = (20.0, 400.0)


class BeatsError(OpenDanceError, ValueError):
    """Beats that cannot be used; the message has the cause and the remedy."""


def read_beat_times(path: str | PathLike[str]) -> npt.NDArray[np.float64]:
    """Read the times of beats, one a line: seconds first, then anything; lines that begin with ``#`` are notes.

    Returns:
        (B,) seconds, increasing, two or more.

    Raises:
        BeatsError: naming the file and the line, if it has no such times.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BeatsError(
                f"{path}: {path.stat().st_size:,} bytes are no list of beats: give one time a line"
            )
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BeatsError(f"{path}: cannot be read as text ({error})") from None
    times: list[float] = []
    for number, line in enumerate(lines, 1):
        words = line.replace(",", " ").split()
        if not words or words[0].startswith("#"):
            continue
        try:
            time = float(words[0])
        except ValueError:
            time = math.nan
        if not math.isfinite(time) or (times and time <= times[-1]):
            raise BeatsError(
                f"{path}, line {number}: {words[0][:40]!r}, expected a time in seconds after the one before"
            )
        times.append(time)
    if len(times) < 2:
        raise BeatsError(f"{path}: {len(times)} beats, expected two or more times in seconds, one a line")
    return np.array(times)


def steady_beats(bpm: float, first_s: float, seconds: float) -> npt.NDArray[np.float64]:
    """Return the (B,) times, in seconds, of beats at a steady tempo from before 0 to after the end of a song.

    Args:
        bpm: beats a minute.
        first_s: time of any one beat, in seconds.
        seconds: length of the song.

    Raises:
        BeatsError: for a tempo outside 20 to 400, or a time that is not finite.
    """
    if not _BPM_RANGE[0] <= bpm <= _BPM_RANGE[1] or not math.isfinite(first_s):
        raise BeatsError(
            f"{bpm:g} bpm with a beat at {first_s:g} s: expected 20 to 400 bpm and a time in seconds"
        )
    interval = 60 / bpm
    before = math.ceil(first_s / interval)
    counts = np.arange(-before, math.ceil((seconds - first_s) / interval) + 1, dtype=np.float64)
    return first_s + interval * counts
