"""Process videos on this machine, each in a worker process that can be killed without harm to the others.

A worker loads its models once and takes one video at a time. The parent alone writes the ledger. A worker that
crashes, or exceeds the time limit, costs its video one attempt and is replaced; a worker whose parent has died ends
itself.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final, Protocol

from opendance_hf.errors import OpenDanceError
from opendance_hf.pipeline.backends.base import BackendError
from opendance_hf.pipeline.ledger import DONE, Item, Ledger
from opendance_hf.pipeline.stage import Rejected

MAX_ATTEMPTS: Final = 2
_TICK_S: Final = 0.5


class WorkerError(OpenDanceError, RuntimeError):
    """No video can be processed, since a worker cannot start or a backend cannot be loaded."""


class Processor(Protocol):
    """What a worker does; built in the worker from a picklable factory."""

    def __call__(self, item: Item, on_stage: Callable[..., None], on_step: Callable[..., None]) -> Any:
        """Process one item; ``Rejected`` means a decision, any other exception a failure."""
        ...


class Progress(Protocol):
    """Shows people what is going on."""

    def started(self, item: Item) -> None:
        """An item was given to a worker."""
        ...

    def step(self, item: Item, stage: str, share: float) -> None:
        """An item is ``share`` (0 to 1) through a stage."""
        ...

    def ended(self, item: Item, status: str, reason: str) -> None:
        """An item is done."""
        ...


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    lifeline: Connection
    gpu: int | None = None
    item: Item | None = None
    since: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)


def run_local(
    ledger: Ledger,
    make_processor: Callable[[], Processor],
    *,
    workers: int,
    timeout_s: float,
    progress: Progress,
    gpus: int = 0,
) -> None:
    """Process every pending item of the ledger.

    Args:
        ledger: read for what to do, written with what happened.
        make_processor: picklable; called once in each worker.
        workers: how many processes.
        timeout_s: an item that takes longer is given up.
        progress: receives what happens.
        gpus: how many GPUs the workers share, one each; 0 leaves the environment as it is.

    Raises:
        WorkerError: if a worker cannot start, or a backend cannot be loaded.
    """
    pending = [item for item in ledger.items() if item.status not in (*DONE, "failed")]
    pending.reverse()
    pool: list[_Worker] = []
    try:
        while pending or any(worker.item for worker in pool):
            while len(pool) < workers and sum(worker.item is None for worker in pool) < len(pending):
                pool.append(_start(make_processor, _free_gpu(pool, gpus)))
            for worker in pool:
                if worker.item is None and pending:
                    _give(worker, pending.pop(), ledger, progress)
            ready = wait([worker.pipe for worker in pool], timeout=_TICK_S)
            for worker in list(pool):
                dead = _receive(worker, ledger, progress) if worker.pipe in ready else ""
                # A worker that goes on reporting progress is timed like a silent one.
                if not dead and worker.item and time.monotonic() - worker.since > timeout_s:
                    dead = f"took longer than {timeout_s:.0f} s"
                if not dead:
                    continue
                pool.remove(worker)
                _stop(worker)
                if worker.item is not None:
                    again = _failed(worker, dead, ledger, progress)
                    if again is not None:
                        pending.append(again)
    finally:
        for worker in pool:
            _stop(worker)


def _free_gpu(pool: list[_Worker], gpus: int) -> int | None:
    """Return the number of the GPU that the fewest workers use."""
    if not gpus:
        return None
    return min(range(gpus), key=lambda gpu: sum(worker.gpu == gpu for worker in pool))


def _start(make_processor: Callable[[], Processor], gpu: int | None) -> _Worker:
    # Spawned, not forked: inference runtimes and video decoders hold threads that a fork would break.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    hold, watch = context.Pipe()
    process = context.Process(target=_work, args=(make_processor, theirs, watch), daemon=True)
    # One thread a worker: the same numbers whatever the number of workers, and no fighting over cores.
    environment = {"OMP_NUM_THREADS": "1"}
    if gpu is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        environment["CUDA_VISIBLE_DEVICES"] = (
            visible[gpu] if len(visible) > gpu and visible[gpu] else str(gpu)
        )
    with _environment(environment):
        process.start()
    theirs.close()
    watch.close()
    return _Worker(process, ours, hold, gpu)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that start in the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _give(worker: _Worker, item: Item, ledger: Ledger, progress: Progress) -> None:
    ledger.start(item.path)
    worker.item, worker.since, worker.stages = item, time.monotonic(), {}
    progress.started(item)
    with contextlib.suppress(OSError):  # the worker is gone: the next look at its pipe says so
        worker.pipe.send(item)


def _receive(worker: _Worker, ledger: Ledger, progress: Progress) -> str:
    """Handle one message; returns why the worker is dead, or nothing."""
    try:
        kind, *values = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join(5)
        return f"the worker process died (exit code {worker.process.exitcode})"
    item = worker.item
    if kind == "broken":
        raise WorkerError(f"no video can be processed: {values[0]}")
    if item is None:
        return ""
    if kind == "step":
        progress.step(item, *values)
    elif kind == "stage":
        ledger.stage(item.path, *values)
    else:
        seconds = time.monotonic() - worker.since
        if kind == "published":
            outcome = values[0]
            spans = [(span.start_s, span.end_s, str(span)) for span in outcome.dropped]
            ledger.finish(item.path, "published", "", seconds, outcome.sequences, spans)
            progress.ended(item, "published", f"{len(outcome.sequences)} sequence(s)")
        else:
            ledger.finish(item.path, kind, values[0], seconds)
            progress.ended(item, kind, values[0])
        worker.item = None
    return ""


def _failed(worker: _Worker, reason: str, ledger: Ledger, progress: Progress) -> Item | None:
    """Record a lost attempt; returns the item when it may be tried again."""
    item = worker.item
    assert item is not None
    attempts = next(row.attempts for row in ledger.items() if row.path == item.path)
    if attempts < MAX_ATTEMPTS:
        ledger.finish(item.path, "pending", reason, time.monotonic() - worker.since)
        return item
    ledger.finish(item.path, "failed", f"{reason}, {attempts} times", time.monotonic() - worker.since)
    progress.ended(item, "failed", reason)
    return None


def _stop(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()
    worker.lifeline.close()


def _work(make_processor: Callable[[], Processor], pipe: Connection, lifeline: Connection) -> None:
    """The life of a worker process."""
    # Ctrl-C reaches the whole group; the parent alone decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, args=(lifeline,), daemon=True).start()
    try:
        processor = make_processor()
    except Exception as error:
        pipe.send(("broken", _told(error)))
        return
    while True:
        item = pipe.recv()
        try:
            outcome = processor(
                item,
                lambda *values: pipe.send(("stage", *values)),
                lambda stage, share: pipe.send(("step", stage, share)),
            )
            pipe.send(("published", outcome))
        except Rejected as decision:
            pipe.send(("rejected", str(decision)))
        except BackendError as error:
            # Not the video's fault: every other one would fail likewise.
            pipe.send(("broken", str(error)))
            return
        except Exception as error:
            pipe.send(("failed", _told(error)))


def _told(error: Exception) -> str:
    """An error and where it came from, in a line."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"


def _die_with_parent(lifeline: Connection) -> None:
    try:
        lifeline.recv()
    except (EOFError, OSError):
        os._exit(1)
