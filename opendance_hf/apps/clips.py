"""Load dances for evaluation from datasets and motion files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from opendance_hf.errors import OpenDanceError
from opendance_hf.files import HUB_ID
from opendance_hf.formats import FormatError, format_named
from opendance_hf.formats.detect import SUFFIXES, format_of
from opendance_hf.metrics import Clip
from opendance_hf.motion.skeleton import MEAN_OFFSETS
from opendance_hf.schema import per_dancer
from opendance_hf.storage import read_rows

if TYPE_CHECKING:
    from opendance_hf.formats.motion import Motion

#: Number of joint coordinates of one dancer in one frame.
NUM_VALUES: Final = MEAN_OFFSETS.size
_COLUMNS: Final = ["id", "group", "num_dancers", "joints", "music_beats", "bpm"]


class EvaluateError(OpenDanceError, ValueError):
    """Raised if dances cannot be evaluated; the message has the file and the cause."""


def load_clips(source: str | Path) -> Iterator[Clip]:
    """Yield the dances of a dataset, of a folder of ``.npz`` and ``.pkl`` files, or of one such file.

    A dataset is a local folder or a Hub id; all its configurations and splits are loaded. A file is a sequence or a dance
    of OpenDance-HF or a motion of another project, which is told by its content (:mod:`opendance_hf.formats.detect`).
    Motions without a body shape are those of the mean skeleton.

    Raises:
        EvaluateError: if there are no dances, or a file is damaged or of another type.
    """
    path = Path(source)
    if not path.exists():
        if isinstance(source, str) and HUB_ID.fullmatch(source):
            yield from _load_hub(source)
            return
        raise EvaluateError(f"{source}: no such file or folder")
    shards = sorted(path.glob("data/*/*-?????-of-?????.parquet"))
    if shards:
        splits = dict.fromkeys(
            (shard.parent.name, shard.name[: -len("-00000-of-00001.parquet")]) for shard in shards
        )
        for config, split in splits:
            for row in read_rows(path, config, split, _COLUMNS):
                yield _row_clip(row)
        return
    files = [path] if path.is_file() else _files_in(path)
    if not files:
        raise EvaluateError(
            f"{path}: neither a dataset (data/CONFIG/*.parquet) nor a folder of .npz or .pkl files"
        )
    for file in files:
        yield _load_file(file)


def _files_in(folder: Path) -> list[Path]:
    """Return the motion files of a folder; arrays of other names only without an archive or a pickle."""
    for suffixes in SUFFIXES:
        if files := sorted(file for suffix in suffixes for file in folder.glob(f"*{suffix}")):
            return files
    return []


def _load_hub(name: str) -> Iterator[Clip]:
    from datasets import get_dataset_config_names, load_dataset

    try:
        splits = [(name, config) for config in get_dataset_config_names(name)]
        loaded = [load_dataset(*one) for one in splits]
    except Exception as error:  # offline, private, missing: the Hub's message has the cause
        raise EvaluateError(f"{name}: no such folder, and not available from the Hub ({error})") from None
    for config in loaded:
        for split in config.values():
            missing = [column for column in _COLUMNS if column not in split.column_names]
            if missing:
                raise EvaluateError(f"{name}: the column(s) {', '.join(missing)} are missing in the dataset")
            for table in split.select_columns(_COLUMNS).with_format("arrow").iter(batch_size=1):
                row = {column: table[column][0].as_py() for column in _COLUMNS if column != "joints"}
                row["joints"] = table["joints"].chunk(0).storage.flatten().flatten().to_numpy()
                yield _row_clip(row)


def _row_clip(row: dict[str, Any]) -> Clip:
    count = int(row["num_dancers"])
    joints = np.reshape(row["joints"], (-1, count * NUM_VALUES))
    return Clip(
        row["id"],
        per_dancer(joints, count, NUM_VALUES // 3, 3),
        None if row["bpm"] is None else np.asarray(row["music_beats"]),  # null: no song
        group=row["group"],
        ground=0.0,
    )


def _load_file(file: Path) -> Clip:
    try:
        return _clip(format_named(format_of(file)).read(file), file)
    except OSError as error:
        raise EvaluateError(f"{file}: cannot be read ({error.strerror or error})") from None
    except FormatError as error:
        raise EvaluateError(str(error)) from None
    except ValueError as error:
        raise EvaluateError(f"{file}: {error}") from None


def _clip(motion: Motion, file: Path) -> Clip:
    beats = motion.meta.get("music_beats")
    return Clip(
        motion.meta.get("id", file.stem),
        motion.joints,
        None if beats is None else np.asarray(beats),
        fps=motion.fps,
        group=motion.meta.get("group", ""),
        ground=motion.meta.get("ground"),
    )
