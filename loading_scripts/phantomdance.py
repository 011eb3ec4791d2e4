"""Describe PhantomDance (Li et al., "DanceFormer", AAAI 2022): ``motion/*.json`` and songs of the same names.

Source: github.com/libuyu/PhantomDanceDataset ``README.md`` ("Data Format": pairs of JSON and WAV). It does not name the two
folders: ``motion`` is a guess, and files in the folder itself are taken too. It has no official splits. The repository's
``LICENSE`` (MIT) names the software only; the terms of the data are not stated.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from opendance_hf.loading_scripts import Item
from opendance_hf.loading_scripts.folders import files_in, not_the_dataset

LICENCE: Final = "unknown"
PUBLISHED: Final = "PhantomDance is published by its authors at github.com/libuyu/PhantomDanceDataset"


def items(root: Path) -> Iterator[Item]:
    """Yield the dances, by name.

    Raises:
        LayoutError: if neither ``motion`` nor the folder itself has a ``.json``.
    """
    found = files_in(root, "motion", ".json") or files_in(root, ".", ".json")
    if not found:
        raise not_the_dataset(root, "motion/*.json (and songs of the same names)", PUBLISHED)
    for file in found:
        yield Item(file.name, (file.path,), "phantomdance", file.name, audio=file.name, ignored=file.problem)
