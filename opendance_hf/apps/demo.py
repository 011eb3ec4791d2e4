"""``make demo``: the whole story in one folder, from videos to a new dance, with a page to look at.

(render) -> build -> load -> train a few minutes -> generate -> evaluate -> ``index.html`` and ``report.json``.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from opendance_hf.apps.build import report_of, run_build
from opendance_hf.apps.console import show_log
from opendance_hf.apps.report import BuildReport, DanceRow, metric_label, metric_unit, write_report
from opendance_hf.apps.sequence_stage import sequence_stage
from opendance_hf.apps.view import read_stage, write_stage
from opendance_hf.files import atomic_write, check_folder
from opendance_hf.metrics import EvaluationResult, Score
from opendance_hf.pipeline.build import BuildOptions, BuildResult
from opendance_hf.pipeline.pipelines import default_pipeline

#: Columns of the dataset whose shapes are shown.
_SHOWN: Final = ("joints", "music_features")
#: Errors that are shown, with those of the unfitted estimate and of a constant pose; all are in ``report.json``.
_TRUTH: Final = (
    "name",
    "dancers",
    "pa_mpjpe_mm",
    "raw_pa_mpjpe_mm",
    "constant_pa_mpjpe_mm",
    "mpjpe_mm",
    "facing_error_deg",
)
#: Files of a demo: a folder that is not empty must have one of them. The first exists before any other.
_MARKERS: Final = (".opendance-demo", "build/ledger.sqlite")
#: Space that a demo needs at least, bytes.
_ROOM: Final = 50_000_000
#: Sequences that get a stage, of 1 to 5 MB each.
_STAGES: Final = 12
log = logging.getLogger(__name__)
#: Number of dancers of the rendered clips, with their seeds.
_SEEDS: Final = {1: 11, 2: 22}


@dataclass(frozen=True)
class DemoOptions:
    """Options of the demo.

    Attributes:
        out: folder for everything it makes.
        videos: dance videos or folders of them; synthetic clips of known truth are rendered if there are none.
        workers: videos processed at a time.
        train: train a small Bailando on the result, and let it dance.
        vqvae_steps: training steps of its VQ-VAE.
        gpt_steps: training steps of its GPT.
        clips: number of dancers of each clip to render, with its seed.
    """

    out: Path
    videos: list[Path]
    workers: int
    train: bool = True
    vqvae_steps: int = 600
    gpt_steps: int = 300
    clips: Mapping[int, int] = field(default_factory=lambda: _SEEDS)


def run_demo(options: DemoOptions, console: Console) -> BuildResult:
    """Run the demo; the returned build says whether anything was published.

    Raises:
        OutputError: if the folder has files and is not that of an earlier demo, or is one of the videos.
        DiskError: if it cannot be written.
    """
    out, started = options.out, time.perf_counter()
    known = any((out / name).exists() for name in _MARKERS)
    check_folder(out, options.videos, overwrite=known, need_bytes=_ROOM)
    page = out / "index.html"
    with atomic_write(out / _MARKERS[0]) as partial:
        partial.touch()
    with show_log(console):
        videos = options.videos or [render_truth_clips(out, options.clips)]
    result = run_build(
        videos,
        out / "opendance-3d",
        out / "build",
        page,
        BuildOptions(
            default_pipeline(),
            licence="other" if options.videos else "apache-2.0",
            workers=options.workers,
        ),
        console,
    )
    report = add_stages(report_of(result, page), result.build, out)
    record: dict[str, Any] = {"inputs": [asdict(row) for row in report.inputs], "clips": []}
    if not options.videos:
        record["clips"] = score_truth_clips(result, out)
        report = dataclasses.replace(
            report,
            truth=[
                {name: "none" if row[name] is None else row[name] for name in _TRUTH}
                for row in record["clips"]
            ],
        )
        console.print(rows_table("Errors against the true 3D motion", report.truth))
    if report.sequences:
        console.print(
            rows_table("The dataset, as datasets.load_dataset opens it", loaded(out / "opendance-3d"))
        )
        if options.train:
            with show_log(console):
                report, record["evaluation"] = dance(result, report, options, console)
    record["seconds"] = round(time.perf_counter() - started, 1)
    write_report(page, report)
    with atomic_write(out / "report.json") as partial:
        partial.write_text(json.dumps(record, indent=2) + "\n")
    line = f"look:     {page}   (numbers: {out / 'report.json'}; {record['seconds']:.0f} s in all)"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    return result


def add_stages(report: BuildReport, build: Path, out: Path) -> BuildReport:
    """Write the 3D stage of the first sequences beside the page, and return the report with links to them.

    Args:
        report: of the build.
        build: its working folder.
        out: folder of the page; stages are ``stages/ID.html`` in it.
    """
    rows = []
    for number, row in enumerate(report.sequences):
        if number < _STAGES:
            path = f"stages/{row.id}.html"
            write_stage(out / path, sequence_stage(build, row.id))
            row = dataclasses.replace(row, stage=path)
        rows.append(row)
    return dataclasses.replace(report, sequences=rows)


def render_truth_clips(out: Path, clips: Mapping[int, int]) -> Path:
    """Render clips of known truth, unless an earlier run has; return the folder of videos.

    Args:
        out: folder of the demo.
        clips: number of dancers of each clip, with its seed.
    """
    from opendance_hf.synthetic.clips import render_clip

    made = out / "videos" / ".complete"
    if not made.is_file():
        for num_dancers, seed in clips.items():
            log.info(
                "rendering a synthetic %s whose 3D truth is known", "solo" if num_dancers == 1 else "duo"
            )
            render_clip(seed, num_dancers, out)
        made.touch()
    return out / "videos"


def score_truth_clips(result: BuildResult, out: Path) -> list[dict[str, Any]]:
    """Compute the errors of the published sequences against the truth of the rendered clips, one row for each clip."""
    from opendance_hf.synthetic.score import score_build

    return [score.row() for score in score_build(result.build, out / "truth")]


def loaded(dataset: Path) -> list[dict[str, Any]]:
    """Load a dataset folder with ``datasets``; return a row for each split, with the shapes of its first sequence."""
    from datasets import disable_progress_bars, get_dataset_config_names, load_dataset

    disable_progress_bars()
    folder, found = os.fspath(dataset), []
    for config in get_dataset_config_names(folder):
        for split, rows in load_dataset(folder, config).items():
            first = rows.with_format("numpy")[0]
            shapes = {name: " x ".join(map(str, np.shape(first[name]))) for name in _SHOWN}
            found.append({"configuration": config, "split": str(split), "sequences": len(rows), **shapes})
    return found


def rows_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Make a table for the terminal with a line for each row; numbers have four digits."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for index, name in enumerate(rows[0] if rows else ()):
        unit = metric_unit(name)
        words = [*metric_label(name).split(), *([unit] if unit else [])]
        table.add_column("\n".join(words), justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    return table


def dance(
    result: BuildResult, report: BuildReport, options: DemoOptions, console: Console
) -> tuple[BuildReport, dict[str, Any]]:
    """Train a small Bailando on the demo's own dataset, let it dance to one of the songs, and score that dance."""
    from opendance_hf.apps.evaluate import EvaluateOptions, run_evaluate
    from opendance_hf.apps.generate import GenerateOptions, generate

    out = options.out
    model = train_small(out / "opendance-3d", out / "model", options)
    song = Path(next(item.path for item in result.items if item.status == "published"))
    files = generate(song, model, out / "dance" / "dance.mp4", GenerateOptions(overwrite=True))
    scores = run_evaluate(
        files[1],
        out / "opendance-3d",
        out / "evaluation.json",
        EvaluateOptions(overwrite=True),
        console=console,
    )
    caption = (
        f"A debug-size Bailando, trained for minutes on the {len(report.sequences)} sequence(s) of this demo and "
        f"nothing else, dances to the sound of {song.name}, which is among them: it shows that the parts fit "
        "together, not how well the method dances. A model trained so little nearly stands still, trembles or hops."
    )
    stage = "dance/dance.html"
    write_stage(out / stage, read_stage([song.stem], [files[1]], files[0]))
    row = DanceRow(video="dance/dance.mp4", caption=caption, scores=_readable(scores), stage=stage)
    return dataclasses.replace(report, dances=[row]), asdict(scores)


def train_small(dataset: Path, folder: Path, options: DemoOptions) -> Path:
    """Train a VQ-VAE and a GPT at debug size; return the folder of the whole Bailando."""
    from opendance_hf.training.stages import run

    stages: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
        ("vqvae", "vqvae", options.vqvae_steps, {}),
        ("gpt", "bailando", options.gpt_steps, {"vqvae": str(folder / "vqvae")}),
    )
    for stage, name, steps, needs in stages:
        log.info("training the %s at debug size, %d steps", stage, steps)
        changes = {
            "disable_tqdm": "true",
            "logging_steps": 100,
            "save_strategy": "no",
            "max_steps": steps,
            "milestones": f"[{steps * 4 // 5}]",
        }
        run(
            stage,
            dataset=str(dataset),
            output_dir=str(folder / name),
            resume=False,
            set_threads=True,
            overrides=[f"trainer.{key}={value}" for key, value in changes.items()],
            **needs,
        )
    return folder / "bailando"


def _readable(result: EvaluationResult) -> dict[str, float | str]:
    """Return the scores of a set of one dance; text instead of a number for those that need a larger set."""

    def of(score: Score, features: int = 0) -> float | str:
        if score.value is None or score.rank_deficient:
            return f"needs N >= {max(score.needs_n or 0, features + 1)}"
        return score.value

    def mean(name: str, missing: str) -> float | str:
        value = result.predictions.means[name].mean
        return missing if value is None else value

    return {
        "music_motion_score": mean("music_motion", "no beats"),
        "step_beat": mean("step_beat", "no beats"),
        "motion_motion_score": mean("motion_motion", "needs two dancers"),
        "fid_k": of(result.fid_k, 72),
        "fid_g": of(result.fid_g, 32),
        "div_k": of(result.predictions.div_k),
        "div_g": of(result.predictions.div_g),
    }
