"""Tempo and beats of music of known tempo: the tables of docs/music.md.

    python -m benchmarks.tempo --songs FOLDER_OR_WHEEL [FOLDER_OR_WHEEL ...]

prints tables and writes ``benchmarks/tempo.json``; groups that are not measured keep their last figures there. Songs
are found in two layouts:

- audio files listed by name with ``NNN bpm`` in a text file called ``LICENSE...``, as in the wheel
  ``immich-memories-music`` (MIT; ``pip download --no-deps immich-memories-music``). The tempo is the one that the
  music generator was asked for, which need not be the one that it played.
- folders of ``.ogg`` tracks to be added up with a ``notes.mid`` of constant tempo, as in the Debian package
  ``fretsonfire-songs-sectoid`` (MIT-like; ``/usr/share/games/fretsonfire/data/songs/sectoid``). Their beats are known
  too. Notes and sound do not start together: beats are moved by the lag of the onsets behind the notes, which is
  printed for each song, less that of the envelope behind synthesised drums.

Always measured are 40 pieces of 30 s by :func:`opendance_hf.synthetic.music.make_music`, and 12 pieces of every kind in
:data:`benchmarks.known_beats.KINDS`, whose beats are known.

"tempogram" is the tempo with which the beats are tracked, the ``bpm`` of earlier versions; "beats" is ``bpm`` now; "grid" is that of
:func:`opendance_hf.music.beats.find_beats`. A tempo is right within 4% (the tolerance of the MIREX tempo task). One within 4%
of the true tempo times 2, 3, 3/2, 4/3 or the inverse of these is counted as another metrical level, the rest as wrong.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks import known_beats
from benchmarks.__main__ import machine
from benchmarks.known_beats import Song
from opendance_hf.music import SAMPLE_RATE_60FPS, fast
from opendance_hf.music.beats import find_beats
from opendance_hf.music.features import refined_bpm
from opendance_hf.synthetic.music import Difficulty

OUT: Final = Path(__file__).with_name("tempo.json")
SYNTHETIC: Final = "synthetic.music"
#: Seeds of the synthesised songs on which nothing was chosen.
HELD_OUT: Final = range(9000, 9012)
LEVELS: Final = (2.0, 3.0, 3 / 2, 4 / 3, 1 / 2, 1 / 3, 2 / 3, 3 / 4)
TOLERANCE: Final = 0.04
ESTIMATES: Final = ("tempogram", "beats", "grid")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tempo", description=__doc__.splitlines()[0])
    parser.add_argument("--songs", type=Path, nargs="*", default=[], metavar="FOLDER_OR_WHEEL")
    arguments = parser.parse_args()
    results: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() else {}
    results[SYNTHETIC] = measure(known_beats.synthetic_songs(range(40), Difficulty(), 0.0))
    for kind, difficulty in known_beats.KINDS.items():
        results[kind] = measure(known_beats.synthetic_songs(HELD_OUT, difficulty))
    results[known_beats.NO_BEAT] = measure(known_beats.songs_without_beat(HELD_OUT))
    for path in arguments.songs:
        with tempfile.TemporaryDirectory() as scratch:
            folder = path
            if path.is_file() and zipfile.is_zipfile(path):
                zipfile.ZipFile(path).extractall(folder := Path(scratch))
            songs = [known_beats.listed_songs(folder), known_beats.songs_with_notes(folder)]
            group = measure(song for found in songs for song in found) if folder.is_dir() else {"pieces": []}
        if group["pieces"]:
            results[path.name.split("-")[0]] = group
        else:
            print(f"skipped {path}: no songs of known tempo there (see the top of benchmarks/tempo.py)")
    OUT.write_text(json.dumps(results, indent=2) + "\n")
    print("\n\n".join(tables(results)))


def measure(songs: Iterable[Song]) -> dict[str, Any]:
    """Return the tempi of all songs and their errors, by every estimate, and the scores of beats where they are known."""
    pieces = [measure_song(song) for song in songs]
    truth = np.array([piece["bpm"] for piece in pieces])
    if not truth.all():
        return {"pieces": pieces, "machine": machine()}
    errors = {name: errors_of(np.array([piece[name] for piece in pieces]) / truth) for name in ESTIMATES}
    return {"pieces": pieces, "errors": errors, "machine": machine()}


def measure_song(song: Song) -> dict[str, Any]:
    """Return the tempi of a song and, where its beats are known, the scores of those found."""
    analysis = fast.Analysis(song.audio, SAMPLE_RATE_60FPS)
    tracked, fact = analysis.music(), analysis.fact(120.0)
    grid = find_beats(fact)
    piece: dict[str, Any] = {
        "name": song.name,
        "bpm": round(song.bpm, 3),
        "tempogram": tracked.tempogram_bpm,
        "beats": refined_bpm(tracked.beats, tracked.tempogram_bpm, SAMPLE_RATE_60FPS),
        "grid": grid.bpm,
        "confidence": round(grid.confidence, 3),
    }
    if song.notes_s is not None:
        lag_ms = piece["note_lag_ms"] = known_beats.note_lag_ms(fact[:, 0], song.notes_s)
        assert song.beats_s is not None
        song = replace(song, beats_s=song.beats_s + (lag_ms - known_beats.ENVELOPE_LAG_MS) / 1000)
    if song.beats_s is not None and len(song.beats_s):
        piece["scores"] = {
            # Bars are counted from the first beat where nothing else is known, as models that hear the beat do.
            "tracked": known_beats.scores(tracked.beats / 60, 0, song),
            "grid": known_beats.scores(grid.beats / 60, grid.downbeat, song),
        }
        piece["levels"] = {
            name: level_of(piece[key] / song.bpm) for name, key in (("tracked", "beats"), ("grid", "grid"))
        }
    return piece


def level_of(ratio: float) -> str:
    """Return ``right``, ``octave`` (half or double), ``other`` (another metrical level) or ``wrong``."""
    near = [level for level in (1.0, *LEVELS) if abs(ratio / level - 1) <= TOLERANCE]
    if not near:
        return "wrong"
    return {1.0: "right", 2.0: "octave", 0.5: "octave"}.get(near[0], "other")


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


def tables(results: dict[str, Any]) -> list[str]:
    """Return Markdown tables of the tempi, the beats and the confidence."""
    tempi = [
        "| music | N | `bpm` from | right | other level | wrong | error of the right, median / p90 | of all |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for group, result in results.items():
        for name, error in result.get("errors", {}).items():
            spread = [
                f"{error[f'{which}_median_percent']} / {error[f'{which}_p90_percent']}%"
                for which in ("right", "all")
            ]
            counts = f"{error['right']} | {error['other_level']} | {error['wrong']}"
            tempi.append(f"| {group} | {error['n']} | {name} | {counts} | {spread[0]} | {spread[1]} |")
    known = {
        group: pieces
        for group, result in results.items()
        if group != SYNTHETIC and (pieces := [piece for piece in result["pieces"] if "scores" in piece])
    }
    beats = [
        known_beats.BEAT_HEADER,
        *(row for found in known.items() for row in known_beats.beat_rows(*found)),
    ]
    without = [piece["confidence"] for piece in results[known_beats.NO_BEAT]["pieces"]]
    highest = f"Highest confidence without a beat: {max(without)} of {len(without)} songs"
    lags = [
        f"{piece['name']}: onsets {piece['note_lag_ms']} ms after the notes, confidence {piece['confidence']}"
        for result in results.values()
        for piece in result["pieces"]
        if "note_lag_ms" in piece
    ]
    return ["\n".join(part) for part in (tempi, beats, known_beats.confidence_rows(known), [highest, *lags])]


if __name__ == "__main__":
    main()
