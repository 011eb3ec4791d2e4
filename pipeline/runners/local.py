"""Process videos on this machine in worker processes.

Only the parent writes the ledger. A worker that crashes or exceeds a limit is replaced, and its video loses one attempt.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from multiprocessing.connection import wait
from typing import Final

from opendance_hf.pipeline.ledger import Item, Ledger
from opendance_hf.pipeline.runners.worker import (
    MAX_ATTEMPTS,
    Limits,
    Processor,
    Progress,
    Worker,
    WorkerError,
)

_TICK_S: Final = 0.5
#: Inputs that are read from the ledger at a time.
_AHEAD: Final = 1000


def run_local(
    ledger: Ledger,
    make_processor: Callable[[], Processor],
    *,
    workers: int,
    limits: Limits,
    progress: Progress,
    gpus: int = 0,
) -> None:
    """Process every pending item of the ledger.

    Args:
        ledger: contains the items, and receives their results.
        make_processor: picklable factory, called once in each worker.
        workers: number of worker processes.
        limits: of the work on one item.
        progress: receives the progress of each item.
        gpus: number of GPUs to distribute over the workers, one each; 0 does not change the environment.

    Raises:
        WorkerError: if a worker cannot start, or a backend cannot be loaded.
    """
    unfinished = ledger.unfinished()
    pending = deque(islice(unfinished, _AHEAD))
    pool: list[Worker] = []
    try:
        while pending or any(worker.item for worker in pool):
            while len(pool) < workers and sum(worker.item is None for worker in pool) < len(pending):
                pool.append(Worker.start(make_processor, _free_gpu(pool, gpus)))
            for worker in pool:
                if worker.item is None and pending:
                    _assign(worker, pending.popleft(), ledger, progress)
            if len(pending) < len(pool):
                pending.extend(islice(unfinished, _AHEAD))
            ready = wait([worker.pipe for worker in pool], timeout=_TICK_S)
            for worker in list(pool):
                failure = _receive(worker, ledger, progress) if worker.pipe in ready else ""
                # Limits also apply to a worker that still reports progress.
                failure = failure or worker.breach(limits)
                if not failure:
                    continue
                pool.remove(worker)
                worker.stop()
                if worker.item is not None:
                    retry = _record_failure(worker, failure, ledger, progress)
                    if retry is not None:
                        pending.appendleft(retry)
    finally:
        for worker in pool:
            worker.stop()


def _free_gpu(pool: list[Worker], gpus: int) -> int | None:
    """Return the number of the GPU that the fewest workers use."""
    if not gpus:
        return None
    return min(range(gpus), key=lambda gpu: sum(worker.gpu == gpu for worker in pool))


def _assign(worker: Worker, item: Item, ledger: Ledger, progress: Progress) -> None:
    ledger.start(item.path)
    progress.started(item)
    worker.assign(item)


def _receive(worker: Worker, ledger: Ledger, progress: Progress) -> str:
    """Handle one message of a worker; return the cause if the worker has died, else an empty string."""
    message, item = worker.receive(), worker.item
    if message is None:
        return worker.death()
    kind, *values = message
    if kind == "broken":
        raise WorkerError(f"no video can be processed: {values[0]}")
    if item is None or kind == "ready":
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


def _record_failure(worker: Worker, reason: str, ledger: Ledger, progress: Progress) -> Item | None:
    """Store a failed attempt; return the item if it is to be tried again, else None."""
    item = worker.item
    assert item is not None
    attempts = ledger.item(item.path).attempts
    if attempts < MAX_ATTEMPTS:
        ledger.finish(item.path, "pending", reason, time.monotonic() - worker.since)
        return item
    ledger.finish(item.path, "failed", f"{reason}, {attempts} times", time.monotonic() - worker.since)
    progress.ended(item, "failed", reason)
    return None
