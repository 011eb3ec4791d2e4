"""Does a dancer hear the beat? Every figure of docs/training.md on the solo dancer of the package.

    python -m benchmarks.dancer PAIRED [--model FOLDER] [--songs FOLDER] [--loops FOLDER] [--also LABEL=FOLDER ...]
                                [--seeds 8] [--out FILE.json]

PAIRED is the retimed dataset that the dancer learned from (``opendance pair``): its scores are what can be had. Songs are
twelve synthesised ones that nobody trained on (seeds 9000 to 9011), and those of a folder with tracks and ``notes.mid`` each, as
in Debian's ``fretsonfire-songs-sectoid`` (:mod:`benchmarks.known_beats`). The first half minute of every song is danced to with every seed twice, hearing the known beats and those that the tracker
finds; scores are of the known beats. Another song's beats, cut to the same length, are the control. Intervals are a
bootstrap over songs.

Rows beside: the same weights that hear silence; the dance of the dataset whose song has the nearest tempo, as it is; a dance
of the dataset drawn at random; a dance that keeps the tempo of a metronome, 120 beats a minute, whatever the song.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.known_beats import ENVELOPE_LAG_MS, note_lag_ms, songs_with_notes, synthetic_songs
from opendance_hf.apps.generate import PACKAGED_DANCER
from opendance_hf.assets import packaged_weights
from opendance_hf.dance import Dancer
from opendance_hf.data import SequenceReader
from opendance_hf.metrics import (
    foot_events,
    foot_skate_ratio,
    frechet_distance,
    ground_penetration,
    motion_features,
    normalise,
    still_ratio,
)
from opendance_hf.metrics.protocol import STD_FLOORS
from opendance_hf.metrics.steps import score_events
from opendance_hf.music import BLOCKS, SAMPLE_RATE_60FPS, decode_audio, music_features
from opendance_hf.schema import FPS, per_dancer
from opendance_hf.synthetic.music import Difficulty

Floats = npt.NDArray[np.floating]

HELD_OUT_SEEDS = range(9000, 9012)
SONG_S = 30.0
PIECE = 5 * FPS
METRONOME_BPM = 120.0
RESAMPLES = 2000


class Song(NamedTuple):
    """A song with the frames of its known beats, and what the extractor makes of it with and without them."""

    name: str
    beats: Floats
    known: Any
    tracked: Any


@dataclass
class Row:
    """Means over the dances of a row, but for ``stillest``, the most; the interval is that of ``difference`` over songs."""

    label: str
    dances: int
    own: float
    other: float
    difference: float
    low: float
    high: float
    events_per_s: float
    skate: float
    penetration_mm: float
    diversity_m: float
    still: float
    stillest: float
    fid_k: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paired", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--songs", type=Path)
    parser.add_argument("--loops", type=Path)
    parser.add_argument("--also", action="append", default=[], metavar="LABEL=FOLDER")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    dancer = Dancer.from_pretrained(options.model or packaged_weights(PACKAGED_DANCER), device="cpu")
    songs = read_songs(dancer, options.songs)
    loops = read_loops(dancer, options.loops) if options.loops else []
    others = {}
    for one in options.also:
        label, _, folder = one.partition("=")
        others[label] = Dancer.from_pretrained(folder, device="cpu")
        others[label].model.generation_config = dancer.model.generation_config
    rows = compare(dancer, others, songs, loops, options.paired, range(options.seeds))
    print_table(rows, len(songs))
    if options.out:
        options.out.write_text(json.dumps([asdict(row) for row in rows], indent=1))


def compare(
    dancer: Dancer,
    others: dict[str, Dancer],
    songs: list[Song],
    loops: list[Song],
    paired: Path,
    seeds: range,
) -> list[Row]:
    """Score the dancer, its controls and other dancers."""
    real, beats, tempi = read_pairs(paired)
    rows = [score("data paired anew", real, [[number] for number in range(len(real))], beats, real)]

    def row(label: str, songs: list[Song], dancer: Dancer, hear: Callable[[Song], Floats]) -> None:
        heard, frames = [hear(song) for song in songs], [int(song.known["num_frames"][0]) for song in songs]
        takes = [dancer.dance(heard, frames, seed=seed) for seed in seeds]
        dances = [take[number]["joints"] for number in range(len(songs)) for take in takes]
        groups = [[number] * len(seeds) for number in range(len(songs))]
        rows.append(score(label, dances, groups, [song.beats for song in songs], real))
        print(rows[-1], flush=True)

    def known(song: Song) -> Floats:
        return np.asarray(song.known["music_features"][0])

    row("dancer, known beats", songs, dancer, known)
    row("dancer, tracked beats", songs, dancer, lambda song: np.asarray(song.tracked["music_features"][0]))
    row("dancer, silence", songs, dancer, lambda song: np.zeros_like(known(song)))
    row("dancer, metronome", songs, dancer, lambda song: metronome(dancer, song))
    for label, other in others.items():
        row(label, songs, other, known)
    if loops:
        row("dancer, loops of unknown beats", loops, dancer, known)
    truth = [song.beats for song in songs]
    nearest = [int(np.argmin(np.abs(np.log(tempi / tempo_of(song.beats))))) for song in songs]
    each = [[number] for number in range(len(songs))]
    rows.append(score("nearest song's dance", [real[n] for n in nearest], each, truth, real))
    of_song = [number * len(seeds) for number in each]
    draw = np.random.default_rng(0).integers(len(real), size=len(songs) * len(seeds))
    rows.append(score("random real dance", [real[n] for n in draw], of_song, truth, real))
    return rows


def read_loops(dancer: Dancer, folder: Path) -> list[Song]:
    """Read songs whose beats nobody knows: those of the tracker stand for them; the first half minute of each."""
    found = []
    for path in sorted(
        path for path in folder.iterdir() if path.suffix in (".opus", ".ogg", ".mp3", ".wav", ".flac")
    ):
        audio = decode_audio(path, SAMPLE_RATE_60FPS)[: int(SONG_S * SAMPLE_RATE_60FPS)]
        heard = dancer.feature_extractor(audio, SAMPLE_RATE_60FPS, music_beats=[None])
        found.append(Song(path.stem, np.asarray(heard["music_beats"][0], dtype=np.float64), heard, heard))
    return found


def read_songs(dancer: Dancer, folder: Path | None) -> list[Song]:
    """Read the songs with notes of a folder, and synthesise the others; the first half minute of each."""
    found = []
    for song in [
        *(songs_with_notes(folder) if folder else ()),
        *synthetic_songs(HELD_OUT_SEEDS, Difficulty()),
    ]:
        assert song.beats_s is not None
        audio, beats = song.audio[: int(SONG_S * SAMPLE_RATE_60FPS)], song.beats_s
        if song.notes_s is not None:  # notes and sound do not start together
            onsets = music_features(audio, SAMPLE_RATE_60FPS).features[:, BLOCKS["onset_env"]][:, 0]
            notes = song.notes_s[song.notes_s < SONG_S]
            beats = beats + (note_lag_ms(onsets.astype(np.float64), notes) - ENVELOPE_LAG_MS) / 1000
        beats = FPS * beats[beats < SONG_S]
        heard = [
            dancer.feature_extractor(audio, SAMPLE_RATE_60FPS, music_beats=[known]) for known in (beats, None)
        ]
        found.append(Song(song.name, beats, *heard))
    return found


def read_pairs(paired: Path) -> tuple[list[Floats], list[Floats], Floats]:
    """Return joints, beats and tempo of the single dancers of a dataset."""
    reader = SequenceReader(paired, ["individual"])
    rows = [reader.row(number) for number in range(len(reader))]
    joints = [per_dancer(reader.matrix(row, "joints"), 1, 24, 3)[0] for row in rows]
    beats = [np.asarray(reader.beats(row), dtype=np.float64) for row in rows]
    return joints, beats, np.array([tempo_of(one) for one in beats])


def tempo_of(beats: Floats) -> float:
    """Return beats a minute."""
    return float(60 * FPS / np.median(np.diff(beats)))


def metronome(dancer: Dancer, song: Song) -> Floats:
    """Return what the dancer hears of a metronome as long as a song."""
    frames = int(song.known["num_frames"][0])
    beats = np.arange(0, frames + 60, 60 * FPS / METRONOME_BPM)
    return dancer.feature_extractor.select({"music_beats": beats, "num_frames": frames})


def score(
    label: str, dances: list[Floats], groups: list[list[int]], beats: list[Floats], real: list[Floats]
) -> Row:
    """Score dances with the beats of their song and with those of others.

    Args:
        label: of the row.
        dances: (T, 24, 3) each, song by song.
        groups: for each song as many entries as it has dances, each the number of the song's beats.
        beats: frames, by number.
        real: (T, 24, 3) each, the dances that FID compares with.
    """
    numbers = [number for group in groups for number in group]
    others = range(0, len(beats), max(1, len(beats) // 24))
    own, difference, rates = [], [], []
    for joints, number in zip(dances, numbers, strict=True):
        events = foot_events(joints)
        found = score_events(events, beats[number], len(joints))
        wrong = [score_events(events, beats[n], len(joints)).score for n in others if n != number]
        own.append(found.score)
        difference.append(found.score - float(np.mean(wrong)))
        rates.append(found.events_per_s)
    still = [still_ratio(joints) for joints in dances]
    ends = np.cumsum([len(group) for group in groups])
    per_song = np.array([part.mean() for part in np.split(np.array(difference), ends[:-1])])
    draws = np.random.default_rng(0).integers(len(per_song), size=(RESAMPLES, len(per_song)))
    low, high = np.quantile(per_song[draws].mean(axis=1), [0.025, 0.975])
    return Row(
        label,
        len(dances),
        float(np.mean(own)),
        float(np.mean(own) - np.mean(difference)),
        float(per_song.mean()),
        float(low),
        float(high),
        float(np.mean(rates)),
        float(np.mean([foot_skate_ratio(one, floor=0.0) for one in dances])),
        1000 * float(np.mean([ground_penetration(one, floor=0.0).mean_depth for one in dances])),
        diversity(dances),
        float(np.mean(still)),
        float(np.max(still)),
        distance(dances, real),
    )


def distance(dances: list[Floats], real: list[Floats]) -> float:
    """Return the FID of the kinetic features of pieces of five seconds against those of the real dances."""

    def features(some: list[Floats]) -> Floats:
        pieces = [
            one[start : start + PIECE] for one in some for start in range(0, len(one) - PIECE + 1, PIECE)
        ]
        return motion_features(pieces, corrected=True).kinetic

    return frechet_distance(*normalise(features(dances), features(real), floor=STD_FLOORS["k"]))


def diversity(dances: list[Floats], pairs: int = 4000) -> float:
    """Return the mean distance of joints, relative to the pelvis and facing one way, of frames drawn from all dances."""
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(dances), size=2 * pairs)
    poses = np.stack([dances[n][rng.integers(len(dances[n]))] for n in chosen]).astype(np.float64)
    poses -= poses[:, :1]
    across = poses[:, 1] - poses[:, 2]
    angle = np.arctan2(across[:, 2], across[:, 0])
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, z = cos * poses[..., 0] + sin * poses[..., 2], -sin * poses[..., 0] + cos * poses[..., 2]
    poses = np.stack([x, poses[..., 1], z], axis=-1)
    return float(np.linalg.norm(poses[:pairs] - poses[pairs:], axis=-1).mean())


def print_table(rows: list[Row], songs: int) -> None:
    print(
        f"{songs} songs; step beat of the known beats, of other songs' beats, and their difference [95% over songs]\n"
    )
    print(
        "| dances | N | own | other | difference | events/s | skate | penetration, mm | diversity, m | still, mean | still, most | FID_k |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row.label} | {row.dances} | {row.own:.3f} | {row.other:.3f} | {row.difference:.3f} "
            f"[{row.low:.3f}, {row.high:.3f}] | {row.events_per_s:.2f} | {row.skate:.3f} | {row.penetration_mm:.1f} "
            f"| {row.diversity_m:.3f} | {row.still:.3f} | {row.stillest:.2f} | {row.fid_k:.2f} |"
        )


if __name__ == "__main__":
    main()
