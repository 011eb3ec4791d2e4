"""Describe where datasets of dances keep their files: songs, motions, dancers, official splits.

A dataset is a module with ``LICENCE`` (its terms, as ``--licence`` takes them), ``items(root) -> Iterator[Item]``, and a line
in :data:`DATASETS`, which ``opendance import`` uses. Motion files are read by :mod:`opendance_hf.formats`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

from opendance_hf.loading_scripts.items import Item, LayoutError
from opendance_hf.loading_scripts.opendance_3d import LoadingError, OpenDance3D, OpenDance3DConfig

#: Modules of the datasets by name.
DATASETS: Final[dict[str, str]] = {
    name: f"opendance_hf.loading_scripts.{name}"
    for name in ("aistpp", "dd100", "finedance", "gdance", "humanml3d", "motorica", "phantomdance")
}


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
