"""Describe DD100 (Siyao et al., "Duolando", ICLR 2024): two dancers a dance, ``motion/smplx/all/Waltz_5_0_00.npy`` and ``_01``.

Layout: github.com/lisiyao21/Duolando ``README.md`` ("DD100 Data": GENRE_CHOREOGRAPH_TAKE; 00 follows, 01 leads). Splits:
``_train_test_split.py``: test are choreographies divisible by five, of Ballet 9 and 10. Takes of one choreography are one
group. Licence: ``README.md`` ("License") names the NTU S-Lab License 1.0, for non-commercial purposes, for the project.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from opendance_hf.loading_scripts import Item
from opendance_hf.loading_scripts.folders import Found, files_in, not_the_dataset

LICENCE: Final = "NTU-S-Lab-1.0"
FOLDER: Final = "motion/smplx/all"
_NAME: Final = re.compile(r"(?P<song>(?P<group>(?P<genre>.+)_(?P<number>\d{1,9}))_\d{1,9})_(?P<dancer>0[01])")
PUBLISHED: Final = "DD100 is published by its authors at github.com/lisiyao21/Duolando"


def items(root: Path) -> Iterator[Item]:
    """Yield the dances of two, follower first, by name.

    Raises:
        LayoutError: if ``motion/smplx/all`` has no array.
    """
    found = files_in(root, FOLDER, ".npy")
    if not found:
        raise not_the_dataset(root, f"{FOLDER}/Waltz_5_0_00.npy and Waltz_5_0_01.npy ...", PUBLISHED)
    dances: dict[str, list[Found]] = {}
    for file in found:
        name = _NAME.fullmatch(file.name)
        dances.setdefault(name["song"] if name and not file.problem else file.name, []).append(file)
    for song, dancers in sorted(dances.items()):
        name = _NAME.fullmatch(dancers[0].name)
        problem = next((file.problem for file in dancers if file.problem), "")
        if name is None or problem:
            ignored = problem or "its name is not GENRE_CHOREOGRAPH_TAKE_00 or _01"
            yield Item(song, tuple(f.path for f in dancers), "dd100", song, ignored=ignored)
            continue
        number = int(name["number"])
        is_test = number in (9, 10) if "Ballet" in name["genre"] else number % 5 == 0
        partner = "01" if name["dancer"] == "00" else "00"
        yield Item(
            id=song,
            motions=tuple(file.path for file in dancers),
            format="dd100",
            group=name["group"],
            split="test" if is_test else "train",
            audio=song,
            ignored=""
            if len(dancers) == 2
            else f"the file of the other dancer, {song}_{partner}.npy, is missing",
        )
