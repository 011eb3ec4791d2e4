"""Dances to be evaluated, out of whatever people keep them in."""

from __future__ import annotations

import lzma
import math
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from opendance_hf.errors import OpenDanceError
from opendance_hf.metrics import Clip
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS
from opendance_hf.pickles import load_pickled_arrays
from opendance_hf.schema import FPS, DanceSequence, per_dancer
from opendance_hf.storage import load_sequence, read_rows

#: Numbers of one dancer and frame.
NUM_VALUES: Final = MEAN_OFFSETS.size
_COLUMNS: Final = ["id", "group", "num_dancers", "joints", "music_beats"]
_HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")
#: gBR_sBM_cAll_d04_mBR0_ch01: genre, situation, cameras, dancer, music, choreography.
_AIST_MUSIC: Final = re.compile(r"_(m[A-Z]{2}\d)_")

# What numpy and zipfile raise on archives that are damaged, encrypted or claim absurd sizes.
_DAMAGED: Final = (
    ValueError, EOFError, KeyError, OSError, RuntimeError, OverflowError, MemoryError, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError,
)  # fmt: skip

#: What the arrays read from one archive may take, since a few kilobytes can claim any size: of a generated dance (an
#: hour of a couple, in float64, has 249 MB) and of an annotated sequence, which holds far more.
MAX_UNPACKED: Final = 256 * 1024**2
MAX_UNPACKED_SEQUENCE: Final = 1024**3
#: Names longer than this are no names.
_MAX_TEXT_BYTES: Final = 4096
#: Kinds of numpy's dtypes that an array of a generated dance may have. Booleans are no beats: a mask marks them.
_KINDS: Final[dict[str, tuple[str, str]]] = {
    "joints": ("iuf", "real numbers, the joints in metres"),
    "music_beats": ("iuf", "numbers, the frame indices of the beats (of a mask, numpy.flatnonzero)"),
    "fps": ("iuf", "one number, the frames a second"),
    "ground": ("iuf", "one number, the height of the ground in metres"),
    "id": ("Uiu", "one text, the name of the dance"),
    "group": ("Uiu", "one text, the name of the song"),
}
_KIND_NAMES: Final = {"O": "Python objects", "V": "structures", "U": "text", "S": "bytes", "b": "booleans"}
_SINGLE: Final = ("fps", "ground", "id", "group")
#: Bodies smaller than this, pelvis to head, are in another unit than metres; Clip refuses the large ones.
_MIN_TORSO: Final = 0.05


class EvaluateError(OpenDanceError, ValueError):
    """The dances cannot be evaluated; the message says which file and why."""


def load_clips(source: str | Path) -> Iterator[Clip]:
    """The dances of a dataset, a folder of ``.npz`` and ``.pkl`` files, or one such file; one in memory at a time.

    A dataset is a local folder or a Hub id; all configurations and splits of it count. An ``.npz`` file is an
    annotated sequence (:func:`opendance_hf.storage.load_sequence`) or a generated dance: ``joints`` (T, 24, 3) or
    (D, T, 24, 3) in metres, y-up; optionally ``music_beats`` (frame indices), ``id``, ``group`` (the song),
    ``fps`` (60 by default) and ``ground`` (its height). A ``.pkl`` file is a motion as AIST++ publishes them:
    ``smpl_poses`` (T, 72) axis-angle, ``smpl_trans`` (T, 3) and ``smpl_scaling``, at 60 FPS; it is posed with the mean
    skeleton, since a pickle holds no body, and read without executing anything in it.

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


def _load_file(file: Path) -> Clip:
    try:
        if file.suffix.lower() == ".pkl":
            return _load_pickle(file)
        if not zipfile.is_zipfile(file):
            with file.open("rb") as opened:
                bare = opened.read(6) == b"\x93NUMPY"
            what = "a bare .npy array" if bare else "neither an .npz archive nor a .pkl file"
            raise EvaluateError(
                f"{file}: {what}; a dance is an .npz file with an array 'joints' (T, 24, 3) in metres "
                f"(numpy.savez), or a motion of AIST++ (.pkl)"
            )
        return _load_npz(file)
    except EvaluateError:
        raise
    except _DAMAGED as error:
        text = str(error) or type(error).__name__
        raise EvaluateError(text if text.startswith(str(file)) else f"{file}: {text}") from None


def _load_npz(file: Path) -> Clip:
    with zipfile.ZipFile(file) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        if "provenance" not in names:
            wanted = [name for name in _KINDS if name in names]
            if "joints" not in wanted:
                raise EvaluateError(f"{file}: holds no array 'joints'")
            _check_members(file, archive, wanted, MAX_UNPACKED)
            return _generated(file, {name: _member(archive, name) for name in wanted})
        _check_members(file, archive, names, MAX_UNPACKED_SEQUENCE)
    return _sequence_clip(file, load_sequence(file))


def _check_members(file: Path, archive: zipfile.ZipFile, names: list[str], limit: int) -> None:
    """Refuse what is too large or of no use, by what the archive says of its members and these say of themselves."""
    infos = [archive.getinfo(f"{name}.npy") for name in names]
    total = sum(info.file_size for info in infos)
    if total > limit:
        raise EvaluateError(
            f"{file}: unpacks to {total:,} bytes; more than {limit:,} are refused: split the dance"
        )
    for name, info in zip(names, infos, strict=True):
        with archive.open(info) as opened:
            shape, dtype = _npy_header(file, name, opened)
            num_bytes = info.file_size - opened.tell()
        # What else an annotated sequence holds, its schema knows.
        kinds, meaning = _KINDS.get(name, ("biufU", "numbers or text"))
        shown = ascii(name)[1:-1][:40]
        if dtype.kind not in kinds:
            held = _KIND_NAMES.get(dtype.kind, dtype.name)
            raise EvaluateError(f"{file}: '{shown}' holds {held}, but must be {meaning}")
        if math.prod(shape) * dtype.itemsize != num_bytes:
            raise EvaluateError(f"{file}: '{shown}' is damaged: {num_bytes:,} bytes for the shape {shape}")


def _npy_header(file: Path, name: str, opened: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    try:
        version = np.lib.format.read_magic(opened)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # headers written by Python 2
            shape, _, dtype = readers[version](opened)
        if len(shape) > 32 or any(n < 0 for n in shape):
            raise ValueError
    # The header is a Python expression, and evaluating a damaged one raises nearly anything.
    except Exception:
        raise EvaluateError(f"{file}: '{ascii(name)[1:-1][:40]}' is damaged, or no array") from None
    return shape, dtype


def _member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as opened:
        return np.lib.format.read_array(opened, allow_pickle=False)


def _sequence_clip(file: Path, seq: DanceSequence) -> Clip:
    count, joints = seq.num_dancers, seq.joints
    if not isinstance(count, int) or count < 1 or joints.shape != (len(joints), count * NUM_VALUES):
        raise EvaluateError(
            f"{file}: joints {joints.shape} are not those of num_dancers {ascii(count)[:20]}; rewrite it with "
            f"opendance_hf.storage.save_sequence"
        )
    placed = per_dancer(joints, count, NUM_VALUES // 3, 3)
    return Clip(str(seq.id), placed, seq.music_beats, group=str(seq.group), ground=0.0)


def _generated(file: Path, arrays: dict[str, np.ndarray]) -> Clip:
    for name in _SINGLE:
        if name in arrays and arrays[name].size != 1:
            raise EvaluateError(
                f"{file}: '{name}' has {arrays[name].size} values, but must be {_KINDS[name][1]}"
            )
        if name in arrays and arrays[name].nbytes > _MAX_TEXT_BYTES:
            raise EvaluateError(f"{file}: '{name}' is too long for a name")
    single = {name: arrays[name].reshape(()).item() for name in _SINGLE if name in arrays}
    joints = arrays["joints"]
    clip = Clip(
        str(single.get("id", file.stem)),
        joints[None] if joints.ndim == 3 else joints,
        arrays.get("music_beats"),
        fps=float(single.get("fps", FPS)),
        group=str(single.get("group", "")),
        ground=float(single["ground"]) if "ground" in single else None,
    )
    torso = np.linalg.norm(
        clip.joints[:, :, JOINT_INDEX["head"]] - clip.joints[:, :, JOINT_INDEX["pelvis"]], axis=-1
    )
    smallest = float(np.median(torso, axis=1).min())
    # A model may collapse all joints into one, which is a bad dance, but no wrong unit.
    if 1e-6 < smallest < _MIN_TORSO:
        raise EvaluateError(
            f"{file}: joints must be in metres, but a body measures {smallest:.3g} from pelvis to head"
        )
    return clip


def _load_pickle(file: Path) -> Clip:
    motion = load_pickled_arrays(file)
    if "smpl_poses" not in motion or "smpl_trans" not in motion:
        held = ascii(", ".join(sorted(motion))[:200])[1:-1] or "nothing"
        raise EvaluateError(
            f"{file}: holds {held}; an AIST++ motion has smpl_poses, smpl_trans and smpl_scaling (the files of "
            f"'motions', not 'keypoints3d')"
        )
    poses, transl = (_real_array(file, name, motion[name]) for name in ("smpl_poses", "smpl_trans"))
    scalings = _real_array(file, "smpl_scaling", motion.get("smpl_scaling", 1.0))
    scaling = float(scalings.reshape(())) if scalings.size == 1 else math.nan
    if (
        not 0 < scaling < math.inf
        or poses.ndim != 2
        or poses.shape != (len(poses), NUM_VALUES)
        or transl.shape != (len(poses), 3)
    ):
        raise EvaluateError(
            f"{file}: smpl_poses {poses.shape}, smpl_trans {transl.shape} and smpl_scaling "
            f"{f'{scaling:g}' if scalings.size == 1 else scalings.shape} are no SMPL motion: (T, 72), (T, 3) and one "
            f"positive number"
        )
    # Absurd angles and places become NaN or infinity, which Clip refuses by name.
    with np.errstate(all="ignore"):
        joints = forward_kinematics(poses.reshape(-1, NUM_VALUES // 3, 3), transl / scaling, MEAN_OFFSETS)
    music = _AIST_MUSIC.search(file.stem)
    return Clip(file.stem, joints[None], group=music[1] if music else "")


def _real_array(file: Path, name: str, value: Any) -> np.ndarray:
    """A real number or an array of them out of a pickle, in float64; numpy would also make arrays of anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.ndarray):
        raise EvaluateError(f"{file}: {name} is a {type(value).__name__}, not an array of real numbers")
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise EvaluateError(f"{file}: {name} holds {array.dtype.name}, not real numbers")
    return array.astype(np.float64)
