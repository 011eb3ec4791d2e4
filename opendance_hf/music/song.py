"""The music features of a file of any length, column by column."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Final

import numpy as np

from opendance_hf.music.decode import decode_blocks
from opendance_hf.music.features import (
    MusicAnnotation,
    annotate_whole,
    check_engine,
    checked,
    refined_bpm,
)
from opendance_hf.music.layout import HOP, SAMPLE_RATE_7P5FPS, SAMPLE_RATE_60FPS, Engine, Floats, Ints
from opendance_hf.music.sound import AudioError, measure_sound
from opendance_hf.music.streaming import BLOCK, StreamedAnalysis

#: Longer sound is analysed in blocks.
_WHOLE_S: Final = 300.0
#: Longest sound for the engine ``librosa``, which needs about 150 MB a minute.
_LIBROSA_S: Final = 1200.0
#: Size of the temporary files, for a second of sound.
_BYTES_PER_S: Final = 350_000
_CODE_FRAMES: Final = 8


class SongFeatures:
    """The music features of a song, see :class:`MusicAnnotation`.

    Attributes:
        num_frames: T, number of frames at 60 FPS.
        music_beats: (beats,) frames within [0, T), increasing.
        bpm: beats per minute; 0 when nothing sounds.
    """

    def __init__(
        self,
        num_frames: int,
        music_beats: Ints,
        bpm: float,
        columns: dict[str, Callable[[], Iterator[Floats]]],
    ) -> None:
        self.num_frames, self.music_beats, self.bpm = num_frames, music_beats, bpm
        self._columns = columns

    def num_rows(self, column: str) -> int:
        """Return the number of rows of a column: T, or ceil(T/8) at 7.5 FPS."""
        return -(-self.num_frames // _CODE_FRAMES) if column == "music_features_7p5fps" else self.num_frames

    def blocks(self, column: str) -> Iterator[Floats]:
        """Yield the rows of ``music_features``, ``music_features_7p5fps`` or ``music_features_fact``, some at a time."""
        return self._columns[column]()

    def column(self, column: str, width: int | None = None) -> Floats:
        """Return a column (rows, width), the first ``width`` features of it."""
        start, found = 0, np.zeros((0, 0), np.float32)
        for block in self.blocks(column):
            rows = block[:, :width]
            if start == 0:
                found = np.empty((self.num_rows(column), rows.shape[1]), np.float32)
            found[start : start + len(rows)] = rows
            start += len(rows)
        return found

    def annotation(self) -> MusicAnnotation:
        """Return all columns in memory, 2 kB a frame."""
        columns = {name: self.column(name) for name in self._columns}
        return MusicAnnotation(**columns, music_beats=self.music_beats, bpm=self.bpm)


@contextmanager
def open_song(
    path: str | PathLike[str], *, start_s: float = 0.0, end_s: float | None = None, engine: Engine = "fast"
) -> Iterator[SongFeatures]:
    """Compute the music features of a file, or of a part of it; arguments and errors as of :func:`annotate_music`.

    Sound of more than five minutes is analysed in blocks, with temporary files of 3.8 GB for three hours. The columns can be
    read within the ``with`` block.
    """
    check_engine(engine)
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}")
    sound = measure_sound(path)
    last_s = float(sound.ends_s[-1]) if end_s is None else end_s
    seconds = last_s - start_s
    # Impossible spans are refused by decode_audio.
    if not _WHOLE_S < seconds < math.inf or not start_s >= 0:
        found = annotate_whole(path, start_s=start_s, end_s=end_s, engine=engine)
        yield _in_memory(found)
        return
    if silent := sound.silence(start_s, last_s):
        raise AudioError(
            f"{path}: no music: the sound is silent ({silent}); use a file, or a span, with music"
        )
    if engine == "librosa":
        if seconds > _LIBROSA_S:
            raise AudioError(
                f"{path}: {seconds / 60:.0f} minutes of sound; the engine librosa takes at most {_LIBROSA_S / 60:.0f}: use the "
                "engine fast, which computes the same numbers"
            )
        yield _in_memory(annotate_whole(path, start_s=start_s, end_s=end_s, engine=engine))
        return
    folder, needed = tempfile.gettempdir(), _BYTES_PER_S * seconds
    if shutil.disk_usage(folder).free < needed:
        raise AudioError(
            f"{path}: {seconds / 60:.0f} minutes of sound need {needed / 1e9:.1f} GB of temporary space in {folder}; free some, "
            "or set TMPDIR to another folder"
        )
    with tempfile.TemporaryDirectory(prefix="opendance-music-") as temporary:
        try:
            yield _streamed(path, Path(temporary), start_s, end_s, engine == "librosa-0.8.1")
        except ValueError as error:
            raise AudioError(f"{path}: {error}") from None


def annotate_music(
    path: str | PathLike[str], *, start_s: float = 0.0, end_s: float | None = None, engine: Engine = "fast"
) -> MusicAnnotation:
    """Compute the music features of a file, or of a part of it, at 60 and at 7.5 FPS.

    The features have exactly as many frames as a motion over the same time: ``round(60 * seconds)``.

    Args:
        path: an audio or video file.
        start_s: time of the first frame, in seconds; time 0 as in :func:`decode_audio`.
        end_s: time where the last frame ends, in seconds; by default the end of the sound. A later end is
            filled with silence.
        engine: see :mod:`opendance_hf.music.features`.

    Raises:
        FileNotFoundError, NoAudioError: see :func:`decode_audio`.
        AudioError: see :func:`decode_audio`; also if nothing is left of the sound after ``start_s``, or if it is
            silent, shorter than a second, or holds NaN, infinity or absurdly large samples; or if it is longer than 20 minutes
            for the engine ``librosa``, or there is not enough temporary space for more than five.
        ValueError: the span is impossible, or the engine is unknown.
    """
    with open_song(path, start_s=start_s, end_s=end_s, engine=engine) as song:
        return song.annotation()


def _in_memory(found: MusicAnnotation) -> SongFeatures:
    return SongFeatures(
        len(found.music_features),
        found.music_beats,
        found.bpm,
        {
            "music_features": lambda: iter([found.music_features]),
            "music_features_7p5fps": lambda: iter([found.music_features_7p5fps]),
            "music_features_fact": lambda: iter([found.music_features_fact]),
        },
    )


def _streamed(
    path: str | PathLike[str], folder: Path, start_s: float, end_s: float | None, old: bool
) -> SongFeatures:
    folders = folder / "60fps", folder / "7p5fps"
    for one in folders:
        one.mkdir()

    def audio() -> Iterator[Floats]:
        for block in decode_blocks(path, SAMPLE_RATE_60FPS, start_s, end_s, BLOCK):
            yield checked(block)

    full = StreamedAnalysis(audio, SAMPLE_RATE_60FPS, folders[0], like_0_8_1=old)
    num_frames = round(full.num_samples / HOP)
    num_codes = -(-num_frames // _CODE_FRAMES)

    def slow_audio() -> Iterator[Floats]:
        count = 0
        for block in decode_blocks(path, SAMPLE_RATE_7P5FPS, start_s, end_s, BLOCK):
            count += len(block)
            yield checked(block)
        if count < (num_codes - 1) * HOP:
            yield np.zeros((num_codes - 1) * HOP - count, np.float32)

    slow = StreamedAnalysis(slow_audio, SAMPLE_RATE_7P5FPS, folders[1], like_0_8_1=old)
    tempogram_bpm, beats = full.beats
    return SongFeatures(
        num_frames,
        beats[beats < num_frames],
        refined_bpm(beats, tempogram_bpm, SAMPLE_RATE_60FPS),
        {
            "music_features": lambda: full.blocks(num_frames),
            "music_features_7p5fps": lambda: slow.blocks(num_codes),
            "music_features_fact": lambda: iter([full.fact(start_bpm=120.0)[:num_frames]]),
        },
    )
