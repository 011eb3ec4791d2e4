"""Describe FineDance (Li et al., ICCV 2023): ``motion/001.npy`` and songs of the same number.

Layout: github.com/li-ronghui/FineDance ``README.md``. Splits: ``dataset/FineDance_dataset.py``, ``get_train_test_list``,
``cross_genre``, on which the paper reports its results ("FineDance@Genre"); numbers in its list of ignored ones are left out,
also the two that are in the test list as well, as that loader does. Its ``LICENSE`` covers data, models and software: for
non-commercial research, education and art only, no distribution.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from opendance_hf.loading_scripts import Item
from opendance_hf.loading_scripts.folders import files_in, not_the_dataset

LICENCE: Final = "FineDance-non-commercial-no-redistribution"
_TEST: Final = frozenset(
    [
        "063",
        "132",
        "143",
        "036",
        "098",
        "198",
        "130",
        "012",
        "211",
        "193",
        "179",
        "065",
        "137",
        "161",
        "092",
        "120",
        "037",
        "109",
        "204",
        "144",
    ]
)
_IGNORED: Final = frozenset(["116", "117", "118", "119", "120", "121", "122", "123", "202", "130"])
#: Numbers of the dances from 001 to 211.
_LAST: Final = 211
PUBLISHED: Final = (
    "FineDance is published by its authors at github.com/li-ronghui/FineDance (part of it, on request)"
)


def items(root: Path) -> Iterator[Item]:
    """Yield the dances, by number; those of ``motion_fea319``, which the authors' code makes, if ``motion`` is missing.

    Raises:
        LayoutError: if there is neither of these folders with an array.
    """
    found = files_in(root, "motion", ".npy") or files_in(root, "motion_fea319", ".npy")
    if not found:
        raise not_the_dataset(root, "motion/001.npy ... (and songs named by the same numbers)", PUBLISHED)
    for file in found:
        number = file.name
        is_listed = bool(re.fullmatch(r"\d{3}", number)) and 1 <= int(number) <= _LAST
        split = "test" if number in _TEST else "train" if is_listed else None
        ignored = "the authors' list of ignored dances has it" if number in _IGNORED else ""
        yield Item(
            id=number,
            motions=(file.path,),
            format="lodge",
            group=number,
            split=split,
            audio=number,
            ignored=file.problem or ignored,
        )
