"""Motorica Dance Dataset (Alexanderson et al., SIGGRAPH 2023): BVH at 120 FPS with WAV files of the same names.

Names follow AIST: ``kthstreet_gLH_sFM_cAll_d01_mLH_ch01_SONG_001``; the last number counts the takes of a song. Checked against
github.com/simonalexanderson/MotoricaDanceDataset: README.md. Music of some sessions is not part of the data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from opendance_hf.loading_scripts.files import files_of
from opendance_hf.loading_scripts.items import Item

#: Research only, no commercial use, no redistribution (README, "Terms of use").
LICENCE: Final = "Motorica Dance Dataset: research only, no redistribution"
_TAKE: Final = re.compile(r"_\d+$")
_SESSION: Final = re.compile(r"^.*_ch\d+_")
_EXPECTED: Final = "the Motorica Dance Dataset: *.bvh, in the folder or in bvh/, with wav/*.wav"


def items(root: Path) -> Iterator[Item]:
    """Yield the takes; those of one song are one group.

    Raises:
        LayoutError: if the folder has no motions.
    """
    for path in files_of(root, "**/*.bvh", _EXPECTED):
        song = _TAKE.sub("", _SESSION.sub("", path.stem)) or path.stem
        yield Item(path.stem, (path,), "bvh", song, audio=path.stem)
