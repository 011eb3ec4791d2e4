"""Runners, which process the videos of a build and write the results to its ledger.

To add one, write a function of the ledger, the work and the progress, and add it to :data:`RUNNERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

from opendance_hf.pipeline.ledger import Ledger
from opendance_hf.pipeline.pipelines import Pipeline
from opendance_hf.pipeline.process import Repairs, VideoProcessor
from opendance_hf.pipeline.runners.local import run_local
from opendance_hf.pipeline.runners.ray import Pool, run_ray
from opendance_hf.pipeline.runners.worker import Limits, Progress
from opendance_hf.pipeline.stage import Stage


@dataclass(frozen=True)
class Work:
    """What a runner has to do.

    Attributes:
        pipeline: the stages.
        build: absolute path of the build folder.
        videos: number of unfinished inputs.
        workers: number of processor cores to use; of a cluster, the largest number of actors of a pool.
        limits: of the work on one video.
        repairs: of annotators, by video.
        address: of a Ray cluster; None starts one on this machine.
        gpus_per_actor: share of a GPU for an actor whose stages use one.
    """

    pipeline: Pipeline
    build: Path
    videos: int
    workers: int
    limits: Limits
    repairs: Repairs
    address: str | None = None
    gpus_per_actor: float = 1.0


@dataclass(frozen=True)
class MakeProcessor:
    """Picklable factory of a worker's processor; see :class:`opendance_hf.pipeline.process.VideoProcessor`."""

    pipeline: Pipeline
    build: Path
    threads: int
    repairs: Repairs
    num_stages: int | None = None

    def __call__(self) -> VideoProcessor:
        """Make it, in the worker."""
        return VideoProcessor(self.pipeline, self.build, self.threads, self.repairs, self.num_stages)


def _local(ledger: Ledger, work: Work, progress: Progress) -> None:
    gpus = _count_gpus() if any(map(_uses_gpu, work.pipeline)) else 0
    # With fewer videos than cores, each video is processed in several threads; GPUs are not shared by workers.
    workers = min(work.workers, work.videos, gpus or work.videos)
    make = MakeProcessor(work.pipeline, work.build, max(1, work.workers // workers), work.repairs)
    run_local(ledger, make, workers=workers, limits=work.limits, progress=progress, gpus=gpus)


def _ray(ledger: Ledger, work: Work, progress: Progress) -> None:
    run_ray(ledger, pools_of(work), limits=work.limits, progress=progress, address=work.address)


#: How ``--runner`` processes the unfinished inputs of a ledger.
RUNNERS: Final[dict[str, Callable[[Ledger, Work, Progress], None]]] = {"local": _local, "ray": _ray}


def pools_of(work: Work) -> list[Pool]:
    """Cut a pipeline wherever a stage begins or stops using a GPU."""
    pools, first = [], 0
    for uses_gpu, group in groupby(work.pipeline, _uses_gpu):
        first += len(list(group))
        until = first if first < len(work.pipeline) else None
        make = MakeProcessor(work.pipeline, work.build, 1, work.repairs, until)
        pools.append(Pool(make, work.workers, gpus=work.gpus_per_actor if uses_gpu else 0.0))
    return pools


def _uses_gpu(stage: Stage) -> bool:
    return any(backend.uses_gpu for backend in stage.backends.values())


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count()
