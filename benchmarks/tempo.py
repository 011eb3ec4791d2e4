"""Error of ``bpm`` on music of known tempo: the table of docs/music.md.

    python -m benchmarks.tempo --songs FOLDER_OR_WHEEL [FOLDER_OR_WHEEL ...]

prints a table and writes ``benchmarks/tempo.json``; groups that are not measured keep their last figures there. Songs
are found in two layouts:

- audio files listed by name with ``NNN bpm`` in a text file called ``LICENSE...``, as in the wheel
  ``immich-memories-music`` (MIT; ``pip download --no-deps immich-memories-music``). The tempo is the one that the
  music generator was asked for, which need not be the one that it played.
- folders of ``.ogg`` tracks to be added up with a ``notes.mid`` of constant tempo, as in the Debian package
  ``fretsonfire-songs-sectoid`` (MIT-like; ``/usr/share/games/fretsonfire/data/songs/sectoid``).

The first group, always measured, is 40 pieces of 30 s by :func:`opendance_hf.synthetic.music.make_music`.

"tempogram" is the tempo with which the beats are tracked, the ``bpm`` of earlier versions; "beats" is ``bpm`` now. A
tempo is right within 4% (the tolerance of the MIREX tempo task). One within 4% of the true tempo times 2, 3, 3/2, 4/3
or the inverse of these is counted as another metrical level, the rest as wrong.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly

from benchmarks.__main__ import machine
from opendance_hf.music import SAMPLE_RATE_60FPS, decode_audio, fast, music_features
from opendance_hf.synthetic.music import SAMPLE_RATE, make_music

OUT: Final = Path(__file__).with_name("tempo.json")
SYNTHETIC: Final = "synthetic.music"
LEVELS: Final = (2.0, 3.0, 3 / 2, 4 / 3, 1 / 2, 1 / 3, 2 / 3, 3 / 4)
TOLERANCE: Final = 0.04
Audio = npt.NDArray[np.float32]
#: Name, tempo in beats per minute, and mono audio at 30,720 Hz.
Song = tuple[str, float, Audio]


@dataclass(frozen=True)
class Piece:
    """Tempi of one piece, in beats per minute."""

    name: str
    bpm: float
    tempogram: float
    beats: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tempo", description=__doc__.splitlines()[0])
    parser.add_argument("--songs", type=Path, nargs="*", default=[], metavar="FOLDER_OR_WHEEL")
    results: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() else {}
    results[SYNTHETIC] = measure(synthetic_songs())
    for path in parser.parse_args().songs:
        with tempfile.TemporaryDirectory() as scratch:
            folder = path
            if path.is_file() and zipfile.is_zipfile(path):
                zipfile.ZipFile(path).extractall(folder := Path(scratch))
            group = measure([*listed_songs(folder), *songs_with_notes(folder)] if folder.is_dir() else [])
        if group["pieces"]:
            results[path.name.split("-")[0]] = group
        else:
            print(f"skipped {path}: no songs of known tempo there (see the top of benchmarks/tempo.py)")
    OUT.write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))


def synthetic_songs() -> Iterator[Song]:
    """Yield 40 pieces of 30 s, 90 to 130 beats per minute."""
    common = np.gcd(SAMPLE_RATE, SAMPLE_RATE_60FPS)
    for seed in range(40):
        music = make_music(seed, 30.0)
        audio = resample_poly(music.samples, SAMPLE_RATE_60FPS // common, SAMPLE_RATE // common)
        yield f"seed {seed}", music.bpm, audio.astype(np.float32)


def listed_songs(folder: Path) -> Iterator[Song]:
    """Yield the audio files whose tempo is listed in a text file called ``LICENSE...``."""
    files = {path.name: path for path in folder.rglob("*") if path.is_file()}
    for listing in (path for name, path in sorted(files.items()) if name.startswith("LICENSE")):
        for name, bpm in re.findall(r"^\s*(\S+\.\w+)\s+([\d.]+) bpm\b", listing.read_text(), re.MULTILINE):
            if name in files:
                yield name, float(bpm), decode_audio(files[name], SAMPLE_RATE_60FPS)


def songs_with_notes(folder: Path) -> Iterator[Song]:
    """Yield the sum of the tracks of every folder that holds a ``notes.mid`` of constant tempo."""
    for notes in sorted(folder.rglob("notes.mid")):
        # Set-tempo events: microseconds per beat in three bytes.
        events = re.findall(rb"\xff\x51\x03(...)", notes.read_bytes(), re.DOTALL)
        tempi = {int.from_bytes(event, "big") for event in events}
        tracks = [decode_audio(path, SAMPLE_RATE_60FPS) for path in sorted(notes.parent.glob("*.ogg"))]
        if len(tempi) != 1 or not tracks:
            print(f"skipped {notes.parent}: {len(tempi)} tempi, {len(tracks)} tracks")
            continue
        mix = np.zeros(max(map(len, tracks)), np.float32)
        for track in tracks:
            mix[: len(track)] += track
        yield notes.parent.name, 60e6 / tempi.pop(), mix


def measure(songs: Iterable[Song]) -> dict[str, Any]:
    """Return the tempi of all songs and their errors, by either estimate."""
    pieces = [
        Piece(
            name=name,
            bpm=round(bpm, 3),
            tempogram=fast.Analysis(audio, SAMPLE_RATE_60FPS).music().tempogram_bpm,
            beats=music_features(audio).bpm,
        )
        for name, bpm, audio in songs
    ]
    truth = np.array([piece.bpm for piece in pieces])
    errors = {
        name: errors_of(np.array([getattr(piece, name) for piece in pieces]) / truth)
        for name in ("tempogram", "beats")
    }
    return {"pieces": [asdict(piece) for piece in pieces], "errors": errors, "machine": machine()}


def errors_of(ratio: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Return counts of right, other-level and wrong tempi, and the relative errors in percent."""
    right = np.abs(ratio - 1) <= TOLERANCE
    level = ~right & (np.abs(ratio[:, None] / np.array(LEVELS) - 1) <= TOLERANCE).any(axis=1)
    counts = {"n": len(ratio), "right": int(right.sum()), "other_level": int(level.sum())}
    counts["wrong"] = counts["n"] - counts["right"] - counts["other_level"]
    percent = 100 * np.abs(ratio - 1)
    return counts | {
        f"{name}_{which}_percent": round(float(np.quantile(values, share)), 3) if len(values) else None
        for name, values in (("all", percent), ("right", percent[right]))
        for which, share in (("median", 0.5), ("p90", 0.9))
    }


def table(results: dict[str, Any]) -> str:
    """Return the errors as a Markdown table."""
    lines = [
        "| music | N | `bpm` from | right | other level | wrong | error of the right, median / p90 | of all |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for group, result in results.items():
        for name, error in result["errors"].items():
            spread = [
                f"{error[f'{which}_median_percent']} / {error[f'{which}_p90_percent']}%"
                for which in ("right", "all")
            ]
            counts = f"{error['right']} | {error['other_level']} | {error['wrong']}"
            lines.append(f"| {group} | {error['n']} | {name} | {counts} | {spread[0]} | {spread[1]} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
