"""Does a model trained on captured dances with their songs dance on the beat? The table of docs/training.md, "On ballroom pairs".

    OMP_NUM_THREADS=1 python -m benchmarks.pairs_study PAIRS [--work FOLDER] [--seeds 8]

PAIRS is the folder of :mod:`benchmarks.step_beat`. The work folder keeps the pieces and the models; a model that is there is
not trained again. Its content is for measuring only: the source of the pairs states no licence.

The dances are assembled from takes, and most takes occur in several dances. Whole dances are held out (:data:`TEST`), and
every stretch of another dance that recurs in one of them is removed: windows of one second at 10 Hz, joints relative to the
pelvis and facing one way, at a mean-square distance below :data:`RECURS_M`, also mirrored. Pieces of at least 4 s are left.

Generated dances last 30 s. Step beat is measured with the beats of a dance's own song and with those of all
other songs, training songs included. Intervals are a bootstrap over songs.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.dancer import Row, score
from benchmarks.step_beat import Dance, load_dances
from opendance_hf.dance import Dancer
from opendance_hf.data.windows import mirrored_joints
from opendance_hf.modeling.bailando import join_root, split_root
from opendance_hf.motion.generated import stand_on_ground
from opendance_hf.schema import FPS
from opendance_hf.training.stages import run

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

#: Dances held out, chosen before any result: one of each class.
TEST = ("C_7", "R_9", "T_8")
#: Frames of a pose for the search of recurring stretches, and poses of a window: 1 s at 10 Hz.
POSE_STEP = 6
WINDOW = 10
#: Root mean square distance of joints below which two windows are one movement, metres. Distances of the training dances'
#: windows to the nearest in another dance have a mode below 0.08 and a flat part from there to 0.18.
RECURS_M = 0.08
MIN_PIECE_S = 4.0
#: Length of generated dances.
DANCE_S = 30.0
#: A window of the GPT has this many codes of 4 frames, at most the shortest piece.
NUM_CODES = 60
STEPS = {"vqvae": 2500, "gpt": 1000}
GUIDANCE = (1.0, 4.0)
METRONOMES_BPM = (62, 80, 98, 116, 133)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "pairs-study"))
    parser.add_argument("--seeds", type=int, default=8)
    options = parser.parse_args()
    dances = load_dances(options.pairs)
    test = [number for number, dance in enumerate(dances) if dance.name in TEST]
    train = [number for number, dance in enumerate(dances) if dance.name not in TEST]
    write_pieces([dances[n] for n in train], [dances[n] for n in test], options.work / "pieces")
    dancer = trained(options.work)
    print_table(compare(dancer, dances, test, train, range(options.seeds)))
    print_distances([dances[n] for n in train])


def poses(joints: Floats) -> Floats:
    """Return (N, 24, 3) poses at 10 Hz of (T, 24, 3) joints: relative to the pelvis, turned to one facing."""
    found = np.asarray(joints, dtype=np.float64)[::POSE_STEP]
    found = found - found[:, :1]
    across = found[:, 1] - found[:, 2]
    angle = np.arctan2(across[:, 2], across[:, 0])
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, z = cos * found[..., 0] + sin * found[..., 2], cos * found[..., 2] - sin * found[..., 0]
    return np.stack([x, found[..., 1], z], axis=-1)


def windows(joints: Floats) -> Floats:
    """Return (N - 9, 720) windows of ten poses, one for each start; none of a motion that is too short."""
    flat = poses(joints).reshape(-1, 72).astype(np.float32)
    starts = range(len(flat) - WINDOW + 1)
    return (
        np.stack([flat[i : i + WINDOW].ravel() for i in starts]) if starts else np.zeros((0, 720), np.float32)
    )


def nearest(own: Floats, others: Floats) -> Floats:
    """Return the distance of each window to the nearest of others, the root mean square over joints, metres."""
    squares = (own * own).sum(axis=1)[:, None] + (others * others).sum(axis=1) - 2 * own @ others.T
    return np.sqrt(np.maximum(squares.min(axis=1, initial=np.inf), 0) / (WINDOW * 24))


def recurring(joints: Floats, others: list[Floats]) -> Bools:
    """Mark the poses of a motion that lie in a window that recurs in another motion, as it is or mirrored.

    Args:
        joints: (T, 24, 3) metres.
        others: (T', 24, 3) each.

    Returns:
        (ceil(T / 6),) True for each pose that recurs.
    """
    found = np.zeros(len(poses(joints)), dtype=bool)
    for copy in (joints, mirrored_joints(np.asarray(joints, dtype=np.float32))):
        own = windows(copy)
        for other in others:
            for start in np.flatnonzero(nearest(own, windows(other)) < RECURS_M):
                found[start : start + WINDOW] = True
    return found


def remaining(recurs: Bools, num_frames: int) -> list[tuple[int, int]]:
    """Return first and last frame (exclusive) of the stretches of at least 4 s without a recurring pose."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], ~recurs, [0]]).astype(int)))
    stretches = [
        (POSE_STEP * a, min(POSE_STEP * b, num_frames)) for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]
    return [(start, end) for start, end in stretches if end - start >= MIN_PIECE_S * FPS]


def write_pieces(train: list[Dance], test: list[Dance], folder: Path) -> None:
    """Write what is left of the training dances, with the beats of their songs, and print how much that is."""
    folder.mkdir(parents=True, exist_ok=True)
    kept: dict[str, int] = {}
    for dance in train:
        pieces = remaining(recurring(dance.joints, [one.joints for one in test]), len(dance.joints))
        for start, end in pieces:
            np.savez(
                folder / f"{dance.name}_{start}.npz",
                joints=dance.joints[start:end].astype(np.float32),
                fps=FPS,
                # All beats of the song: the first of them begins the four-beat phase.
                music_beats=dance.beats - start,
            )
        kept[dance.name] = sum(end - start for start, end in pieces)
        print(
            f"{dance.name}: {kept[dance.name] / FPS:.0f} of {len(dance.joints) / FPS:.0f} s in {len(pieces)} pieces"
        )
    total = sum(len(dance.joints) for dance in train)
    print(f"left for training: {sum(kept.values()) / FPS:.0f} of {total / FPS:.0f} s", flush=True)


def trained(work: Path) -> Dancer:
    """Train VQ-VAE and GPT on the pieces by the recipes ``cmu`` with fewer steps, unless that is done, and load the GPT."""
    common = ["data.configs=null", "data.mirror=true"]
    for stage, own in (("vqvae", []), ("gpt", [f"data.num_codes={NUM_CODES}"])):
        if (work / stage / "model.safetensors").exists():
            continue
        start = {"vqvae": str(work / "vqvae")} if stage == "gpt" else {}
        changes = [*common, *own, f"trainer.max_steps={STEPS[stage]}"]
        run(
            stage,
            dataset=str(work / "pieces"),
            output_dir=str(work / stage),
            config="cmu",
            overrides=changes,
            **start,
        )
    return Dancer.from_pretrained(work / "gpt", device="cpu")


def compare(
    dancer: Dancer, dances: list[Dance], test: list[int], train: list[int], seeds: range
) -> list[Row]:
    """Score real dances, their reconstructions, and what the GPT dances to the beats of songs.

    Args:
        dances: all of them.
        test: numbers of the dances held out.
        train: numbers of the others.
        seeds: of the generated dances; those to training songs have the seeds that follow.
    """
    rng = np.random.default_rng(0)
    ticks = [60 * FPS / bpm for bpm in METRONOMES_BPM]
    beats = [dance.beats for dance in dances]
    beats += [np.arange(gap * rng.uniform(), DANCE_S * FPS + gap, gap) for gap in ticks]
    metronomes = list(range(len(dances), len(beats)))
    later = range(seeds.stop, seeds.stop + len(seeds))

    def row(label: str, heard: list[int], numbers: list[int], seeds: range, **options: Any) -> Row:
        """Score dances that hear the beats of some songs (silence for -1) by the beats of others."""
        found = perform(dancer, [beats[h] if h >= 0 else () for h in heard], seeds, **options)
        print(f"{label}: done", flush=True)
        return score(label, found, [[n] * len(seeds) for n in numbers], beats)

    one_each = [[n] for n in test]
    real = [stand_on_ground(dances[n].joints) for n in test]
    decoded = [reconstruction(dancer, dances[n].joints) for n in test]
    rows = [
        score("real, test", real, one_each, beats),
        score("reconstructed, test", decoded, one_each, beats),
        score(
            "real, training", [stand_on_ground(dances[n].joints) for n in train], [[n] for n in train], beats
        ),
    ]
    for scale in GUIDANCE:
        guided = {"guidance_scale": scale}
        rows += [
            row(f"test songs' beats, guidance {scale:g}", test, test, seeds, **guided),
            row(
                f"another test song's beats, guidance {scale:g}",
                np.roll(test, 1).tolist(),
                test,
                seeds,
                **guided,
            ),
            row(f"metronomes, guidance {scale:g}", metronomes, metronomes, seeds, **guided),
            row(f"training songs' beats, guidance {scale:g}", train, train, later, **guided),
        ]
    rows.append(row("silence, test songs", [-1] * len(test), test, seeds))
    rows.append(row("silence, training songs", [-1] * len(train), train, later))
    return rows


@torch.no_grad()
def perform(dancer: Dancer, heard: list[npt.ArrayLike], seeds: range, **options: Any) -> list[Floats]:
    """Return dances of 30 s, for each list of beats (frames) one of every seed, in one batch."""
    frames = round(DANCE_S * FPS)
    select = dancer.feature_extractor.select
    music = [select({"music_beats": beats, "num_frames": frames}) for beats in heard for _ in seeds]
    model: Any = dancer.model
    output = model.generate_dance(
        torch.from_numpy(np.stack(music)),
        frames,
        generator=[torch.Generator().manual_seed(seed) for _ in heard for seed in seeds],
        **options,
    )
    return [stand_on_ground(joints) for joints in output.joints.numpy().astype(np.float64)]


@torch.no_grad()
def reconstruction(dancer: Dancer, joints: Floats) -> Floats:
    """Encode and decode a dance (T, 24, 3)."""
    vqvae: Any = dancer.model.vqvae
    whole = torch.from_numpy(joints[: len(joints) // 8 * 8].astype(np.float32))[None]
    relative, _ = split_root(whole)
    upper, lower = vqvae.encode(relative)
    relative, velocity = vqvae.decode_pieces(upper, lower, [upper.shape[1]])
    decoded = relative + join_root(torch.zeros_like(relative[:, :, :1]), velocity, whole[:, 0, 0])
    error = 1000 * float((relative - split_root(whole)[0]).norm(dim=-1).mean())
    print(f"reconstruction: mean joint error {error:.0f} mm")
    return stand_on_ground(decoded[0].numpy().astype(np.float64))


def print_table(rows: list[Row]) -> None:
    """Print the scores as a table."""
    print("\n| dances | N | own | other | own - other [95% over songs] | events/s | skate |")
    print("|---|---:|---:|---:|---|---:|---:|")
    for row in rows:
        print(
            f"| {row.label} | {row.dances} | {row.own:.3f} | {row.other:.3f} | {row.difference:.3f} "
            f"[{row.low:.3f}, {row.high:.3f}] | {row.events_per_s:.2f} | {row.skate:.3f} |"
        )


def print_distances(dances: list[Dance]) -> None:
    """Print the histogram of the distance of every window to the nearest one of another dance."""
    plain = [windows(dance.joints) for dance in dances]
    mirrored = [windows(mirrored_joints(dance.joints.astype(np.float32))) for dance in dances]
    edges = np.arange(0, 0.28, 0.02)
    print(
        "\nwindows by distance to the nearest of another training dance:\n\n| below, m | as it is | mirrored |\n|---|---:|---:|"
    )
    counts = [
        np.histogram(
            np.concatenate(
                [
                    np.min([nearest(one, other) for m, other in enumerate(copies) if m != n], axis=0)
                    for n, one in enumerate(plain)
                ]
            ),
            edges,
        )[0]
        for copies in (plain, mirrored)
    ]
    for edge, *row in zip(edges[1:], *counts, strict=True):
        print(f"| {edge:.2f} | {row[0]} | {row[1]} |")


if __name__ == "__main__":
    main()
