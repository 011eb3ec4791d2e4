"""Builds on a real Ray cluster of this machine: the results of the local runner, and what crashes or hangs costs one video."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from opendance_hf.pipeline.ledger import DroppedSpan, Item, Ledger, StageRuns
from opendance_hf.pipeline.runners import Work, pools_of
from opendance_hf.pipeline.runners.worker import Limits, WorkerError
from tests.pipeline.fakes import Make, Quiet

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


@pytest.mark.slow
def test_a_crash_in_a_later_pool_costs_that_video(tmp_path: Path, seen: Path) -> None:
    later = tmp_path / "later"
    later.mkdir()
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for name in ("good1", "late", "reject", "good2"):
        ledger.add(f"/in/{name}", name, name, "f")
    pools = [Pool(Make(folder), 2, cpus=0.5) for folder in (seen, later)]
    run_ray(ledger, pools, limits=Limits(60), progress=Quiet())
    found = {item.name: (item.status, item.reason) for item in ledger.items()}
    assert found == {
        "good1": ("published", ""),
        "good2": ("published", ""),
        "late": ("failed", "the worker process died (exit code 3), 2 times"),
        "reject": ("rejected", "nobody in the picture"),
    }
    assert [row["id"] for row in ledger.sequences()] == ["good1_00", "good2_00"]
    calls = Counter(path.name.split(".")[0] for path in later.iterdir())
    assert calls == {"good1": 1, "good2": 1, "late": 2}, "what was rejected is not processed further"


def workers_of(seen: Path) -> list[int]:
    return [int(path.suffix[1:]) for path in seen.iterdir()]


@pytest.mark.slow
def test_an_actor_that_is_killed_costs_no_video(tmp_path: Path, seen: Path) -> None:
    killed: list[int] = []

    def kill_one() -> None:
        while len(workers_of(seen)) < 3:
            time.sleep(0.02)
        actor = psutil.Process(workers_of(seen)[-1]).parent()
        assert actor is not None
        assert "_Actor" in " ".join(actor.cmdline())
        killed.append(actor.pid)
        actor.kill()

    thread = threading.Thread(target=kill_one)
    thread.start()
    items, _, ledger = run(tmp_path, seen, *(f"slow{number:02d}" for number in range(12)))
    thread.join(10)
    assert killed
    assert {item.status for item in items.values()} == {"published"}
    assert [row["id"] for row in ledger.sequences()] == [f"slow{number:02d}_00" for number in range(12)]
    # Two videos wait at an actor at most, and one is in hand.
    assert len(workers_of(seen)) <= 12 + 3


_DRIVER = """
import sys
from pathlib import Path
from opendance_hf.pipeline.ledger import Ledger
from opendance_hf.pipeline.runners.ray import Pool, run_ray
from opendance_hf.pipeline.runners import Work, pools_of
from opendance_hf.pipeline.runners.worker import Limits
from tests.pipeline.fakes import Make, Quiet

folder = Path(sys.argv[1])
ledger = Ledger(folder / "ledger.sqlite")
for number in range(12):
    ledger.add(f"/in/slow{number:02d}", f"slow{number:02d}", str(number), "f")
run_ray(ledger, [Pool(Make(folder / "seen"), 2, cpus=0.5)], limits=Limits(60), progress=Quiet(), address=sys.argv[2])
"""


@pytest.mark.slow
def test_a_driver_that_is_killed_goes_on(tmp_path: Path, seen: Path, repo: Path) -> None:
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-c", _DRIVER, str(tmp_path), address]
    driver = subprocess.Popen(command, cwd=repo, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while len(workers_of(seen)) < 5:
        assert time.monotonic() < end
        assert driver.poll() is None
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    ledger = Ledger(tmp_path / "ledger.sqlite")
    done = {item.name for item in ledger.items() if item.status == "published"}
    assert len(done) < 12
    subprocess.run(command, cwd=repo, check=True, capture_output=True, timeout=120)
    assert {item.status for item in ledger.items()} == {"published"}
    # Only what was not in the ledger yet is danced again.
    again = Counter(path.name.split(".")[0] for path in seen.iterdir())
    assert all(again[name] == 1 for name in done)


@pytest.mark.slow
def test_memory_limit(tmp_path: Path, seen: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for name in ("good", "hungry"):
        ledger.add(f"/in/{name}", name, name, "f")
    limits = Limits(60, memory_bytes=450_000_000)
    run_ray(ledger, [Pool(Make(seen), 1, cpus=0.5)], limits=limits, progress=Quiet())
    items = {item.name: item for item in ledger.items()}
    assert (items["good"].status, items["hungry"].status) == ("published", "failed")
    assert "of memory, the limit is 0.5 GB, 2 times" in items["hungry"].reason


@dataclass(frozen=True)
class Needs:
    """Stands for a backend that needs a GPU, or none."""

    uses_gpu: bool


def test_pools_begin_where_the_device_changes(tmp_path: Path) -> None:
    def stage(uses_gpu: bool) -> Any:
        return SimpleNamespace(backends={"model": Needs(uses_gpu)})

    pipeline = tuple(map(stage, (False, False, True, False, True, True)))
    pools = pools_of(Work(pipeline, tmp_path, 9, 4, Limits(60), {}, gpus_per_actor=0.25))
    assert [(pool.make_processor.num_stages, pool.gpus) for pool in pools] == [
        (2, 0.0),
        (3, 0.25),
        (4, 0.0),
        (None, 0.25),
    ]
