"""Group sequences that share a source, a song or a recorded motion, and so must be in the same split.

The worker computes a fingerprint of each sequence: peaks of its music and coarse tracks of its dancers. When all
videos are processed, sequences whose fingerprints match are connected; a group is a connected component.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    files = [build / FOLDER / f"{key}.npz" for key in ids]
    # Sequences of older versions have no fingerprint: they are grouped by source only.
    fingerprints = [load_fingerprint(file) if file.is_file() else None for file in files]
    sources = [key.rpartition("_")[0] for key in ids]
    groups = name_groups(ids, components(sources, fingerprints), ledger.group_names())
    moved = ledger.name_groups(groups)
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


def components(sources: Sequence[str], fingerprints: Sequence[SequenceFingerprint | None]) -> list[list[int]]:
    """Return groups of the indices of N sequences with a source, a song or a motion in common.

    A sequence without a fingerprint is connected with sequences of the same source only.
    """
    from scipy.cluster.hierarchy import DisjointSet

    groups = DisjointSet(range(len(sources)))
    first_of: dict[str, int] = {}
    for number, source in enumerate(sources):
        groups.merge(first_of.setdefault(source, number), number)
    # Pairs that are already in one group are not compared: a song in 1,000 videos costs 1,000 comparisons instead of
    # 500,000. ``scipy.sparse.csgraph`` would need all comparisons first.
    known = [(number, one) for number, one in enumerate(fingerprints) if one is not None]
    numbers = [number for number, _ in known]
    music = [one.music for _, one in known]
    for one, other in song_candidates(music):
        a, b = numbers[one], numbers[other]
        if not groups.connected(a, b) and similarity(music[one], music[other]) >= SAME_SONG:
            groups.merge(a, b)
    dancers = [one.dancers for _, one in known]
    for one, other in twin_candidates(dancers):
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
