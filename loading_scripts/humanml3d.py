"""Describe HumanML3D (Guo et al., CVPR 2022): ``new_joint_vecs/*.npy``, ``train.txt``, ``val.txt``, ``test.txt``; no music.

Layout: github.com/EricGuo5513/HumanML3D ``README.md``. M000001 is the mirror image of 000001, and in its group. Licence: the
motions come from AMASS and HumanAct12, whose terms hold for them; the repository states none of its own for the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from opendance_hf.loading_scripts import Item
from opendance_hf.loading_scripts.folders import SPLITS, files_in, not_the_dataset, splits_in

LICENCE: Final = "unknown"
PUBLISHED: Final = "HumanML3D is made from AMASS by the code published at github.com/EricGuo5513/HumanML3D; AMASS needs a registration"


def items(root: Path) -> Iterator[Item]:
    """Yield the motions, by name.

    Raises:
        LayoutError: if ``new_joint_vecs`` has no array.
    """
    found = {file.name: file for file in files_in(root, "new_joint_vecs", ".npy")}
    if not found:
        raise not_the_dataset(root, "new_joint_vecs/*.npy (and train.txt, val.txt, test.txt)", PUBLISHED)
    splits = splits_in(root, ((f"{name}.txt", split) for name, split in SPLITS.items()))
    for name in sorted({*found, *splits}):
        file = found.get(name)
        yield Item(
            id=name,
            motions=(file.path,) if file else (),
            format="humanml3d",
            group=name.removeprefix("M"),
            split=splits.get(name),
            ignored=file.problem if file else "the lists of splits name it, but new_joint_vecs lacks it",
        )
