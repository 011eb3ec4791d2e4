"""Figure 3 of the paper (section 3.2) for any dataset: what its sequences are like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from opendance_hf.files import atomic_write
from opendance_hf.schema import GENRES


@dataclass(frozen=True)
class Sample:
    """Sequences of one configuration, a value each: seconds, beats per minute (NaN without a song), metres per second, genre or None."""

    config: str
    duration_s: npt.NDArray[np.float64]
    bpm: npt.NDArray[np.float64]
    velocity: npt.NDArray[np.float64]
    genres: tuple[str | None, ...]


def draw_statistics(parts: Sequence[Sample], path: Path) -> None:
    """Draw figure 3: how durations, genres, tempo and velocity are distributed, a colour for each configuration.

    Args:
        parts: at least one sequence in all; parts of one configuration are counted together.
        path: PNG, PDF or SVG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.2), layout="constrained")
    axes = figure.subplots(2, 2)
    configs = list(dict.fromkeys(part.config for part in parts))
    colours = {config: f"C{number}" for number, config in enumerate(configs)}
    panels = (
        (axes[0, 0], "duration_s", "duration, s"),
        (axes[1, 0], "bpm", "tempo of the music, beats per minute"),
        (axes[1, 1], "velocity", "mean joint speed, m/s"),
    )
    for panel, column, label in panels:
        values = {c: np.concatenate([getattr(p, column) for p in parts if p.config == c]) for c in configs}
        values = {config: known[np.isfinite(known)] for config, known in values.items()}
        # As many bins as square root of the number, the same for all configurations.
        everything = np.concatenate(list(values.values()))
        edges = np.histogram_bin_edges(everything, bins=int(np.clip(np.sqrt(len(everything)), 5, 60)))
        panel.hist(
            list(values.values()),
            bins=edges,
            label=[f"{config} ({len(v)})" for config, v in values.items()],
            color=list(colours.values()),
        )
        panel.set(xlabel=label, ylabel="sequences")
        panel.yaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].legend()
    panel, width = axes[0, 1], 0.8 / len(configs)
    for number, config in enumerate(configs):
        count = Counter(genre for p in parts if p.config == config for genre in p.genres)
        at = np.arange(len(GENRES)) + width * (number - (len(configs) - 1) / 2)
        panel.bar(at, [count[genre] for genre in GENRES], width, color=colours[config])
    panel.set_xticks(range(len(GENRES)), GENRES, rotation=40, ha="right")
    panel.set(ylabel="sequences", xlabel="genre of the music")
    if not any(genre for part in parts for genre in part.genres):
        panel.text(0.5, 0.5, "no genre classifier ran", transform=panel.transAxes, ha="center", color="0.4")
        panel.set_ylim(0, 1)
    panel.yaxis.get_major_locator().set_params(integer=True)
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=120, format=path.suffix[1:] or "png")
