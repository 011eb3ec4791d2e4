"""Dances to be evaluated, out of whatever people keep them in."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from opendance_hf.metrics import Clip
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import MEAN_OFFSETS
from opendance_hf.schema import FPS, DanceSequence, per_dancer
from opendance_hf.storage import load_sequence, read_rows
from opendance_hf.storage.pickles import load_pickled_arrays

_COLUMNS: Final = ["id", "group", "num_dancers", "joints", "music_beats"]
_HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")
#: gBR_sBM_cAll_d04_mBR0_ch01: genre, situation, cameras, dancer, music, choreography.
_AIST_MUSIC: Final = re.compile(r"_(m[A-Z]{2}\d)_")


# What numpy and zipfile raise on archives that are damaged, encrypted or claim absurd sizes.
_DAMAGED: Final = (
    ValueError, EOFError, KeyError, OSError, RuntimeError, OverflowError, MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class EvaluateError(ValueError):
    """The dances cannot be evaluated; the message says which file and why."""


def load_clips(source: str | Path) -> Iterator[Clip]:
    """The dances of a dataset, a folder of ``.npz`` and ``.pkl`` files, or one such file; one in memory at a time.

    A dataset is a local folder or a Hub id; all configurations and splits of it count. An ``.npz`` file is an
    annotated sequence (:func:`opendance_hf.storage.load_sequence`) or a generated dance: ``joints`` (T, 24, 3) or
    (D, T, 24, 3) in metres, y-up; optionally ``music_beats`` (frame indices), ``id``, ``group`` (the song),
    ``fps`` (60 by default) and ``ground`` (its height). A ``.pkl`` file is a motion as AIST++ publishes them: ``smpl_poses`` (T, 72) axis-angle,
    ``smpl_trans`` (T, 3) and ``smpl_scaling``, at 60 FPS; it is posed with the mean skeleton, since a pickle holds no
    body, and read without executing anything in it.

    Raises:
        EvaluateError: if there are no dances, or a file is damaged or holds something else.
    """
    path = Path(source)
    if not path.exists():
        if isinstance(source, str) and _HUB_ID.fullmatch(source):
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
    files = [path] if path.is_file() else sorted([*path.glob("*.npz"), *path.glob("*.pkl")])
    if not files:
        raise EvaluateError(
            f"{path}: neither a dataset (data/CONFIG/*.parquet) nor a folder of .npz or .pkl files"
        )
    for file in files:
        yield _load_file(file)


def _load_hub(name: str) -> Iterator[Clip]:
    from datasets import get_dataset_config_names, load_dataset

    try:
        splits = [(name, config) for config in get_dataset_config_names(name)]
        loaded = [load_dataset(*one) for one in splits]
    except Exception as error:  # offline, private, missing: the Hub's own message says which
        raise EvaluateError(f"{name}: no such folder, and not to be had from the Hub ({error})") from None
    for config in loaded:
        for split in config.values():
            lacking = [column for column in _COLUMNS if column not in split.column_names]
            if lacking:
                raise EvaluateError(f"{name}: a dataset without the columns {', '.join(lacking)}")
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
        np.asarray(row["music_beats"]),
        group=row["group"],
        ground=0.0,
    )


#: Numbers of one dancer and frame.
NUM_VALUES: Final = MEAN_OFFSETS.size


def _load_file(file: Path) -> Clip:
    try:
        return _load_pickle(file) if file.suffix == ".pkl" else _load_npz(file)
    except EvaluateError:
        raise
    except _DAMAGED as error:
        text = str(error) or type(error).__name__
        raise EvaluateError(text if text.startswith(str(file)) else f"{file}: {text}") from None


def _load_npz(file: Path) -> Clip:
    with np.load(file, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise EvaluateError(f"{file}: a bare .npy array, not an .npz file")
        if "provenance" not in archive.files:
            wanted = ("joints", "music_beats", "id", "group", "fps", "ground")
            return _generated(file, {name: archive[name] for name in wanted if name in archive.files})
    return _sequence_clip(load_sequence(file))


def _sequence_clip(seq: DanceSequence) -> Clip:
    joints = per_dancer(seq.joints, seq.num_dancers, NUM_VALUES // 3, 3)
    return Clip(seq.id, joints, seq.music_beats, group=seq.group, ground=0.0)


def _generated(file: Path, arrays: dict[str, Any]) -> Clip:
    if "joints" not in arrays:
        raise EvaluateError(f"{file}: holds no array 'joints'")
    joints = arrays["joints"]
    return Clip(
        str(arrays.get("id", file.stem)),
        joints[None] if joints.ndim == 3 else joints,
        arrays.get("music_beats"),
        fps=float(arrays.get("fps", FPS)),
        group=str(arrays.get("group", "")),
        ground=float(arrays["ground"]) if "ground" in arrays else None,
    )


def _load_pickle(file: Path) -> Clip:
    motion = load_pickled_arrays(file)
    if "smpl_poses" not in motion or "smpl_trans" not in motion:
        held = ", ".join(sorted(motion)) or "nothing"
        raise EvaluateError(
            f"{file}: holds {held}; an AIST++ motion has smpl_poses, smpl_trans and smpl_scaling (the files of "
            f"'motions', not 'keypoints3d')"
        )
    scaling = float(np.ravel(motion.get("smpl_scaling", 1.0))[0])
    poses = np.asarray(motion["smpl_poses"], dtype=np.float64)
    transl = np.asarray(motion["smpl_trans"], dtype=np.float64)
    if not scaling > 0 or poses.shape != (len(transl), NUM_VALUES) or transl.shape != (len(poses), 3):
        raise EvaluateError(
            f"{file}: smpl_poses {poses.shape}, smpl_trans {transl.shape} and scaling {scaling:g} are no SMPL motion"
        )
    joints = forward_kinematics(poses.reshape(-1, NUM_VALUES // 3, 3), transl / scaling, MEAN_OFFSETS)
    music = _AIST_MUSIC.search(file.stem)
    return Clip(file.stem, joints[None], group=music[1] if music else "")
