"""Builds on a real Ray cluster of this machine: the results of the local runner, and what crashes or hangs costs one video."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from opendance_hf.pipeline.ledger import DroppedSpan, Item, Ledger, StageRuns
from opendance_hf.pipeline.runners.worker import Limits, WorkerError
from tests.pipeline.fakes import Make, MakeBroken, Quiet

ray = pytest.importorskip("ray")

from opendance_hf.pipeline.runners.ray import Pool, run_ray  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Two cores, whatever the machine has; all tests share it, as it takes seconds to start."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path[1:2]])
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    """A folder with a file for every call of a processor: name.attempts.pid."""
    (tmp_path / "seen").mkdir()
    return tmp_path / "seen"


def run(
    folder: Path, seen: Path, *names: str, timeout_s: float = 60
) -> tuple[dict[str, Item], Quiet, Ledger]:
    ledger = Ledger(folder / "ledger.sqlite")
    for name in names:
        ledger.add(f"/in/{name}", name, name, "f")
    progress = Quiet()
    run_ray(ledger, [Pool(Make(seen), 2, cpus=0.5)], limits=Limits(timeout_s), progress=progress)
    return {item.name: item for item in ledger.items()}, progress, ledger


def test_ends_of_all_kinds(tmp_path: Path, seen: Path) -> None:
    names = ("good1", "raise", "reject", "unpicklable", "die", "once", "hang", "good2")
    items, progress, ledger = run(tmp_path, seen, *names, timeout_s=3)
    assert {name: item.status for name, item in items.items()} == {
        "good1": "published",
        "good2": "published",
        "raise": "failed",
        "reject": "rejected",
        "unpicklable": "failed",
        "die": "failed",
        "once": "published",
        "hang": "failed",
    }
    assert items["reject"].reason == "nobody in the picture"
    assert items["raise"].reason.startswith("ValueError: the numbers do not fit (fakes.py:")
    assert items["die"].reason == "the worker process died (exit code 3), 2 times"
    assert items["hang"].reason == "took longer than 3 s, 2 times"
    assert [row["id"] for row in ledger.sequences()] == ["good1_00", "good2_00", "once_00"]
    assert ledger.dropped("/in/good1") == [DroppedSpan(1.0, 2.0, "dark", "0.1, at least 0.2 needed", "shots")]
    assert ledger.stages("/in/good1") == {"fit": StageRuns(1.5, computed=1, reused=2)}
    assert ("ended", "reject", "rejected", "nobody in the picture") in progress.said
    calls = Counter(path.name.split(".")[0] for path in seen.iterdir())
    assert calls == {**dict.fromkeys(names, 1), "die": 2, "once": 2, "hang": 2}


@pytest.mark.parametrize(
    ("name", "cause"), [("unloadable", "yolox cannot be loaded"), ("full", "no space left")]
)
def test_what_is_not_the_fault_of_a_video_stops_the_build(
    tmp_path: Path, seen: Path, name: str, cause: str
) -> None:
    with pytest.raises(WorkerError, match=cause):
        run(tmp_path, seen, name)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.add(f"/in/{name}", name, name, "f")
    assert [item.status for item in ledger.items()] == ["pending"]
