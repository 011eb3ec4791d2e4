"""Group sequences that share a source, a song or a recorded motion, and so must be in the same split.

The worker computes a fingerprint of each sequence: peaks of its music and coarse tracks of its dancers. When all
videos are processed, sequences whose fingerprints match are connected; a group is a connected component.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from opendance_hf.archives import ArchiveError, read_arrays
from opendance_hf.motion.twins import Track, are_twins, tracks, twin_candidates
from opendance_hf.music import decode_audio
from opendance_hf.music.fingerprint import (
    SAME_SONG,
    SAMPLE_RATE,
    Fingerprint,
    fingerprint,
    similarity,
    song_candidates,
)
from opendance_hf.pipeline.arrays import save_arrays
from opendance_hf.pipeline.ledger import Ledger
from opendance_hf.storage import load_sequence, save_sequence
from opendance_hf.storage.npz import load_header

_log = logging.getLogger(__name__)

#: Folder of a build with one fingerprint ``{id}.npz`` per sequence.
FOLDER = "fingerprints"
#: Changes when fingerprints are compared in another way; then all are compared again.
_MATCHER: Final = 1
#: Number of fingerprints kept in memory.
_RECENT: Final = 64
T = TypeVar("T")


@dataclass(frozen=True)
class SequenceFingerprint:
    """Hold the spectrogram peaks of a sequence's music and the tracks (D, N, 10, 3) of its dancers."""

    music: Fingerprint
    dancers: Track


def fingerprint_of(
    path: Path, start_s: float, end_s: float, joints: npt.NDArray[np.floating]
) -> SequenceFingerprint:
    """Compute the fingerprint of a span of a video, given its joints (D, T, 24, 3) at 60 FPS."""
    return SequenceFingerprint(fingerprint(decode_audio(path, SAMPLE_RATE, start_s, end_s)), tracks(joints))


def save_fingerprint(file: Path, found: SequenceFingerprint) -> None:
    """Write a fingerprint atomically."""
    save_arrays(file, peaks=np.stack([found.music.times_s, found.music.octaves]), dancers=found.dancers)


def load_fingerprint(file: Path) -> SequenceFingerprint:
    """Read a fingerprint that :func:`save_fingerprint` wrote.

    Raises:
        ArchiveError: naming the file, if it is damaged.
    """
    try:
        arrays = read_arrays(file)
    except ArchiveError as error:
        raise ArchiveError(
            f"{error}; restore a copy, or delete the file: the sequence then stays in its group, but new videos are not compared "
            "with it"
        ) from None
    return SequenceFingerprint(Fingerprint(*arrays["peaks"]), arrays["dancers"])


def assign_groups(build: Path, ledger: Ledger, licence: str) -> dict[str, str]:
    """Compute the groups of all published sequences of a build, and write them and the licence to the sequence files.

    Groups keep their names, and so their splits, in later builds. If a new video connects two groups, both get the older
    name. This may move sequences to the split ``train``, but never out of it.

    Returns:
        The group of each sequence, by id.
    """
    ids = ledger.sequence_ids()
    # Sequences of older versions have no fingerprint: they are grouped by source only.
    files = {key: file for key in ids if (file := build / FOLDER / f"{key}.npz").is_file()}
    marks = {key: _mark(file) for key, file in files.items()}
    before, named = ledger.compared(), ledger.group_names()
    # Those that were compared with each other by an earlier build are in the group that it named.
    new = [key in marks and before.get(key) != marks[key] for key in ids]
    earlier = [named[key][1] if key in before else "" for key in ids]
    sources = [key.rpartition("_")[0] for key in ids]
    read = lru_cache(_RECENT)(lambda number: load_fingerprint(files[ids[number]]))
    prints = _Lazy([number for number, key in enumerate(ids) if key in files], read)
    groups = name_groups(ids, components(sources, prints, new, earlier), named)
    moved = ledger.name_groups(groups, marks)
    if moved:
        _log.info(f"{moved} sequence(s) moved to an older group, which a new video connects with theirs.")
    shared = len(set(sources)) - len(set(groups.values()))
    if shared:
        _log.info(
            f"{shared} video(s) share a song or a motion with another video and are in the same group and split."
        )
    for key, group in groups.items():
        file = build / "sequences" / f"{key}.npz"
        header = load_header(file)
        if (header.group, header.licence) != (group, licence):
            sequence = load_sequence(file)
            source = dataclasses.replace(sequence.provenance, licence=licence)
            save_sequence(file, dataclasses.replace(sequence, group=group, provenance=source))
    return groups


def _mark(file: Path) -> str:
    """Return what identifies a fingerprint and the way of comparing it."""
    found = file.stat()
    return f"{_MATCHER} {found.st_size} {found.st_mtime_ns}"


class _Lazy(Mapping[int, T]):
    """Read values by number when they are asked for: the fingerprints of a large dataset take gigabytes."""

    def __init__(self, numbers: Sequence[int], read: Callable[[int], T]) -> None:
        self._numbers, self._read = numbers, read

    def __getitem__(self, number: int) -> T:
        return self._read(number)

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


def components(
    sources: Sequence[str],
    fingerprints: Mapping[int, SequenceFingerprint],
    new: Sequence[bool] | None = None,
    earlier: Sequence[str] | None = None,
) -> list[list[int]]:
    """Return groups of the indices of N sequences with a source, a song or a motion in common.

    A sequence without a fingerprint is connected with sequences of the same source only.

    Args:
        sources: source of each sequence.
        fingerprints: fingerprints by index.
        new: False for sequences that were compared with each other before; all are new by default.
        earlier: group of each sequence of before; empty without one.
    """
    from scipy.cluster.hierarchy import DisjointSet

    groups = DisjointSet(range(len(sources)))
    for names in (sources, earlier or ()):
        first_of: dict[str, int] = {}
        for number, name in enumerate(names):
            if name:
                groups.merge(first_of.setdefault(name, number), number)
    if new is not None and not any(new):
        return sorted(sorted(group) for group in groups.subsets())
    # Pairs that are already in one group are not compared: a song in 1,000 videos costs 1,000 comparisons instead of
    # 500,000. ``scipy.sparse.csgraph`` would need all comparisons first.
    numbers = list(fingerprints)
    asked = None if new is None else [new[number] for number in numbers]
    for one, other in song_candidates((fingerprints[number].music for number in numbers), asked):
        a, b = numbers[one], numbers[other]
        if groups.connected(a, b):
            continue
        if similarity(fingerprints[a].music, fingerprints[b].music) >= SAME_SONG:
            groups.merge(a, b)
    dancers = _Lazy(range(len(numbers)), lambda place: fingerprints[numbers[place]].dancers)
    for one, other in twin_candidates(dancers, asked):
        a, b = numbers[one], numbers[other]
        if not groups.connected(a, b) and are_twins(dancers[one], dancers[other]):
            groups.merge(a, b)
    return sorted(sorted(group) for group in groups.subsets())


def name_groups(
    ids: Sequence[str], found: Sequence[Sequence[int]], known: Mapping[str, tuple[int, str]]
) -> dict[str, str]:
    """Return the name of the group of each id.

    A group gets the oldest name that one of its members had. A new group is named after the source in its smallest id.

    Args:
        ids: ids of the sequences.
        found: groups of indices into ``ids``.
        known: for ids that already had a group, the order in which it was named (smaller is earlier) and its name.
    """
    named = {}
    for component in found:
        members = [ids[number] for number in component]
        older = [known[key] for key in members if key in known]
        name = min(older)[1] if older else min(members).rpartition("_")[0]
        named.update(dict.fromkeys(members, name))
    return named
