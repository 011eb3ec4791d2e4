"""Group the sequences of a large build by song and motion, all at once and again after more videos came.

    python -m benchmarks.grouping [--sequences 8000] [--more 100]

Fingerprints are synthetic, of the paper's mean length: motions are phrases of composed dances at other speeds and sizes, songs are
random melodies over a beat. Every fiftieth sequence is a planted copy: a later cut of another one's motion, or of its song. A copy
is *found* if both get one group; two originals in one group are *false*. Each round runs in a process of its own, for its peak of
memory. Writes ``benchmarks/grouping.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.__main__ import machine
from benchmarks.full_size import alone
from opendance_hf.motion.twins import Track, mirrored, tracks
from opendance_hf.music.fingerprint import Fingerprint
from opendance_hf.pipeline.group import FOLDER, SequenceFingerprint, assign_groups, save_fingerprint
from opendance_hf.pipeline.ledger import Ledger
from opendance_hf.storage import save_sequence
from tests.factories import make_sequence
from tests.motion.test_twins import dance

OUT: Final = Path(__file__).with_name("grouping.json")
SECONDS: Final = 22
PHRASES: Final = 300
COPY_EVERY: Final = 50
LICENCE: Final = "mit"


def motion_of(rng: np.random.Generator, phrases: list[Track]) -> Track:
    """Compose a track (1, N, 10, 3) of pieces of phrases, each at a speed and a size of its own, some mirrored."""
    parts: list[Track] = []
    while sum(map(len, parts)) < 10 * SECONDS:
        phrase = phrases[rng.integers(len(phrases))]
        at = rng.uniform(0, 20) + np.arange(rng.integers(30, 60)) * rng.uniform(0.7, 1.4)
        at = at[at < len(phrase) - 1]
        below, share = at.astype(np.intp), (at % 1)[:, None, None]
        piece = (phrase[below] * (1 - share) + phrase[below + 1] * share) * rng.uniform(0.8, 1.2, (1, 10, 1))
        parts.append(mirrored(piece) if rng.random() < 0.5 else piece)
    return np.concatenate(parts)[None, : 10 * SECONDS].astype(np.float32)


def song_of(rng: np.random.Generator) -> Fingerprint:
    """Draw the peaks of a song: notes of a scale in four octaves over an eighth-note grid."""
    eighth_s = 30 / rng.uniform(80, 150)
    beats = np.repeat(np.arange(0, SECONDS, eighth_s), 4)
    notes = np.sort(rng.choice(12, 7, replace=False)) / 12
    octaves = 7.3 + notes[rng.integers(0, 7, len(beats))] + rng.integers(0, 4, len(beats))
    kept = rng.random(len(beats)) < 0.7
    return Fingerprint(beats[kept].astype(np.float32), octaves[kept].astype(np.float32))


def later(song: Fingerprint, start_s: float) -> Fingerprint:
    """Cut a song."""
    kept = song.times_s >= start_s
    return Fingerprint(song.times_s[kept] - np.float32(start_s), song.octaves[kept])


def enter(build: Path, first: int, count: int) -> dict[str, Any]:
    """Publish sequences of videos with fingerprints, as workers do; return the original of each copy."""
    phrases = [tracks(dance(seed))[0] for seed in range(PHRASES)]
    ledger, original = Ledger(build / "ledger.sqlite"), {}
    (build / "sequences").mkdir(exist_ok=True)
    with ledger.together():
        for number in range(first, first + count):
            rng = np.random.default_rng(number)
            motion, song = motion_of(rng, phrases), song_of(rng)
            if number % COPY_EVERY == COPY_EVERY - 1:
                other = int(rng.integers(number // 2, number))
                others = np.random.default_rng(other)
                motion_there, song_there = motion_of(others, phrases), song_of(others)
                if number // COPY_EVERY % 2:
                    motion = motion_there[:, 17:] + rng.normal(0, 0.01, motion_there[:, 17:].shape).astype(np.float32)  # fmt: skip
                else:
                    song = later(song_there, 3.3)
                original[str(number)] = other
            key = f"{number:016x}_00"
            made = make_sequence(number, id=key, group=key[:16], num_frames=8)
            save_sequence(build / "sequences" / f"{key}.npz", made)
            save_fingerprint(build / FOLDER / f"{key}.npz", SequenceFingerprint(song, motion))
            ledger.add(key, key, f"{number:064x}", "pipeline")
            ledger.finish(key, "published", "", 1.0, [{"id": key}])
    ledger.close()
    return {"original": original}


def group(build: Path) -> dict[str, Any]:
    """Group all sequences of a build, and return the group of each."""
    ledger = Ledger(build / "ledger.sqlite")
    groups = assign_groups(build, ledger, LICENCE)
    ledger.close()
    return {"groups": groups}


def judge(groups: dict[str, str], original: dict[str, int]) -> dict[str, int]:
    """Count the copies, those that are found, and the originals that share a group."""
    of = {int(key[:16], 16): name for key, name in groups.items()}
    copies = {int(number): other for number, other in original.items()}
    pairs = [(number, other) for number, other in copies.items() if number in of]
    sizes = Counter(name for number, name in of.items() if number not in copies)
    return {
        "copies": len(pairs),
        "found": sum(of[number] == of[other] for number, other in pairs),
        "false": sum(size - 1 for size in sizes.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=8000)
    parser.add_argument("--more", type=int, default=100)
    options = parser.parse_args()
    result: dict[str, Any] = {"machine": machine(), "sequences": options.sequences, "more": options.more}
    original: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        build, first = Path(folder), 0
        for name, count in (("all", options.sequences), ("more", options.more), ("nothing", 0)):
            original |= alone("enter", enter, build, first, count)["original"]
            first += count
            found = alone(name, group, build)
            result[f"round_{name}"] = {
                "seconds": found["seconds"],
                "peak_mb": found["peak_mb"],
                **judge(found["groups"], original),
            }
            print(result[f"round_{name}"], flush=True)
    OUT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
