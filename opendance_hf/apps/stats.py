"""Compute statistics of a dataset: the paper's table 2, its row of table 1, and figure 3 (section 3.2), for any dataset of ours."""

from __future__ import annotations

import json
import math
import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich import box
from rich.table import Table

from opendance_hf.errors import OpenDanceError
from opendance_hf.files import HUB_ID, atomic_write, check_outputs
from opendance_hf.render.statistics import Sample, draw_statistics
from opendance_hf.schema import config_of, sorted_configs
from opendance_hf.storage.statistics import SplitStatistics, statistics_of

_COLUMNS: Final = [
    "group", "num_dancers", "num_frames", "fps", "bpm", "motion_velocity", "genre", "smpl_betas"
]  # fmt: skip


class StatsError(OpenDanceError, ValueError):
    """A dataset that cannot be read; the message names it and says why."""


@dataclass(frozen=True)
class Part:
    """One split of one configuration, a value a sequence.

    Attributes:
        config: name of the configuration.
        split: name of the split.
        groups: songs, or near-duplicates, as splits are made of.
        dancers: number of dancers.
        duration_s: seconds.
        bpm: beats per minute; NaN without a song.
        velocity: mean joint speed, metres per second.
        genres: of the music, None where no classifier ran.
        with_smpl_betas: how many sequences have SMPL shapes.
    """

    config: str
    split: str
    groups: tuple[str, ...]
    dancers: npt.NDArray[np.int64]
    duration_s: npt.NDArray[np.float64]
    bpm: npt.NDArray[np.float64]
    velocity: npt.NDArray[np.float64]
    genres: tuple[str | None, ...]
    with_smpl_betas: int


def read_parts(dataset: str | os.PathLike[str]) -> list[Part]:
    """Read the columns that statistics need of every split, streamed: neither motion nor music is read into memory.

    Args:
        dataset: folder or Hub id.

    Raises:
        StatsError: if it cannot be read, or is not a dataset of OpenDance-HF.
    """
    from datasets import get_dataset_config_names, load_dataset

    name, parts = os.fspath(dataset), []
    if not Path(name).exists() and not HUB_ID.fullmatch(name):
        raise StatsError(f"{name}: no such folder; give that of a dataset, or its Hub id (owner/name)")
    try:
        for config in get_dataset_config_names(name):
            for split, rows in load_dataset(name, config, streaming=True).items():
                if missing := set(_COLUMNS) - set(rows.column_names or _COLUMNS):
                    raise ValueError(f"no column {', '.join(sorted(missing))}")
                found: dict[str, list[Any]] = {column: [] for column in _COLUMNS}
                for batch in rows.select_columns(_COLUMNS).with_format("arrow").iter(256):
                    for column, values in found.items():
                        values += batch[column].to_pylist()
                parts.append(
                    Part(
                        config,
                        str(split),
                        tuple(found["group"]),
                        np.array(found["num_dancers"], np.int64),
                        np.array(found["num_frames"]) / np.array(found["fps"], np.float64),
                        np.array(found["bpm"], np.float64),
                        np.array(found["motion_velocity"], np.float64),
                        tuple(found["genre"]),
                        sum(betas is not None for betas in found["smpl_betas"]),
                    )
                )
    except (OSError, ValueError, KeyError) as error:
        raise StatsError(f"{name}: not a dataset of ours ({error}); give its folder or its Hub id") from error
    if not any(len(part.groups) for part in parts):
        raise StatsError(f"{name}: no sequences in it")
    return parts


def summarise(parts: list[Part]) -> SplitStatistics:
    """Compute the statistics of several parts together."""
    durations, bpm, velocity, dancers = (
        np.concatenate([getattr(part, name) for part in parts]).tolist()
        for name in ("duration_s", "bpm", "velocity", "dancers")
    )
    return statistics_of(
        groups=[group for part in parts for group in part.groups],
        dancers=dancers,
        durations_s=durations,
        bpm=[None if math.isnan(one) else one for one in bpm],
        velocities=velocity,
        genres=[genre for part in parts for genre in part.genres],
        with_smpl_betas=sum(part.with_smpl_betas for part in parts),
    )


def stats(
    dataset: str | os.PathLike[str],
    *,
    json_file: Path | None = None,
    figure: Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Compute statistics of a dataset, and write them to JSON and a figure.

    Args:
        dataset: folder or Hub id.
        json_file: gets all numbers.
        figure: gets figure 3: PNG, PDF or SVG.
        overwrite: True to replace files that exist; those of the dataset are never replaced.

    Returns:
        ``splits`` (table 2: a :class:`SplitStatistics` as a dictionary for every configuration and split), ``configs`` and
        ``all``, over their splits.

    Raises:
        StatsError: if the dataset cannot be read, or the figure is of another kind.
        OutputError: if a file to write belongs to the dataset, or exists and ``overwrite`` is False.
        DiskError: if a file cannot be written.
    """
    outputs = {"--json": json_file, "--figure": figure}
    check_outputs(outputs, [os.fspath(dataset)], overwrite=overwrite)
    if figure is not None and figure.suffix not in (".png", ".pdf", ".svg"):
        raise StatsError(f"{figure}: draw to a file that ends in .png, .pdf or .svg")
    parts = [part for part in read_parts(dataset) if len(part.groups)]
    configs = sorted_configs(part.config for part in parts)
    found: dict[str, Any] = {
        "dataset": Path(os.fspath(dataset)).name or os.fspath(dataset),
        "splits": {
            config: {part.split: asdict(summarise([part])) for part in parts if part.config == config}
            for config in configs
        },
        "configs": {
            config: asdict(summarise([part for part in parts if part.config == config])) for config in configs
        },
        "all": asdict(summarise(parts)),
    }
    with ExitStack() as results:  # both are written, or none
        if json_file is not None:
            results.enter_context(atomic_write(json_file)).write_text(json.dumps(found, indent=2) + "\n")
        if figure is None:
            return found
        samples = [
            Sample(part.config, part.duration_s, part.bpm, part.velocity, part.genres) for part in parts
        ]
        draw_statistics(samples, figure)
    return found


def tables(found: dict[str, Any]) -> list[Table]:
    """Return the result of :func:`stats` as tables that fit 80 columns: table 2 with more columns, and the row of table 1."""
    splits = Table(title="Splits (table 2)", box=box.SIMPLE_HEAD, title_justify="left", collapse_padding=True)
    for column in ("configuration", "split"):
        splits.add_column(column, overflow="fold")
    for column in (
        "sequences",
        "songs",
        "hours",
        "seconds\nmean\n(range)",
        "tempo\nrange\nBPM",
        "speed\nm/s",
    ):
        splits.add_column(column, justify="right", overflow="fold")
    for config, by_split in found["splits"].items():
        rows = list(by_split.items())
        if len(rows) > 1:
            rows.append(("all", found["configs"][config]))
        for split, n in rows:
            splits.add_row(
                config,
                split,
                f"{n['sequences']:,}",
                f"{n['groups']:,}",
                _hours(n["hours"]),
                f"{n['mean_duration_s']:.2f}\n({n['min_duration_s']:.1f} to\n{n['max_duration_s']:.1f})",
                "-" if n["min_bpm"] is None else f"{n['min_bpm']:.1f} to\n{n['max_bpm']:.1f}",
                f"{n['mean_velocity_m_per_s']:.2f}",
            )
    row = Table(title="Its row of table 1", box=box.SIMPLE, title_justify="left")
    everything, solo = found["all"], found["configs"].get(config_of(1))
    cells = {
        "Dataset": found["dataset"],
        "Music": f"{everything['groups']:,}",
        # Of the music, by a classifier: nobody counts the genres of dances in the wild.
        "Genres": str(len(everything["genres"]) or "/"),
        "Hours": _hours(everything["hours"]),
        "AS": f"{(solo or everything)['mean_duration_s']:.2f}",  # the paper's is that of solos
        "2D/3D": "3D",
        "Collaborative": "yes" if everything["dancers"] > 1 else "no",
    }
    for name in cells:
        row.add_column(name, overflow="fold")
    row.add_row(*cells.values())
    return [splits, row]


def _hours(hours: float) -> str:
    return f"{hours:.2f}" if hours >= 0.1 else f"{hours:.4f}"
