"""AIST++ (Li et al., ICCV 2021): solos of 30 dancers to 60 pieces of music, in ``aist_plusplus_final``.

``motions/NAME.pkl`` are SMPL motions, ``keypoints3d/NAME.pkl`` 17 joints (read if there are no motions), ``splits`` the
official lists, and ``ignore_list.txt`` names sequences whose annotations the authors found to be wrong. The name has the music:
``gBR_sBM_cAll_d04_mBR0_ch03`` is danced to ``mBR0``, whose sound comes from the AIST Dance Video Database.

Checked against github.com/google/aistplusplus_api: README.md, ``aist_plusplus/loader.py`` (``AISTDataset``). Its original
download is gone since 2026; copies and the AIST videos, from which the poses were estimated, are left.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from opendance_hf.loading_scripts.files import files_of, names_in, split_lists
from opendance_hf.loading_scripts.items import Item

#: Terms of the annotations; the videos and the music have their own.
LICENCE = "cc-by-4.0"
_MUSIC = re.compile(r"_(m[A-Z]{2}\d)_")
_EXPECTED = (
    "AIST++: motions/*.pkl or keypoints3d/*.pkl, with splits/ and ignore_list.txt (aist_plusplus_final)"
)


def items(root: Path) -> Iterator[Item]:
    """Yield the sequences, with the splits of the task "music to dance" (``crossmodal``), or else of pose estimation.

    Raises:
        LayoutError: if the folder has neither motions nor keypoints.
    """
    kind, reader = ("motions", "aistpp") if (root / "motions").is_dir() else ("keypoints3d", "coco")
    files = files_of(root, f"{kind}/*.pkl", _EXPECTED)
    for task in ("crossmodal", "pose"):
        names = ("train", "validation", "test")
        lists = {split: root / "splits" / f"{task}_{split.removesuffix('idation')}.txt" for split in names}
        if splits := split_lists(lists):
            break
    ignored = set(names_in(root / "ignore_list.txt"))
    for path in files:
        name = path.stem
        song = found[1] if (found := _MUSIC.search(name)) else name
        why = "in the dataset's ignore_list.txt" if name in ignored else ""
        yield Item(name, (path,), reader, song, splits.get(name), song, ignored=why)
    for name in sorted(splits.keys() - {path.stem for path in files}):
        why = f"in the list of the split {splits[name]}, but {kind}/{name}.pkl is missing"
        yield Item(name, (), reader, name, splits[name], ignored=why)
