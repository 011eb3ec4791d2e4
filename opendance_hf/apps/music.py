"""``opendance music``: the features of a song in a file."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np

from opendance_hf.errors import OpenDanceError
from opendance_hf.files import atomic_write, check_output
from opendance_hf.music import AudioError, Engine, MusicAnnotation, annotate_music, tpami_features


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
) -> MusicAnnotation:
    """Write the music of a file, or of a part of it, to an ``.npz`` and return it.

    The archive holds ``music_features`` (T, 438), ``music_features_7p5fps`` (ceil(T/8), 438), ``music_features_fact``
    (T, 35), ``music_features_tpami`` (T, 55), ``music_beats`` (frames), ``bpm`` and ``fps`` (60).

    Raises:
        FileNotFoundError, AudioError: as :func:`opendance_hf.music.annotate_music`.
        OutputError: if ``out`` is the song, or exists and ``overwrite`` is False.
        DiskError: if ``out`` cannot be written.
        MusicError: the span is impossible or shorter than a frame, or the engine is unknown.
    """
    check_output(out, [song], overwrite=overwrite)
    try:
        found = annotate_music(song, start_s=start_s, end_s=end_s, engine=cast(Engine, engine))
    except AudioError:
        raise
    except ValueError as error:
        raise MusicError(str(error)) from None
    with atomic_write(out) as partial, partial.open("wb") as file:
        np.savez(
            file,
            music_features=found.music_features,
            music_features_7p5fps=found.music_features_7p5fps,
            music_features_fact=found.music_features_fact,
            music_features_tpami=tpami_features(found.music_features),
            music_beats=found.music_beats,
            bpm=found.bpm,
            fps=60,
        )
    return found
