"""What the pipeline makes of real videos: agreement with an estimator it never uses, and how fast it is.

    python -m benchmarks.real_videos VIDEO ... [--work build/bench-videos]

Builds each video alone, from nothing, with all cores; then asks MoveNet Thunder (:mod:`benchmarks.movenet`) where the
limbs are in every frame, in a crop around the published dancer, and compares. Writes ``benchmarks/videos.json``.

PCK is the share of limb joints (those MoveNet is sure of) within 0.2 torso lengths, the speed correlation that of wrists
and ankles. MoveNet finds one person in a crop; where two dancers overlap it may find the other one, which counts as an
error here: ``apart`` leaves those frames out. MoveNet sees every frame by itself, and noise is most of its speed:
``steady`` passes its points through the filters that our landmarks go through.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import torch
from rich.console import Console

from benchmarks.__main__ import machine
from benchmarks.movenet import KEYPOINTS, MoveNet
from opendance_hf.apps.build import run_build
from opendance_hf.motion.skeleton import NUM_JOINTS
from opendance_hf.pipeline.backends.filters import Filters
from opendance_hf.pipeline.build import BuildOptions
from opendance_hf.pipeline.clip import Landmarks, Motion
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.pipeline.ledger import Ledger
from opendance_hf.pipeline.pipelines import default_pipeline
from opendance_hf.pipeline.stages.reprojection import Reprojection
from opendance_hf.pipeline.video import read_frames
from opendance_hf.schema import FPS, DanceSequence, per_dancer
from opendance_hf.storage import load_sequence

OUT: Final = Path(__file__).with_name("videos.json")
SURE: Final = 0.3
MARGIN: Final = 1.25
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
        out[path.stem] = agreement(video, seq)
    return out


def count_frames(video: Path) -> int:
    """Frames of a video."""
    with av.open(str(video)) as container:
        return sum(1 for _ in container.decode(video=0))


def agreement(video: Path, seq: DanceSequence) -> dict[str, float]:
    """PCK and speed correlation of a sequence's reprojected limbs with MoveNet's."""
    torch.set_num_threads(1)
    camera = seq.provenance.camera
    assert camera is not None
    joints = per_dancer(seq.joints, seq.num_dancers, NUM_JOINTS, 3).astype(np.float64)
    pixels = camera.project(joints)
    estimator = MoveNet()
    columns = [LANDMARK_INDEX[name] for name in KEYPOINTS]
    times, image, shown, apart = [], [], [], []
    for time_s, picture in read_frames(video, seq.provenance.start_s, seq.provenance.end_s):
        at = min(round((time_s - seq.provenance.start_s) * FPS), seq.num_frames - 1)
        times.append(time_s)
        boxes = [_box(points) for points in pixels[:, at]]
        apart.append(len(boxes) == 1 or _overlap(boxes[0], boxes[1]) < OVERLAP)
        for box in boxes:
            points, scores = estimator.estimate(picture, box)
            whole, sure = np.zeros((len(LANDMARK_INDEX), 2)), np.zeros(len(LANDMARK_INDEX))
            whole[columns], sure[columns] = points, scores >= SURE
            image.append(whole)
            shown.append(sure)
    shape = (len(times), seq.num_dancers, len(LANDMARK_INDEX))
    found = Landmarks(
        times_s=np.array(times),
        image=np.stack(image).reshape(*shape, 2).swapaxes(0, 1).astype(np.float32),
        world=np.zeros((seq.num_dancers, len(times), len(LANDMARK_INDEX), 3), np.float32),
        visibility=np.stack(shown).reshape(shape).swapaxes(0, 1).astype(np.float32),
        regions_px=np.ones((seq.num_dancers, len(times)), np.float32),
    )
    motion = Motion(
        seq.provenance.start_s, seq.provenance.end_s, joints, joints[:, :, 0], joints, seq.confidence.T
    )
    out = {}
    for prefix, estimate in (("", found), ("steady_", Filters().load().smooth(found, None)[0])):
        scores = Reprojection().measure(motion, camera, estimate)
        out[f"{prefix}pck"] = scores["reprojection_pck"]
        out[f"{prefix}speed_correlation"] = scores["speed_correlation"]
        if not all(apart):
            estimate = replace(estimate, visibility=estimate.visibility * np.array(apart)[:, None])
            scores = Reprojection().measure(motion, camera, estimate)
            out[f"{prefix}apart_pck"] = scores["reprojection_pck"]
            out[f"{prefix}apart_speed_correlation"] = scores["speed_correlation"]
    if not all(apart):
        out["apart_share"] = float(np.mean(apart))
    return {name: round(value, 4) for name, value in out.items()}


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
