"""Worker processes that crash, hang or raise cost one video, and a worker never outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from opendance_hf.pipeline.ledger import DroppedSpan, Item, Ledger, StageRuns
from opendance_hf.pipeline.runners.local import run_local
from opendance_hf.pipeline.runners.worker import Limits, WorkerError
from tests.pipeline.fakes import Make, MakeBroken, Quiet


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    """A folder with a file for every call of a processor: name.attempts.pid."""
    (tmp_path / "seen").mkdir()
    return tmp_path / "seen"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def run(
    ledger: Ledger, seen: Path, *names: str, workers: int = 1, timeout_s: float = 60
) -> tuple[dict[str, Item], Quiet]:
    for name in names:
        ledger.add(f"/in/{name}", name, name, "f")
    progress = Quiet()
    run_local(ledger, Make(seen), workers=workers, limits=Limits(timeout_s), progress=progress)
    return {item.name: item for item in ledger.items()}, progress


def calls(seen: Path) -> Counter[str]:
    return Counter(path.name.split(".")[0] for path in seen.iterdir())


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    # Nobody may be there to collect an orphan's exit code: a zombie is dead.
    return not (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def test_ends_of_all_kinds(ledger: Ledger, seen: Path) -> None:
    items, progress = run(ledger, seen, "good1", "interrupt", "raise", "reject", "unpicklable", "good2")
    assert {name: item.status for name, item in items.items()} == {
        "good1": "published",
        "good2": "published",
        "interrupt": "published",
        "raise": "failed",
        "reject": "rejected",
        "unpicklable": "failed",
    }
    assert items["reject"].reason == "nobody in the picture"
    assert items["raise"].reason.startswith("ValueError: the numbers do not fit (fakes.py:")
    assert [row["id"] for row in ledger.sequences()] == ["good1_00", "good2_00", "interrupt_00"]
    started = [name for what, name, *_ in progress.said if what == "started"]
    assert started == sorted(items), "in the order of their paths"
    assert items["good1"].seconds > 0
    assert ledger.dropped("/in/good1") == [DroppedSpan(1.0, 2.0, "dark", "0.1, at least 0.2 needed", "shots")]
    assert ledger.stages("/in/good1") == {"fit": StageRuns(1.5, computed=1, reused=2)}
    # None of them cost the worker: models are loaded once.
    assert len({path.suffix for path in seen.iterdir()}) == 1
    assert [said for said in progress.said if said[1] == "good1"] == [
        ("started", "good1"),
        ("step", "good1", "fit"),
        ("ended", "good1", "published", "1 sequence(s)"),
    ]
    assert ("ended", "reject", "rejected", "nobody in the picture") in progress.said


def test_a_crash_costs_only_its_own_video(ledger: Ledger, seen: Path) -> None:
    items, progress = run(ledger, seen, "good1", "die", "once", "good2", workers=2)
    assert {name: item.status for name, item in items.items()} == {
        "good1": "published",
        "good2": "published",
        "once": "published",
        "die": "failed",
    }
    assert (items["die"].attempts, items["once"].attempts) == (2, 2)
    assert "exit code 3" in items["die"].reason
    assert calls(seen) == {"good1": 1, "good2": 1, "once": 2, "die": 2}
    assert sum(said[:2] == ("ended", "die") for said in progress.said) == 1


@pytest.mark.parametrize("name", ["hang", "busy"])
def test_time_limit(ledger: Ledger, seen: Path, name: str) -> None:
    """Silent or chatty, a video that takes too long is given up, and its worker is gone."""
    start = time.monotonic()
    items, _ = run(ledger, seen, name, "good", timeout_s=1.5)
    assert time.monotonic() - start < 30
    assert (items[name].status, items["good"].status) == ("failed", "published")
    assert "longer than" in items[name].reason
    assert not any(alive(int(path.suffix[1:])) for path in seen.iterdir())


def test_memory_limit(ledger: Ledger, seen: Path) -> None:
    for name in ("hungry", "good"):
        ledger.add(f"/in/{name}", name, name, "f")
    limits = Limits(60, memory_bytes=450_000_000)
    run_local(ledger, Make(seen), workers=1, limits=limits, progress=Quiet())
    items = {item.name: item for item in ledger.items()}
    assert (items["good"].status, items["hungry"].status) == ("published", "failed")
    assert "of memory, the limit is 0.5 GB, 2 times" in items["hungry"].reason


def test_done_videos_are_left_alone(ledger: Ledger, seen: Path) -> None:
    run(ledger, seen, "good", "raise", "reject")
    run(ledger, seen)
    assert calls(seen) == {"good": 1, "reject": 1, "raise": 1}
    items, _ = run(ledger, seen, "good", "raise", "reject")
    assert items["raise"].status == "failed"
    assert calls(seen) == {"good": 1, "reject": 1, "raise": 2}, "only what failed gets another chance"


def test_no_work_starts_no_worker(ledger: Ledger, seen: Path) -> None:
    start = time.monotonic()
    assert run(ledger, seen)[0] == {}
    assert time.monotonic() - start < 0.5


def test_workers_share_the_work(ledger: Ledger, seen: Path) -> None:
    items, _ = run(ledger, seen, *(f"good{n}" for n in range(6)), workers=2)
    assert {item.status for item in items.values()} == {"published"}
    assert set(calls(seen).values()) == {1}


def test_broken_factory_stops_the_build_and_says_why(ledger: Ledger) -> None:
    ledger.add("a", "a", "a", "f")
    with pytest.raises(
        WorkerError, match=r"no video can be processed.*OSError: the weights are damaged \(fakes.py:\d+\)$"
    ):
        run_local(ledger, MakeBroken(), workers=1, limits=Limits(60), progress=Quiet())
    ledger.add("a", "a", "a", "f")
    assert ledger.items()[0].status == "pending", "the next build tries again"


def test_a_backend_that_does_not_load_stops_the_build_and_costs_no_video(ledger: Ledger, seen: Path) -> None:
    with pytest.raises(WorkerError, match="yolox cannot be loaded"):
        run(ledger, seen, "unloadable", "good")
    for item in ledger.items():
        ledger.add(item.path, item.name, item.sha256, "f")
    assert {item.name: item.status for item in ledger.items()} == {
        "good": "published",
        "unloadable": "pending",
    }


def test_a_full_disk_is_not_the_fault_of_a_video(ledger: Ledger, seen: Path) -> None:
    with pytest.raises(WorkerError, match=r"preview\.mp4: no space left on this disk; free some space"):
        run(ledger, seen, "full", "good")
    assert all(item.status != "failed" for item in ledger.items()), "the same build continues later"


def test_environment_is_restored(ledger: Ledger, seen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    run(ledger, seen, "good")
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert ledger.sequences()[0]["threads"] == "1", "the same numbers whatever the number of workers"


@pytest.mark.parametrize(("visible", "expected"), [(None, {"0", "1"}), ("3,5", {"3", "5"})])
def test_each_worker_gets_a_gpu_of_its_own(
    ledger: Ledger, seen: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: set[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for number in range(2):
        ledger.add(f"/in/gpu{number}", f"gpu{number}", f"gpu{number}", "f")
    run_local(ledger, Make(seen), workers=2, limits=Limits(60), progress=Quiet(), gpus=2)
    assert {row["gpu"] for row in ledger.sequences()} == expected
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


def test_workers_do_not_outlive_a_killed_parent(repo: Path, seen: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-m", "tests.pipeline.fakes", str(seen.parent)], cwd=repo)
    try:
        wait_until(lambda: len(list(seen.iterdir())) == 2, 30)
        workers = [int(path.suffix[1:]) for path in seen.iterdir()]
        assert all(alive(pid) for pid in workers)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_until(lambda: not any(alive(pid) for pid in workers), 5)
    # The build goes on where it was.
    ledger = Ledger(seen.parent / "ledger.sqlite")
    assert {item.status for item in ledger.items()} == {"running"}
    ledger.add("hang1", "hang1", "hang1", "f")
    assert [item.status for item in ledger.items()] == ["pending", "running"]


def wait_until(condition: object, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "too late"
        time.sleep(0.05)
