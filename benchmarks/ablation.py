"""The errors of several variants of the pipeline on real views and on rendered clips, and whether both rank them alike.

    python -m benchmarks.ablation --clips FOLDER [--shared DIR] [--methods NAME ...]

FOLDER has clips in ``videos/`` and their truth in ``truth/``, as :func:`opendance_hf.synthetic.clips.render_clip` and
:mod:`benchmarks.pipeline_truth` write them. The real views are those of :mod:`benchmarks.real_truth`, which are left out
where the reference data are missing: they check the ranking, and no variant may be chosen by them.

All variants of a set are built in one folder, so that the stages before the first difference are computed once. The gate
measures and rejects nothing, so that every variant is scored on the same clips: those that every variant could build.
Writes ``benchmarks/ablation.json`` and the table ``benchmarks/ablation.md``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from scipy.stats import kendalltau

from benchmarks.__main__ import machine
from benchmarks.known_motion import Row, build_clips
from benchmarks.real_truth import NOTE, prepare_views, real_truth_folder
from opendance_hf.apps.build import Shortcuts, make_pipeline
from opendance_hf.pipeline.config import (
    ConfigError,
    change_pipeline,
    check_pipeline,
    pipeline_fingerprint,
    prepare_pipeline,
)
from opendance_hf.pipeline.pipelines import Pipeline
from opendance_hf.synthetic.truth import truth_path

OUT: Final = Path(__file__).with_name("ablation.json")
#: Name to the profile and the changes of its pipeline: ``STAGE.FIELD=VALUE``, or ``-STAGE`` to leave a stage out.
METHODS: Final[dict[str, tuple[str, ...]]] = {
    "default": ("default",),
    "default, NanoDet": ("default", "detect.detector=nanodet"),
    "default, not cleaned": ("default", "-clean"),
    "default, world term 0.3": ("default", "fit.fitter.landmark_weight=0.3"),
    "default, world term 0.02": ("default", "fit.fitter.landmark_weight=0.02"),
    "full, 12 a second, lifter": ("default", "pose.estimator=blazepose"),
    "heavy, every frame, lifter": ("default", "pose.rate_hz=60"),
    "heavy, 12 a second": ("fast", "pose.estimator=blazepose-heavy"),
    "heavy, 12 a second, world term 1": (
        "fast",
        "pose.estimator=blazepose-heavy",
        "fit.fitter.landmark_weight=1",
    ),
    "heavy, every frame": ("fast", "pose.estimator=blazepose-heavy", "pose.rate_hz=60"),
    "full, 12 a second (--fast)": ("fast",),
    "full, every frame": ("fast", "pose.rate_hz=60"),
}
#: Scores of the table, by the heading of their column.
COLUMNS: Final = {"PA-MPJPE": "pa_mpjpe_mm", "MPJPE": "mpjpe_mm"}
#: Means in the JSON file.
KEPT: Final = (*COLUMNS.values(), "levelled_mpjpe_mm", "facing_error_deg", "depth_slope", "depth_correlation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, required=True, help="folder with videos/ and truth/")
    parser.add_argument("--shared", type=Path, help="folder of reference files; default: $OPENDANCE_SHARED")
    parser.add_argument("--work", type=Path, default=Path("build/ablation"))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS, metavar="NAME")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    console = Console(soft_wrap=True)
    sets = {"rendered": clips_of(arguments.clips)}
    source = real_truth_folder(arguments.shared)
    if source is None:
        console.print("without real views: no real_truth/truth.npz; set OPENDANCE_SHARED")
    else:
        sets["real"] = prepare_views(source, arguments.work / "real" / "clips")
    pipelines = {name: pipeline_of(METHODS[name]) for name in arguments.methods}
    rows: dict[str, dict[str, list[Row]]] = {name: {} for name in sets}
    for method, pipeline in pipelines.items():
        for name, videos in sets.items():
            console.print(f"{method}: {name}, {len(videos)} clips ...", highlight=False)
            built = build_clips(
                videos, arguments.work / name, pipeline, arguments.workers, Console(quiet=True)
            )
            rows[name][method] = built
        # Written after every method: a run of hours that is stopped keeps what it has measured.
        result = compare(rows) | {
            "methods": {
                done: {"changes": METHODS[done], "pipeline": pipeline_fingerprint(pipelines[done])}
                for done in rows["rendered"]
            },
            "note": f"Real views: {NOTE}",
            "machine": machine(),
        }
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")
        arguments.out.with_suffix(".md").write_text(markdown(result))
    console.print(arguments.out.with_suffix(".md").read_text(), markup=False, highlight=False)
    console.print(f"written: {arguments.out}")


def clips_of(folder: Path) -> list[Path]:
    """Return the clips of a folder, sorted.

    Raises:
        SystemExit: if there are none, or one has no truth.
    """
    videos = sorted((folder / "videos").glob("*.mp4"))
    missing = [video.name for video in videos if not truth_path(video).is_file()]
    if missing or not videos:
        raise SystemExit(
            f"{folder}: no truth of {', '.join(missing)}" if missing else f"{folder}/videos: no clips"
        )
    return videos


def pipeline_of(method: tuple[str, ...]) -> Pipeline:
    """Return the prepared pipeline of a line of ``METHODS``, with a gate that rejects nothing.

    Raises:
        ConfigError: if the pipeline does not have a stage or a field that the method names.
    """
    profile, *changes = method
    pipeline = make_pipeline(profile, None, Shortcuts(quality_gate=False, previews=False), ())
    dropped = [change[1:] for change in changes if change.startswith("-")]
    names = [stage.name for stage in pipeline]
    if unknown := set(dropped) - set(names):
        raise ConfigError(
            f"no stage {', '.join(sorted(unknown))} to leave out: expected one of {', '.join(names)}"
        )
    kept = check_pipeline(tuple(stage for stage in pipeline if stage.name not in dropped))
    return prepare_pipeline(change_pipeline(kept, (change for change in changes if change[0] != "-")))


def compare(rows: dict[str, dict[str, list[Row]]]) -> dict[str, Any]:
    """Return the means of every method on every set, and Kendall's tau between the rankings of two sets.

    Args:
        rows: set -> method -> scores of its clips, as :func:`benchmarks.known_motion.build_clips` returns them.
    """
    sets: dict[str, Any] = {}
    for name, methods in rows.items():
        common = common_clips(methods.values())
        means = {}
        for method, clips in methods.items():
            used = [row for row in clips if row["name"] in common]
            means[method] = {
                "published": sum(row["published"] for row in clips),
                **{
                    key: round(float(np.mean([row[key] for row in used])), 3) if used else None
                    for key in KEPT
                },
            }
        sets[name] = {
            "clips": sorted(common),
            "of": max(map(len, methods.values())),
            "means": means,
            "rows": methods,
        }
    return {"sets": sets, "agreement": agreement([part["means"] for part in sets.values()])}


def common_clips(methods: Iterable[list[Row]]) -> set[str]:
    """Return the names of the clips that every method published."""
    published = [{row["name"] for row in clips if row["published"]} for clips in methods]
    return set.intersection(*published) if published else set()


def agreement(means: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return Kendall's tau and its p-value for each score of the table; empty unless there are two sets and methods."""
    if len(means) != 2 or len(means[0]) < 2:
        return {}
    out: dict[str, Any] = {}
    for key in COLUMNS.values():
        first, second = ([row[key] for row in part.values()] for part in means)
        if None in first or None in second:
            continue
        found = kendalltau(first, second)
        out[key] = {
            "tau": round(float(found.statistic), 3),
            "p": round(float(found.pvalue), 4),
            "methods": len(first),
        }
    return out


def markdown(result: dict[str, Any]) -> str:
    """Return the table of a result, with a line on the agreement of the sets."""
    sets = result["sets"]
    heads = [f"{name}: {column}" for name in sets for column in COLUMNS]
    lines = ["| method | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for method in next(iter(sets.values()))["means"]:
        cells = [part["means"][method][key] for part in sets.values() for key in COLUMNS.values()]
        shown = ["–" if cell is None else f"{cell:.1f}" for cell in cells]
        lines.append(f"| {method} | " + " | ".join(shown) + " |")
    counts = ", ".join(f"{len(part['clips'])} of {part['of']} {name} clips" for name, part in sets.items())
    lines += ["", f"Millimetres; means over {counts}, those that every method could build."]
    for column, key in COLUMNS.items():
        if found := result["agreement"].get(key):
            lines.append(
                f"Kendall's tau of the two rankings by {column}: {found['tau']:.2f} (p = {found['p']:.3f}, "
                f"N = {found['methods']} methods)."
            )
    return "\n".join([*lines, result["note"]]) + "\n"


if __name__ == "__main__":
    main()
