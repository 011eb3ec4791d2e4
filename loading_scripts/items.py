"""Define an item of a dataset: one dance, with its files, song and split."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opendance_hf.errors import OpenDanceError


class LayoutError(OpenDanceError, ValueError):
    """Raised if a folder is not laid out as a dataset; the message has the folder, what was expected and the remedy."""


@dataclass(frozen=True)
class Item:
    """One dance of a dataset.

    Attributes:
        id: name of the dance in the dataset.
        motions: its files: one of all dancers, or one a dancer.
        format: key of :data:`opendance_hf.formats.FORMATS`.
        group: the song; dances of one group are in one split.
        split: official split (train, validation or test), None if there is none.
        audio: file name of the song without suffix, None if it is unknown.
        audio_start_s: where the motion begins in the song, in seconds.
        answers: what the files do not tell, for the reader: ``fps``, ``up`` ...
        ignored: reason for which the dataset's authors leave it out, empty if they do not.
    """

    id: str
    motions: tuple[Path, ...]
    format: str
    group: str
    split: str | None = None
    audio: str | None = None
    audio_start_s: float = 0.0
    answers: dict[str, Any] = field(default_factory=dict)
    ignored: str = ""
