"""Does the couple of the package hear the beat and hold each other? The table of docs/training.md on it.

    python -m benchmarks.couple PAIRED [--model FOLDER] [--seeds 3] [--out FILE.json]

PAIRED is the retimed dataset that the couple learned from (``opendance pair``): its duets are what can be had. The first half
minute of twelve synthesised songs that nobody trained on (seeds 9000 to 9011) is danced to with every seed, hearing the known
beats. Scores of the step beat are those of :mod:`benchmarks.dancer`, each dancer being a dance; hands are measured as in
:mod:`opendance_hf.metrics.duet`. Rows beside: the same weights that hear silence, and the solo dancer of the package twice,
with different seeds, the second before the first and face to face at the start.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.dancer import Row, Song, read_songs, score
from opendance_hf.apps.generate import PACKAGED_DANCERS
from opendance_hf.assets import packaged_weights
from opendance_hf.dance import Dancer
from opendance_hf.data import SequenceReader
from opendance_hf.metrics import hand_hold_distance, interpenetration
from opendance_hf.metrics.duet import HOLD_DISTANCE
from opendance_hf.modeling.bailando_pp import facing, turn
from opendance_hf.schema import per_dancer

Floats = npt.NDArray[np.floating]

#: Distance of two solo dancers at the start, metres: the median of the pelvises of captured salsa couples.
APART_M: Final = 0.75


@dataclass
class CoupleRow:
    """Scores of the dancers, and of couples: the means over all frames."""

    dancers: Row
    hold: float
    hands_apart_m: float
    bodies_inside_mm: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paired", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    couple = Dancer.from_pretrained(options.model or packaged_weights(PACKAGED_DANCERS[2]), device="cpu")
    solo = Dancer.from_pretrained(packaged_weights(PACKAGED_DANCERS[1]), device="cpu")
    songs, rows = read_songs(couple, None), []
    real, beats = read_couples(options.paired)
    rows.append(measure("training data", real, [[number] for number in range(len(real))], beats, real))
    ways: dict[str, Callable[[Any, int], Floats]] = {
        "couple, known beats": lambda heard, seed: joints_of(couple, heard, seed, num_dancers=2),
        "couple, silence": lambda heard, seed: joints_of(couple, 0 * heard, seed, num_dancers=2),
        "solo dancer twice": lambda heard, seed: face_to_face(
            *(joints_of(solo, heard, 2 * seed + number)[0] for number in range(2))
        ),
    }
    of_song = [[number] * options.seeds for number in range(len(songs))]
    for label, way in ways.items():
        dances = [way(hear(song), seed) for song in songs for seed in range(options.seeds)]
        rows.append(measure(label, dances, of_song, [song.beats for song in songs], real))
    print(f"{len(songs)} songs, {options.seeds} seeds; [95% over songs]\n")
    print(
        "| dances | N | own | other | difference | events/s | skate | hands held | hands apart, m | inside, mm |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        one = row.dancers
        print(
            f"| {one.label} | {one.dances // 2} | {one.own:.3f} | {one.other:.3f} | {one.difference:.3f} "
            f"[{one.low:.3f}, {one.high:.3f}] | {one.events_per_s:.2f} | {one.skate:.3f} | {row.hold:.2f} "
            f"| {row.hands_apart_m:.2f} | {row.bodies_inside_mm:.1f} |"
        )
    if options.out:
        options.out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def hear(song: Song) -> Floats:
    """Return what the dancers hear of the known beats."""
    heard: Floats = song.known["music_features"][0].numpy()
    return heard


def joints_of(dancer: Dancer, heard: Floats, seed: int, **options: Any) -> Floats:
    """Return the joints (D, T, 24, 3) of a dance that stands on the ground."""
    frames = len(heard) * dancer.model.config.vqvae_config.frames_per_code
    (dance,) = dancer.dance([heard], [frames], seed=seed, **options)
    joints: Floats = dance["joints"]
    return joints if joints.ndim == 4 else joints[None]


def face_to_face(one: Floats, other: Floats) -> Floats:
    """Place a dancer (T, 24, 3) before another, turned towards it at the start."""
    first, second = torch.from_numpy(one), torch.from_numpy(other)
    yaw = facing(first[0])
    second = turn(second, (yaw + np.pi - facing(second[0])).expand(second.shape[:2]))
    goal = first[0, 0] + turn(torch.tensor([0.0, 0.0, APART_M]), yaw)
    return np.stack([one, (second + (goal - second[0, 0]) * torch.tensor([1.0, 0.0, 1.0])).numpy()])


def read_couples(paired: Path) -> tuple[list[Floats], list[Floats]]:
    """Return joints (2, T, 24, 3) and beats of the duets of a dataset."""
    reader = SequenceReader(paired, ["collaborative"])
    rows = [reader.row(number) for number in range(len(reader))]
    joints = [per_dancer(reader.matrix(row, "joints"), 2, 24, 3) for row in rows]
    return joints, [np.asarray(reader.beats(row), dtype=np.float64) for row in rows]


def measure(
    label: str, dances: list[Floats], groups: list[list[int]], beats: list[Floats], real: list[Floats]
) -> CoupleRow:
    """Score couples (2, T, 24, 3), song by song; arguments as of :func:`benchmarks.dancer.score`, of couples."""
    hands = [hand_hold_distance(*couple) for couple in dances]
    return CoupleRow(
        score(
            label,
            [one for couple in dances for one in couple],
            [[number for number in group for _ in range(2)] for group in groups],
            beats,
            [one for couple in real for one in couple],
        ),
        float(np.mean([(distance < HOLD_DISTANCE).mean() for distance in hands])),
        float(np.mean([distance.mean() for distance in hands])),
        1000 * float(np.mean([interpenetration(*couple).mean() for couple in dances])),
    )


if __name__ == "__main__":
    main()
