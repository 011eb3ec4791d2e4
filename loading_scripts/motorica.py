"""Describe the Motorica Dance Dataset (Alexanderson et al., SIGGRAPH 2023): ``bvh/*.bvh`` and ``wav/*.wav`` of the same names.

Source: github.com/simonalexanderson/MotoricaDanceDataset ``README.md``: names as in the AIST Dance Video Database, 120 FPS,
songs of some sessions only. A name ends in ``_chNN_SONG_NUMBER``; dances of one song are one group. It has no official
splits. Licence: ``README.md`` ("TERMS OF USE"): research, non-commercial, no redistribution; the music is not part of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from opendance_hf.loading_scripts import Item
from opendance_hf.loading_scripts.folders import files_in, not_the_dataset

LICENCE: Final = "Motorica-non-commercial-research"
_SONG: Final = re.compile(r".+_ch\d+_(.+?)_\d+")
PUBLISHED: Final = "The Motorica Dance Dataset is published by its authors at github.com/simonalexanderson/MotoricaDanceDataset"


def items(root: Path) -> Iterator[Item]:
    """Yield the dances, by name.

    Raises:
        LayoutError: if ``bvh`` has no ``.bvh``.
    """
    found = files_in(root, "bvh", ".bvh")
    if not found:
        raise not_the_dataset(root, "bvh/*.bvh (and wav/*.wav of the same names)", PUBLISHED)
    for file in found:
        song = _SONG.fullmatch(file.name)
        yield Item(
            id=file.name,
            motions=(file.path,),
            format="bvh",
            group=song[1] if song else file.name,
            audio=file.name,
            ignored=file.problem,
        )
