"""The worker process of a runner, which loads its models once and processes one video at a time.

It exits when its parent has died. Its parent reads messages from it: ("ready",) when it can begin, ("step", stage, share), ("stage",
...) of a stage's run, and at the end of a video ("published" | "rejected" | "failed", reason, sequences, dropped spans), or ("broken", cause) if no video can be
processed.
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
from dataclasses import astuple, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Protocol

import psutil

from opendance_hf.disk import describe_disk_error, disk_fault
from opendance_hf.errors import OpenDanceError
from opendance_hf.pipeline.backends.base import BackendError
from opendance_hf.pipeline.ledger import DroppedSpan, Item
from opendance_hf.pipeline.stage import Dropped, Rejected, VanishedError

#: A worker that is not ready after this time is given up, unless a video may take longer, seconds.
_START_S: Final = 300.0
#: How often a video is tried whose worker dies or exceeds a limit.
MAX_ATTEMPTS: Final = 2


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


@dataclass(frozen=True)
class Limits:
    """Limits of the work on one video.

    Attributes:
        timeout_s: duration, seconds.
        memory_bytes: memory of the worker that processes it; None for no limit.
    """

    timeout_s: float
    memory_bytes: int | None = None


@dataclass
class Worker:
    """A worker process, as its parent sees it.

    Attributes:
        process: the process.
        pipe: to send items and receive messages.
        lifeline: closed when the parent dies, which ends the worker.
        gpu: number of its GPU, if it was given one.
        item: what it works on; None if it is idle.
        since: when it began with the item, :func:`time.monotonic`.
        is_ready: True once it has loaded what it needs.
    """

    process: Any
    pipe: Connection
    lifeline: Connection
    gpu: int | None = None
    item: Item | None = None
    since: float = 0.0
    is_ready: bool = False

    @classmethod
    def start(cls, make_processor: Callable[[], Processor], gpu: int | None = None) -> Worker:
        """Start a worker.

        Args:
            make_processor: picklable factory, called once in the worker.
            gpu: number of its GPU; None leaves the environment as it is.
        """
        # Spawn instead of fork: inference runtimes and video decoders have threads, which do not survive a fork.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        our_lifeline, their_lifeline = context.Pipe()
        process = context.Process(
            target=_worker_main, args=(make_processor, theirs, their_lifeline), daemon=True
        )
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
        return cls(process, ours, our_lifeline, gpu)

    def assign(self, item: Item) -> None:
        """Let it process an item."""
        self.item, self.since = item, time.monotonic()
        with contextlib.suppress(OSError):  # it has died, which the next read from its pipe reports
            self.pipe.send(item)

    def receive(self) -> tuple[Any, ...] | None:
        """Return its next message; None if it has died."""
        try:
            message = tuple(self.pipe.recv())
        except (EOFError, OSError):
            self.process.join(5)
            return None
        if message == ("ready",):
            self.is_ready, self.since = True, time.monotonic()
        return message

    def death(self) -> str:
        """Return how it died, as text."""
        return f"the worker process died (exit code {self.process.exitcode})"

    def breach(self, limits: Limits) -> str:
        """Return which limit the work on its item exceeds, as text; empty if none."""
        if self.item is None:
            return ""
        longest = limits.timeout_s if self.is_ready else max(_START_S, limits.timeout_s)
        if time.monotonic() - self.since > longest:
            return f"took longer than {longest:.0f} s"
        if limits.memory_bytes is not None and (used := self._memory_bytes()) > limits.memory_bytes:
            return f"needed {used / 1e9:.1f} GB of memory, the limit is {limits.memory_bytes / 1e9:.1f} GB"
        return ""

    def stop(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.join()
        self.pipe.close()
        self.lifeline.close()

    def _memory_bytes(self) -> int:
        try:
            return int(psutil.Process(self.process.pid).memory_info().rss)
        except psutil.Error:
            return 0  # it has died, which the next read from its pipe reports


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
    pipe.send(("ready",))
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
        except (BackendError, VanishedError) as error:
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
