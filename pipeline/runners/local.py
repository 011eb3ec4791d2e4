"""Process videos on this machine in worker processes.

A worker loads its models once and processes one video at a time. Only the parent writes the ledger. A worker that crashes
or exceeds the time limit is replaced, and its video loses one attempt. Workers exit when their parent has died.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final, Protocol

from opendance_hf.disk import describe_disk_error, disk_fault
from opendance_hf.errors import OpenDanceError
from opendance_hf.pipeline.backends.base import BackendError
from opendance_hf.pipeline.ledger import DONE, DroppedSpan, Item, Ledger
from opendance_hf.pipeline.stage import Dropped, Rejected

MAX_ATTEMPTS: Final = 2
_TICK_S: Final = 0.5


class WorkerError(OpenDanceError, RuntimeError):
    """No video can be processed, since a worker cannot start or a backend cannot be loaded."""


class Processor(Protocol):
    """Interface of the function that a worker runs; created in the worker by a picklable factory."""

    def __call__(self, item: Item, on_stage: Callable[..., None], on_step: Callable[..., None]) -> Any:
        """Process one item; raise ``Rejected`` to reject it. Any other exception is a failure."""
        ...


class Progress(Protocol):
    """Interface that receives the progress of a build."""

    def started(self, item: Item) -> None:
        """Report that an item was assigned to a worker."""
        ...

    def step(self, item: Item, stage: str, share: float) -> None:
        """Report the completed share (0 to 1) of a stage of an item."""
        ...

    def ended(self, item: Item, status: str, reason: str) -> None:
        """Report that an item is done."""
        ...


class NoProgress:
    """Progress that nobody watches."""

    def started(self, item: Item) -> None:
        """Ignore the start of an item."""

    def step(self, item: Item, stage: str, share: float) -> None:
        """Ignore a completed share."""

    def ended(self, item: Item, status: str, reason: str) -> None:
        """Ignore the end of an item."""


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
        ledger: contains the items, and receives their results.
        make_processor: picklable factory, called once in each worker.
        workers: number of worker processes.
        timeout_s: time limit for one item, seconds.
        progress: receives the progress of each item.
        gpus: number of GPUs to distribute over the workers, one each; 0 does not change the environment.

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
                    _assign(worker, pending.pop(), ledger, progress)
            ready = wait([worker.pipe for worker in pool], timeout=_TICK_S)
            for worker in list(pool):
                failure = _receive(worker, ledger, progress) if worker.pipe in ready else ""
                # The limit also applies to a worker that still reports progress.
                if not failure and worker.item and time.monotonic() - worker.since > timeout_s:
                    failure = f"took longer than {timeout_s:.0f} s"
                if not failure:
                    continue
                pool.remove(worker)
                _stop(worker)
                if worker.item is not None:
                    retry = _record_failure(worker, failure, ledger, progress)
                    if retry is not None:
                        pending.append(retry)
    finally:
        for worker in pool:
            _stop(worker)


def _free_gpu(pool: list[_Worker], gpus: int) -> int | None:
    """Return the number of the GPU that the fewest workers use."""
    if not gpus:
        return None
    return min(range(gpus), key=lambda gpu: sum(worker.gpu == gpu for worker in pool))


def _start(make_processor: Callable[[], Processor], gpu: int | None) -> _Worker:
    # Spawn instead of fork: inference runtimes and video decoders have threads, which do not survive a fork.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    our_lifeline, their_lifeline = context.Pipe()
    process = context.Process(target=_worker_main, args=(make_processor, theirs, their_lifeline), daemon=True)
    # One thread per worker: results do not depend on the number of workers, and workers do not compete for cores.
    environment = {"OMP_NUM_THREADS": "1"}
    if gpu is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        environment["CUDA_VISIBLE_DEVICES"] = (
            visible[gpu] if len(visible) > gpu and visible[gpu] else str(gpu)
        )
    with _environment(environment):
        process.start()
    theirs.close()
    their_lifeline.close()
    return _Worker(process, ours, our_lifeline, gpu)


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


def _assign(worker: _Worker, item: Item, ledger: Ledger, progress: Progress) -> None:
    ledger.start(item.path)
    worker.item, worker.since, worker.stages = item, time.monotonic(), {}
    progress.started(item)
    with contextlib.suppress(OSError):  # the worker has died, which the next read from its pipe reports
        worker.pipe.send(item)


def _receive(worker: _Worker, ledger: Ledger, progress: Progress) -> str:
    """Handle one message of a worker; return the cause if the worker has died, else an empty string."""
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
        reason, sequences, dropped = values
        ledger.finish(item.path, kind, reason, time.monotonic() - worker.since, sequences, dropped)
        progress.ended(item, kind, reason or f"{len(sequences)} sequence(s)")
        worker.item = None
    return ""


def _record_failure(worker: _Worker, reason: str, ledger: Ledger, progress: Progress) -> Item | None:
    """Store a failed attempt; return the item if it is to be tried again, else None."""
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


def _worker_main(make_processor: Callable[[], Processor], pipe: Connection, lifeline: Connection) -> None:
    """Run the loop of a worker process: receive an item, process it, send the result."""
    # Ctrl-C is sent to all processes of the group; workers ignore it, and the parent stops them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, args=(lifeline,), daemon=True).start()
    places = [place] if isinstance(place := getattr(make_processor, "build", None), Path) else []
    try:
        processor = make_processor()
    except Exception as error:
        pipe.send(("broken", _describe_error(error)))
        return
    while True:
        item = pipe.recv()
        try:
            outcome = processor(
                item,
                lambda *values: pipe.send(("stage", *values)),
                lambda stage, share: pipe.send(("step", stage, share)),
            )
            pipe.send(("published", "", outcome.sequences, _spans(outcome.dropped)))
        except Rejected as decision:
            pipe.send(("rejected", str(decision), [], _spans(decision.dropped)))
        except BackendError as error:
            # Not the video's fault: every other one would fail likewise.
            pipe.send(("broken", str(error)))
            return
        except Exception as error:
            if disk_fault(error) is not None:  # nor is a full disk
                pipe.send(("broken", describe_disk_error(error, places)))
                return
            pipe.send(("failed", _describe_error(error), [], []))


def _spans(dropped: Sequence[Dropped]) -> list[DroppedSpan]:
    """Return dropped spans as the ledger takes them."""
    return [DroppedSpan(*astuple(span)) for span in dropped]


def _describe_error(error: Exception) -> str:
    """Return an error with its type, file and line number, as one line."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"


def _exit_with_parent(lifeline: Connection) -> None:
    try:
        lifeline.recv()
    except (EOFError, OSError):
        os._exit(1)
