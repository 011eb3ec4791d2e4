"""HumanML3D (Guo et al., CVPR 2022): motion of AMASS and HumanAct12 as 263 features, ``new_joint_vecs/*.npy``, 20 FPS.

It has no music. ``train.txt``, ``val.txt`` and ``test.txt`` are the splits; ``M000001`` is the mirror image of ``000001``, of the
same group. Checked against github.com/EricGuo5513/HumanML3D: README.md and ``motion_representation.ipynb``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from opendance_hf.loading_scripts.files import files_of, split_lists
from opendance_hf.loading_scripts.items import Item

#: The motion is that of AMASS, whose licence allows no redistribution.
LICENCE: Final = "AMASS: non-commercial research"
_EXPECTED: Final = "HumanML3D: new_joint_vecs/*.npy, with train.txt, val.txt and test.txt"


def items(root: Path) -> Iterator[Item]:
    """Yield the motions.

    Raises:
        LayoutError: if the folder has no motions.
    """
    splits = split_lists(
        {"train": root / "train.txt", "validation": root / "val.txt", "test": root / "test.txt"}
    )
    for path in files_of(root, "new_joint_vecs/*.npy", _EXPECTED):
        name = path.stem
        yield Item(name, (path,), "humanml3d", name.removeprefix("M"), splits.get(name))
