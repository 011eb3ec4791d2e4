"""Describe AIOZ-GDANCE (Le et al., CVPR 2023): ``motions_smpl/NAME_START_END.pkl`` of several dancers, ``musics/*.wav``.

Layout: github.com/aioz-ai/AIOZ-GDANCE ``README.md`` ("Dataset Structure"): each sequence has a song of its own name, whose
frames are aligned with the motion. If the folder has only the song of the name before the numbers of the frames, the
motion starts there. Splits: ``train_``, ``val_`` and ``test_split_sequence_names.txt`` of later releases;
``split_sequence_names.txt`` of the first names no split. Sequences of one name before the numbers are one group. Licence:
``README.md`` ("License"): non-commercial scientific research.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from opendance_hf.loading_scripts import Item
from opendance_hf.loading_scripts.folders import SPLITS, files_in, names_in, not_the_dataset, splits_in

LICENCE: Final = "AIOZ-GDANCE-non-commercial-research"
#: Of the frames in the names.
_FPS: Final = 30.0
_NAME: Final = re.compile(r"(.+)_(\d{1,9})_(\d{1,9})")
_MUSIC: Final = ("musics", "music")
PUBLISHED: Final = "AIOZ-GDANCE is published by its authors at github.com/aioz-ai/AIOZ-GDANCE"


def items(root: Path) -> Iterator[Item]:
    """Yield the dances, by name.

    Raises:
        LayoutError: if ``motions_smpl`` has no pickle.
    """
    found = {file.name: file for file in files_in(root, "motions_smpl", ".pkl")}
    if not found:
        raise not_the_dataset(
            root, "motions_smpl/*.pkl (and musics, the lists of split_sequence_names.txt)", PUBLISHED
        )
    splits = splits_in(root, ((f"{n}_split_sequence_names.txt", split) for n, split in SPLITS.items()))
    listed = {*splits, *(names_in(root, "split_sequence_names.txt") or ())}
    songs = {file.name for folder in _MUSIC for file in files_in(root, folder, ".wav")}
    for name in sorted({*found, *listed}):
        file, parts = found.get(name), _NAME.fullmatch(name)
        is_of_whole = parts is not None and name not in songs and parts[1] in songs
        missing = "" if file else "the lists of names have it, but it has no file in motions_smpl"
        yield Item(
            id=name,
            motions=(file.path,) if file else (),
            format="gdance",
            group=parts[1] if parts else name,
            split=splits.get(name),
            audio=parts[1] if parts and is_of_whole else name,
            audio_start_s=int(parts[2]) / _FPS if parts and is_of_whole else 0.0,
            ignored=file.problem if file else missing,
        )
