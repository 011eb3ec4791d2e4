"""How far the default pipeline is from the truth, on twenty rendered clips: ``make bench-pipeline``.

    python -m benchmarks.pipeline_truth [--work build/bench-pipeline] [--mocap MOCAP] [--only NAME ...]

Renders the clips (once), builds them like any folder of videos, and compares what was published with what was
rendered. Writes ``benchmarks/pipeline.json``: every clip, their means, and which targets hold. The rows are named as
in the report of ``opendance demo``; :class:`opendance_hf.synthetic.score.Score` says what they mean.

Ten clips are choreographed. The other ten dance what was captured, if MOCAP is a folder of the CMU database's trials as
:mod:`benchmarks.metrics_study` describes it, or are choreographed as well. Seeds were fixed before anything was measured.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from benchmarks.__main__ import machine
from opendance_hf.apps.build import run_build
from opendance_hf.motion.skeleton import JOINT_INDEX
from opendance_hf.pipeline.build import BuildOptions
from opendance_hf.pipeline.pipelines import default_pipeline
from opendance_hf.synthetic.clips import Capture, Trouble, render_clip, truth_path
from opendance_hf.synthetic.score import Score, score_build

OUT: Final = Path(__file__).with_name("pipeline.json")
DURATION_S: Final = 8.0
MOVES_MPS: Final = 0.25
NTSC: Final = 30_000 / 1_001
NO_TROUBLE: Final = Trouble()


@dataclass(frozen=True)
class Spec:
    """One clip; ``trial`` and ``from_s`` say which captured seconds it dances, where there are any."""

    seed: int
    num_dancers: int
    fps: float
    trouble: Trouble = NO_TROUBLE
    size: tuple[int, int] | None = None
    trial: str = ""
    from_s: float = 0.5


TITLE, STILL, CRATE = Trouble(title_s=1.5), Trouble(still_s=2.0), Trouble(obstacle=True)
UNEVEN = Trouble(title_s=1.2, still_s=1.5, variable=True)
TALL, WIDE = (720, 1280), (1280, 720)
CLIPS: Final = (
    Spec(101, 1, 24), Spec(102, 1, 25, TITLE, TALL), Spec(103, 1, NTSC, STILL), Spec(104, 1, 30, CRATE),
    Spec(105, 1, 60), Spec(106, 1, 30, UNEVEN),
    Spec(107, 2, 30), Spec(108, 2, 25, TITLE), Spec(109, 2, NTSC, CRATE), Spec(110, 2, 30, UNEVEN, WIDE),
    Spec(111, 1, 24, trial="modern_05_02"), Spec(112, 1, 25, TITLE, trial="modern_05_04"),
    Spec(113, 1, NTSC, CRATE, trial="modern_05_07"), Spec(114, 1, 30, STILL, trial="modern_05_09"),
    Spec(115, 1, 60, size=TALL, trial="modern_05_06"), Spec(116, 1, 30, UNEVEN, trial="modern_05_04", from_s=1.8),
    Spec(117, 2, 30, trial="salsa_01", from_s=5.0), Spec(118, 2, 25, STILL, trial="salsa_03", from_s=5.0),
    Spec(119, 2, NTSC, TITLE, trial="salsa_08", from_s=10.0), Spec(120, 2, 60, trial="salsa_10", from_s=3.0),
)  # fmt: skip

#: What issue and paper ask for: (name, what must hold of the means).
TARGETS: Final = {
    "solo pa_mpjpe_mm <= 60": lambda solo, duo, every: solo["pa_mpjpe_of_all_mm"] <= 60,
    "duo pa_mpjpe_mm <= 70": lambda solo, duo, every: duo["pa_mpjpe_of_all_mm"] <= 70,
    "solo pa_mpjpe_mm at least 15% below raw": lambda solo, duo, every: (
        solo["pa_mpjpe_mm"] <= 0.85 * solo["raw_pa_mpjpe_mm"]
    ),
    "duo pa_mpjpe_mm at least 15% below raw": lambda solo, duo, every: (
        duo["pa_mpjpe_mm"] <= 0.85 * duo["raw_pa_mpjpe_mm"]
    ),
    "median facing_error_deg <= 15": lambda solo, duo, every: every["median_facing_error_deg"] <= 15,
    "no identity swaps": lambda solo, duo, every: every["identity_swaps"] == 0,
    "start and end within 0.3 s of every clip": lambda solo, duo, every: every["worst_span_error_s"] <= 0.3,
    "foot slide at most truth + 1 cm/s": lambda solo, duo, every: (
        every["foot_slide_cmps"] <= every["true_foot_slide_cmps"] + 1
    ),
    "clock within 2 ms": lambda solo, duo, every: every["clock_error_ms"] <= 2,
    "every clip published": lambda solo, duo, every: every["published"] == every["clips"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("build/bench-pipeline"))
    parser.add_argument("--mocap", type=Path, help="folder of captured trials (.npz)")
    parser.add_argument(
        "--only", nargs="*", metavar="NAME", help="clips such as solo_101; nothing is written"
    )
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    console = Console(soft_wrap=True)
    clips = [spec for spec in CLIPS if not arguments.only or name_of(spec) in arguments.only]
    videos = [render(spec, arguments.mocap, arguments.work) for spec in clips]

    started = time.perf_counter()
    build = arguments.work / "build"
    run_build(
        videos,
        arguments.work / "dataset",
        build,
        arguments.work / "index.html",
        BuildOptions(
            tuple(stage for stage in default_pipeline() if stage.changes_rows),
            licence="apache-2.0",
            workers=arguments.workers,
        ),
        console,
    )
    seconds = time.perf_counter() - started
    wanted = {spec.seed for spec in clips}
    scores = [score for score in score_build(build, truth_path(videos[0]).parent) if score.seed in wanted]
    result = summary(scores, {spec.seed: spec for spec in clips}, bool(arguments.mocap))
    result |= {"build_s": round(seconds, 1), "machine": machine()}
    show(result, console)
    if not arguments.only:
        OUT.write_text(json.dumps(result, indent=2) + "\n")
        console.print(f"written: {OUT}")


def name_of(spec: Spec) -> str:
    """The name of a clip."""
    return f"{'solo' if spec.num_dancers == 1 else 'duo'}_{spec.seed:03d}"


def render(spec: Spec, mocap: Path | None, work: Path) -> Path:
    """The clip's video, rendered unless it is there."""
    folder = work / ("mocap" if mocap else "choreographed")
    video = folder / "videos" / f"{name_of(spec)}.mp4"
    if not (video.is_file() and truth_path(video).is_file()):
        shutil.rmtree(work / "build", ignore_errors=True)
        capture = load_capture(mocap / f"{spec.trial}.npz", spec) if mocap and spec.trial else None
        render_clip(
            spec.seed,
            spec.num_dancers,
            folder,
            duration_s=min(DURATION_S, len(capture.joints[0]) / capture.fps - 0.1) if capture else DURATION_S,
            fps=spec.fps,
            size=spec.size,
            trouble=spec.trouble,
            capture=capture,
        )
    return video


def load_capture(path: Path, spec: Spec) -> Capture:
    """The captured seconds, turned so that a soloist faces the camera on average and a couple stands side by side."""
    with np.load(path) as data:
        fps = float(data["fps"])
        joints = data["joints"].astype(np.float64)
    pace = np.linalg.norm(np.diff(joints, axis=1), axis=-1).mean(axis=(0, 2)) * fps
    pace = np.convolve(pace, np.ones(round(fps / 4)) / round(fps / 4), mode="same")
    first = round(spec.from_s * fps)
    # Captures begin with somebody standing there; the dance begins when they move.
    first += int(np.argmax(pace[first:] > MOVES_MPS))
    joints = joints[:, first : first + round((DURATION_S + 0.2) * fps) + 1]
    left, right = joints[:, :, JOINT_INDEX["left_hip"]], joints[:, :, JOINT_INDEX["right_hip"]]
    across = (left - right)[0] if spec.num_dancers == 1 else joints[1, :, 0] - joints[0, :, 0]
    # A couple turns about itself, and so may a soloist: the direction that is nearest to all of them.
    x, z = across[:, 0].mean(), across[:, 2].mean()
    if spec.num_dancers == 2:
        values, vectors = np.linalg.eigh(across[:, [0, 2]].T @ across[:, [0, 2]])
        x, z = vectors[:, np.argmax(values)]
    angle = math.atan2(z, x)
    cos, sin = math.cos(angle), math.sin(angle)
    turned = joints @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    turned[..., [0, 2]] -= turned[:, :, 0][..., [0, 2]].mean(axis=(0, 1))
    return Capture(turned, fps)


def summary(scores: list[Score], specs: dict[int, Spec], mocap: bool) -> dict[str, Any]:
    """Rows, means over solo, duo and all clips, and the targets that hold."""
    rows = []
    for score in scores:
        spec = specs[score.seed]
        kind = spec.trial if mocap and spec.trial else "choreographed"
        trouble = [
            name for name in ("title_s", "still_s", "obstacle", "variable") if getattr(spec.trouble, name)
        ]
        rows.append({**score.row(), "motion": kind, "fps": round(spec.fps, 3), "trouble": trouble})
    solo = means([row for row in rows if row["dancers"] == 1])
    duo = means([row for row in rows if row["dancers"] == 2])
    every = means(rows)
    held = {}
    for name, holds in TARGETS.items():
        try:
            held[name] = bool(holds(solo, duo, every))
        except (TypeError, KeyError):
            held[name] = False
    return {"targets": held, "solo": solo, "duo": duo, "all": every, "clips": rows}


def means(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means of the numbers of all rows that have them; counts are added up."""
    published = [row for row in rows if row["pa_mpjpe_mm"] is not None]
    out: dict[str, Any] = {"clips": len(rows), "published": len(published)}
    for key, value in rows[0].items() if rows else ():
        if key in ("name", "seed", "dancers", "fps") or isinstance(value, str | list):
            continue
        values = [row[key] for row in published if row[key] is not None]
        if values:
            out[key] = sum(values) if key == "identity_swaps" else round(float(np.mean(values)), 4)
    if published:
        # A clip of which nothing was published is as good as a pose that never changes.
        every = [
            row["constant_pa_mpjpe_mm"] if row["pa_mpjpe_mm"] is None else row["pa_mpjpe_mm"] for row in rows
        ]
        out["pa_mpjpe_of_all_mm"] = round(float(np.mean(every)), 4)
        out["median_facing_error_deg"] = float(np.median([row["facing_error_deg"] for row in published]))
        out["worst_span_error_s"] = max(
            abs(row[key]) for row in published for key in ("start_error_s", "end_error_s")
        )
        out["clock_error_ms"] = max(row["clock_error_ms"] for row in published)
    return out


def show(result: dict[str, Any], console: Console) -> None:
    """The table, for people."""
    keys = {
        "pa": "pa_mpjpe_mm", "raw": "raw_pa_mpjpe_mm", "const": "constant_pa_mpjpe_mm", "mpjpe": "mpjpe_mm",
        "facing": "facing_error_deg", "root": "root_path_error_mm", "accel": "accel_error_mm", "slide": "foot_slide_cmps",
        "true": "true_foot_slide_cmps", "start": "start_error_s", "end": "end_error_s", "cover": "coverage",
        "swaps": "identity_swaps", "apart": "distance_error_mm", "clock": "clock_error_ms", "delay": "delay_ms",
    }  # fmt: skip
    console.print(f"{'clip':10}" + "".join(f"{name:>8}" for name in keys))
    rows = [*result["clips"], *({**result[part], "name": part} for part in ("solo", "duo", "all"))]
    for row in rows:
        cells = [row.get(key) for key in keys.values()]
        shown = [
            "-" if cell is None else f"{cell:.2f}" if abs(cell) < 10 else f"{cell:.1f}" for cell in cells
        ]
        console.print(f"{row['name']:10}" + "".join(f"{cell:>8}" for cell in shown))
    for name, holds in result["targets"].items():
        console.print(f"{'met    ' if holds else 'NOT MET'} {name}")


if __name__ == "__main__":
    main()
