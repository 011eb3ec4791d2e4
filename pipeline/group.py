"""Groups: sequences that must never lie in different splits, since they share a source, a song or a recorded motion.

Every sequence has a print, made by the worker and kept beside it: the peaks of its music and the coarse tracks of its
dancers. When all videos are done, prints that match are joined, and each component of what hangs together is a group.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
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

#: Folder of a build where prints lie, one ``{id}.npz`` a sequence.
FOLDER = "prints"


@dataclass(frozen=True)
class Print:
    """What tells whether two sequences belong together: the music's peaks and the dancers' tracks (D, N, 10, 3)."""

    music: Fingerprint
    dancers: Track


def make_print(path: Path, start_s: float, end_s: float, joints: npt.NDArray[np.floating]) -> Print:
    """The print of a span of a video, with the joints (D, T, 24, 3) at 60 FPS that were found in it."""
    return Print(fingerprint(decode_audio(path, SAMPLE_RATE, start_s, end_s)), tracks(joints))


def save_print(file: Path, found: Print) -> None:
    """Write a print, whole or not at all."""
    save_arrays(file, peaks=np.stack([found.music.times_s, found.music.octaves]), dancers=found.dancers)


def load_print(file: Path) -> Print:
    """Read what :func:`save_print` wrote."""
    with np.load(file, allow_pickle=False) as archive:
        return Print(Fingerprint(*archive["peaks"]), archive["dancers"])


def assign_groups(build: Path, ledger: Ledger, tell: Callable[[str], None]) -> dict[str, str]:
    """Find the groups of all published sequences of a build, and write them into the sequence files.

    A name, once given, is kept: a sequence that joins a group takes its name, and so its split. Where a new video
    connects two groups, the older name is that of both, and the sequences of the other one may change their split.

    Returns:
        The group of every sequence, by id.
    """
    ids = [row["id"] for row in ledger.sequences()]
    files = [build / FOLDER / f"{key}.npz" for key in ids]
    # A build of an earlier version has sequences without a print: of those, the source tells.
    prints = [load_print(file) if file.is_file() else None for file in files]
    sources = [key.rpartition("_")[0] for key in ids]
    groups = name_groups(ids, components(sources, prints), ledger.group_names())
    moved = ledger.name_groups(groups)
    if moved:
        tell(f"{moved} sequence(s) joined an older group, since a new video connects the two.")
    shared = len(set(sources)) - len(set(groups.values()))
    if shared:
        tell(f"{shared} video(s) share a song or a motion with another: they share its group, and its split.")
    for key, group in groups.items():
        file = build / "sequences" / f"{key}.npz"
        if load_header(file)[1] != group:
            save_sequence(file, dataclasses.replace(load_sequence(file), group=group))
    return groups


def components(sources: Sequence[str], prints: Sequence[Print | None]) -> list[list[int]]:
    """What hangs together of N sequences, by number: a source, a song or a motion in common.

    A sequence without a print hangs together with those of its source alone.
    """
    parent = list(range(len(sources)))

    def find(one: int) -> int:
        while parent[one] != one:
            parent[one] = one = parent[parent[one]]
        return one

    def join(one: int, other: int) -> None:
        first, second = sorted((find(one), find(other)))
        parent[second] = first

    first_of: dict[str, int] = {}
    for number, source in enumerate(sources):
        join(first_of.setdefault(source, number), number)
    # Those that hang together already are not compared: a song of a thousand videos is looked at a thousand times,
    # not half a million times.
    printed = [(number, one) for number, one in enumerate(prints) if one is not None]
    numbers = [number for number, _ in printed]
    music = [one.music for _, one in printed]
    for one, other in song_candidates(music):
        a, b = numbers[one], numbers[other]
        if find(a) != find(b) and similarity(music[one], music[other]) >= SAME_SONG:
            join(a, b)
    dancers = [one.dancers for _, one in printed]
    for one, other in twin_candidates(dancers):
        a, b = numbers[one], numbers[other]
        if find(a) != find(b) and are_twins(dancers[one], dancers[other]):
            join(a, b)
    found: dict[int, list[int]] = {}
    for number in range(len(sources)):
        found.setdefault(find(number), []).append(number)
    return list(found.values())


def name_groups(
    ids: Sequence[str], found: Sequence[Sequence[int]], known: Mapping[str, tuple[int, str]]
) -> dict[str, str]:
    """The group of every id.

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
