"""AIOZ-GDANCE (Le et al., CVPR 2023): groups of dancers, ``motions_smpl/NAME.pkl``, with ``musics/NAME.wav``.

Motion and music of a sequence begin together. Names end with the first and the last frame in the source video; sequences of one
source are one group. ``split_sequence_names.txt`` names the sequences; ``train_``, ``val_`` and ``test_split_sequence_names.txt``
of later releases are the splits. Checked against github.com/aioz-ai/AIOZ-GDANCE: README.md and ``vis_smpl_kpt.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from opendance_hf.loading_scripts.files import files_of, split_lists
from opendance_hf.loading_scripts.items import Item

#: "Available for non-commercial scientific research purposes" (README).
LICENCE: Final = "non-commercial research (AIOZ-GDANCE)"
_SPAN: Final = re.compile(r"_\d+_\d+$")
_EXPECTED: Final = "AIOZ-GDANCE: motions_smpl/*.pkl, with musics/*.wav"


def items(root: Path) -> Iterator[Item]:
    """Yield the sequences.

    Raises:
        LayoutError: if the folder has no motions.
    """
    lists = {"train": "train", "validation": "val", "test": "test"}
    splits = split_lists({split: root / f"{name}_split_sequence_names.txt" for split, name in lists.items()})
    for path in files_of(root, "motions_smpl/*.pkl", _EXPECTED):
        name = path.stem
        yield Item(name, (path,), "gdance", _SPAN.sub("", name), splits.get(name), name)
