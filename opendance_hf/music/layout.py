"""Layout of the music features: rates, columns and their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

#: Implementation: ours, librosa 0.11, or ours with the settings of librosa 0.8.1.
Engine = Literal["fast", "librosa", "librosa-0.8.1"]

WINDOW: Final = 2048
HOP: Final = 512
SAMPLE_RATE_60FPS: Final = 60 * HOP
SAMPLE_RATE_7P5FPS: Final = SAMPLE_RATE_60FPS // 8
# Seven octaves above C1 reach 4.2 kHz, more than the 1.92 kHz of audio at 3,840 Hz; five reach 1.05 kHz.
CHROMA_OCTAVES: Final = {SAMPLE_RATE_60FPS: 7, SAMPLE_RATE_7P5FPS: 5}

#: Columns of ``music_features``. ``onset_env`` and ``onset_beat`` are one column each.
BLOCKS: Final[dict[str, slice]] = {
    "mfcc": slice(0, 20),
    "mfcc_delta": slice(20, 40),
    "chroma_cqt": slice(40, 52),
    "onset_env": slice(52, 53),
    "onset_beat": slice(53, 54),
    "tempogram": slice(54, 438),
}
#: Columns of ``music_features_fact``.
FACT_BLOCKS: Final[dict[str, slice]] = {
    "onset_env": slice(0, 1),
    "mfcc": slice(1, 21),
    "chroma_cens": slice(21, 33),
    "onset_peak": slice(33, 34),
    "onset_beat": slice(34, 35),
}
TEMPOGRAM_LAGS: Final = BLOCKS["tempogram"].stop - BLOCKS["tempogram"].start


@dataclass(frozen=True)
class EngineOutput:
    """The 438 features of one piece of audio, as an engine computes them.

    Attributes:
        features: (frames, 438), columns as in :data:`BLOCKS`.
        beats: (beats,) frame indices, increasing; where the column ``onset_beat`` is 1.
        tempogram_bpm: tempo with which the beats were tracked, in beats per minute; 0 when nothing sounds.
    """

    features: Floats
    beats: Ints
    tempogram_bpm: float


@dataclass(frozen=True)
class MusicFeatures:
    """The 438 features of one piece of audio.

    Attributes:
        features: (frames, 438), columns as in :data:`BLOCKS`.
        beats: (beats,) frame indices, increasing; where the column ``onset_beat`` is 1.
        bpm: beats per minute, estimated from the beats; 0 when nothing sounds.
    """

    features: Floats
    beats: Ints
    bpm: float


def one_hot(frames: npt.NDArray[np.integer], num_frames: int) -> Floats:
    """Return a column (num_frames, 1) that is 1 at the given frames and 0 elsewhere."""
    column = np.zeros((num_frames, 1), dtype=np.float32)
    column[frames] = 1
    return column


def side_by_side(*blocks: npt.NDArray[np.floating]) -> Floats:
    """Concatenate blocks (frames, width) to one (frames, total width) of float32."""
    return np.concatenate(blocks, axis=1, dtype=np.float32, casting="same_kind")
