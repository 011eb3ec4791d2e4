"""Write the stages of dances that a training leaves in ``samples/``: the model's beside the real one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from opendance_hf.apps.view import ready, song_of, stage_data, write_stage
from opendance_hf.errors import OpenDanceError
from opendance_hf.formats import opendance

log = logging.getLogger(__name__)

_REAL: Final = ".real"


def write_sample_stages(folder: Path) -> list[Path]:
    """Write ``ID.html`` beside every ``ID.npz`` with its film, and return the pages; one that cannot be made is left out.

    Args:
        folder: ``samples/`` of a trained model, as :func:`opendance_hf.training.validation.score_dances` writes it; it need
            not exist.

    Raises:
        FormatError: if a dance is damaged.
        OSError: if a page cannot be written.
    """
    pages = []
    for film in sorted(folder.glob("*.mp4")):
        files = {"model": film.with_suffix(".npz"), "real": film.with_name(f"{film.stem}{_REAL}.npz")}
        motions = {name: ready(opendance.read(path)) for name, path in files.items() if path.is_file()}
        if "model" not in motions:  # of an earlier version
            continue
        page = film.with_suffix(".html")
        try:
            clicks = song_of(list(motions.values()), film, 0.0)
            write_stage(page, stage_data(list(motions), list(motions.values()), clicks))
        except OpenDanceError as error:  # the model is saved, which no page may spoil
            log.info("%s: not written: %s", page, error)
            continue
        pages.append(page)
    return pages
