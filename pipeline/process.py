"""Process one video with the stages of a pipeline, as the workers of a runner do."""

from __future__ import annotations

import errno
import importlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Thread
from time import perf_counter
from typing import Final

from opendance_hf.assets import sha256_of
from opendance_hf.disk import is_disconnected
from opendance_hf.pipeline.cache import Cache
from opendance_hf.pipeline.clip import Clip, Job, Repair
from opendance_hf.pipeline.config import pipeline_fingerprint
from opendance_hf.pipeline.inspection.store import video_of
from opendance_hf.pipeline.ledger import UNREAD, Item
from opendance_hf.pipeline.outcome import Outcome, main_reason, summary
from opendance_hf.pipeline.pipelines import STAGES, Pipeline
from opendance_hf.pipeline.printable import printable
from opendance_hf.pipeline.stage import Dropped, Rejected, VanishedError

#: Each thread holds two or three frames in memory; with more threads, decoding is the bottleneck.
_MAX_THREADS: Final = 8


#: Repairs in the order in which they are applied, by :func:`~opendance_hf.pipeline.inspection.store.video_of` a hash.
Repairs = Mapping[str, tuple[Repair, ...]]


def stamp_of(path: Path) -> str:
    """Return size, modification and change time and inode of a file as text, which differs when its content has changed."""
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


@dataclass
class SourceCheck:
    """Check that a file has the content that results are cached for.

    Args:
        path: the file.
        sha256: hash of its content.
        stamp: of the file when it was hashed; empty if it was not. Changed to the current one, so that a file that was
            only touched, or has other numbers on another machine, is hashed once.
    """

    path: Path
    sha256: str
    stamp: str

    def __call__(self) -> None:
        """Raise OSError if the content has changed."""
        if not self.stamp or (found := stamp_of(self.path)) == self.stamp:
            return
        if sha256_of(self.path) != self.sha256:
            raise OSError("the file has changed since the build began; run the same command again")
        self.stamp = found


@dataclass
class StageTimes:
    """Accumulate and report the duration and the number of runs of each stage of a video.

    Args:
        on_stage: called with the stage, its seconds so far, and the numbers of its computed and cached runs.
        on_step: called with the stage and its completed share.
    """

    on_stage: Callable[[str, float, int, int], None]
    on_step: Callable[[str, float], None]
    totals: dict[str, tuple[float, int, int]] = field(default_factory=dict)

    def start(self, stage: str) -> Callable[[float], None]:
        """Report the start of a stage and return the callback for its progress."""
        self.on_step(stage, 0.0)
        return lambda share: self.on_step(stage, min(share, 1.0))

    def end(self, stage: str, seconds: float, computed: bool) -> None:
        """Report the end of one run of a stage."""
        before = self.totals.get(stage, (0.0, 0, 0))
        self.totals[stage] = (before[0] + seconds, before[1] + computed, before[2] + (not computed))
        self.on_stage(stage, *self.totals[stage])


class VideoProcessor:
    """Process inputs in a worker. Backends are loaded on first use and stay loaded.

    Args:
        pipeline: prepared by :func:`opendance_hf.pipeline.config.prepare_pipeline`.
        build: the build folder.
        threads: number of threads that a stage may use.
        repairs: repairs of annotators by video, see :func:`opendance_hf.pipeline.inspection.repairs.standing_repairs`.
        num_stages: run only so many stages, whose results are kept in the cache; None for all.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        build: Path,
        threads: int,
        repairs: Repairs | None = None,
        num_stages: int | None = None,
    ) -> None:
        import av.logging
        import cv2

        # Errors of FFmpeg are printed; its informational messages are not useful to users.
        av.logging.set_libav_level(av.logging.ERROR)
        cv2.setNumThreads(1)
        self.pipeline, self.num_stages = pipeline, num_stages
        self.repairs = repairs or {}
        self._place = place_of(build)
        self.job = Job(build, pipeline_fingerprint(pipeline), min(threads, _MAX_THREADS))
        # Torch, SciPy and others take seconds to import: do it in the background while the first stages run.
        self._torch_is_there = Event()
        Thread(target=_import_libraries, args=(pipeline, self._torch_is_there), daemon=True).start()

    def __call__(self, item: Item, on_stage: Callable[..., None], on_step: Callable[..., None]) -> Outcome:
        """Process one input.

        Raises:
            Rejected: if no sequence can be made from it; the message is the reason.
            VanishedError: if the disk of the file or of the build folder is not there, see :func:`vanished_disks`.
            OSError: if the file has gone or changed since it was registered, or cannot be read any more.
        """
        path = Path(item.path)
        try:
            _check_there(path)
        except OSError as error:
            if item.sha256 == UNREAD and is_broken_link(path, error):
                raise Rejected("a broken link") from None
            raise
        try:
            outcome = self._process(item, on_stage, on_step)
        except Exception:
            check_place(self.job.build, self._place)
            _check_there(path)  # the decision stands only if the file could be read
            raise
        check_place(self.job.build, self._place)
        return outcome

    def _process(self, item: Item, on_stage: Callable[..., None], on_step: Callable[..., None]) -> Outcome:
        path = Path(item.path)
        repairs = self.repairs.get(video_of(item.sha256), ())
        video = Clip(path, item.sha256, key=item.sha256, job=self.job, repairs=repairs)
        times = StageTimes(on_stage, on_step)
        check = SourceCheck(path, item.sha256, item.stamp)
        return process(video, self.pipeline, times, self._torch_is_there.wait, self.num_stages, check)


def place_of(folder: Path) -> tuple[int, int]:
    """Return what tells a folder from another one of the same path: its device and its number there."""
    found = folder.stat()
    return found.st_dev, found.st_ino


def check_place(build: Path, place: tuple[int, int]) -> None:
    """Check that a build folder is still the one it was, so that results were not written to an empty mount point.

    Raises:
        VanishedError: otherwise.
    """
    try:
        if place_of(build) == place:
            return
    except OSError:
        pass
    raise VanishedError(
        f"{build}: this folder is gone, or another one; if its disk was unmounted, mount it again, and run the same command"
    )


#: What to do about a folder of :func:`emptied`.
EMPTIED: Final = (
    "this folder of videos is empty; if it is on another disk, mount it again, and run the same command; if its videos are to "
    "be left out, delete the folder"
)


def emptied(path: Path) -> Path | None:
    """Return the nearest folder above a missing file if it is empty, as a mount point is without its disk; else None."""
    folder = next(place for place in path.parents if place.is_dir())
    return None if any(folder.iterdir()) else folder


@contextmanager
def vanished_disks(path: Path) -> Iterator[None]:
    """Turn errors of a file in the block into one that names its folder, if the file's disk is not there.

    Raises:
        VanishedError: if the disk does not answer, or the file is gone and the nearest folder that is there is empty, as a
            mount point without its disk. For a link that is the folder it leads to.
        OSError: as it was raised, if only this file cannot be read.
    """
    try:
        yield
    except OSError as error:
        if is_disconnected(error):
            raise VanishedError(
                f"{printable(path.parent)}: the disk of this folder of videos does not answer ({error.strerror}); mount it "
                "again, and run the same command"
            ) from None
        if isinstance(error, FileNotFoundError) and (place := emptied(Path(os.path.realpath(path)))):
            raise VanishedError(f"{printable(place)}: {EMPTIED}") from None
        raise


def _check_there(path: Path) -> None:
    """Check that a path is a file that can be read.

    Raises:
        Rejected: if it is something else.
        VanishedError: if its disk is not there, see :func:`vanished_disks`.
        OSError: if it cannot be read.
    """
    try:
        with vanished_disks(path):
            if not stat.S_ISREG(path.stat().st_mode):
                raise Rejected("not a regular file")
            with path.open("rb") as file:
                file.read(1)
    except FileNotFoundError:
        raise FileNotFoundError(
            "the file is gone since the build began; put it back, or run the build again without it"
        ) from None


def is_broken_link(path: Path, error: OSError) -> bool:
    """Return True for the error of reading a link that leads nowhere."""
    leads_nowhere = isinstance(error, FileNotFoundError) or error.errno in (errno.ENOTDIR, errno.ELOOP)
    return leads_nowhere and path.is_symlink()


def process(
    video: Clip,
    pipeline: Pipeline,
    times: StageTimes,
    wait_for_torch: Callable[[], object] = lambda: None,
    num_stages: int | None = None,
    check_source: Callable[[], object] = lambda: None,
) -> Outcome:
    """Run all stages on a video, depth first: each span becomes a sequence before the next span is processed.

    Results depend only on the video's content and the stages, and files are written atomically, so a killed run can be
    repeated.

    Args:
        video: clip of the whole video.
        pipeline: the stages.
        times: receives the start and end of every stage.
        wait_for_torch: called before stages that must not run while torch is imported.
        num_stages: run only so many stages; the outcome then has no sequences. None for all.
        check_source: called before the first stage, before a result is kept and at the end; raises if the video's file has
            other content than its hash says.

    Raises:
        Rejected: if no sequence can be made from the video; the message is the reason.
        OSError: of ``check_source``.
    """
    check_source()
    outcome = Outcome()
    cache = Cache(video.job.build, video.sha256, check_source)
    pending, goes_on = [(video, 0)], False
    while pending:
        clip, stage_index = pending.pop()
        if stage_index == num_stages:
            goes_on = True
            continue
        if stage_index == len(pipeline):
            outcome.sequences.append(summary(clip))
            _remove_other_files(clip, pipeline)
            continue
        stage = pipeline[stage_index]
        if not stage.runs_while_loading:
            # SciPy inspects ``sys.modules["torch"]`` and fails on a partially imported module.
            wait_for_torch()
        job = replace(clip.job, report=times.start(stage.name))
        start = perf_counter()
        results, computed = cache.run(stage, replace(clip, number=len(outcome.sequences), job=job))
        times.end(stage.name, perf_counter() - start, computed)
        outcome.dropped += [result for result in results if isinstance(result, Dropped)]
        clips = [result for result in results if isinstance(result, Clip)]
        pending += [(result, stage_index + 1) for result in reversed(clips)]
    check_source()
    if goes_on:
        return outcome
    cache.close()
    if not outcome.sequences:
        raise Rejected(main_reason(outcome.dropped), outcome.dropped)
    return outcome


def _remove_other_files(clip: Clip, pipeline: Pipeline) -> None:
    """Remove what stages that are not part of the pipeline wrote of an earlier motion, such as its preview."""
    names = {stage.name for stage in pipeline}
    for stage in STAGES.values():
        for file in stage.files if stage.name not in names else ():
            (clip.job.build / file.format(id=clip.id)).unlink(missing_ok=True)


def _import_libraries(pipeline: Pipeline, torch_is_there: Event) -> None:
    """Import what the stages after the first ones need, torch before all others."""
    try:
        # One thread: sums are reproducible, and workers do not compete for cores.
        importlib.import_module("torch").set_num_threads(1)
    finally:
        torch_is_there.set()
    modules = ["scipy.ndimage", "scipy.signal"]
    modules += [
        name for stage in pipeline for backend in stage.backends.values() for name in backend.slow_imports
    ]
    for name in modules:
        importlib.import_module(name)
