"""Do beat scores tell a dance to its own song from others? Every figure of docs/metrics.md on step beat.

    python -m benchmarks.step_beat PAIRS [--mocap MOCAP] [--figure docs/figures/step-beat.png]

PAIRS is a folder of ``CLASS_NUMBER.npz``, solos with ``joints`` (1, T, 24, 3) in metres, y up, at 60 FPS, and the beats of
their songs as frame numbers: ``beat_frames`` (checked) and ``tracked_beats`` (by a tracker). MOCAP, for the table of
couples, is the folder of :mod:`benchmarks.metrics_study`.

Dances are cut into disjoint clips. Each clip is scored with the beats of its song and with three kinds of wrong beats,
four of each: those of the song shifted by 0.2 to 0.8 of a beat, of another song of its class, and a metronome of its
tempo with a random phase. AUC is the probability that a clip scores higher with its own beats than some clip with wrong
ones. Intervals are a bootstrap over songs. Movements recur in several dances, so these intervals are too narrow.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from benchmarks.metrics_study import load
from opendance_hf.metrics import (
    FootEvents,
    beat_alignment,
    beat_phase,
    duet_step_beat,
    foot_events,
    matched_beats,
    motion_beats,
    partner_steps,
)
from opendance_hf.metrics.beats import BEAT_SIGMA, FPS, beats_within
from opendance_hf.metrics.steps import score_events

SECONDS = (5, 10, 20)
NEGATIVES = ("shifted", "other song", "metronome")
WRONG = 4
RESAMPLES = 2000
NOISE_MM = (0, 2, 5, 10, 20)
SEEDS = 10
#: Trials that are not used to choose anything.
HELD_OUT = ("salsa_09", "salsa_10")
CLASSES = {"C": "cha-cha", "R": "rumba", "T": "tango"}


@dataclass(frozen=True)
class Dance:
    """A solo with the beats of its song, frames."""

    name: str
    joints: np.ndarray
    beats: np.ndarray
    tracked: np.ndarray


class Motion(NamedTuple):
    """Foot events, speed minima and length of a clip, from which its scores are computed."""

    steps: FootEvents
    minima: np.ndarray
    num_frames: int


class Sample(NamedTuple):
    """A clip: the number of its dance, its first frame and its motion."""

    dance: int
    start: int
    motion: Motion


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--mocap", type=Path)
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/step-beat.png"))
    arguments = parser.parse_args()
    dances = load_dances(arguments.pairs)
    if not dances:
        parser.error(f"{arguments.pairs} holds no .npz of a dance")
    print(f"{len(dances)} dances, {sum(len(dance.joints) for dance in dances) / FPS / 60:.0f} minutes")
    found = discrimination_table(dances)
    beats_table(dances)
    robustness_tables(dances)
    frame_rate_table(dances)
    if arguments.mocap:
        couples_table(arguments.mocap)
    draw(dances, found, arguments.figure)
    print(f"\nwritten: {arguments.figure}")


def load_dances(folder: Path) -> list[Dance]:
    dances = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as arrays:
            joints, beats, tracked = (arrays[name] for name in ("joints", "beat_frames", "tracked_beats"))
        dances.append(Dance(path.stem, joints[0].astype(np.float64), beats, tracked))
    return dances


def motion_of(joints: np.ndarray) -> Motion:
    return Motion(foot_events(joints), motion_beats(joints), len(joints))


def samples(dances: list[Dance], seconds: int) -> list[Sample]:
    """Disjoint clips of every dance."""
    length = round(seconds * FPS)
    return [
        Sample(i, start, motion_of(dance.joints[start : start + length]))
        for i, dance in enumerate(dances)
        for start in range(0, len(dance.joints) - length + 1, length)
    ]


def equation_1(anchor: str) -> Callable[[Motion, np.ndarray], float]:
    def score(motion: Motion, beats: np.ndarray) -> float:
        pair = beats_within(beats, motion.num_frames), motion.minima
        return beat_alignment(*(pair if anchor == "music" else pair[::-1]), sigma=BEAT_SIGMA) or 0.0

    return score


def f1(motion: Motion, beats: np.ndarray) -> float:
    num_frames = motion.num_frames - 1
    return (
        matched_beats(beats_within(beats, motion.num_frames), motion.minima, num_frames).corrected_f1 or 0.0
    )


def step_beat_of(motion: Motion, beats: np.ndarray) -> float:
    return score_events(motion.steps, beats, motion.num_frames).score


def landings_of(motion: Motion, beats: np.ndarray) -> float:
    return score_events(motion.steps, beats, motion.num_frames).landings


SCORES = {
    "equation 1, music beats": equation_1("music"),
    "equation 1, motion beats": equation_1("motion"),
    "F1 above chance": f1,
    "step beat": step_beat_of,
    "step beat, landings": landings_of,
}


def wrong_beats(
    dances: list[Dance], sample: Sample, kind: str, rng: np.random.Generator, beats: list[np.ndarray]
) -> np.ndarray:
    """Beats that do not belong to a clip, frames of it; ``beats`` are those of every dance."""
    own = beats[sample.dance] - sample.start
    interval = np.median(np.diff(own))
    if kind == "shifted":
        return own + rng.uniform(0.2, 0.8) * interval
    if kind == "metronome":
        count = sample.motion.num_frames / interval + 2
        return (np.arange(-1, count) + rng.uniform()) * interval
    genre = dances[sample.dance].name[0]
    others = [i for i, dance in enumerate(dances) if dance.name[0] == genre and i != sample.dance]
    other = rng.choice(others)
    return beats[other] - rng.integers(len(dances[other].joints) - sample.motion.num_frames + 1)


def scored(
    dances: list[Dance], clips: list[Sample], score: Callable[[Motion, np.ndarray], float], *, tracked: bool
) -> dict[str, list[np.ndarray]]:
    """Scores of every clip with its own and with wrong beats: for each kind an array of each dance."""
    beats = [dance.tracked if tracked else dance.beats for dance in dances]
    rng = np.random.default_rng(0)
    rows: dict[str, list[list[float]]] = {kind: [[] for _ in dances] for kind in ("true", *NEGATIVES)}
    for sample in clips:
        rows["true"][sample.dance].append(score(sample.motion, beats[sample.dance] - sample.start))
        for kind in NEGATIVES:
            for _ in range(WRONG):
                wrong = wrong_beats(dances, sample, kind, rng, beats)
                rows[kind][sample.dance].append(score(sample.motion, wrong))
    return {kind: [np.array(values) for values in row] for kind, row in rows.items()}


def auc(true: list[np.ndarray], wrong: list[np.ndarray]) -> tuple[float, float, float]:
    """Probability that a true score exceeds a wrong one, with its 95% interval over songs."""
    wins = np.array([[((x > y) + (x == y) / 2).sum() for y in wrong] for x in (t[:, None] for t in true)])
    pairs = np.outer([len(t) for t in true], [len(w) for w in wrong])
    return with_interval(len(true), lambda c: (c @ wins @ c) / (c @ pairs @ c))


def mean(values: list[np.ndarray]) -> tuple[float, float, float]:
    """Mean over clips, with its 95% interval over songs."""
    sums, counts = np.array([v.sum() for v in values]), np.array([len(v) for v in values])
    return with_interval(len(values), lambda c: (c @ sums) / (c @ counts))


def with_interval(num_songs: int, of: Callable[[np.ndarray], float]) -> tuple[float, float, float]:
    rng = np.random.default_rng(0)
    drawn = [of(rng.multinomial(num_songs, np.full(num_songs, 1 / num_songs))) for _ in range(RESAMPLES)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(of(np.ones(num_songs))), float(low), float(high)


def discrimination_table(dances: list[Dance]) -> dict[str, list[tuple[float, float, float]]]:
    """Print AUC of every score; return those of 10 s."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    cells: dict[str, list[str]] = {name: [] for name in SCORES}
    counts = []
    for seconds in SECONDS:
        clips = samples(dances, seconds)
        counts.append(f"{seconds} s ({len(clips)} clips)")
        for name, score in SCORES.items():
            rows = scored(dances, clips, score, tracked=False)
            values = [auc(rows["true"], rows[kind]) for kind in NEGATIVES]
            show = interval if seconds == 10 else lambda value: number(value[0], 2)
            cells[name].append(" / ".join(map(show, values)))
            if seconds == 10:
                found[name] = values
    print(f"\nAUC against {' / '.join(NEGATIVES)} beats\n")
    table(["", *counts], [[name, *row] for name, row in cells.items()])
    return found


def beats_table(dances: list[Dance]) -> None:
    """Print the means of step beat at 10 s, and AUC with tracked beats."""
    clips = samples(dances, 10)
    print("\nStep beat of clips of 10 s, mean [95% over songs]\n")
    rows = []
    for tracked in (False, True):
        found = scored(dances, clips, step_beat_of, tracked=tracked)
        positive = sum(values.mean() > 0 for values in found["true"])
        aucs = " / ".join(interval(auc(found["true"], found[kind])) for kind in NEGATIVES)
        means = [interval(mean(found[kind]), 3) for kind in ("true", *NEGATIVES)]
        rows.append(["tracked" if tracked else "checked", *means, f"{positive} of {len(dances)}", aucs])
    table(["beats", "true", *NEGATIVES, "songs above 0", "AUC"], rows)
    class_table(dances, clips)
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "50 ms late": lambda beats: beats + 0.05 * FPS,
        "off-beat": lambda beats: (beats[1:] + beats[:-1]) / 2,
        "half tempo, first beat": lambda beats: beats[::2],
        "half tempo, second beat": lambda beats: beats[1::2],
        "double tempo": lambda beats: np.interp(
            np.arange(2 * len(beats) - 1) / 2, np.arange(len(beats)), beats
        ),
    }
    print("\nStep beat with changed beats\n")
    values = [mean(changed_beats(dances, clips, change)) for change in changes.values()]
    table(list(changes), [[number(value[0], 3) for value in values]])


def class_table(dances: list[Dance], clips: list[Sample]) -> None:
    """Print step beat and AUC against shifted beats for each class of dance."""
    print("\nBy class, clips of 10 s, AUC against shifted beats\n")
    names = ("step beat", "equation 1, music beats", "F1 above chance")
    found = {name: scored(dances, clips, SCORES[name], tracked=False) for name in names}
    rows = []
    for genre, genre_name in CLASSES.items():
        of = [i for i, dance in enumerate(dances) if dance.name[0] == genre]
        parts = {
            name: [[one[kind][i] for i in of] for kind in ("true", "shifted")] for name, one in found.items()
        }
        aucs = [number(auc(*pair)[0], 2) for pair in parts.values()]
        rows.append([genre_name, str(len(of)), number(mean(parts["step beat"][0])[0], 3), *aucs])
    table(["class", "songs", "step beat", *(f"AUC, {name}" for name in names)], rows)


def changed_beats(
    dances: list[Dance], clips: list[Sample], change: Callable[[np.ndarray], np.ndarray]
) -> list[np.ndarray]:
    """Step beat of clips with changed beats of their songs, by dance."""
    values: list[list[float]] = [[] for _ in dances]
    for sample in clips:
        beats = change(dances[sample.dance].beats) - sample.start
        values[sample.dance].append(step_beat_of(sample.motion, beats))
    return [np.array(row) for row in values]


#: A change of joints (T, 24, 3), given a random generator and the interval of the song's beats in seconds.
Change = Callable[[np.ndarray, np.random.Generator, float], np.ndarray]


def changed_motion(dances: list[Dance], change: Change) -> np.ndarray:
    """Score changed clips of 10 s by step beat and equation 1, each with the own song and a metronome of 120 BPM."""
    length, rows = round(10 * FPS), []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        for dance in dances:
            beat_s = float(np.median(np.diff(dance.beats))) / FPS
            for start in range(0, len(dance.joints) - length + 1, length):
                motion = motion_of(change(dance.joints[start : start + length], rng, beat_s))
                grid = np.arange(-1, 24) * 30 + rng.uniform(0, 30)
                scores = (step_beat_of, SCORES["equation 1, music beats"])
                rows.append(
                    [score(motion, beats) for score in scores for beats in (dance.beats - start, grid)]
                )
    return np.array(rows)


def robustness_tables(dances: list[Dance]) -> None:
    """Print what noise, sway, standing still and steps without music do to step beat and to equation 1."""
    changes: dict[str, Change] = {f"noise of {noise} mm": white_noise(noise / 1000) for noise in NOISE_MM}
    changes |= {
        "sway of 4 Hz, 5 cm": sway,
        "frozen": lambda p, rng, beat_s: np.repeat(p[:1], len(p), axis=0),
        "steps at random times": lambda p, rng, beat_s: stepping(rng.uniform(0.35, 0.9, 40), rng),
        "steps at the song's tempo, random phase": lambda p, rng, beat_s: stepping(np.full(40, beat_s), rng),
    }
    print(f"\nMean over clips of 10 s, {SEEDS} seeds\n")
    columns = ["step beat, own song", "step beat, unrelated", "equation 1, own song", "equation 1, unrelated"]
    rows, errors = [], []
    for name, change in changes.items():
        found = changed_motion(dances, change)
        errors.append(found.std(axis=0) / np.sqrt(len(found) / SEEDS))
        rows.append([name, *(number(value, 3) for value in found.mean(axis=0))])
    table(["", *columns], rows)
    print(f"\nstandard errors, taking clips for independent: at most {np.max(errors, axis=0).round(3)}")


def white_noise(noise_m: float) -> Change:
    return lambda p, rng, beat_s: p + rng.normal(0, noise_m, p.shape)


def sway(joints: np.ndarray, rng: np.random.Generator, beat_s: float) -> np.ndarray:
    wave = 0.05 * np.sin(2 * np.pi * (4 * np.arange(len(joints)) / FPS + rng.uniform()))
    return joints + wave[:, None, None] * [1, 0, 0]


def stepping(gaps: np.ndarray, rng: np.random.Generator, seconds: int = 10) -> np.ndarray:
    """A body whose feet take turns in steps of 0.3 s and 0.4 m, ``gaps`` seconds apart, from a random time on."""
    time = np.arange(round(seconds * FPS)) / FPS
    joints = np.zeros((len(time), 24, 3))
    for number, start in enumerate(np.cumsum(gaps) - gaps[0] * (1 + rng.uniform())):
        joints[:, 10 + number % 2, 2] += 0.2 * (1 - np.cos(np.pi * np.clip((time - start) / 0.3, 0, 1)))
    # The other joints follow the feet.
    joints[:, [j for j in range(24) if j not in (10, 11)]] = joints[:, 10:12].mean(axis=1, keepdims=True)
    return joints


def frame_rate_table(dances: list[Dance]) -> None:
    """Print step beat of whole dances at three frame rates."""
    means = []
    for step in (1, 2, 3):
        fps = FPS / step
        found = [
            score_events(foot_events(d.joints[::step], fps), d.beats / step, len(d.joints[::step]), fps)
            for d in dances
        ]
        means.append(f"{np.mean([one.score for one in found]):.3f} at {fps:g}")
    print(f"\nWhole dances, mean over songs, by frame rate: {', '.join(means)}")


def couples_table(mocap: Path) -> None:
    """Print partner steps of salsa couples beside the controls, and how well they tell couples from strangers."""
    paths = [path for path in sorted(mocap.glob("salsa_*.npz")) if path.stem not in HELD_OUT]
    trials = [load(path) for path in paths]
    print(f"\nPartner steps of {len(trials)} salsa trials, mean [95% over trials]\n")
    rows = []
    for seconds in SECONDS[:2]:
        length = round(seconds * FPS)
        couples = [
            (i, trial[:, start : start + length])
            for i, trial in enumerate(trials)
            for start in range(0, trial.shape[1] - length + 1, length)
        ]
        events = [(i, [foot_events(dancer) for dancer in couple]) for i, couple in couples]
        values: dict[str, list[list[float]]] = {
            name: [[] for _ in trials] for name in ("score", "clone", "mirrored", "shuffled")
        }
        for i, couple in couples:
            strangers = [dancer for j, dancers in events if j != i for dancer in dancers]
            for name, value in duet_step_beat(couple[0], couple[1], strangers=strangers)._asdict().items():
                values[name][i].append(value)
        arrays = {name: [np.array(row) for row in per_trial] for name, per_trial in values.items()}
        pooled = [(i, [pool(dancer) for dancer in dancers]) for i, dancers in events]
        aucs = [auc(*couples_and_strangers(found, len(trials))) for found in (events, pooled)]
        cells = [interval(mean(arrays[name]), 3) for name in arrays]
        rows.append([f"{seconds} s ({len(couples)})", *cells, interval(aucs[0]), number(aucs[1][0], 2)])
    table(["clips", "couple", "clone", "mirrored", "shuffled", "AUC against strangers", "AUC, pooled"], rows)


def pool(events: FootEvents) -> FootEvents:
    """Return landings and take-offs as events of one kind."""
    return FootEvents(np.sort(np.concatenate(events)), np.array([], dtype=np.intp))


def couples_and_strangers(
    events: list[tuple[int, list[FootEvents]]], num_trials: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Partner steps by trial: of couples, and of the first dancer of each clip and the second ones of other trials."""
    couples: list[list[float]] = [[] for _ in range(num_trials)]
    strangers: list[list[float]] = [[] for _ in range(num_trials)]
    for i, dancers in events:
        couples[i].append(partner_steps(*dancers))
        strangers[i] += [partner_steps(dancers[0], others[1]) for j, others in events if j != i]
    return [np.array(row) for row in couples], [np.array(row) for row in strangers]


def draw(dances: list[Dance], found: dict[str, list[tuple[float, float, float]]], path: Path) -> None:
    """Draw the phases of speed minima and of foot events by class, and AUC at 10 s."""
    figure = Figure(figsize=(10.5, 3.3), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=(1, 1, 1.25))
    edges = np.linspace(-0.5, 0.5, 12)  # the middle one of 11 bins is centred on the beat
    for genre, colour in zip(CLASSES, ("#b2182b", "#2166ac", "#1b7837"), strict=True):
        of = [dance for dance in dances if dance.name[0] == genre]
        for axis, times in zip(axes, (motion_beats, lambda p: np.concatenate(foot_events(p))), strict=False):
            phase = np.concatenate([beat_phase(times(dance.joints), dance.beats) for dance in of])
            share, _ = np.histogram((phase + 0.5) % 1 - 0.5, edges, density=True)
            axis.plot((edges[1:] + edges[:-1]) / 2, share, "-", color=colour, label=CLASSES[genre])
    for axis, title in zip(axes, ("speed minima of all joints", "foot landings and take-offs"), strict=False):
        axis.axhline(1, color="#888888", linewidth=0.8)
        axis.axvline(0, color="#888888", linewidth=0.8)
        axis.set(title=title, xlabel="phase, beats (0: on the beat)", ylim=(0, None))
    axes[0].set_ylabel("density (1: no relation)")
    axes[1].sharey(axes[0])
    axes[0].legend(frameon=False, fontsize=8)
    place = np.arange(len(found))[::-1]
    for i, (kind, colour) in enumerate(zip(NEGATIVES, ("#e08214", "#8073ac", "#35978f"), strict=True)):
        values = np.array([found[name][i] for name in found])
        error = np.abs(values[:, 1:] - values[:, :1]).T
        axes[2].errorbar(
            values[:, 0], place + 0.2 - 0.2 * i, xerr=error, fmt="o", color=colour, markersize=4, label=kind
        )
    axes[2].axvline(0.5, color="#888888", linewidth=0.8)
    axes[2].set_yticks(place, list(found))
    axes[2].set(title="AUC of clips of 10 s", xlabel="0.5: cannot tell own from wrong beats")
    axes[2].legend(frameon=False, fontsize=8, loc="upper right")
    for axis in axes:
        axis.title.set_fontsize(10)
        axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-0.000", "0.000")


def interval(value: tuple[float, float, float], digits: int = 2) -> str:
    middle, low, high = (number(one, digits) for one in value)
    return f"{middle} [{low}, {high}]"


def table(columns: list[str], rows: Iterable[list[str]]) -> None:
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
