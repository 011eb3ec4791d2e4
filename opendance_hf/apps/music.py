"""``opendance music``: the features of a song in a file, and its beats in another."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from opendance_hf.errors import OpenDanceError
from opendance_hf.files import atomic_write, check_outputs
from opendance_hf.music import AudioError, Engine, SongFeatures, open_song, tpami_features
from opendance_hf.music.beat_file import MIN_BEATS
from opendance_hf.music.beats import BeatGrid, find_beats


class MusicError(OpenDanceError, ValueError):
    """A span or an engine that cannot be, or a song without beats; the message says why."""


def write_music(
    song: Path,
    out: Path,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    engine: str = "fast",
    beats: Path | None = None,
    overwrite: bool = False,
) -> tuple[SongFeatures, BeatGrid | None]:
    """Write the music of a file, or of a part of it, to an ``.npz``; return its length, beats and tempo, and what ``beats`` has.

    The archive holds ``music_features`` (T, 438), ``music_features_7p5fps`` (ceil(T/8), 438), ``music_features_fact``
    (T, 35), ``music_features_tpami`` (T, 55), ``music_beats`` (frames), ``bpm`` and ``fps`` (60).

    The file ``beats`` gets a line for each beat of :func:`opendance_hf.music.beats.find_beats`: its time in the song in seconds,
    and its number in the bar.

    Raises:
        FileNotFoundError, AudioError: as :func:`opendance_hf.music.open_song`.
        OutputError: if an output is the song or the other output, or exists and ``overwrite`` is False.
        DiskError: if an output cannot be written.
        MusicError: the span is impossible or shorter than a frame, the engine is unknown, or there are fewer than four beats to
            write.
    """
    check_outputs({"--out": out, "--beats": beats}, [song], overwrite=overwrite)
    try:
        with open_song(song, start_s=start_s, end_s=end_s, engine=cast(Engine, engine)) as found:
            grid = None if beats is None else _beats_of(song, found)
            with atomic_write(out) as partial, partial.open("wb") as file:
                _write_archive(file, found)
        if beats is not None and grid is not None:
            with atomic_write(beats) as partial:
                partial.write_text(_beat_lines(grid, start_s), encoding="utf-8")
        return found, grid
    except (AudioError, MusicError):
        raise
    except ValueError as error:
        raise MusicError(str(error)) from None


def _beats_of(path: Path, song: SongFeatures) -> BeatGrid:
    grid = find_beats(song.column("music_features_fact"))
    if len(grid.beats) < MIN_BEATS:
        raise MusicError(
            f"{path}: {len(grid.beats)} beat(s) found, expected at least {MIN_BEATS}: leave out --beats, or take a longer part"
        )
    return grid


def _beat_lines(grid: BeatGrid, start_s: float) -> str:
    head = f"# {grid.bpm:.2f} bpm, confidence {grid.confidence:.2f}; seconds, number in a bar of four\n"
    numbers = (np.arange(len(grid.beats)) - grid.downbeat) % 4 + 1
    times = start_s + grid.beats / 60
    return head + "".join(f"{time:.4f} {number}\n" for time, number in zip(times, numbers, strict=True))


def _write_archive(file: IO[bytes], song: SongFeatures) -> None:
    """Write the archive column by column, in blocks: hours of features do not fit in memory."""
    with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
        for name in ("music_features", "music_features_7p5fps", "music_features_fact"):
            _write_rows(archive, name, song.num_rows(name), song.blocks(name))
        tpami = (tpami_features(block) for block in song.blocks("music_features"))
        _write_rows(archive, "music_features_tpami", song.num_frames, tpami)
        for name, value in (("music_beats", song.music_beats), ("bpm", song.bpm), ("fps", 60)):
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.asanyarray(value), allow_pickle=False)


def _write_rows(
    archive: zipfile.ZipFile, name: str, num_rows: int, blocks: Iterator[npt.NDArray[np.float32]]
) -> None:
    """Write float32 rows (num_rows, width) that come in blocks, as ``numpy.savez`` writes them."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        for number, block in enumerate(blocks):
            if number == 0:
                header = {"descr": "<f4", "fortran_order": False, "shape": (num_rows, block.shape[1])}
                np.lib.format.write_array_header_1_0(member, header)
            member.write(np.ascontiguousarray(block, "<f4").data)
