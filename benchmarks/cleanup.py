"""Measure motion before and after the clean-up, where the truth is known: the tables of docs/clean.md.

    python -m benchmarks.cleanup --work build/bench-pipeline --mocap MOCAP [--dances DANCE.npz ...]

Three groups, each only if its files are given, and the time for a minute of one dancer:

- ``estimates``: what the pipeline found in the rendered clips of :mod:`benchmarks.pipeline_truth` before its stage
  ``clean`` (``make bench-pipeline`` has to run before, with the same ``--work`` and ``--mocap``), against the rendered truth.
- ``noise``: 15 s of each captured trial of the CMU database, at 60 FPS, with Gaussian noise of 10 mm per coordinate,
  against the capture. The seed is 0.
- ``dances``: generated dances, without a truth.

``hits`` is the median ratio of peak accelerations of wrists and ankles, over steps of 1/15 s, to those of the truth: the
three highest peaks a joint and clip (rendered), or one for every two seconds (captured).

Thresholds of the clean-up were chosen on the rendered clips 101 to 110, salsa_01, salsa_05, modern_05_02, modern_05_09,
four real videos and one generated dance; clips 111 to 120 and the other trials were not used.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.__main__ import machine
from opendance_hf.apps.clean import cleaned
from opendance_hf.cleanup import CleanedMotion, clean_motion
from opendance_hf.formats import opendance
from opendance_hf.motion.skeleton import JOINT_INDEX
from opendance_hf.pipeline.cache import latest_results
from opendance_hf.schema import DanceSequence, flat_dancers
from opendance_hf.storage import load_sequence
from opendance_hf.synthetic.score import joints_at, match_dancers, score_clip
from opendance_hf.synthetic.truth import Truth
from tests.cleanup.dancers import stepping_dancer

OUT: Final = Path(__file__).with_name("cleanup.json")
DOCS: Final = Path(__file__).parents[1] / "docs" / "clean.md"
#: Labels of the rows of the table, and their digits.
LABELS: Final = {
    "skate": ("steps without a standing foot", 3),
    "slide_cmps": ("feet in contact slide, cm/s", 1),
    "hover_mm": ("feet in contact hover, mm", 1),
    "below_floor_mm": ("below the floor, mm", 2),
    "self_mm": ("limbs in the own body, mm", 2),
    "partner_mm": ("in partners, mm", 2),
    "jitter": ("jitter, m/s³", 0),
    "error_mm": ("distance from the truth, mm", 1),
    "pa_mpjpe_mm": ("PA-MPJPE, mm", 1),
    "mpjpe_mm": ("MPJPE, mm", 1),
    "root_path_error_mm": ("error of the path, mm", 1),
    "accel_error_mm": ("error of accelerations, mm per (1/30 s)²", 2),
    "foot_slide_cmps": ("truly planted ankles slide, cm/s", 1),
    "hits": ("hits, of the truth", 2),
    "moved_mm": ("mean distance from the input, mm", 1),
}
NOISE_M: Final = 0.01
CAPTURED_S: Final = 15
ENDS: Final = tuple(f"{side}_{part}" for side in ("left", "right") for part in ("wrist", "ankle"))
TUNED_ON: Final = {"salsa_01", "salsa_05", "modern_05_02", "modern_05_09"}
Array = npt.NDArray[np.floating]
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="working folder of benchmarks.pipeline_truth")
    parser.add_argument("--mocap", type=Path, help="folder of captured trials (.npz)")
    parser.add_argument("--dances", type=Path, nargs="*", default=[], help="generated dances (.npz)")
    arguments = parser.parse_args()
    result = json.loads(OUT.read_text()) if OUT.is_file() else {}
    if arguments.work:
        kind = "mocap" if arguments.mocap else "choreographed"
        result["estimates"] = list(estimates(arguments.work / "build", arguments.work / kind / "truth"))
    if arguments.mocap:
        result["noise"] = list(noise(arguments.mocap))
    if arguments.dances:
        result["dances"] = [
            {"name": path.stem, **measures(cleaned(opendance.read(path))[1])} for path in arguments.dances
        ]
    result |= {"minute_s": minute_of_one_dancer(), "machine": machine()}
    print(table(result))
    print(f"a minute of one dancer: {result['minute_s']} s")
    OUT.write_text(json.dumps(result, indent=1) + "\n")
    write_docs(result)


def estimates(build: Path, truths: Path) -> Iterator[Row]:
    """Published sequences of rendered clips."""
    published = [load_sequence(path) for path in sorted((build / "sequences").glob("*.npz"))]
    sequences = [uncleaned(seq, build) for seq in published]
    for path in sorted(truths.glob("*.truth.npz")):
        truth = Truth.load(path)
        mine = [seq for seq in sequences if seq.provenance.source_sha256 == truth.video_sha256]
        if not mine:
            continue
        pairs = [clean_sequence(seq) for seq in mine]
        row: Row = {"name": truth.name, "tuned_on": truth.seed <= 110, **measures(pairs[0][1])}
        for when, parts in (("before", mine), ("after", [seq for seq, _ in pairs])):
            score = score_clip(truth, parts, [])
            for key in ("pa_mpjpe_mm", "mpjpe_mm", "accel_error_mm", "root_path_error_mm", "foot_slide_cmps"):
                row[f"{key}_{when}"] = getattr(score, key)
            row[f"hits_{when}"] = rendered_hits(truth, parts[0])
        yield row


def uncleaned(seq: DanceSequence, build: Path) -> DanceSequence:
    """Return a sequence with the motion that its build had before the stage ``clean``."""
    source = seq.provenance
    (motion,) = (
        clip.motion
        for clip in latest_results(build, source.source_sha256, "retime")
        if abs(clip.motion.start_s - source.start_s) < 1e-6
    )
    arrays = {"joints": motion.joints, "smpl_pose": motion.poses, "smpl_transl": motion.transl}
    return replace(seq, **{name: flat_dancers(value) for name, value in arrays.items()})


def clean_sequence(seq: DanceSequence) -> tuple[DanceSequence, CleanedMotion]:
    """Return the cleaned sequence and the result of its clean-up."""
    motion, result = cleaned(opendance.motion_of(seq))
    assert motion.poses is not None
    assert motion.transl is not None
    arrays = {"joints": motion.joints, "smpl_pose": motion.poses, "smpl_transl": motion.transl}
    return replace(seq, **{name: flat_dancers(value) for name, value in arrays.items()}), result


def noise(folder: Path) -> Iterator[Row]:
    """Captured dances with noise."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as data:
            step = round(float(data["fps"]) / 60)
            truth = data["joints"][:, ::step][:, : 60 * CAPTURED_S].astype(float)
        noisy = truth + np.random.default_rng(0).normal(0, NOISE_M, truth.shape)
        result = clean_motion(noisy)
        row: Row = {"name": path.stem, "tuned_on": path.stem in TUNED_ON, **measures(result)}
        for when, joints in (("before", noisy), ("after", result.joints)):
            row[f"error_mm_{when}"] = 1000 * float(np.linalg.norm(joints - truth, axis=-1).mean())
            ends = [JOINT_INDEX[name] for name in ENDS]
            count = max(1, truth.shape[1] // 120)
            ratios = [
                peaks(a[:, j], b[:, j], 60, count) for a, b in zip(truth, joints, strict=True) for j in ends
            ]
            row[f"hits_{when}"] = float(np.median(np.concatenate(ratios)))
        yield row


def measures(result: CleanedMotion) -> Row:
    """Return the measures before and after, by name."""
    row: Row = {"steps": [len(steps) for steps in result.steps], "moved_mm": result.moved_mm}
    for when, quality in (("before", result.before), ("after", result.after)):
        row |= {f"{name}_{when}": value for name, value in quality._asdict().items()}
    return row


def rendered_hits(truth: Truth, seq: DanceSequence) -> float:
    """Median ratio of peak accelerations of a sequence to those of the truth."""
    inside, found = joints_at(seq, truth)
    true = truth.joints[:, inside]
    order = match_dancers(found, seq.provenance.camera, true, truth.camera).order
    fps = 1 / float(np.median(np.diff(truth.times_s[inside])))
    rows = [truth.names.index(name) for name in ENDS]
    ratios = [
        peaks(a[:, j], b[:, j], fps, 3) for a, b in zip(true, found[list(order)], strict=True) for j in rows
    ]
    return float(np.median(np.concatenate(ratios)))


def peaks(truth: Array, found: Array, fps: float, count: int) -> Array:
    """Ratios of accelerations of (T, 3) paths at the highest peaks of the truth, within 50 ms (at least two frames)."""
    step, near = max(1, round(fps / 15)), max(2, round(fps / 20))
    true, ours = (
        np.linalg.norm(p[2 * step :] - 2 * p[step:-step] + p[: -2 * step], axis=-1) for p in (truth, found)
    )
    chosen: list[int] = []
    for frame in np.argsort(-true):
        if len(chosen) < count and all(abs(frame - other) > fps / 4 for other in chosen):
            chosen.append(int(frame))
    return np.array([ours[max(0, i - near) : i + near + 1].max() / true[i] for i in chosen])


def minute_of_one_dancer() -> float:
    """Seconds to clean 3,600 noisy frames, the shortest of three runs."""
    joints = stepping_dancer(3600).joints[None]
    joints = joints + np.random.default_rng(0).normal(0, NOISE_M, joints.shape)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        clean_motion(joints)
        times.append(time.perf_counter() - start)
    return round(min(times), 2)


def table(result: Row) -> str:
    """Return the means of each group before and after, in Markdown; of rendered and captured clips only those held out."""
    groups = {
        "estimates": "rendered videos, held out",
        "noise": "captures with 10 mm noise, held out",
        "dances": "generated",
    }
    columns = {
        f"{label} ({len(rows)})": rows
        for group, label in groups.items()
        if (rows := [row for row in result.get(group, []) if not row.get("tuned_on")])
    }
    names = {
        key.removesuffix("_before") for rows in columns.values() for key in rows[0] if key.endswith("_before")
    }
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for name in [*(name for name in LABELS if name in names), "moved_mm"]:
        label, digits = LABELS[name]
        cells = []
        for rows in columns.values():
            keys = [key for key in (f"{name}_before", f"{name}_after", name) if key in rows[0]]
            means = [np.mean([row[key] for row in rows if row[key] is not None]) for key in keys]
            cells.append(" -> ".join(f"{mean:.{digits}f}" for mean in means))
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_docs(result: Row) -> None:
    """Put the table and the time into docs/clean.md."""
    text = DOCS.read_text()
    for name, value in (("table", f"\n\n{table(result)}\n\n"), ("minute", str(result["minute_s"]))):
        start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        before, _, rest = text.partition(start)
        text = before + start + value + end + rest.partition(end)[2]
    DOCS.write_text(text)


if __name__ == "__main__":
    main()
