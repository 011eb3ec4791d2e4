"""PhantomDance (Li et al., AAAI 2022): 260 dances of animators, JSON at 30 FPS, with WAV files of the same names.

The names of the folders are not in the repository, so that every ``.json`` below the folder is taken. Checked against
github.com/libuyu/PhantomDanceDataset: README.md, "Data Format".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from opendance_hf.loading_scripts.files import files_of
from opendance_hf.loading_scripts.items import Item

#: The repository states no terms of the data.
LICENCE: Final = "unknown"
_EXPECTED: Final = "PhantomDance: a .json for each dance (bone_name, root_positions, rotations)"


def items(root: Path) -> Iterator[Item]:
    """Yield the dances; the dataset has no official split.

    Raises:
        LayoutError: if the folder has no motions.
    """
    for path in files_of(root, "**/*.json", _EXPECTED):
        name = path.relative_to(root).with_suffix("").as_posix()
        yield Item(name, (path,), "phantomdance", path.stem, audio=path.stem)
