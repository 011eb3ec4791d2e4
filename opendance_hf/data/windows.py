"""Windows of motion, cut from Arrow files on disk without copying a sequence into memory."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch.utils.data import Dataset

from opendance_hf.archives import read_arrays
from opendance_hf.data.arrow_files import ArrowFiles
from opendance_hf.data.order import whole_order
from opendance_hf.data.reader import DancerWindows, Floats, NoMusicError, NoWindowsError, Reader, chosen
from opendance_hf.data.tars import TarReader, names_tars
from opendance_hf.files import names_a_folder
from opendance_hf.motion.skeleton import JOINT_INDEX, NUM_JOINTS, mirror_index
from opendance_hf.schema import FPS

#: Smallest and largest plausible median distance from pelvis to head, metres: others are another unit.
_TORSO_M: Final = (0.05, 5.0)


class SequenceReader(Reader):
    """Rows of one or more configurations of a dataset, column by column, memory-mapped.

    Args:
        dataset: folder or Hub id, as ``load_dataset`` takes it.
        configs: configurations to read, one after another; all of the dataset if None.
        split: of each configuration; a configuration that lacks it is left out.
        subset: only the rows whose ``subset_rank`` is below it, in each configuration: the nested subsets of the
            paper's table 3; all if None.
        only: ids of the sequences to read; all if None.
        leave_out: ids of the sequences not to read.

    Raises:
        ValueError: if the dataset does not exist or is not one, no row is left, a named sequence does not exist, or the
            dataset has no subsets.
    """

    def __init__(
        self,
        dataset: str | os.PathLike[str],
        configs: list[str] | str | None = None,
        split: str = "train",
        subset: int | None = None,
        only: list[str] | None = None,
        leave_out: list[str] | None = None,
    ) -> None:
        from datasets import get_dataset_config_names

        self.name = name = os.fspath(dataset)
        check_dataset(name)
        if is_npz_folder(name):
            raise ValueError(f"{name}: a folder of motions, not a dataset; these have no music and no poses")
        configs = [configs] if isinstance(configs, str) else configs or get_dataset_config_names(name)
        parts = [ArrowFiles(_arrow_files(name, config, split)) for config in configs]
        self._parts = [part for part in parts if len(part)]
        self._chosen = [np.asarray(_chosen_rows(part, subset, name), np.int64) for part in self._parts]
        if only is not None or leave_out:
            ids = self.column("id")
            wanted = chosen(name, ids, only, leave_out)
            kept = np.array([id_ in wanted for id_ in ids], bool)
            ends = np.cumsum([len(rows) for rows in self._chosen])[:-1]
            self._chosen = [
                rows[those] for rows, those in zip(self._chosen, np.split(kept, ends), strict=True)
            ]
        self._ends = np.cumsum([len(rows) for rows in self._chosen])
        if len(self) == 0:
            raise ValueError(f"{name}: no rows in split {split!r}")

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def row(self, index: int) -> Any:
        """Return one row as a record batch, a view of the file."""
        index = range(len(self))[index]
        part = int(self._ends.searchsorted(index, "right"))
        rows = self._chosen[part]
        return self._parts[part][int(rows[index - int(self._ends[part])])]

    def column(self, name: str) -> list[Any]:
        """Return a scalar column of all rows."""
        found: list[Any] = []
        for part, rows in zip(self._parts, self._chosen, strict=True):
            values = part.column(name)
            found += [values[row] for row in rows]
        return found

    def matrix(self, row: Any, column: str, start: int = 0, length: int | None = None) -> Floats:
        """Return (length, C) rows of a float matrix column, a view of the file.

        Raises:
            NoMusicError: if it is null, as features of music are in rows without a song.
        """
        array = row[column]
        if array.null_count:
            raise NoMusicError(self._without_music(row, column))
        frames = array.storage.flatten()
        width = len(frames.flatten()) // max(len(frames), 1)
        values = frames.slice(start, length).flatten()
        return values.to_numpy(zero_copy_only=True).reshape(-1, width)

    def scalar(self, row: Any, column: str) -> Any:
        """Return a scalar, or a list, as Python."""
        return row[column][0].as_py()

    def fingerprint(self, columns: tuple[str, ...]) -> str:
        """Return the SHA-256 of some columns of all rows, with their ids and numbers of dancers, as hex digits.

        It is the same on every machine, and does not depend on the files in which the rows are stored. The order of the
        rows counts.
        """
        total = hashlib.sha256()
        for index in range(len(self)):
            row = self.row(index)
            total.update(repr((self.scalar(row, "id"), self.scalar(row, "num_dancers"))).encode())
            for column in columns:
                if isinstance(row[column].type, pa.BaseExtensionType):
                    values = self.matrix(row, column)
                    total.update(f"{column} {values.shape}".encode())
                    total.update(np.ascontiguousarray(values).data)
                else:
                    total.update(f"{column} {self.scalar(row, column)}".encode())
        return total.hexdigest()


def _arrow_files(name: str, config: str, split: str) -> list[Path]:
    """Return the Arrow files of a split of a configuration, which ``datasets`` makes in its cache; none if it lacks it.

    Raises:
        ValueError: if the files of the dataset cannot be read, or one has no rows.
    """
    from datasets import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        load_dataset_builder,
    )
    from datasets.exceptions import DatasetGenerationError
    from pyarrow import parquet

    shown = not are_progress_bars_disabled()
    if not sys.stderr.isatty():
        disable_progress_bars()  # in a log every update is a line
    try:
        builder = load_dataset_builder(name, config)
        builder.download_and_prepare()
    except DatasetGenerationError as error:
        shards = sorted(Path(name, "data", config).glob("*.parquet"))
        empty = [shard for shard in shards if not parquet.ParquetFile(shard).metadata.num_rows]
        why = f"no rows in {empty[0].name}" if empty else f"cannot be read ({error.__cause__ or error})"
        raise ValueError(f"{name}: configuration {config!r}: {why}") from error
    finally:
        if shown:
            enable_progress_bars()
    with contextlib.suppress(
        OSError, AttributeError
    ):  # glibc alone has it, and keeps what making 28,000 rows took
        ctypes.CDLL(None).malloc_trim(0)
    start = glob.escape(f"{builder.dataset_name}-{split}")
    made = Path(builder.cache_dir)
    return sorted([*made.glob(f"{start}.arrow"), *made.glob(f"{start}-?????-of-?????.arrow")])


def _chosen_rows(part: ArrowFiles, subset: int | None, name: str) -> list[int]:
    if subset is None:
        return list(range(len(part)))
    ranks = part.column("subset_rank") if "subset_rank" in part.column_names else [None]
    if None in ranks:
        raise ValueError(f"{name}: has no subsets (column subset_rank); pack it again with `opendance build`")
    return [row for row, rank in enumerate(ranks) if rank < subset]


def open_reader(dataset: str | os.PathLike[str], **selection: Any) -> Reader:
    """Open a dataset: a folder, a Hub id, or a pattern of tars.

    Args:
        dataset: see :class:`SequenceReader` and :class:`~opendance_hf.data.tars.TarReader`.
        selection: ``configs``, ``split``, ``subset``, ``only`` and ``leave_out`` of either.
    """
    return TarReader(dataset, **selection) if names_tars(dataset) else SequenceReader(dataset, **selection)


class MotionWindows(Dataset[dict[str, torch.Tensor]]):
    """Windows of single dancers: every dancer of every row, every ``stride`` frames.

    Copies of a window, mirrored or turned, are items of their own, drawn like all others: an index always gives the
    same item, so a resumed training sees what an uninterrupted one would.

    Args:
        dataset: see :func:`open_reader`; or a folder of ``.npz`` files, each with ``joints`` (T, 24, 3) or
            (D, T, 24, 3) in metres, y up, and optionally ``fps``; other rates are resampled to 60.
        num_frames: length of a window at 60 FPS.
        stride: frames between the starts of neighbouring windows.
        mirror: every window also with left and right exchanged.
        turns: every window that many times, turned about the vertical axis by equal angles from a start of its own.
        selection: ``configs``, ``split``, ``subset``, ``only`` and ``leave_out`` of :class:`SequenceReader`. A folder of
            ``.npz`` files is one split; its ids are the names of the files without suffix.

    Items are ``{"joints": (num_frames, 24, 3)}`` in metres, world frame.

    Raises:
        ValueError: if no window is left, or a file has no such joints.
    """

    def __init__(
        self,
        dataset: str | os.PathLike[str],
        num_frames: int = 120,
        stride: int = 4,
        *,
        mirror: bool = False,
        turns: int = 1,
        **selection: Any,
    ) -> None:
        self.num_frames = num_frames
        self.mirror, self.turns = mirror, turns
        self._motions: NpzMotions | _DatasetMotions = (
            NpzMotions(dataset, selection.get("only"), selection.get("leave_out"))
            if is_npz_folder(dataset)
            else _DatasetMotions(open_reader(dataset, **selection))
        )
        self.windows = self._motions.windows(num_frames, stride)
        self._copies = turns * (2 if mirror else 1)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the motions that the windows are cut from, as hex digits."""
        return self._motions.fingerprint()

    def __len__(self) -> int:
        return len(self.windows) * self._copies

    def order(self, seed: int, epoch: int) -> Iterator[list[int]]:
        """Yield the numbers of all items in the order of an epoch, some at a time."""
        return self._motions.order(self.windows, self._copies, seed, epoch)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        copy, number = divmod(index, len(self.windows))
        turn, mirrored = divmod(copy, 2) if self.mirror else (copy, 0)
        joints = self._motions.cut(*self.windows[number], self.num_frames)
        if mirrored:
            joints = mirrored_joints(joints)
        if self.turns > 1:
            # The golden ratio spreads the starts of neighbouring windows evenly.
            angle = 2 * np.pi * ((turn + number * 0.618034 % 1) / self.turns)
            cos, sin = np.cos(angle), np.sin(angle)
            joints = joints @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]], dtype=np.float32)
        return {"joints": torch.from_numpy(np.ascontiguousarray(joints))}


_MIRROR = mirror_index()
_FLIP = np.array([-1, 1, 1], dtype=np.float32)


def mirrored_joints(joints: Floats) -> Floats:
    """Exchange left and right of (..., 24, 3) joints: reflect them in the plane x = 0."""
    return joints[..., _MIRROR, :] * _FLIP


class _DatasetMotions:
    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.windows, self.order = reader.windows, reader.order

    def fingerprint(self) -> str:
        return self.reader.fingerprint(("joints",))

    def cut(self, index: int, dancer: int, start: int, length: int) -> Floats:
        joints = self.reader.matrix(self.reader.row(index), "joints", start, length)
        width = NUM_JOINTS * 3
        # A copy: the rows are a view of the file, which nobody may write to.
        return joints[:, dancer * width : (dancer + 1) * width].reshape(-1, NUM_JOINTS, 3).copy()


def is_npz_folder(dataset: str | os.PathLike[str]) -> bool:
    """Return True for a folder of ``.npz`` motions that is not a dataset (a dataset may have such files beside it)."""
    folder = Path(dataset)
    return folder.is_dir() and any(folder.glob("*.npz")) and not any(folder.rglob("*.parquet"))


def check_dataset(name: str) -> None:
    """Check that a name may be a dataset, without opening it or asking the Hub.

    Raises:
        ValueError: if it is a path where nothing is, or the folder of a model.
    """
    if "://" in name:
        raise ValueError(
            f"{name}: expected tars, such as hf://datasets/user/name/webdataset/individual/train-*.tar; a dataset of the Hub "
            "is named user/name"
        )
    if not names_a_folder(name):
        return
    folder = Path(name)
    if not folder.exists():
        raise ValueError(
            f"{name}: no such folder here, and no such dataset on the Hub (those are named user/name)"
        )
    if (folder / "config.json").is_file() and not any(folder.rglob("*.parquet")):
        raise ValueError(f"{name}: a model, expected a dataset")


class NpzMotions:
    """A folder of ``.npz`` motions, see :class:`MotionWindows`.

    Attributes:
        ids: names of the files without suffix.
        joints: (D, T, 24, 3) at 60 FPS of each, in metres.
        beats: (B,) frames at 60 FPS of the beats of each one's music, increasing: those of the optional array
            ``music_beats``, which counts frames of the file.

    Args:
        folder: of the files.
        only: ids to read; all if None.
        leave_out: ids not to read.

    Raises:
        ValueError: if a file has no such joints or beats, or an id that is named does not exist.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        only: list[str] | None = None,
        leave_out: list[str] | None = None,
    ) -> None:
        self._folder = folder
        files = sorted(Path(folder).glob("*.npz"))
        wanted = chosen(folder, [file.stem for file in files], only, leave_out)
        files = [file for file in files if file.stem in wanted]
        self.ids = [file.stem for file in files]
        loaded = [_load_motion(file) for file in files]
        self.joints = [joints for joints, _ in loaded]
        self.beats = [beats for _, beats in loaded]

    def windows(self, length: int, stride: int) -> DancerWindows:
        """List (motion, dancer, first frame) of every window, see :meth:`Reader.windows`."""
        frames = [joints.shape[1] for joints in self.joints]
        found = DancerWindows(frames, [len(joints) for joints in self.joints], length, stride)
        if not len(found):
            raise NoWindowsError(f"{self._folder}: no sequence has {length} frames")
        return found

    def order(self, windows: DancerWindows, copies: int, seed: int, epoch: int) -> Iterator[list[int]]:
        """Yield the numbers of all windows and their copies in random order, see :meth:`Reader.order`."""
        return whole_order(len(windows) * copies, seed, epoch)

    def fingerprint(self, *, music: bool = False) -> str:
        """Return the SHA-256 of ids and joints, as hex digits; with ``music`` also of the beats that are given."""
        total = hashlib.sha256()
        for name, joints, beats in zip(self.ids, self.joints, self.beats, strict=True):
            total.update(f"{name} {joints.shape}".encode())
            total.update(np.ascontiguousarray(joints).data)
            if music and len(beats):
                total.update(f"music_beats {beats.tolist()}".encode())
        return total.hexdigest()

    def cut(self, index: int, dancer: int, start: int, length: int) -> Floats:
        """Return (length, 24, 3) frames of one dancer."""
        return self.joints[index][dancer, start : start + length].copy()


def _load_motion(file: Path) -> tuple[Floats, npt.NDArray[np.float64]]:
    """Read (D, T, 24, 3) joints and (B,) beats, resampled to 60 FPS."""
    try:
        arrays = read_arrays(file, ("joints", "fps", "music_beats"))
        if "joints" not in arrays:
            raise ValueError("holds no array 'joints'")
        joints = np.asarray(arrays["joints"], dtype=np.float32)
        fps = float(arrays["fps"]) if "fps" in arrays else float(FPS)
        beats = np.asarray(arrays.get("music_beats", []), dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file}: {str(error).removeprefix(f'{file}: ')}") from None
    given, joints = joints.shape, joints[None] if joints.ndim == 3 else joints
    if (
        joints.ndim != 4
        or joints.shape[2:] != (NUM_JOINTS, 3)
        or not np.isfinite(joints).all()
        or not fps > 0
    ):
        raise ValueError(
            f"{file}: joints must be finite (dancers, frames, 24, 3) at a positive rate, got {given}"
        )
    if beats.ndim != 1 or not np.isfinite(beats).all():
        raise ValueError(f"{file}: music_beats must be a finite vector of frames, got shape {beats.shape}")
    torso = np.linalg.norm(joints[:, :, JOINT_INDEX["head"]] - joints[:, :, JOINT_INDEX["pelvis"]], axis=-1)
    if not _TORSO_M[0] < np.median(torso) < _TORSO_M[1]:
        raise ValueError(
            f"{file}: joints must be in metres, but the distance from pelvis to head is {np.median(torso):.3g}"
        )
    beats = np.unique(beats) * (FPS / fps)
    if fps == FPS or joints.shape[1] < 2:
        return joints, beats
    at = np.arange(0, joints.shape[1] - 1 + 1e-6, fps / FPS)
    low = np.minimum(at.astype(int), joints.shape[1] - 2)
    part = (at - low).astype(np.float32)[:, None, None]
    return joints[:, low] * (1 - part) + joints[:, low + 1] * part, beats
