"""Process videos on the machines of a Ray cluster (https://docs.ray.io).

The list of stages is cut into pools wherever a stage begins or stops using a GPU, so that decoding on CPUs and estimators on
GPUs work on different videos at the same time. Ray Data streams the videos through the pools. An actor of a pool has a worker
process of its own (:mod:`opendance_hf.pipeline.runners.worker`), which loads the models once: a video that crashes it, hangs or
takes too much memory costs that video, and Ray, which would try the actor's work for ever, never sees it. What an earlier pool
found is read from the cache in the build folder, which all machines must share. Only the driver writes the ledger; Ray's own
checkpoints are not used. An actor or machine that is lost has its videos processed again by another one.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Final

from opendance_hf.errors import missing_extra
from opendance_hf.pipeline.ledger import DroppedSpan, Item, Ledger
from opendance_hf.pipeline.runners.worker import (
    MAX_ATTEMPTS,
    Limits,
    Processor,
    Progress,
    Worker,
    WorkerError,
)

_log = logging.getLogger(__name__)

#: Videos that are handed to Ray at a time; each is a block of its own.
_WAVE: Final = 10_000
#: How often the limits of a worker are checked, seconds.
_TICK_S: Final = 0.5
_BROKEN: Final = "broken"


@dataclass(frozen=True)
class Pool:
    """A part of the pipeline with actors of its own.

    Attributes:
        make_processor: picklable factory of what a worker runs.
        actors: the largest number of actors.
        cpus, gpus: of each actor; fractions are possible.
    """

    make_processor: Callable[[], Processor]
    actors: int
    cpus: float = 1.0
    gpus: float = 0.0


class _Actor:
    """Hands the videos of a pool to its worker, one after the other."""

    def __init__(self, make_processor: Callable[[], Processor], limits: Limits) -> None:
        self._make, self._limits = make_processor, limits
        self._worker: Worker | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Process a row of :func:`_row`; one that was rejected or has failed in an earlier pool passes."""
        if row["status"] not in ("pending", "published"):
            return row
        start = time.monotonic()
        item = Item(**json.loads(row["item"]))
        # A pool runs all stages from the first on, whose results are in the cache; their times are known.
        known: dict[str, Any] = json.loads(row["stages"])
        stages: dict[str, Any] = {}
        for attempt in range(1, MAX_ATTEMPTS + 1):
            worker = self._worker = self._worker or Worker.start(self._make)
            worker.assign(item)
            found, failure = self._watch(worker, stages)
            end = found or ("failed", f"{failure}, {attempt} times", [], [])
            if found is None or end[0] == _BROKEN:
                worker.stop()
                self._worker = None
            if found is not None:
                break
        status, reason, sequences, dropped = end
        return {
            **row,
            "status": status,
            "reason": reason,
            "seconds": row["seconds"] + time.monotonic() - start,
            "stages": json.dumps({**stages, **known}),
            "sequences": json.dumps(sequences),
            "dropped": json.dumps(dropped),
        }

    def _watch(self, worker: Worker, stages: dict[str, Any]) -> tuple[tuple[Any, ...] | None, str]:
        """Return the end of the video; None and the cause if the worker has died or has to be stopped."""
        while True:
            if worker.pipe.poll(_TICK_S):
                message = worker.receive()
                if message is None:
                    return None, worker.death()
                kind, *values = message
                if kind == "stage":
                    name, *runs = values
                    stages[name] = runs
                elif kind == _BROKEN:
                    return (_BROKEN, values[0], [], []), ""
                elif kind not in ("ready", "step"):
                    worker.item = None
                    return (kind, *values), ""
            if failure := worker.breach(self._limits):
                return None, failure


def run_ray(
    ledger: Ledger, pools: Sequence[Pool], *, limits: Limits, progress: Progress, address: str | None = None
) -> None:
    """Process every pending item of the ledger.

    Args:
        ledger: contains the items, and receives their results.
        pools: the parts of the pipeline, in their order; the last one's results are stored.
        limits: of the work of a pool on one item.
        progress: receives the end of each item; what an actor works on is not known here.
        address: of a running cluster, as ``ray start`` prints it, or ``auto``; None starts one on this machine.

    Raises:
        WorkerError: if Ray is not installed or the cluster cannot be reached, a worker cannot start, or a backend cannot be
            loaded.
    """
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise WorkerError(missing_extra(error) or str(error)) from None
    started = not ray.is_initialized()
    if started:
        _connect(ray, address)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    pending = ledger.unfinished()
    try:
        while wave := list(islice(pending, _WAVE)):
            for item in wave:
                ledger.start(item.path)
            for row in _stream(ray.data, wave, pools, limits):
                _store(row, ledger, progress)
    except ray.exceptions.RayError as error:
        raise WorkerError(
            f"the Ray cluster failed ({str(error).strip().splitlines()[-1]}); finished videos are kept: run the same "
            "command again"
        ) from None
    finally:
        if started:
            ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of the network and of Ray, without a common base class
        raise WorkerError(
            f"the Ray cluster at {address or 'this machine'} cannot be used ({error}); `ray status` tells about one, "
            "`ray start --head` starts one"
        ) from None


def _stream(
    data: Any, items: Sequence[Item], pools: Sequence[Pool], limits: Limits
) -> Iterator[dict[str, Any]]:
    """Yield the results of items, as they come."""
    # One block for each video: a block is handed on when all of it is done.
    rows = data.from_items([_row(item) for item in items], override_num_blocks=len(items))
    for pool in pools:
        rows = rows.map(
            _Actor,
            fn_constructor_args=(pool.make_processor, limits),
            compute=data.ActorPoolStrategy(
                min_size=1, max_size=min(pool.actors, len(items)), max_tasks_in_flight_per_actor=2
            ),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus or None,
        )
    return iter(rows.iter_rows())


def _row(item: Item) -> dict[str, Any]:
    """Return an item as it travels through the pools; what has a structure is JSON, which Arrow need not guess."""
    return {
        "item": json.dumps(asdict(item)),
        "status": "pending",
        "reason": "",
        "seconds": 0.0,
        "stages": "{}",
        "sequences": "[]",
        "dropped": "[]",
    }


def _store(row: dict[str, Any], ledger: Ledger, progress: Progress) -> None:
    """Write the result of an item to the ledger."""
    item = Item(**json.loads(row["item"]))
    status, reason = row["status"], row["reason"]
    if status == _BROKEN:
        raise WorkerError(f"no video can be processed: {reason}")
    sequences = json.loads(row["sequences"])
    for stage, runs in json.loads(row["stages"]).items():
        ledger.stage(item.path, stage, *runs)
    dropped = [DroppedSpan(*span) for span in json.loads(row["dropped"])]
    ledger.finish(item.path, status, reason, row["seconds"], sequences, dropped)
    progress.ended(item, status, reason or f"{len(sequences)} sequence(s)")
