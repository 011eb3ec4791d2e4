"""Beats that the user knows: from a text file, one time in seconds a line, or from a steady tempo."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.errors import OpenDanceError

#: Suffix of the files, after the name of the song without its own.
SUFFIX: Final = ".beats.txt"
MIN_BEATS: Final = 4
_MAX_BYTES: Final = 2**20
_BPM_RANGE: Final = (20.0, 400.0)


class BeatFileError(OpenDanceError, ValueError):
    """Raised for beats that cannot be used; the message has the file, the line and what was expected."""


def read_beats(path: Path) -> npt.NDArray[np.float64]:
    """Read the beats of a song, (B,) seconds, increasing.

    The first word of a line counts; empty lines and those that start with ``#`` do not.

    Raises:
        FileNotFoundError: if the file does not exist.
        BeatFileError: if a line has no number, times do not increase, or there are fewer than four.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise BeatFileError(f"{path}: larger than {_MAX_BYTES:,} bytes; expected one time in seconds a line")
    times: list[float] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            time = float(words[0])
        except ValueError:
            time = np.nan
        if not np.isfinite(time):
            raise BeatFileError(
                f"{path}, line {number}: {words[0][:40]!a} is not a time in seconds; expected one a line"
            )
        if times and time <= times[-1]:
            raise BeatFileError(
                f"{path}, line {number}: {time:g} s is not after {times[-1]:g} s; sort the beats"
            )
        times.append(time)
    if len(times) < MIN_BEATS:
        raise BeatFileError(f"{path}: {len(times)} beat(s), expected at least {MIN_BEATS}, one a line")
    return np.array(times)


def steady_beats(bpm: float, first_s: float, seconds: float) -> npt.NDArray[np.float64]:
    """Return the (B,) times, in seconds, of beats at a steady tempo from before 0 to after the end of a song.

    Args:
        bpm: beats a minute.
        first_s: time of any one beat, in seconds.
        seconds: length of the song.

    Raises:
        BeatFileError: for a tempo outside 20 to 400, or a time that is not finite.
    """
    if not _BPM_RANGE[0] <= bpm <= _BPM_RANGE[1] or not math.isfinite(first_s):
        raise BeatFileError(
            f"{bpm:g} bpm with a beat at {first_s:g} s: expected 20 to 400 bpm and a time in seconds"
        )
    interval = 60 / bpm
    before = math.ceil(first_s / interval)
    counts = np.arange(-before, math.ceil((seconds - first_s) / interval) + 1, dtype=np.float64)
    return first_s + interval * counts
