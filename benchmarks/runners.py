"""The same clips built by the local runner and on a Ray cluster: the datasets must be equal, byte by byte.

    python -m benchmarks.runners VIDEOS [--clips 10]

VIDEOS are files, which are cut into short clips. The cluster is started on this machine. Writes ``benchmarks/runners.json``; exits with
1 if the hashes differ.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.__main__ import machine
from benchmarks.kills import CLIP_S, PROFILE, Campaign, cut, dataset_hash

OUT = Path(__file__).with_name("runners.json")


def measure(
    videos: list[Path], clips: int = 10, runners: tuple[str, ...] = ("local", "ray")
) -> dict[str, Any]:
    """Build clips with every runner; return seconds, states and hash of each."""
    found: dict[str, Any] = {"clips": clips, "clip_s": CLIP_S, "profile": PROFILE}
    with tempfile.TemporaryDirectory(prefix="runners-") as name:
        cut(videos, clips, Path(name) / "clips")
        for runner in runners:
            campaign = Campaign(Path(name), runner, random.Random(0))
            out = Path(name) / runner / "opendance-3d"
            start = time.perf_counter()
            campaign.finish(out)
            found[runner] = {
                "seconds": round(time.perf_counter() - start, 1),
                "states": campaign.states(out),
                "dataset": dataset_hash(out),
            }
            print(runner, found[runner], flush=True)
    found["same_dataset"] = len({found[runner]["dataset"] for runner in runners}) == 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--clips", type=int, default=10)
    options = parser.parse_args()
    result = measure(options.videos, options.clips)
    OUT.write_text(json.dumps({"machine": machine(), **result}, indent=2) + "\n")
    if not result["same_dataset"]:
        sys.exit("the datasets differ")


if __name__ == "__main__":
    main()
