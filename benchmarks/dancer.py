"""Does a dancer hear the beat? Every figure of docs/training.md on the solo dancer of the package.

    python -m benchmarks.dancer PAIRED [--model FOLDER] [--songs FOLDER] [--seeds 8] [--out FILE.json]

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
from opendance_hf.metrics import foot_events, foot_skate_ratio, ground_penetration
from opendance_hf.metrics.steps import score_events
from opendance_hf.music import BLOCKS, SAMPLE_RATE_60FPS, music_features
from opendance_hf.schema import FPS, per_dancer
from opendance_hf.synthetic.music import Difficulty

Floats = npt.NDArray[np.floating]

HELD_OUT_SEEDS = range(9000, 9012)
SONG_S = 30.0
METRONOME_BPM = 120.0
STILL_MPS = 0.15
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paired", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--songs", type=Path)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    dancer = Dancer.from_pretrained(options.model or packaged_weights(PACKAGED_DANCER), device="cpu")
    songs = read_songs(dancer, options.songs)
    rows = compare(dancer, songs, options.paired, range(options.seeds))
    print_table(rows, len(songs))
    if options.out:
        options.out.write_text(json.dumps([asdict(row) for row in rows], indent=1))


def compare(dancer: Dancer, songs: list[Song], paired: Path, seeds: range) -> list[Row]:
    """Score the dancer and its controls."""
    real, beats, tempi = read_pairs(paired)
    rows = [score("training data", real, [[number] for number in range(len(real))], beats)]
    of_song = [[number] * len(seeds) for number in range(len(songs))]
    heard: dict[str, Callable[[Song], Any]] = {
        "dancer, known beats": lambda song: song.known["music_features"][0].numpy(),
        "dancer, tracked beats": lambda song: song.tracked["music_features"][0].numpy(),
        "dancer, silence": lambda song: np.zeros_like(song.known["music_features"][0].numpy()),
        "dancer, metronome": lambda song: metronome(dancer, song),
    }
    truth = [song.beats for song in songs]
    for label, hear in heard.items():
        dances = [
            dance["joints"]
            for song in songs
            for seed in seeds
            for dance in dancer.dance([hear(song)], [int(song.known["num_frames"][0])], seed=seed)
        ]
        rows.append(score(label, dances, of_song, truth))
    nearest = [int(np.argmin(np.abs(np.log(tempi / tempo_of(song.beats))))) for song in songs]
    rows.append(
        score("nearest song's dance", [real[n] for n in nearest], [[n] for n in range(len(songs))], truth)
    )
    draw = np.random.default_rng(0).integers(len(real), size=len(songs) * len(seeds))
    rows.append(score("random real dance", [real[n] for n in draw], of_song, truth))
    return rows


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


def score(label: str, dances: list[Floats], groups: list[list[int]], beats: list[Floats]) -> Row:
    """Score dances with the beats of their song and with those of others.

    Args:
        label: of the row.
        dances: (T, 24, 3) each, song by song.
        groups: for each song as many entries as it has dances, each the number of the song's beats.
        beats: frames, by number.
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
    still = [share_still(joints) for joints in dances]
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
    )


def share_still(joints: Floats) -> float:
    """Return the share of two seconds, one starting at every frame, in which joints move by less than 0.15 m/s on average."""
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean(axis=1) * FPS
    return float((np.convolve(speed, np.ones(2 * FPS) / (2 * FPS), "valid") < STILL_MPS).mean())


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
        "| dances | N | own | other | difference | events/s | skate | penetration, mm | diversity, m | still, mean | still, most |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row.label} | {row.dances} | {row.own:.3f} | {row.other:.3f} | {row.difference:.3f} "
            f"[{row.low:.3f}, {row.high:.3f}] | {row.events_per_s:.2f} | {row.skate:.3f} | {row.penetration_mm:.1f} "
            f"| {row.diversity_m:.3f} | {row.still:.3f} | {row.stillest:.2f} |"
        )


if __name__ == "__main__":
    main()
