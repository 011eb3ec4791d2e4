"""What the clean-up changes, before and after, where the truth is known: the tables of docs/clean.md.

    python -m benchmarks.cleanup --work build/bench-pipeline --mocap MOCAP [--dances DANCE.npz ...]

Three groups, each only if its files are given, and the time for a minute of one dancer:

- ``estimates``: what the pipeline published of the rendered clips of :mod:`benchmarks.pipeline_truth` (``make
  bench-pipeline`` has to run before, with the same ``--work`` and ``--mocap``), against the rendered truth.
- ``noise``: 15 s of each captured trial of the CMU database, at 60 FPS, with Gaussian noise of 10 mm per coordinate,
  against the capture. The seed is 0.
- ``dances``: generated dances; there is no truth.

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
from opendance_hf.schema import DanceSequence, flat_dancers
from opendance_hf.storage import load_sequence
from opendance_hf.synthetic.clips import Truth
from opendance_hf.synthetic.score import joints_at, match_dancers, score_clip
from tests.cleanup.dancers import stepping_dancer

OUT: Final = Path(__file__).with_name("cleanup.json")
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
    show(result)
    OUT.write_text(json.dumps(result, indent=1) + "\n")


def estimates(build: Path, truths: Path) -> Iterator[Row]:
    """Published sequences of rendered clips."""
    sequences = [load_sequence(path) for path in sorted((build / "sequences").glob("*.npz"))]
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


def clean_sequence(seq: DanceSequence) -> tuple[DanceSequence, CleanedMotion]:
    """The cleaned sequence, and its measures."""
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
    """The measures before and after, by name."""
    row: Row = {"steps": len(result.steps), "moved_mm": result.moved_mm}
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


def show(result: Row) -> None:
    """Print the means of every group, of all rows and of those that no threshold was chosen on."""
    for group in ("estimates", "noise", "dances"):
        rows = result.get(group, [])
        for label, part in (
            (group, rows),
            (f"{group}, not tuned on", [r for r in rows if not r.get("tuned_on", True)]),
        ):
            if not part:
                continue
            print(f"{label}: {len(part)}")
            for name in [key.removesuffix("_before") for key in part[0] if key.endswith("_before")]:
                before, after = (
                    np.mean([row[f"{name}_{when}"] for row in part if row[f"{name}_{when}"] is not None])
                    for when in ("before", "after")
                )
                print(f"  {name:22} {before:10.3f} {after:10.3f}")
            print(f"  {'moved_mm':22} {'':10} {np.mean([row['moved_mm'] for row in part]):10.3f}")
    print(f"a minute of one dancer: {result['minute_s']} s")


if __name__ == "__main__":
    main()
