"""``make demo``: the whole story in one folder, from videos to a new dance, with a page to look at.

(render) -> build -> load -> train a few minutes -> generate -> evaluate -> ``index.html`` and ``report.json``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from opendance_hf.apps.build import report_of, run_build
from opendance_hf.apps.console import show_log
from opendance_hf.apps.report import BuildReport, DanceRow, write_report
from opendance_hf.metrics import EvaluationResult, Score
from opendance_hf.pipeline.build import BuildOptions, BuildResult
from opendance_hf.pipeline.pipelines import default_pipeline

_VQVAE_STEPS: Final = 600
_GPT_STEPS: Final = 300
#: Number of dancers to seed.
_SEEDS: Final = {1: 11, 2: 22}


@dataclass(frozen=True)
class DemoOptions:
    """What the demo is asked to do.

    Attributes:
        out: folder for everything it makes.
        videos: dance videos or folders of them; synthetic clips of known truth are rendered if there are none.
        workers: videos processed at a time.
        train: train a small Bailando on the result, and let it dance.
    """

    out: Path
    videos: list[Path]
    workers: int
    train: bool = True


def run_demo(options: DemoOptions, console: Console) -> BuildResult:
    """Run the demo; the returned build says whether anything was published."""
    out = options.out
    page = out / "index.html"

    def tell(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    started = time.perf_counter()
    videos = options.videos or [render_truth_clips(out, tell)]
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
    report = report_of(result, page)
    record: dict[str, Any] = {"inputs": [asdict(row) for row in report.inputs], "clips": []}
    if not options.videos:
        record["clips"] = score_truth_clips(result, out, tell)
        shown = [{k: "none" if v is None else v for k, v in row.items()} for row in record["clips"]]
        report = dataclasses.replace(report, truth=shown)
    if report.sequences:
        show_loading(out / "opendance-3d", console)
        if options.train:
            with show_log(console):
                report, record["evaluation"] = dance(result, report, out, tell, console)
    record["seconds"] = round(time.perf_counter() - started, 1)
    write_report(page, report)
    (out / "report.json").write_text(json.dumps(record, indent=2) + "\n")
    tell(f"look:     {page}   (numbers: {out / 'report.json'}; {record['seconds']:.0f} s in all)")
    return result


def render_truth_clips(out: Path, tell: Callable[[str], None]) -> Path:
    """Render one solo and one duo of known truth, unless an earlier run has; returns the folder of videos."""
    from opendance_hf.synthetic.clips import render_clip

    made = out / "videos" / ".complete"
    if not made.is_file():
        for num_dancers, seed in _SEEDS.items():
            dancers = "solo" if num_dancers == 1 else "duo"
            tell(f"Rendering a synthetic {dancers} whose 3D truth is known ...")
            render_clip(seed, num_dancers, out)
        made.touch()
    return out / "videos"


def score_truth_clips(result: BuildResult, out: Path, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Errors of the published sequences against the truth of the rendered clips, one row a clip."""
    from opendance_hf.synthetic.score import score_build

    rows = [score.row() for score in score_build(result.build, out / "truth")]
    tell("Measured against the truth:")
    for row in rows:
        tell("  " + ", ".join(f"{name} {_short(value)}" for name, value in row.items()))
    return rows


def show_loading(dataset: Path, console: Console) -> None:
    """Load a dataset folder with ``datasets`` and print its rows' shapes, for every configuration it has."""
    from datasets import disable_progress_bars, get_dataset_config_names, load_dataset

    disable_progress_bars()
    folder = os.fspath(dataset)
    for config in get_dataset_config_names(folder):
        splits = load_dataset(folder, config)
        for split, rows in splits.items():
            shapes = {
                name: np.asarray(value).shape
                for name, value in rows.with_format("numpy")[0].items()
                if name in ("joints", "smpl_pose", "smpl_transl", "music_features", "music_features_7p5fps")
            }
            console.print(
                f"{config}/{split}: {len(rows)} row(s); the first: {shapes}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )


def dance(
    result: BuildResult, report: BuildReport, out: Path, tell: Callable[[str], None], console: Console
) -> tuple[BuildReport, dict[str, Any]]:
    """Train a small Bailando on the demo's own dataset, let it dance to one of the songs, and score that dance."""
    import torch
    from transformers.utils import logging

    from opendance_hf.apps.evaluate import run_evaluate
    from opendance_hf.apps.generate import generate
    from opendance_hf.training import gpt, vqvae
    from opendance_hf.training.recipe import RunArguments

    # Networks this small gain little from a second thread, and on a busy machine two threads crawl.
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    dataset = str(out / "opendance-3d")
    quiet = ["trainer.disable_tqdm=true", "trainer.logging_steps=100", "trainer.save_strategy=no"]
    tell(f"Training the pose VQ-VAE at debug size, {_VQVAE_STEPS} steps ...")
    options = [*quiet, f"trainer.max_steps={_VQVAE_STEPS}", f"trainer.milestones=[{_VQVAE_STEPS * 4 // 5}]"]
    vqvae.run(RunArguments(dataset, str(out / "model" / "vqvae"), resume=False, overrides=options))
    tell(f"Training the motion GPT at debug size, {_GPT_STEPS} steps ...")
    options = [*quiet, f"trainer.max_steps={_GPT_STEPS}", f"trainer.milestones=[{_GPT_STEPS * 4 // 5}]"]
    model = out / "model" / "bailando"
    gpt.run(
        gpt.GPTArguments(
            dataset, str(model), resume=False, overrides=options, vqvae=str(out / "model" / "vqvae")
        )
    )
    song = Path(next(item.path for item in result.items if item.status == "published"))
    files = generate(song, model, out / "dance" / "dance.mp4", tell=tell)
    scores = run_evaluate(files[1], out / "opendance-3d", out / "evaluation.json", console=console)
    caption = (
        f"A debug-size Bailando, trained for minutes on the {len(report.sequences)} sequence(s) of this demo and "
        f"nothing else, dances to the sound of {song.name}, which is among them: it shows that the parts fit "
        "together, not how well the method dances."
    )
    row = DanceRow(video="dance/dance.mp4", caption=caption, scores=_readable(scores))
    return dataclasses.replace(report, dances=[row]), asdict(scores)


def _readable(result: EvaluationResult) -> dict[str, float | str]:
    """The scores of a set of one dance; what needs a larger set says so instead of a number."""

    def of(score: Score, features: int = 0) -> float | str:
        if score.value is None or score.rank_deficient:
            return f"needs N >= {max(score.needs_n or 0, features + 1)}"
        return score.value

    def mean(name: str, missing: str) -> float | str:
        value = result.predictions.means[name].mean
        return missing if value is None else value

    return {
        "music_motion_score": mean("music_motion", "no beats"),
        "motion_motion_score": mean("motion_motion", "needs two dancers"),
        "fid_k": of(result.fid_k, 72),
        "fid_g": of(result.fid_g, 32),
        "div_k": of(result.predictions.div_k),
        "div_g": of(result.predictions.div_g),
    }


def _short(value: float | str | None) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)
