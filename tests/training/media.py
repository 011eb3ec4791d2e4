"""A small song for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile


def write_song(path: Path, seconds: float, bpm: float = 120.0, rate: int = 22_050) -> Path:
    """A click track with a hum, as WAV."""
    time_s = np.arange(round(seconds * rate)) / rate
    phase = (time_s * bpm / 60) % 1
    clicks = np.exp(-phase * 40) * np.sin(2 * np.pi * 1000 * time_s)
    soundfile.write(path, 0.5 * clicks + 0.1 * np.sin(2 * np.pi * 220 * time_s), rate)
    return path
