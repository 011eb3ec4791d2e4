"""Describe where datasets of dances keep their files: songs, motions, dancers, official splits.

A dataset is a module with ``LICENCE`` (its terms, as ``--licence`` takes them), ``items(root) -> Iterator[Item]``, and a line
in :data:`DATASETS`, which ``opendance import`` uses. Motion files are read by :mod:`opendance_hf.formats`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol, cast

from opendance_hf.errors import OpenDanceError
from opendance_hf.loading_scripts.opendance_3d import LoadingError, OpenDance3D, OpenDance3DConfig

#: Modules of the datasets by name.
DATASETS: Final[dict[str, str]] = {
    "aistpp": "opendance_hf.loading_scripts.aistpp",
    "dd100": "opendance_hf.loading_scripts.dd100",
    "finedance": "opendance_hf.loading_scripts.finedance",
    "gdance": "opendance_hf.loading_scripts.gdance",
    "humanml3d": "opendance_hf.loading_scripts.humanml3d",
    "motorica": "opendance_hf.loading_scripts.motorica",
    "phantomdance": "opendance_hf.loading_scripts.phantomdance",
}


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


class Layout(Protocol):
    """Interface of the module of a dataset."""

    LICENCE: str

    def items(self, root: Path, /) -> Iterator[Item]:
        """Yield the dances of a folder, in a fixed order.

        Raises:
            LayoutError: if the folder is not laid out as the dataset.
        """


def layout_named(name: str) -> Layout:
    """Import the module of a dataset.

    Raises:
        LayoutError: if the dataset is unknown.
    """
    if name not in DATASETS:
        raise LayoutError(f"unknown dataset {name!r}: expected one of {', '.join(DATASETS)}")
    return cast(Layout, import_module(DATASETS[name]))


__all__ = [
    "DATASETS",
    "Item",
    "Layout",
    "LayoutError",
    "LoadingError",
    "OpenDance3D",
    "OpenDance3DConfig",
    "layout_named",
]
