"""How far the pipeline is from the truth of one real man, filmed by four calibrated cameras: ``make bench-real``.

    python -m benchmarks.real_truth [--shared DIR] [--set STAGE.FIELD=VALUE ...] [--profile NAME]

A test, never a set to tune on: one man for 1.7 seconds. Each view is played forwards and backwards to 5 seconds, with
sound, and built like any video. What is published is compared with the joints that were triangulated from the views.
Views that the gate rejects are scored as well, apart: ``ungated`` is the same build with a gate that only measures.
Writes ``benchmarks/real_truth.json``; :func:`benchmarks.known_motion.score` says what its columns mean. Does nothing
where the reference data are missing.

``--lifters FOLDER ...`` measures lifters of the same recipe and other seeds as well, for the spread.

With ``--phases 2`` every view is built twice, starting at either end of the motion: the same view differs by about 1 mm.

The truth has the hips of OpenPose, 217 mm apart, and 2 cm of noise; the distortion of the lenses (under a pixel) and
their principal point (10 pixels off the centre) are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich.console import Console

from benchmarks.__main__ import machine
from benchmarks.known_motion import SCORES, Row, build_clips
from benchmarks.truth_stages import WORST, write_worst
from opendance_hf.apps.build import Shortcuts, make_pipeline
from opendance_hf.pipeline.config import pipeline_fingerprint, prepare_pipeline, set_field
from opendance_hf.pipeline.pipelines import Pipeline
from opendance_hf.pipeline.video import read_frames
from opendance_hf.render.video import VideoWriter
from opendance_hf.schema import Camera
from opendance_hf.synthetic.music import SAMPLE_RATE, make_music
from opendance_hf.synthetic.score import facing, hip_middle
from opendance_hf.synthetic.truth import Truth, truth_path

OUT: Final = Path(__file__).with_name("real_truth.json")
NOTE: Final = "One man for 1.7 seconds, seen from four sides: a test. Nothing is tuned on it."
FPS: Final = 60
DURATION_S: Final = 5.0
CRF: Final = 14
MUSIC_SEED: Final = 17
#: The calibration's z points up, ours y.
Y_UP: Final = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
#: Start of each clip within the motion that is played forwards and backwards, as a share of its period.
PHASES: Final = {"": 0.0, "_b": 0.5}
MEANS: Final = (
    *SCORES,
    "raw_pa_mpjpe_mm",
    "raw_mpjpe_mm",
    "constant_pa_mpjpe_mm",
    "constant_levelled_mpjpe_mm",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, help="folder of reference files; default: $OPENDANCE_SHARED")
    parser.add_argument("--work", type=Path, default=Path("build/bench-real"))
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="STAGE.FIELD=VALUE")
    parser.add_argument("--profile", default="default")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--phases", type=int, choices=(1, 2), default=1)
    parser.add_argument("--lifters", type=Path, nargs="*", default=[], help="trained lifters to measure too")
    parser.add_argument(
        "--stages", type=int, default=WORST, help="worst clips to show on a stage, in WORK/stages"
    )
    parser.add_argument("--out", type=Path, help=f"default: {OUT.name}, and nothing with --set or --profile")
    arguments = parser.parse_args()
    console = Console(soft_wrap=True)
    source = real_truth_folder(arguments.shared)
    if source is None:
        console.print("skipped: no real_truth/truth.npz in the reference files; set OPENDANCE_SHARED")
        return
    videos = prepare_views(source, arguments.work / "clips", arguments.phases)
    pipeline = make_pipeline(arguments.profile, None, Shortcuts(previews=False), arguments.changes)
    result = measure(videos, arguments.work, pipeline, arguments.workers, console)
    lifters = {}
    for folder in arguments.lifters:
        with_it = set_field(pipeline, "depth.corrector", f"lifter:{folder}")
        found = measure(videos, arguments.work, with_it, arguments.workers, Console(quiet=True))
        lifters[folder.name] = {key: found[key] for key in ("published", "mean")}
        lifters[folder.name]["ungated_mean"] = found["ungated"]["mean"]
    if lifters:
        values = [row["mean"]["pa_mpjpe_mm"] for row in lifters.values()]
        result["lifters"] = lifters
        result["pa_mpjpe_mm_of_lifters"] = {
            "mean": float(np.mean(values)),
            "from": min(values),
            "to": max(values),
        }
    result |= {
        "note": NOTE,
        "profile": arguments.profile,
        "changes": arguments.changes,
        "machine": machine(),
    }
    show(result, console)
    for page in write_worst(
        result["clips"], videos, [arguments.work / "build"], arguments.work / "stages", arguments.stages
    ):
        console.print(f"stage: {page}")
    changed = arguments.changes or arguments.profile != "default"
    if out := arguments.out or (None if changed else OUT):
        out.write_text(json.dumps(result, indent=2) + "\n")
        console.print(f"written: {out}")


def measure(
    videos: list[Path], work: Path, pipeline: Pipeline, workers: int, console: Console
) -> dict[str, Any]:
    """Build the clips and return the :func:`summary` of their errors."""
    pipeline = prepare_pipeline(pipeline)
    rows = build_clips(videos, work, pipeline, workers, console)
    ungated = rows
    if not all(row["published"] for row in rows):
        # Figures of an estimator should not depend on which views the gate lets through.
        open_gate = prepare_pipeline(set_field(pipeline, "gate.reject", False))
        ungated = build_clips(videos, work, open_gate, workers, console)
    return summary(rows, ungated) | {"pipeline": pipeline_fingerprint(pipeline)}


def real_truth_folder(shared: Path | None = None) -> Path | None:
    """Return the folder of the four views; None if it is missing."""
    own = os.environ.get("OPENDANCE_SHARED") or Path(__file__).resolve().parents[2] / "shared"
    folder = Path(shared or own) / "data" / "real_truth"
    return folder if (folder / "truth.npz").is_file() else None


def prepare_views(source: Path, folder: Path, phases: int = 1) -> list[Path]:
    """Write the clips and their truth, unless they are there; return the paths of the clips, ``phases`` for each view."""
    with np.load(source / "truth.npz", allow_pickle=False) as data:
        motion = {key: data[key] for key in ("joint_names", "positions_m", "K", "R", "t")}
    videos = []
    for view in range(len(motion["K"])):
        name = f"cam{view + 1:02d}"
        clips = {
            folder / "videos" / f"{name}{phase}.mp4": share for phase, share in list(PHASES.items())[:phases]
        }
        videos += clips
        missing = [video for video in clips if not (video.is_file() and truth_path(video).is_file())]
        pictures = [picture for _, picture in read_frames(source / f"{name}.mp4")] if missing else []
        for video in missing:
            order = play_order(len(pictures), clips[video], round(DURATION_S * FPS))
            write_clip(video, pictures, order)
            truth_of(video, motion, view, order, pictures[0].shape[1::-1]).save(truth_path(video))
    return videos


def play_order(count: int, share: float, length: int) -> npt.NDArray[np.intp]:
    """Return (length,) frames of a motion of ``count`` frames forwards and backwards; no turning point is shown twice."""
    period = 2 * (count - 1)
    at = (np.arange(length) + round(share * period)) % period
    return np.minimum(at, period - at)


def write_clip(video: Path, pictures: Sequence[npt.NDArray[np.uint8]], order: npt.NDArray[np.intp]) -> None:
    """Write the pictures in this order, with music."""
    for path in (video, truth_path(video)):
        path.parent.mkdir(parents=True, exist_ok=True)
    music = make_music(MUSIC_SEED, len(order) / FPS)
    with VideoWriter(video, FPS, audio=music.samples, sample_rate=SAMPLE_RATE, crf=CRF) as writer:
        for frame in order:
            writer.write(pictures[frame])


def truth_of(
    video: Path, motion: dict[str, Any], view: int, order: npt.NDArray[np.intp], size: tuple[int, int]
) -> Truth:
    """Return the truth of a clip, in a world whose y points up."""
    joints = motion["positions_m"].astype(np.float64)[:, order] @ Y_UP.T
    focal_px = float(motion["K"][view][0, 0] + motion["K"][view][1, 1]) / 2
    rotation = motion["R"][view] @ Y_UP.T
    camera = Camera(*size, focal_px, tuple(rotation.ravel().tolist()), tuple(motion["t"][view].tolist()))
    times_s = np.arange(len(order)) / FPS
    return Truth(
        name=video.stem,
        seed=0,
        fps=FPS,
        names=tuple(motion["joint_names"].tolist()),
        joints=joints,
        facing_rad=facing(joints),
        root=hip_middle(joints),
        times_s=times_s,
        beats_s=make_music(MUSIC_SEED, len(order) / FPS).beats_s,
        camera=camera,
        video_sha256=hashlib.sha256(video.read_bytes()).hexdigest(),
        planted=np.zeros((*joints.shape[:2], 2), bool),  # unknown
        start_s=0.0,
        end_s=len(order) / FPS,
    )


def summary(rows: list[Row], ungated: list[Row]) -> dict[str, Any]:
    """Return a row for each view, the mean of its clips, and their mean over the views that were published.

    ``ungated``: the same of a build whose gate measures and rejects nothing.
    """
    views, published = by_view(rows), [view for view in by_view(rows) if view["published"]]
    open_views = by_view(ungated)
    return {
        "views": views,
        "published": len(published),
        "mean": mean_of(published),
        "ungated": {"views": open_views, "mean": mean_of([view for view in open_views if view["published"]])},
        "clips": rows,
    }


def by_view(rows: list[Row]) -> list[Row]:
    """Return a row for each view, the mean of its clips; a view is published if all of them are."""
    views = []
    for name in dict.fromkeys(row["name"].partition("_")[0] for row in rows):
        clips = [row for row in rows if row["name"].partition("_")[0] == name]
        reasons = dict.fromkeys(row["reason"] for row in clips if row["reason"])
        views.append(
            {
                "name": name,
                "published": all(row["published"] for row in clips),
                "reason": " | ".join(reasons),
                "dancers": max(row["dancers"] for row in clips),
                **mean_of(clips),
            }
        )
    return views


def mean_of(rows: list[Row]) -> dict[str, float | None]:
    """Return the mean of every score over the rows that have it; None where none has."""
    values = {key: [row[key] for row in rows if row[key] is not None] for key in MEANS}
    return {key: round(float(np.mean(found)), 3) if found else None for key, found in values.items()}


def show(result: dict[str, Any], console: Console) -> None:
    """Print the table."""
    keys = {
        "dancers": "dancers", "PA": "pa_mpjpe_mm", "raw PA": "raw_pa_mpjpe_mm", "const PA": "constant_pa_mpjpe_mm",
        "MPJPE": "mpjpe_mm", "raw": "raw_mpjpe_mm", "levelled": "levelled_mpjpe_mm", "facing": "facing_error_deg",
        "roll": "roll_error_deg", "pitch": "pitch_error_deg", "slope": "depth_slope", "corr": "depth_correlation",
        "accel": "acceleration_error_mps2", "cover": "coverage",
    }  # fmt: skip
    console.print(f"{'view':13}" + "".join(f"{name:>9}" for name in keys))
    parts = (
        {"": result}
        if all(view["published"] for view in result["views"])
        else {"": result, "no gate": result["ungated"]}
    )
    for title, part in parts.items():
        for row in (*part["views"], {"name": f"mean {title}", "published": True, **part["mean"]}):
            cells = [row.get(key) for key in keys.values()]
            shown = [
                "-" if cell is None else f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:.2f}" for cell in cells
            ]
            why = "" if row["published"] else f"  not published: {row['reason']}"
            console.print(f"{row['name']:13}" + "".join(f"{cell:>9}" for cell in shown) + why)
    console.print(
        f"{result['published']} of {len(result['views'])} views published; the first mean is over those."
    )
    if of_seeds := result.get("pa_mpjpe_mm_of_lifters"):
        console.print(
            f"PA-MPJPE of {len(result['lifters'])} lifters: {of_seeds['mean']:.1f} mm, "
            f"from {of_seeds['from']:.1f} to {of_seeds['to']:.1f}"
        )
    console.print(NOTE)


if __name__ == "__main__":
    main()
