"""Processors for tests of the runner; what one does with an item is the item's name."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from opendance_hf.pipeline.backends.base import BackendError
from opendance_hf.pipeline.ledger import Item, Ledger
from opendance_hf.pipeline.outcome import Outcome
from opendance_hf.pipeline.runners.local import run_local
from opendance_hf.pipeline.runners.worker import Limits
from opendance_hf.pipeline.stage import Dropped, Rejected


class FakeProcessor:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, item: Item, on_stage: Callable[..., None], on_step: Callable[..., None]) -> Outcome:
        (self.folder / f"{item.name}.{item.attempts}.{os.getpid()}").touch()
        on_step("fit", 0.5)
        on_stage("fit", 1.5, 1, 2)
        if item.name.startswith("reject"):
            raise Rejected("nobody in the picture")
        if item.name.startswith("unloadable"):
            raise BackendError("yolox cannot be loaded: the file is damaged")
        if item.name.startswith("full"):
            raise OSError(errno.ENOSPC, "No space left on device", str(self.folder / "preview.mp4"))
        if item.name.startswith("raise"):
            raise ValueError("the numbers do not fit")
        if item.name.startswith("unpicklable"):
            return Outcome([{"id": "x", "what": lambda: None}], [])
        if item.name.startswith("late") and self.folder.name == "later":
            os._exit(3)
        if item.name.startswith("die"):
            os._exit(3)
        if item.name.startswith("once") and len(list(self.folder.glob(f"{item.name}.*"))) == 1:
            os._exit(3)
        if item.name.startswith("hang"):
            time.sleep(600)
        while item.name.startswith("busy"):  # goes on saying that it makes progress
            on_step("fit", 0.5)
            time.sleep(0.01)
        if item.name.startswith("slow"):
            time.sleep(0.4)
        if item.name.startswith("hungry"):
            hoard = bytearray(600_000_000)
            hoard[:: os.sysconf("SC_PAGESIZE")] = b"x" * len(hoard[:: os.sysconf("SC_PAGESIZE")])
            time.sleep(600)
        if item.name.startswith("gpu"):  # takes long enough for the other worker to get the other item
            time.sleep(1.5)
        if item.name.startswith("interrupt"):  # as Ctrl-C does in the whole group
            os.kill(os.getpid(), signal.SIGINT)
        row = {
            "id": f"{item.name}_00",
            "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "threads": os.environ.get("OMP_NUM_THREADS"),
        }
        return Outcome([row], [Dropped(1.0, 2.0, "dark", "0.1, at least 0.2 needed", "shots")])


@dataclass(frozen=True)
class Make:
    folder: Path

    def __call__(self) -> FakeProcessor:
        return FakeProcessor(self.folder)


@dataclass(frozen=True)
class MakeBroken:
    def __call__(self) -> FakeProcessor:
        raise OSError("the weights are damaged")


class Quiet:
    """Notes what a runner says."""

    def __init__(self) -> None:
        self.said: list[tuple[str, ...]] = []

    def started(self, item: Item) -> None:
        self.said.append(("started", item.name))

    def step(self, item: Item, stage: str, share: float) -> None:
        if self.said[-1] != ("step", item.name, stage):
            self.said.append(("step", item.name, stage))

    def ended(self, item: Item, status: str, reason: str) -> None:
        self.said.append(("ended", item.name, status, reason))


if __name__ == "__main__":  # a build of two videos that hang, for a test to kill
    work = Path(sys.argv[1])
    ledger = Ledger(work / "ledger.sqlite")
    for name in ("hang1", "hang2"):
        ledger.add(name, name, name, "f")
    run_local(ledger, Make(work / "seen"), workers=2, limits=Limits(600), progress=Quiet())


@dataclass(frozen=True)
class Still:
    """A picture of a video that was never encoded."""

    time_s: float
    image: np.ndarray

    @property
    def small(self) -> np.ndarray:
        return self.image

    def rgb(self) -> np.ndarray:
        return self.image
