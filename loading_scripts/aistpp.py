"""Describe AIST++ (Li et al., ICCV 2021): ``motions`` or ``keypoints3d``, ``splits``, ``ignore_list.txt``.

Layout and names: google/aistplusplus_api ``README.md`` and ``aist_plusplus/loader.py`` (``AISTDataset.__init__``). Licence of
the annotations: google/aistplusplus_dataset ``factsfigures.html`` ("Licenses"); music and video have the terms of the AIST
Dance Video Database. The crossmodal lists are read, and the pose lists only without them: ``factsfigures.html`` recommends
the former for motion and music. Of those, validation and test share their ten songs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from opendance_hf.formats.coco import MUSIC_CODE
from opendance_hf.loading_scripts import Item
from opendance_hf.loading_scripts.folders import SPLITS, files_in, names_in, not_the_dataset, splits_in

LICENCE: Final = "CC-BY-4.0"
PUBLISHED: Final = (
    "AIST++ was published at google.github.io/aistplusplus_dataset; the links of its download page are gone since 2026. What "
    "is left are copies of others, and the videos with music of the AIST Dance Video Database (aistdancedb.ongaaccel.jp)"
)


def items(root: Path) -> Iterator[Item]:
    """Yield the dances, by name: from ``motions``, and from ``keypoints3d`` those without poses.

    Raises:
        LayoutError: if there is neither of these folders with a pickle.
    """
    found = {file.name: (file, "coco") for file in files_in(root, "keypoints3d", ".pkl")}
    found |= {file.name: (file, "aistpp") for file in files_in(root, "motions", ".pkl")}
    if not found:
        raise not_the_dataset(
            root, "motions/*.pkl or keypoints3d/*.pkl (and splits, ignore_list.txt)", PUBLISHED
        )
    splits: dict[str, str] = {}
    for kind in ("crossmodal", "pose"):
        splits = splits or splits_in(root, ((f"splits/{kind}_{n}.txt", s) for n, s in SPLITS.items()))
    left_out = set(names_in(root, "ignore_list.txt") or ())
    for name in sorted({*found, *splits}):
        file, format_name = found.get(name, (None, "aistpp"))
        ignored = "AIST++'s ignore_list.txt names it: poorly reconstructed" if name in left_out else ""
        if file is None:
            ignored = ignored or "the lists of splits name it, but it has no file in motions or keypoints3d"
        music = MUSIC_CODE.search(name)
        if not (ignored or music or file is None or file.problem):
            ignored = "its name has no code of the music, such as _mBR0_"
        yield Item(
            id=name,
            motions=(file.path,) if file else (),
            format=format_name,
            group=music[1] if music else name,
            split=splits.get(name),
            audio=music[1] if music else None,
            ignored=(file.problem if file else "") or ignored,
        )
