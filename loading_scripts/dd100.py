"""DD100 (Siyao et al., ICLR 2024, "Duolando"): duets with fingers, ``motion/smplx/all/GENRE_CHOREOGRAPHY_TAKE_00.npy``.

``_00`` is the follower and ``_01`` the leader; songs are ``music/mp3/all/GENRE_CHOREOGRAPHY_TAKE.mp3``. The test split holds the
choreographies whose number divides by five. Checked against github.com/lisiyao21/Duolando: README.md and
``_train_test_split.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from opendance_hf.loading_scripts.files import files_of
from opendance_hf.loading_scripts.items import Item

#: NTU S-Lab License 1.0, which is not one of the Hub's.
LICENCE: Final = "NTU S-Lab License 1.0"
_EXPECTED: Final = (
    "DD100: motion/smplx/all/GENRE_CHOREOGRAPHY_TAKE_00.npy and ..._01.npy (the data of Duolando)"
)


def items(root: Path) -> Iterator[Item]:
    """Yield the duets, the follower first; two takes of a choreography are one group.

    Raises:
        LayoutError: if the folder has no motions.
    """
    dances: dict[str, dict[str, Path]] = {}
    for path in files_of(root, "motion/smplx/all/*.npy", _EXPECTED):
        name, _, role = path.stem.rpartition("_")
        dances.setdefault(name, {})[role] = path
    for name, roles in dances.items():
        choreography, _, _ = name.rpartition("_")
        number = choreography.rpartition("_")[2]
        split = "test" if number.isdigit() and int(number) % 5 == 0 else "train"
        missing = [role for role in ("00", "01") if role not in roles]
        why = f"the file of a partner, {name}_{missing[0]}.npy, is missing" if missing else ""
        files = tuple(roles[role] for role in ("00", "01") if role in roles)
        yield Item(name, files, "dd100", choreography or name, split, name, ignored=why)
