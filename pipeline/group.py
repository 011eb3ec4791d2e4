"""Groups: sequences that must never lie in different splits, since they share a source, a song or a recorded motion.

Every sequence has a fingerprint, made by the worker and kept beside it: the peaks of its music and the coarse tracks of
its dancers. When all videos are done, sequences whose fingerprints match are joined; each connected component is a group.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

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

#: Folder of a build where fingerprints lie, one ``{id}.npz`` a sequence.
FOLDER = "fingerprints"


@dataclass(frozen=True)
class SequenceFingerprint:
    """The peaks of a sequence's music and the tracks (D, N, 10, 3) of its dancers."""

    music: Fingerprint
    dancers: Track


def fingerprint_of(
    path: Path, start_s: float, end_s: float, joints: npt.NDArray[np.floating]
) -> SequenceFingerprint:
    """Return the fingerprint of a span of a video with the joints (D, T, 24, 3) at 60 FPS that were found in it."""
    return SequenceFingerprint(fingerprint(decode_audio(path, SAMPLE_RATE, start_s, end_s)), tracks(joints))


def save_fingerprint(file: Path, found: SequenceFingerprint) -> None:
    """Write a fingerprint, whole or not at all."""
    save_arrays(file, peaks=np.stack([found.music.times_s, found.music.octaves]), dancers=found.dancers)


def load_fingerprint(file: Path) -> SequenceFingerprint:
    """Read what :func:`save_fingerprint` wrote."""
    with np.load(file, allow_pickle=False) as archive:
        return SequenceFingerprint(Fingerprint(*archive["peaks"]), archive["dancers"])


def assign_groups(build: Path, ledger: Ledger, licence: str) -> dict[str, str]:
    """Find the groups of all published sequences of a build, and write them and the licence into the sequence files.

    A name, once given, is kept: a sequence that joins a group takes its name, and so its split. Where a new video
    connects two groups, the older name is that of both; a sequence of the other one may move to ``train``, never out of it.

    Returns:
        The group of every sequence, by id.
    """
    ids = [row["id"] for row in ledger.sequences()]
    files = [build / FOLDER / f"{key}.npz" for key in ids]
    # A build of an earlier version has sequences without a fingerprint: of those, the source tells.
    fingerprints = [load_fingerprint(file) if file.is_file() else None for file in files]
    sources = [key.rpartition("_")[0] for key in ids]
    groups = name_groups(ids, components(sources, fingerprints), ledger.group_names())
    moved = ledger.name_groups(groups)
    if moved:
        _log.info(f"{moved} sequence(s) joined an older group, since a new video connects the two.")
    shared = len(set(sources)) - len(set(groups.values()))
    if shared:
        _log.info(
            f"{shared} video(s) share a song or a motion with another: they share its group, and its split."
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
    """Return the groups of N sequences, by number: sequences with a source, a song or a motion in common.

    A sequence without a fingerprint is joined with those of its source alone.
    """
    from scipy.cluster.hierarchy import DisjointSet

    groups = DisjointSet(range(len(sources)))
    first_of: dict[str, int] = {}
    for number, source in enumerate(sources):
        groups.merge(first_of.setdefault(source, number), number)
    # Sequences of one group are not compared: a song of a thousand videos costs a thousand comparisons, not half a
    # million. That is why groups grow pair by pair, and not in one call of ``scipy.sparse.csgraph``.
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
    """Return the group of every id.

    A group has the oldest name that one of its members had, else the first part of its smallest id: the hash of a source.

    Args:
        ids: of the sequences.
        found: components, by number.
        known: for ids that had a group, when that was named (smaller is earlier) and its name.
    """
    named = {}
    for component in found:
        members = [ids[number] for number in component]
        older = [known[key] for key in members if key in known]
        name = min(older)[1] if older else min(members).rpartition("_")[0]
        named.update(dict.fromkeys(members, name))
    return named
