"""Measure the pipeline on real videos: its agreement with two estimators it never uses, and its speed.

    python -m benchmarks.real_videos VIDEO ... [--work build/bench-videos]

Builds each video alone, from nothing, with all cores; then asks two judges (:mod:`benchmarks.judges`) where the limbs are in
every frame, in a crop around the published dancer, and compares. Writes ``benchmarks/videos.json``.

PCK is the share of limb joints (those MoveNet Thunder is sure of) within 0.2 torso lengths of MoveNet's, the speed
correlation that of wrists and ankles. ``judges_pck`` is the PCK of the other judge, EfficientPose, on the same joints: what
an estimator that looks at every frame and owes nothing to a body reaches. A judge finds one person in a crop; where two
dancers overlap both judges may find the same one in both crops, so that they agree and one of the two is wrong: ``distinct``
leaves out the frames in which MoveNet does so, ``apart`` all in which the dancers' boxes overlap. MoveNet sees
every frame by itself, and noise is most of its speed: ``steady`` passes its points through the filters that our landmarks
go through. ``shuffled_pck`` is a control: our joints at the times of other frames.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import torch
from rich.console import Console

from benchmarks.__main__ import machine
from benchmarks.judges import JUDGES, Judge
from opendance_hf.apps.build import run_build
from opendance_hf.motion.skeleton import JOINT_INDEX, LIMB_JOINTS, NUM_JOINTS
from opendance_hf.pipeline.backends.filters import Filters
from opendance_hf.pipeline.background import steady_picture
from opendance_hf.pipeline.build import BuildOptions
from opendance_hf.pipeline.cache import latest_results
from opendance_hf.pipeline.clip import CameraPath, Landmarks, Motion
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.pipeline.ledger import Ledger
from opendance_hf.pipeline.pipelines import default_pipeline
from opendance_hf.pipeline.stages.reprojection import Reprojection
from opendance_hf.pipeline.video import read_frames
from opendance_hf.schema import FPS, DanceSequence, per_dancer
from opendance_hf.storage import load_sequence

OUT: Final = Path(__file__).with_name("videos.json")
LIMBS: Final = [LANDMARK_INDEX[name] for name in LIMB_JOINTS]
JOINTS: Final = [JOINT_INDEX[name] for name in LIMB_JOINTS]
SHOULDERS, HIPS = (
    [k for k, name in enumerate(LIMB_JOINTS) if name.endswith(part)] for part in ("shoulder", "hip")
)
MARGIN: Final = 1.25
#: Mean distance of limbs, in torso lengths, below which two estimates are of the same person.
SAME: Final = 0.3
#: Boxes of two dancers that share more than this of the smaller one overlap.
OVERLAP: Final = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--work", type=Path, default=Path("build/bench-videos"))
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    rows = [measure(video, arguments.work / video.stem, arguments.workers) for video in arguments.videos]
    result = {"videos": rows, "machine": machine()}
    print(json.dumps(result, indent=2))
    OUT.write_text(json.dumps(result, indent=2) + "\n")


def measure(video: Path, work: Path, workers: int) -> dict[str, Any]:
    """Build one video and compare it with MoveNet."""
    shutil.rmtree(work, ignore_errors=True)
    started = time.perf_counter()
    result = run_build(
        [video],
        work / "dataset",
        work / "build",
        work / "index.html",
        BuildOptions(default_pipeline(), workers=workers),
        Console(soft_wrap=True),
    )
    seconds = time.perf_counter() - started
    ledger = Ledger(work / "build" / "ledger.sqlite")
    item = result.items[0]
    stages = ledger.stages(item.path)
    ledger.close()
    frames = count_frames(video)
    out: dict[str, Any] = {
        "video": video.name,
        "frames": frames,
        "build_s": round(seconds, 1),
        "fps": round(frames / seconds, 2),
        "worker_fps": round(frames / item.seconds, 2),
        "ms_per_frame": {name: round(1000 * runs.seconds / frames, 1) for name, runs in stages.items()},
    }
    for path in sorted((work / "build" / "sequences").glob("*.npz")):
        seq = load_sequence(path)
        out[path.stem] = agreement(video, seq, camera_path(work / "build", seq))
    return out


def count_frames(video: Path) -> int:
    """Frames of a video."""
    with av.open(str(video)) as container:
        return sum(1 for _ in container.decode(video=0))


def camera_path(build: Path, seq: DanceSequence) -> CameraPath | None:
    """Return the turn and zoom that were taken out of a sequence, None for a camera that stands still."""
    found = latest_results(build, seq.provenance.source_sha256, "steady")
    return next(
        (clip.steadied for clip in found if clip.start_s <= seq.provenance.start_s < clip.end_s), None
    )


def agreement(video: Path, seq: DanceSequence, path: CameraPath | None) -> dict[str, float]:
    """PCK and speed correlation of a sequence's reprojected limbs with MoveNet's, and the judges' PCK with each other."""
    torch.set_num_threads(1)
    camera = seq.provenance.camera
    assert camera is not None
    joints = per_dancer(seq.joints, seq.num_dancers, NUM_JOINTS, 3).astype(np.float64)
    pixels = camera.project(joints)
    found, apart = look(video, seq, pixels, {name: judge() for name, judge in JUDGES.items()}, path)
    movenet, other = found["movenet"], found["efficientpose"]
    motion = Motion(
        seq.provenance.start_s, seq.provenance.end_s, joints, joints[:, :, 0], joints, seq.confidence.T
    )
    out = {}
    masks = {"": np.ones_like(apart), "distinct_": distinct(movenet), "apart_": apart}
    for prefix, estimate in (("", movenet), ("steady_", Filters().load().smooth(movenet, None)[0])):
        for when, keep in masks.items():
            if when and keep.all():
                continue
            kept = replace(estimate, visibility=estimate.visibility * keep[:, None])
            scores = Reprojection().measure(motion, camera, kept)
            out[f"{prefix}{when}pck"] = scores["reprojection_pck"]
            out[f"{prefix}{when}speed_correlation"] = scores["speed_correlation"]
            if not prefix:
                out[f"{when}judges_pck"] = pck(other.image[:, :, LIMBS], kept)
                out[f"{when}share"] = float(keep.mean())
    at = np.minimum(np.rint((movenet.times_s - seq.provenance.start_s) * FPS).astype(int), seq.num_frames - 1)
    at = np.random.default_rng(0).permutation(at)
    out["shuffled_pck"] = pck(pixels[:, at][:, :, JOINTS], movenet)
    out["limb_joints"] = int((movenet.visibility[:, :, LIMBS] > 0).sum())
    return {name: round(value, 4) for name, value in out.items()}


def look(
    video: Path, seq: DanceSequence, pixels: Any, judges: dict[str, Judge], path: CameraPath | None
) -> tuple[dict[str, Landmarks], Any]:
    """Return what each judge finds around the (D, T, 24, 2) joints, and (F,) whether the dancers are apart.

    Where the camera turns, pictures are mapped to that of the first frame, in which the joints are.
    """
    rows: dict[str, list[Any]] = {name: [] for name in judges}
    times, apart = [], []
    for time_s, picture in read_frames(video, seq.provenance.start_s, seq.provenance.end_s):
        at = min(round((time_s - seq.provenance.start_s) * FPS), seq.num_frames - 1)
        times.append(time_s)
        if path is not None:
            picture = steady_picture(picture, path, time_s)
        boxes = [_box(points) for points in pixels[:, at]]
        apart.append(all(_overlap(a, b) < OVERLAP for a, b in combinations(boxes, 2)))
        for name, judge in judges.items():
            columns = [LANDMARK_INDEX[keypoint] for keypoint in judge.keypoints]
            for box in boxes:
                points, scores = judge.estimate(picture, box)
                whole = np.zeros((len(LANDMARK_INDEX), 3))
                whole[columns] = np.column_stack([points, scores >= judge.sure])
                rows[name].append(whole)
    shape = (len(times), seq.num_dancers, len(LANDMARK_INDEX))
    out = {}
    for name, values in rows.items():
        table = np.stack(values).reshape(*shape, 3).swapaxes(0, 1).astype(np.float32)
        out[name] = Landmarks(
            times_s=np.array(times),
            image=table[..., :2],
            world=np.zeros((*table.shape[:3], 3), np.float32),
            visibility=table[..., 2],
            regions_px=np.ones(table.shape[:2], np.float32),
        )
    return out, np.array(apart)


def distinct(found: Landmarks) -> Any:
    """Return (F,) whether a judge finds different people in the crops of all dancers: limbs 0.3 torso lengths apart on average."""
    image = found.image[:, :, LIMBS]
    torso = np.median(
        np.linalg.norm(image[:, :, SHOULDERS].mean(axis=2) - image[:, :, HIPS].mean(axis=2), axis=-1)
    )
    out = np.ones(image.shape[1], dtype=bool)
    for a, b in combinations(image, 2):
        out &= np.linalg.norm(a - b, axis=-1).mean(axis=-1) >= SAME * torso
    return out


def pck(points: Any, found: Landmarks) -> float:
    """Return the share of the (D, T, 12, 2) limb joints within 0.2 torso lengths of those found, where these are sure."""
    within = []
    for own, image, seen in zip(
        points, found.image[:, :, LIMBS], found.visibility[:, :, LIMBS] > 0, strict=True
    ):
        torso = np.linalg.norm(image[:, SHOULDERS].mean(axis=1) - image[:, HIPS].mean(axis=1), axis=-1)
        within.append((np.linalg.norm(own - image, axis=-1) < 0.2 * np.median(torso))[seen])
    return float(np.concatenate(within).mean())


def _box(points: Any) -> Any:
    low, high = points.min(axis=0), points.max(axis=0)
    middle, half = (low + high) / 2, MARGIN * (high - low) / 2
    return np.concatenate([middle - half, middle + half])


def _overlap(a: Any, b: Any) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    smaller = min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2]))
    return float(np.prod(np.clip(sides, 0, None)) / smaller)


if __name__ == "__main__":
    main()
