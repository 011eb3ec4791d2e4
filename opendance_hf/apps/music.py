"""``opendance music``: the features of a song in a file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from opendance_hf.errors import OpenDanceError
from opendance_hf.files import atomic_write, check_output
from opendance_hf.music import AudioError, Engine, SongFeatures, open_song, tpami_features


class MusicError(OpenDanceError, ValueError):
    """A span or an engine that cannot be; the message says why."""


def write_music(
    song: Path,
    out: Path,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    engine: str = "fast",
    overwrite: bool = False,
) -> SongFeatures:
    """Write the music of a file, or of a part of it, to an ``.npz`` and return its length, beats and tempo.

    The archive holds ``music_features`` (T, 438), ``music_features_7p5fps`` (ceil(T/8), 438), ``music_features_fact``
    (T, 35), ``music_features_tpami`` (T, 55), ``music_beats`` (frames), ``bpm`` and ``fps`` (60).

    Raises:
        FileNotFoundError, AudioError: as :func:`opendance_hf.music.open_song`.
        OutputError: if ``out`` is the song, or exists and ``overwrite`` is False.
        DiskError: if ``out`` cannot be written.
        MusicError: the span is impossible or shorter than a frame, or the engine is unknown.
    """
    check_output(out, [song], overwrite=overwrite)
    try:
        with open_song(song, start_s=start_s, end_s=end_s, engine=cast(Engine, engine)) as found:
            with atomic_write(out) as partial, partial.open("wb") as file:
                _write_archive(file, found)
            return found
    except AudioError:
        raise
    except ValueError as error:
        raise MusicError(str(error)) from None


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
