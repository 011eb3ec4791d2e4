"""Take one video through the stages of a pipeline; what a worker of a runner does with an input."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread
from time import perf_counter
from typing import Final

from opendance_hf.pipeline.cache import Cache
from opendance_hf.pipeline.clip import Clip, Job
from opendance_hf.pipeline.config import pipeline_fingerprint
from opendance_hf.pipeline.ledger import Item
from opendance_hf.pipeline.outcome import Outcome, main_reason, summary
from opendance_hf.pipeline.pipelines import STAGES, Pipeline
from opendance_hf.pipeline.stage import Dropped, Rejected

#: Each thread holds two or three frames; more would be faster than frames can be decoded.
_MAX_THREADS: Final = 8


@dataclass
class StageTimes:
    """Adds up what each stage of a video took and reports it.

    Args:
        on_stage: called with the stage, its seconds so far, and how many of its runs were computed and found.
        on_step: called with the stage and the share of it that is done.
    """

    on_stage: Callable[[str, float, int, int], None]
    on_step: Callable[[str, float], None]
    totals: dict[str, tuple[float, int, int]] = field(default_factory=dict)

    def start(self, stage: str) -> Callable[[float], None]:
        """Report that a stage starts; returns what reports its progress."""
        self.on_step(stage, 0.0)
        return lambda share: self.on_step(stage, min(share, 1.0))

    def end(self, stage: str, seconds: float, computed: bool) -> None:
        """Report that a stage has ended once more."""
        before = self.totals.get(stage, (0.0, 0, 0))
        self.totals[stage] = (before[0] + seconds, before[1] + computed, before[2] + (not computed))
        self.on_stage(stage, *self.totals[stage])


class VideoProcessor:
    """Processes inputs in a worker; backends are loaded when a stage first needs them, and kept.

    Args:
        pipeline: prepared, see :func:`opendance_hf.pipeline.config.prepare_pipeline`.
        build: the build folder.
        threads: that a stage may use.
    """

    def __init__(self, pipeline: Pipeline, build: Path, threads: int) -> None:
        import av.logging
        import cv2

        # FFmpeg's remarks (what x264 thinks of the CPU) are for its developers; its errors are still printed.
        av.logging.set_libav_level(av.logging.ERROR)
        cv2.setNumThreads(1)
        self.pipeline = pipeline
        self.job = Job(build, pipeline_fingerprint(pipeline), min(threads, _MAX_THREADS))
        # torch takes seconds to import: let that be while the first stages run.
        self._torch = Thread(target=_import_torch, daemon=True)
        self._torch.start()

    def __call__(self, item: Item, on_stage: Callable[..., None], on_step: Callable[..., None]) -> Outcome:
        """Process one input.

        Raises:
            Rejected: if nothing of it can be used; the message says why.
        """
        path = Path(item.path)
        if not path.is_file():
            raise Rejected("not a regular file" if path.exists() else "a broken link, or the file is gone")
        video = Clip(path, item.sha256, key=item.sha256, job=self.job)
        return process(video, self.pipeline, StageTimes(on_stage, on_step), self._torch.join)


def process(
    video: Clip, pipeline: Pipeline, times: StageTimes, wait_for_imports: Callable[[], None] = lambda: None
) -> Outcome:
    """Take a video through all stages, depth first: the spans of a video become sequences one after another.

    Results depend on the video's content and the stages only, and every file is written atomically, so a run that was
    killed can be repeated at no loss.

    Args:
        video: the whole video, as a clip.
        pipeline: the stages.
        times: receives what happens.
        wait_for_imports: called before the first stage that may not run while libraries are imported.

    Raises:
        Rejected: if no sequence comes out of it; the message says why.
    """
    outcome = Outcome()
    cache = Cache(video.job.build, video.sha256)
    waiting = [(video, 0)]
    while waiting:
        clip, at = waiting.pop()
        if at == len(pipeline):
            outcome.sequences.append(summary(clip))
            _remove_other_files(clip, pipeline)
            continue
        stage = pipeline[at]
        if not stage.runs_while_loading:
            # SciPy inspects ``sys.modules["torch"]`` and fails on a partially imported module.
            wait_for_imports()
        job = replace(clip.job, report=times.start(stage.name))
        start = perf_counter()
        results, computed = cache.run(stage, replace(clip, number=len(outcome.sequences), job=job))
        times.end(stage.name, perf_counter() - start, computed)
        outcome.dropped += [result for result in results if isinstance(result, Dropped)]
        clips = [result for result in results if isinstance(result, Clip)]
        waiting += [(result, at + 1) for result in reversed(clips)]
    cache.close()
    if not outcome.sequences:
        raise Rejected(main_reason(outcome.dropped))
    return outcome


def _remove_other_files(clip: Clip, pipeline: Pipeline) -> None:
    """Remove what stages that are not part of the pipeline wrote of an earlier motion, such as its preview."""
    names = {stage.name for stage in pipeline}
    for stage in STAGES.values():
        for file in stage.files if stage.name not in names else ():
            (clip.job.build / file.format(id=clip.id)).unlink(missing_ok=True)


def _import_torch() -> None:
    torch = importlib.import_module("torch")
    # One thread: reproducible sums, and workers that do not fight over cores.
    torch.set_num_threads(1)
    # The first optimiser of a process imports torch's compiler, which takes as long as torch itself.
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])
