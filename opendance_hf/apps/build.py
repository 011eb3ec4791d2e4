"""Run a build in the terminal: show progress and results, write the report page, compute the exit code."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from opendance_hf.apps.console import ConsoleProgress, print_report, show_log
from opendance_hf.apps.report import MAX_LISTED, BuildReport, InputRow, SequenceRow, write_report
from opendance_hf.pipeline.backends.results import results_at
from opendance_hf.pipeline.build import BuildError, BuildOptions, BuildResult, build_dataset
from opendance_hf.pipeline.config import ConfigError, change_pipeline, read_config, set_field
from opendance_hf.pipeline.inputs import find_inputs
from opendance_hf.pipeline.ledger import DroppedSpan, Item, Ledger
from opendance_hf.pipeline.pipelines import PROFILES, Pipeline, results_pipeline
from opendance_hf.pipeline.printable import printable
from opendance_hf.pipeline.stages.preview import Preview
from opendance_hf.schema import FPS, SchemaError


@dataclass(frozen=True)
class Verdict:
    """Rules for the exit code of a build.

    Attributes:
        allow_empty: True if a build that publishes no sequence succeeds.
        strict: True if a build with a rejected or failed input fails.
    """

    allow_empty: bool = False
    strict: bool = False

    def exit_code(self, result: BuildResult) -> int:
        """Return 0 for success, 1 otherwise."""
        published = result.count("published")
        if self.strict and published < sum(result.counts.values()):
            return 1
        return 0 if published or self.allow_empty else 1


@dataclass(frozen=True)
class Shortcuts:
    """Options of ``opendance build`` that set fields of the pipeline; None and True leave them unchanged."""

    detector: str | None = None
    pose: str | None = None
    smoother: str | None = None
    genre_model: str | None = None
    max_dancers: int | None = None
    poses: str | None = None
    quality_gate: bool = True
    previews: bool = True

    def fields(self) -> dict[str, Any]:
        """Return the values of the fields to set, by ``stage.field``."""
        genre = None if self.genre_model is None else f"transformers:{self.genre_model}"
        counting = ("track", "segment") if self.poses is None else ("dancers",)
        values = {
            "detect.detector": self.detector,
            "pose.estimator": self.pose,
            "smooth.smoother": self.smoother,
            "genre.classifier": genre,
            **{f"{stage}.max_dancers": self.max_dancers for stage in counting},
            "gate.reject": None if self.quality_gate else False,
        }
        return {place: value for place, value in values.items() if value is not None}


def make_pipeline(
    profile: str, config: Path | None, shortcuts: Shortcuts, changes: Iterable[str]
) -> Pipeline:
    """Return the pipeline that the options of ``opendance build`` describe; ``changes`` are applied last.

    Raises:
        ConfigError: if the profile, a field or a stage is unknown.
        BackendError: if a backend is unknown.
    """
    if shortcuts.poses is not None and (profile != "default" or config is not None):
        other = f"--profile {profile}" if config is None else f"--config {config}"
        raise ConfigError(f"--poses has a pipeline of its own: leave out {other}")
    if profile not in PROFILES:
        raise ConfigError(f"unknown profile {profile!r}: expected {' or '.join(PROFILES)}")
    if config is not None and profile != "default":
        raise ConfigError(f"--config {config} lists the stages itself: leave out --profile {profile}")
    if shortcuts.poses is not None:
        pipeline = results_pipeline(results_at(shortcuts.poses))
    else:
        pipeline = PROFILES[profile]() if config is None else read_config(config)
    for place, value in shortcuts.fields().items():
        pipeline = set_field(pipeline, place, value)
    if not shortcuts.previews:
        pipeline = tuple(stage for stage in pipeline if not isinstance(stage, Preview))
    return change_pipeline(pipeline, changes)


def run_build(
    paths: Iterable[Path], out: Path, build: Path, page: Path, options: BuildOptions, console: Console
) -> BuildResult:
    """Build a dataset and write its report page; see :func:`opendance_hf.pipeline.build.build_dataset`.

    Raises:
        BuildError: also if a sequence of the build is damaged.
    """
    with show_log(console), ConsoleProgress(console) as progress, _readable_sequences():
        result = build_dataset(paths, out, build, options, progress)
    report = report_of(result, page)
    print_report(console, report)
    write_report(page, report)
    if report.sequences:
        console.print(
            f"dataset:  {printable(out)}   (README.md, data/, webdataset/)",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        place = printable(_relative(out, Path.cwd()))
        # A bare name may also be that of a dataset of the Hub, or of one in its cache.
        load = f'load_dataset("{place if place.startswith("../") else f"./{place}"}")'
        console.print(f"load it:  {load}", markup=False, highlight=False, soft_wrap=True)
    else:
        console.print("No sequence was published, so no dataset was written.", style="yellow")
    console.print(f"look:     {printable(page)}", markup=False, highlight=False, soft_wrap=True)
    return result


def watch(
    paths: Iterable[Path], out: Path, build: Path, every_s: float, run: Callable[[set[Path]], object]
) -> None:
    """Build, and again whenever the inputs have changed, until Ctrl-C.

    Files that are being copied are left for a later build, until they stay as they are for the given time. Where no input is
    left nothing is built.

    Args:
        paths: videos and folders of videos; at first they may hold none.
        out, build: folders of the build, which are no inputs.
        every_s: how often to look, seconds.
        run: builds once, without the files that it is given.
    """
    paths = list(paths)
    built: dict[Path, tuple[int, int]] = {}
    before = _stamps(paths, (out, build))
    while True:
        time.sleep(every_s)
        now = _stamps(paths, (out, build))
        complete = {path: stamp for path, stamp in now.items() if before.get(path) == stamp}
        if complete and complete != built:
            run(now.keys() - complete.keys())
            built = complete
        before = now


def _stamps(paths: list[Path], leave_out: tuple[Path, ...]) -> dict[Path, tuple[int, int]]:
    """Return size and modification time of every input; empty if there is none."""
    stamps = {}
    with suppress(BuildError):
        for source in find_inputs(paths, leave_out):
            with suppress(OSError):  # it has gone
                stat = source.path.stat()
                stamps[source.path] = (stat.st_size, stat.st_mtime_ns)
    return stamps


@contextmanager
def _readable_sequences() -> Iterator[None]:
    try:
        yield
    except SchemaError as error:  # its message has the path of the file
        raise BuildError(
            f"{error}; restore a copy of the file, or delete it and run the same command, which makes it again from its video"
        ) from error


def report_of(result: BuildResult, page: Path) -> BuildReport:
    """Return the content of the ledger for a report page at the given path."""
    ledger = Ledger(result.build / "ledger.sqlite")
    try:
        inputs, sequences = [], []
        counts: Counter[str] = Counter()
        seconds = 0.0
        for item in ledger.each_item():
            counts[item.status] += 1
            seconds += item.seconds
            is_listed = counts[item.status] <= MAX_LISTED
            if not is_listed and item.status != "published":
                continue
            rows = ledger.sequences(item.path)
            if is_listed:
                inputs.append(_input_row(ledger, item, len(rows)))
            for row in rows:
                preview = result.build / "previews" / f"{row['id']}.mp4"
                sequences.append(
                    SequenceRow(
                        id=row["id"],
                        config=row["config"],
                        num_dancers=row["num_dancers"],
                        duration_s=row["num_frames"] / FPS,
                        bpm=row["bpm"],
                        motion_velocity=row["motion_velocity"],
                        mean_confidence=row["mean_confidence"],
                        preview=_relative(preview, page.parent) if preview.is_file() else None,
                        source=item.name,
                        metrics=row["metrics"],
                    )
                )
        dropped = ledger.drop_counts()
    finally:
        ledger.close()
    return BuildReport(inputs, sequences, dropped, dataset=result.out.name, counts=counts, seconds=seconds)


def _input_row(ledger: Ledger, item: Item, num_sequences: int) -> InputRow:
    unused = [_describe_span(span) for span in ledger.dropped(item.path)]
    reasons = [item.reason] if item.reason else []
    if not reasons:
        reasons = [f"without {name}: {why}" for name, why in ledger.withheld(item.path).items()]
        reasons += ["unused " + "; ".join(unused)] if unused else []
    return InputRow(
        name=item.name,
        status=item.status,
        reason="; ".join(reasons),
        num_sequences=num_sequences,
        seconds=item.seconds,
        stages={name: runs.seconds for name, runs in ledger.stages(item.path).items()},
    )


def _describe_span(span: DroppedSpan) -> str:
    detail = f" ({span.detail})" if span.detail else ""
    return f"{span.start_s:.1f}-{span.end_s:.1f} s: {span.reason}{detail}"


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
