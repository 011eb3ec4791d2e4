"""Estimate what a million videos cost in core-hours and GPU-hours, from the stage times of real videos.

    python -m benchmarks.cost VIDEOS [--profile default] [--inputs 1000000] [--mean-s 23] [--gpu-fps STAGE=FPS ...]

builds VIDEOS with one worker and takes the seconds of every stage from the ledger. **Measured** are the seconds of a stage for a
second of video on one core of this machine. **Assumed** are the number and the mean length of the inputs, and what the paper
says of them: of a million videos 28,051 sequences were left. The stages up to the gate are taken to run on every input, which
is an upper limit, since most are rejected earlier; those after it on the sequences. ``--gpu-fps`` gives a speed measured elsewhere of a
stage on one GPU, which moves its time from core-hours to GPU-hours. Writes ``benchmarks/cost.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import av

from benchmarks.__main__ import machine
from opendance_hf.pipeline.build import BuildOptions, build_dataset
from opendance_hf.pipeline.ledger import Ledger
from opendance_hf.pipeline.pipelines import PROFILES

OUT = Path(__file__).with_name("cost.json")
#: Paper, section 3: sequences, and their hours (table 2).
SEQUENCES, HOURS = 28_051, 142.84 + 7.96 + 7.86 + 8.93 + 0.36 + 0.33
#: The last stage that every input may reach.
GATE = "gate"
FPS = 30


def seconds_of(video: Path) -> float:
    with av.open(str(video)) as container:
        return float(container.duration or 0) / av.time_base


def stage_seconds(videos: list[Path], profile: str) -> tuple[dict[str, float], dict[str, int]]:
    """Build the videos; return the core-seconds of every stage for a second of video, and how many inputs ended how."""
    with tempfile.TemporaryDirectory(prefix="cost-") as name:
        out, build = Path(name) / "opendance-3d", Path(name) / "build"
        build_dataset(videos, out, build, BuildOptions(PROFILES[profile](), workers=1))
        ledger = Ledger(build / "ledger.sqlite")
        total: Counter[str] = Counter()
        states: Counter[str] = Counter()
        for item in ledger.each_item():
            states[item.status] += 1
            for stage, runs in ledger.stages(item.path).items():
                total[stage] += runs.seconds
        ledger.close()
    length = sum(map(seconds_of, videos))
    return {stage: total[stage] / length for stage in total}, dict(states)


def measure(
    videos: list[Path],
    profile: str = "default",
    inputs: int = 1_000_000,
    mean_s: float = 23.0,
    gpu_fps: dict[str, float] | None = None,
) -> dict[str, Any]:
    """Return the cost of every stage and of all."""
    per_second, states = stage_seconds(videos, profile)
    gpu_fps, names = gpu_fps or {}, [stage.name for stage in PROFILES[profile]()]
    stages = {}
    for name in names:
        reached_h = inputs * mean_s / 3600 if names.index(name) <= names.index(GATE) else HOURS * inputs / 1e6
        stages[name] = {
            "measured_core_s_per_s": round(per_second.get(name, 0.0), 3),
            "video_hours": round(reached_h),
            "core_hours": 0 if name in gpu_fps else round(reached_h * per_second.get(name, 0.0)),
            "gpu_hours": round(reached_h * FPS / gpu_fps[name]) if name in gpu_fps else 0,
        }
    return {
        "measured": {"videos": [video.name for video in videos], "states": states, "profile": profile},
        "assumed": {
            "inputs": inputs,
            "mean_s": mean_s,
            "sequences": round(SEQUENCES * inputs / 1e6),
            "sequence_hours": round(HOURS * inputs / 1e6, 1),
            "gpu_fps": gpu_fps,
        },
        "stages": stages,
        "core_hours": sum(stage["core_hours"] for stage in stages.values()),
        "gpu_hours": sum(stage["gpu_hours"] for stage in stages.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--profile", default="default", choices=sorted(PROFILES))
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--mean-s", type=float, default=23.0)
    parser.add_argument("--gpu-fps", nargs="*", default=[], metavar="STAGE=FPS")
    options = parser.parse_args()
    speeds = {name: float(fps) for name, _, fps in (one.partition("=") for one in options.gpu_fps)}
    if unknown := speeds.keys() - {stage.name for stage in PROFILES[options.profile]()}:
        sys.exit(f"no stage {', '.join(sorted(unknown))} in the profile {options.profile}")
    result = measure(options.videos, options.profile, options.inputs, options.mean_s, speeds)
    OUT.write_text(json.dumps({"machine": machine(), **result}, indent=2) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
