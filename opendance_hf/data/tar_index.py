"""Index of a tar: where every member of every sample is. Made from headers alone, and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import logging
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.data.tar_files import TarError, TarFile
from opendance_hf.files import atomic_write
from opendance_hf.schema import COLUMNS

logger = logging.getLogger(__name__)
Integers = npt.NDArray[np.int64]

#: Members of a sample: that of the scalars, and one for each array column.
MEMBERS: Final = ("json", *(f"{name}.npy" for name, column in COLUMNS.items() if column.shape))
#: Largest sizes in bytes of the scalars of a sample, and of the header of an array.
_SCALARS_BYTES: Final = 10**7
HEADER_BYTES: Final = 4096
#: Bytes of every array that the digest of a sample is made of, the header included.
_SEEN_BYTES: Final = 1024
_VERSION: Final = 1


@dataclass(frozen=True)
class TarIndex:
    """Samples of one tar, in its order.

    Attributes:
        ids: (N,) of the sequences.
        dancers: (N,) number of dancers.
        frames: (N,) number of frames.
        ranks: (N,) ``subset_rank``, -1 for none.
        digests: (N,) SHA-256 of the scalars, and of sizes and beginnings of all arrays.
        offsets: (N, len(MEMBERS)) first byte of every member, -1 if absent.
        sizes: (N, len(MEMBERS)) in bytes.
    """

    ids: npt.NDArray[np.str_]
    dancers: Integers
    frames: Integers
    ranks: Integers
    digests: npt.NDArray[np.bytes_]
    offsets: Integers
    sizes: Integers

    def __len__(self) -> int:
        return len(self.ids)


def index_of(tar: TarFile) -> TarIndex:
    """Return the index of a tar from the cache, or make it.

    Raises:
        TarError: naming the tar, and the sample if one is damaged.
    """
    path = tar.cache() / f"index-{_VERSION}.npz"
    names = [field.name for field in fields(TarIndex)]
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return TarIndex(**{name: arrays[name] for name in names})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # there is none, or a damaged one
    made = _make(tar)
    try:
        with atomic_write(path) as partial, partial.open("wb") as file:
            np.savez(file, **{name: getattr(made, name) for name in names})
    except OSError as error:
        logger.warning("the index of %s is not kept: %s", tar.name, error)
    return made


def _make(tar: TarFile) -> TarIndex:
    samples = list(_samples(tar))
    if not samples:
        raise TarError(f"{tar.name}: has no samples")
    ids, dancers, frames, ranks, digests, offsets, sizes = zip(*samples, strict=True)
    return TarIndex(
        np.array(ids),
        np.array(dancers, np.int64),
        np.array(frames, np.int64),
        np.array(ranks, np.int64),
        np.array(digests, "S32"),
        np.array(offsets, np.int64),
        np.array(sizes, np.int64),
    )


def _samples(tar: TarFile) -> Iterator[tuple[Any, ...]]:
    """Yield the fields of :class:`TarIndex` of every sample; its members stand next to each other."""
    with tar.open() as file:
        key, found = "", dict[str, tuple[int, int]]()
        for info in _headers(tar, file):
            sample, _, member = info.name.partition(".")
            if not info.isreg() or info.sparse is not None:
                raise TarError(f"{tar.name}: {info.name!r} is not a plain file")
            if found and sample != key:
                yield _sample(tar, file, key, found)
                found = {}
            if member in found:
                raise TarError(f"{tar.name}, sample {sample!r}: has two members {member!r}")
            key, found[member] = sample, (info.offset_data, info.size)
        if found:
            yield _sample(tar, file, key, found)


def _headers(tar: TarFile, file: Any) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of the members; unlike ``tarfile``, do not take a damaged one for the end of the tar."""
    try:
        with tarfile.open(fileobj=file, mode="r:") as opened:
            while (info := opened.next()) is not None:
                opened.members = []  # type: ignore[attr-defined]  # they would all be kept
                if info.offset_data + info.size > tar.size:
                    sample = info.name.partition(".")[0]
                    raise TarError(f"{tar.name}, sample {sample!r}: cut off in {info.name!r}")
                yield info
            file.seek(opened.offset)
            if file.read(512) != bytes(512):
                raise TarError(f"{tar.name}: cut off or damaged at byte {opened.offset}")
    except (tarfile.TarError, OverflowError, UnicodeError, OSError) as error:
        raise TarError(f"{tar.name}: not a readable tar ({error})") from None


def _sample(tar: TarFile, file: Any, key: str, found: dict[str, tuple[int, int]]) -> tuple[Any, ...]:
    try:
        row = json.loads(_read(file, *found["json"], _SCALARS_BYTES))
        name, dancers, frames = row["id"], row["num_dancers"], row["num_frames"]
        rank = row.get("subset_rank", -1)
        if not all(type(number) is int for number in (dancers, frames, rank)) or min(dancers, frames) < 1:
            raise ValueError(f"{dancers!r} dancers and {frames!r} frames")
        # Windows are counted by these numbers: a sample cannot claim more than it has.
        _, joints = found["joints.npy"]
        expected = dancers * frames * 72 * 4
        if not expected < joints <= expected + HEADER_BYTES:
            raise ValueError(
                f"joints.npy has {joints} bytes, expected {expected} of {dancers} dancers and {frames} frames"
            )
        total = hashlib.sha256()
        for member in sorted(found):
            whole = member == "json"
            seen = _read(file, *found[member], _SCALARS_BYTES) if whole else _read_head(file, *found[member])
            total.update(f"{member} {found[member][1]} ".encode() + seen)
    except (KeyError, TypeError, ValueError, RecursionError, AttributeError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else error
        raise TarError(f"{tar.name}, sample {key!r}: {why}") from None
    places = [found.get(member, (-1, 0)) for member in MEMBERS]
    return str(name), dancers, frames, rank, total.digest(), *map(list, zip(*places, strict=True))


def _read(file: Any, offset: int, size: int, most: int) -> bytes:
    if size > most:
        raise ValueError(f"has {size} bytes of scalars, expected at most {most}")
    file.seek(offset)
    found: bytes = file.read(size)
    return found


def _read_head(file: Any, offset: int, size: int) -> bytes:
    return _read(file, offset, min(size, _SEEN_BYTES), _SEEN_BYTES)
