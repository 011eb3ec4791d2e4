"""FineDance (Li et al., ICCV 2023): 211 solos of 22 genres with fingers, ``motion/001.npy`` to ``211.npy``, 30 FPS.

Songs are ``music_wav/001.wav`` ...; splits are those of the authors' test by genre. Checked against
github.com/li-ronghui/FineDance: ``dataset/FineDance_dataset.py`` (``get_train_test_list``, "cross_genre"), whose ignored
numbers count before its test list, and ``data/code/pre_motion.py``. The repository states no terms of the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from opendance_hf.loading_scripts.files import files_of
from opendance_hf.loading_scripts.items import Item

LICENCE: Final = "unknown"
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
_EXPECTED: Final = "FineDance: motion/001.npy ... 211.npy (315 columns)"


def items(root: Path) -> Iterator[Item]:
    """Yield the dances.

    Raises:
        LayoutError: if the folder has no motions.
    """
    for path in files_of(root, "motion/*.npy", _EXPECTED):
        number = path.stem
        why = "among the numbers that the authors' loader leaves out" if number in _IGNORED else ""
        split = "test" if number in _TEST else "train"
        yield Item(number, (path,), "lodge", number, split, number, ignored=why)
