"""Every figure that docs/metrics.md quotes of motion capture or of simulations: its tables, its plot, its numbers.

    python -m benchmarks.metrics_study MOCAP [--figure docs/figures/beat-noise.png]

MOCAP is a folder of ``salsa_*.npz`` (two dancers, 60 FPS) and ``modern_*.npz`` (one dancer, 120 FPS), each with
``joints`` (D, T, 24, 3) in metres, y-up: trials of the CMU Graphics Lab motion capture database (subjects 60, 61 and 5).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from opendance_hf.metrics import (
    STD_FLOORS,
    Clip,
    Score,
    SubsampleInterval,
    bootstrap_mean,
    diversity_score,
    evaluate,
    floor_height,
    foot_skate_ratio,
    frechet_floor,
    frechet_score,
    frechet_subsamples,
    geometric_features,
    interpenetration,
    jitter,
    kinetic_features,
    matched_beats,
    motion_beats,
    motion_features,
    music_motion_score,
    physical_foot_contact,
    root_at_origin,
)
from opendance_hf.metrics.quality import CONTACT_HEIGHT, SLIDE_SPEED
from opendance_hf.metrics.uncertainty import largest_equal_n
from opendance_hf.motion.skeleton import JOINT_INDEX

WINDOW = 300
NOISE_MM = (0, 2, 5, 10, 20, 30, 50)
SEEDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mocap", type=Path)
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/beat-noise.png"))
    arguments = parser.parse_args()
    salsa = [load(path) for path in sorted(arguments.mocap.glob("salsa_*.npz"))]
    modern = [load(path) for path in sorted(arguments.mocap.glob("modern_*.npz"))]
    if not salsa or not modern:
        parser.error(f"{arguments.mocap} holds no salsa_*.npz or no modern_*.npz")
    floor_table(salsa)
    perfect_table()
    coverage_table()
    length_table(salsa)
    quality_table(salsa)
    differences_table(salsa)
    frame_rate_table(modern)
    noise_experiment(salsa, arguments.figure)


def load(path: Path) -> np.ndarray:
    with np.load(path) as arrays:
        return arrays["joints"].astype(np.float64)


def windows(trials: list[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """(trial, joints (300, 24, 3)): disjoint five seconds of each dancer."""
    for number, trial in enumerate(trials):
        for dancer in trial:
            for start in range(0, len(dancer) - WINDOW + 1, WINDOW):
                yield number, dancer[start : start + WINDOW]


def floor_table(salsa: list[np.ndarray]) -> None:
    """Real against real: windows of half of the trials against windows of the other half."""
    groups, motions = zip(*windows(salsa), strict=True)
    features = {corrected: motion_features(motions, corrected=corrected) for corrected in (False, True)}
    print(
        f"\nFloor: {len(motions)} disjoint windows of 5 s, {len(salsa)} trials, median [2.5%, 97.5%] of 500 draws\n"
    )
    print(
        "| N | FID_k official | FID_g official | FID_k corrected | FID_g corrected |\n|---|---|---|---|---|"
    )
    for n in (16, 32, 60):
        cells = []
        for corrected, found in features.items():
            for kind, values in (("k", found.kinetic), ("g", found.geometric)):
                floor = STD_FLOORS[kind] if corrected else 0.0
                cells.append(spread(frechet_floor(values, groups, n=n, draws=500, floor=floor)))
        print(f"| {n} | " + " | ".join(cells) + " |")


def spread(found: SubsampleInterval) -> str:
    if found.median is None:
        return f"- ({found.note})"
    return f"{found.median:.1f} [{found.low:.1f}, {found.high:.1f}]"


def perfect_table(repetitions: int = 24) -> None:
    """A model whose dances are drawn from the same distribution as the reference, with songs of six dances alike."""
    rng = np.random.default_rng(0)

    def sample(songs: int) -> tuple[np.ndarray, np.ndarray]:
        group = np.repeat(np.arange(songs), 6)
        return (
            rng.normal(0, 0.6**0.5, (songs, 72))[group] + rng.normal(0, 0.4**0.5, (len(group), 72)),
            group,
        )

    print(
        "\nA perfect model: its distance over the floor, mean of medians; from the songs, and from all at once\n"
    )
    print("| songs of the reference | of the model | N | by songs | at once |\n|---|---|---|---|---|")
    for songs, its_songs in ((10, 10), (20, 20), (40, 40), (40, 60), (40, 20), (40, 10)):
        floor, grouped, loose = [], [], []
        for seed in range(repetitions):
            (y, group), (x, its_group) = sample(songs), sample(its_songs)
            n = min(len(x), largest_equal_n(group))
            options = {"n": n, "draws": 20, "seed": seed}
            floor.append(frechet_floor(y, group, **options).median)
            grouped.append(
                frechet_subsamples(x, y, groups=its_group, reference_groups=group, **options).median
            )
            loose.append(frechet_subsamples(x, y, **options).median)
        ratios = (f"{np.mean(values) / np.mean(floor):.3f}" for values in (grouped, loose))  # type: ignore[arg-type]
        print(f"| {songs} | {its_songs} | {n} | " + " | ".join(ratios) + " |")


def coverage_table(repetitions: int = 2000) -> None:
    """How many intervals of a mean hold the true mean, where there is one."""
    rng = np.random.default_rng(0)

    def tailed(share: float) -> Callable[[int], np.ndarray]:
        return lambda size: (rng.random(size) < share) * rng.exponential(1, size)

    shapes: dict[str, tuple[Callable[[int], np.ndarray], float]] = {
        "Beta(0.5, 3)": (lambda size: rng.beta(0.5, 3, size), 0.5 / 3.5),
        "Beta(1, 4)": (lambda size: rng.beta(1, 4, size), 0.2),
        "log-normal": (lambda size: rng.lognormal(0, 1, size), float(np.exp(0.5))),
        "70% zeros": (tailed(0.3), 0.3),
        "90% zeros": (tailed(0.1), 0.1),
    }
    print(
        f"\nIntervals of 95% that hold the true mean, of {repetitions}; in brackets, cases with an interval\n"
    )
    print("| songs | " + " | ".join(shapes) + " |\n|---|" + "---|" * len(shapes))
    for songs in (10, 20, 50):
        cells = []
        for sample, mean in shapes.values():
            drawn = (bootstrap_mean(sample(songs), bounds=(0, None)) for _ in range(repetitions))
            held = [i.low <= mean <= i.high for i in drawn if i.low is not None and i.high is not None]
            cells.append(f"{np.mean(held):.1%} ({len(held) / repetitions:.0%})")
        print(f"| {songs} | " + " | ".join(cells) + " |")
    group, held_alone = np.repeat(np.arange(20), 5), []
    for groups in (group, None):
        held_alone.clear()
        for _ in range(repetitions):
            values = 0.8 * rng.beta(1, 4, 20)[group] + 0.2 * rng.beta(1, 4, len(group))
            found = bootstrap_mean(values, groups=groups)
            held_alone.append(found.low <= 0.2 <= found.high)  # type: ignore[operator]
        told = "told of songs" if groups is not None else "not told"
        print(f"20 songs of five dances alike, {told}: {np.mean(held_alone):.1%}")


def length_table(salsa: list[np.ndarray]) -> None:
    """The same dances against themselves, cut by the protocol or by hand."""
    whole = [Clip(f"{i}", trial) for i, trial in enumerate(salsa)]
    short = [Clip(f"{i}", trial[:, :WINDOW]) for i, trial in enumerate(salsa)]
    print("\nThe same dances on both sides\n\n| predictions | protocol | FID_k | FID_g |\n|---|---|---|---|")
    for name, clips, protocols in (
        ("whole dances", whole, ("bailando", "opendance-3d", "corrected")),
        ("their first 5 s", short, ("bailando",)),
    ):
        for protocol in protocols:
            found = evaluate(clips, whole, protocol, draws=1)
            print(f"| {name} | {protocol} | {number(found.fid_k)} | {number(found.fid_g)} |")


def number(score: Score) -> str:
    return f"{score.value:.2f}" if score.value is not None else (score.note or "").split(";")[0]


def quality_table(salsa: list[np.ndarray]) -> None:
    """Feet and couples of real dances."""
    dancers = [dancer for trial in salsa for dancer in trial]
    seconds = [len(trial[0]) / 60 for trial in salsa]
    skate = [foot_skate_ratio(dancer) for dancer in dancers]
    print(f"\n{len(dancers)} real dancers, {min(seconds):.1f} to {max(seconds):.1f} s")
    print(f"frames: {sum(map(len, dancers))}")
    print(f"foot skate: median {np.median(skate):.2%}, at most {max(skate):.2%}")
    fast = [fast_and_low(dancer) for dancer in dancers]
    print(f"steps with a toe that is low and fast: {min(fast):.1%} to {max(fast):.1%}")
    for name, options in (("gravity", {}), ("own maximum", {"acceleration_scale": None})):
        pfc = [physical_foot_contact(dancer, **options) for dancer in dancers]  # type: ignore[arg-type]
        known = [one for one in pfc if one is not None]
        print(f"PFC by {name}: median {np.median(known):.3f}, mean {np.mean(known):.3f}")
    depths = [1000 * interpenetration(trial[0], trial[1]).mean() for trial in salsa]
    print(f"interpenetration of couples: mean {min(depths):.1f} to {max(depths):.1f} mm")


def fast_and_low(dancer: np.ndarray) -> float:
    """The share of steps that the usual definition of foot skate counts."""
    toes = dancer[:, [JOINT_INDEX["left_foot"], JOINT_INDEX["right_foot"]]]
    low = toes[..., 1] < floor_height(dancer) + CONTACT_HEIGHT
    speed = np.linalg.norm(np.diff(toes[..., [0, 2]], axis=0), axis=-1) * 60
    return float((low[1:] & low[:-1] & (speed > SLIDE_SPEED)).any(axis=1).mean())


def differences_table(salsa: list[np.ndarray]) -> None:
    """What each correction does to the distance between two halves of the trials."""
    half = len(salsa) // 2

    def dancers(trials: list[np.ndarray]) -> list[np.ndarray]:
        return [root_at_origin(dancer) for trial in trials for dancer in trial]

    def cut(trials: list[np.ndarray]) -> list[np.ndarray]:
        return [root_at_origin(window) for _, window in windows(trials)]

    print("\nEach correction by itself: the last half of the trials against the first half\n")
    print("| samples | features | FID_k | Div_k | FID_g | Div_g |\n|---|---|---|---|---|---|")
    for samples, sets in (
        ("whole dances", (dancers(salsa[half:]), dancers(salsa[:half]))),
        ("5 s windows", (cut(salsa[half:]), cut(salsa[:half]))),
    ):
        # Geometric features at "120 FPS" have the official velocities and the mended hands.
        kinetic = {"official": {"corrected": False}, "without the slip": {"corrected": True}}
        geometric = {
            "official": {"corrected": False, "fps": 60.0},
            "mended hands": {"corrected": True, "fps": 120.0},
            "mended hands, true velocities": {"corrected": True, "fps": 60.0},
        }
        for name, options in kinetic.items():
            x, y = (np.stack([kinetic_features(m, **options) for m in motions]) for motions in sets)  # type: ignore[arg-type]
            floor = STD_FLOORS["k"] if name != "official" else 0.0
            print(f"| {samples} | {name} | {value(x, y, floor)} | | |")
        for name, options in geometric.items():
            x, y = (np.stack([geometric_features(m, **options) for m in motions]) for motions in sets)  # type: ignore[arg-type]
            for floor in (0.0, STD_FLOORS["g"]):
                told = f"{name}, floor {floor}" if floor else name
                print(f"| {samples} | {told} | | | {value(x, y, floor)} |")


def value(x: np.ndarray, y: np.ndarray, floor: float) -> str:
    return " | ".join(map(number, (frechet_score(x, y, floor=floor), diversity_score(x, y, floor=floor))))


def frame_rate_table(modern: list[np.ndarray]) -> None:
    """The same dances at 120 and at 60 FPS: what should not change."""
    fast = [trial[0] for trial in modern]
    slow = [dancer[::2] for dancer in fast]
    print("\nOne set of modern dances at 120 and 60 FPS, mean over trials\n")
    print("| | 120 FPS | 60 FPS |\n|---|---|---|")
    for name, function in (
        ("motion beats a second", lambda p, fps: len(motion_beats(p, fps=fps)) / len(p) * fps),
        (
            "energy expenditure, corrected",
            lambda p, fps: kinetic_features(p, corrected=True, fps=fps)[2::3].mean(),
        ),
        (
            "geometric features, corrected",
            lambda p, fps: geometric_features(p, corrected=True, fps=fps).mean(),
        ),
        ("foot skate", lambda p, fps: foot_skate_ratio(p, fps=fps)),
        ("PFC", lambda p, fps: physical_foot_contact(p, fps=fps)),
        ("jitter, m/s³", lambda p, fps: jitter(p, fps=fps)),
    ):
        means = [np.mean([function(p, fps) for p in dances]) for dances, fps in ((fast, 120.0), (slow, 60.0))]
        print(f"| {name} | {means[0]:.4g} | {means[1]:.4g} |")
    result = evaluate(
        [Clip(f"{i}", p[None], fps=120.0) for i, p in enumerate(fast)],
        [Clip(f"{i}", p[None], fps=60.0) for i, p in enumerate(slow)],
        "corrected",
    )
    print(f"\nFID_k between the two, corrected: {result.fid_k.value:.3f}; FID_g {result.fid_g.value:.3f}")


CURVES = {
    "equation 1, music-anchored": "music",
    "equation 1, motion-anchored": "motion",
    "matched F1, raw": "f1",
    "matched precision, above chance": "corrected_precision",
    "matched recall, above chance": "corrected_recall",
    "matched F1, above chance": "corrected_f1",
}


def noise_experiment(salsa: list[np.ndarray], path: Path) -> None:
    """White noise on every joint, against music that has nothing to do with the dance, and music that fits it."""
    clean = [window for _, window in windows(salsa)]
    fitting = [motion_beats(window) for window in clean]
    unrelated = np.arange(7, WINDOW - 1, 30)  # 120 BPM
    results: dict[str, dict[str, list[float]]] = {}
    for title, music in (
        ("unrelated music: a 120 BPM grid", [unrelated] * len(clean)),
        ("music that fits: the dance's own beats", fitting),
    ):
        rows = results[title] = {name: [] for name in CURVES}
        for noise in NOISE_MM:
            scores: dict[str, list[float]] = {name: [] for name in CURVES}
            for seed in range(SEEDS if noise else 1):
                rng = np.random.default_rng(seed)
                for window, beats in zip(clean, music, strict=True):
                    noisy = window + rng.normal(0, noise / 1000, window.shape)
                    found = matched_beats(beats, motion_beats(noisy), WINDOW - 1)
                    for name, kind in CURVES.items():
                        one = (
                            music_motion_score(noisy, beats, anchor=kind)  # type: ignore[arg-type]
                            if kind in ("music", "motion")
                            else getattr(found, kind)
                        )
                        if one is not None:
                            scores[name].append(one)
            for name, values in scores.items():
                rows[name].append(float(np.mean(values)))
        print(f"\nNoise against {title}, mean over {len(clean)} windows of 5 s\n")
        print("| noise, mm | " + " | ".join(map(str, NOISE_MM)) + " |\n|---|" + "---|" * len(NOISE_MM))
        for name, means in rows.items():
            print(f"| {name} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    draw(results, path)
    print(f"\nwritten: {path}")


def draw(results: dict[str, dict[str, list[float]]], path: Path) -> None:
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    styles = ("#e08214", "#b35806", "#998ec3", "#92c5de", "#4393c3", "#053061")
    for axes, (title, rows) in zip(figure.subplots(1, 2, sharey=True), results.items(), strict=True):
        for (name, means), colour in zip(rows.items(), styles, strict=True):
            chance = "above chance" in name
            axes.plot(NOISE_MM, means, "o-" if chance else "s--", color=colour, markersize=4, label=name)
        axes.axhline(0, color="#888888", linewidth=0.8)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("white noise on every joint, mm")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("score")
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8.5
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
