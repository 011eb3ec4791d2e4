"""``opendance build``: a folder of videos in, a dataset out, every input accounted for."""

from __future__ import annotations

import glob
import logging
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from threading import Thread

from opendance_hf.assets import sha256_of
from opendance_hf.errors import OpenDanceError
from opendance_hf.files import atomic_write
from opendance_hf.pipeline.config import (
    dump_config,
    pipeline_fingerprint,
    prepare_pipeline,
    read_config,
    work_fingerprint,
)
from opendance_hf.pipeline.inspection.results import outcomes
from opendance_hf.pipeline.inspection.store import Inspection
from opendance_hf.pipeline.ledger import DONE, Item, Ledger
from opendance_hf.pipeline.pipelines import STAGES, Pipeline
from opendance_hf.pipeline.printable import printable
from opendance_hf.pipeline.process import VideoProcessor
from opendance_hf.pipeline.runners.local import Progress, run_local

_log = logging.getLogger(__name__)

#: The configuration in the build folder.
CONFIG = "pipeline.yaml"
_OUTSIDE = (
    "a link that leads out of the folder; give the file it points to by name, or copy it into the folder"
)
#: Read beside the videos, not as videos.
_NOT_INPUTS = {"thumbs.db", "desktop.ini"}


class BuildError(OpenDanceError, RuntimeError):
    """A build that cannot start; the message says what to change."""


@dataclass(frozen=True)
class BuildOptions:
    """How a build is done.

    Args:
        pipeline: the stages; None to continue with those of the build folder.
        licence: of the source videos, for the rows and the card; None to continue with that of the build folder.
        workers: processor cores to use: a process each, or threads where there are fewer videos.
        timeout_s: time limit for one video.
        inspected_only: publish only what people kept in both rounds; without it, also what they have not decided.
        selection: by name (as inputs are shown), why a video is rejected unread, empty if it is not; a video without a
            name in it is rejected too.
    """

    pipeline: Pipeline | None = None
    licence: str | None = None
    workers: int = 1
    timeout_s: float = 3600
    inspected_only: bool = False
    selection: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Source:
    """An input: its path, the name to show (always printable UTF-8), and why it is refused unread, if it is."""

    path: Path
    name: str
    refused: str = ""


@dataclass(frozen=True)
class BuildResult:
    """The result of a build.

    Attributes:
        out: the dataset folder; not written when nothing was published.
        build: the folder with the ledger, the previews and the intermediate results.
        items: every input with its status and reason.
    """

    out: Path
    build: Path
    items: list[Item]

    def count(self, status: str) -> int:
        """Return how many inputs ended with a status."""
        return sum(item.status == status for item in self.items)


def find_inputs(paths: Iterable[Path], leave_out: Iterable[Path] = ()) -> list[Source]:
    """Return the files to process, in the order of their paths: the files given, and every file below the folders given.

    Hidden files are left out; everything else counts as an input, so that a file that is not a video is reported
    rather than overlooked. A link that leads out of the folder it was found in is refused: whoever gave the folder did not
    mean the rest of the disk. A file or link given by name is taken as it is.

    Args:
        paths: files and folders.
        leave_out: folders inside the given ones that are not searched (the build's own output).

    Raises:
        BuildError: if a path does not exist, or there is no input at all.
    """
    paths = list(paths)
    skipped = [folder.resolve() for folder in leave_out]
    found: dict[Path, Source] = {}
    for path in paths:
        if path.is_dir():
            root = path.resolve()
            for file in sorted(path.rglob("*")):
                name = file.relative_to(path)
                hidden = any(part.startswith(".") for part in name.parts)
                target = Path(os.path.realpath(file))  # Path.resolve raises on a link to itself
                # A folder behind a link is not searched; one inside the given folder is found on its own way.
                outside = file.is_symlink() and not target.is_relative_to(root)
                if hidden or name.name.lower() in _NOT_INPUTS or (file.is_dir() and not outside):
                    continue
                if any(target.is_relative_to(folder) for folder in skipped):
                    continue
                refused = _OUTSIDE if outside else ""
                found.setdefault(file.absolute(), Source(file.absolute(), printable(name), refused))
        elif path.exists():
            found[path.absolute()] = Source(path.absolute(), printable(path.name))
        else:
            raise BuildError(f"{printable(path)}: no such file or folder")
    if not found:
        raise BuildError(f"no files in {', '.join(map(printable, paths))}")
    return [found[path] for path in sorted(found)]


@dataclass(frozen=True)
class _MakeProcessor:
    pipeline: Pipeline
    build: Path
    threads: int

    def __call__(self) -> VideoProcessor:
        return VideoProcessor(self.pipeline, self.build, self.threads)


def build_dataset(
    paths: Iterable[Path], out: Path, build: Path, options: BuildOptions, progress: Progress
) -> BuildResult:
    """Process all inputs that are not done yet, then pack what was published into a dataset.

    A build that was killed, at any moment, continues where it was when it is called again with the same folders. What
    people rejected in an inspection is left out; it is published again when they decide otherwise.

    Args:
        paths: videos and folders of videos; none to continue with the inputs that the ledger has.
        out: the dataset folder to write; replaced as a whole when the build is complete.
        build: working folder: ledger, configuration, intermediate results, previews; contains media, never published.
        options: how it is done.
        progress: shows what happens to each input.

    Raises:
        BuildError: if the inputs cannot be found, another build uses the folder, or there is none to continue.
        ConfigError: if a file of the pipeline's backends is missing.
        PackError: if ``out`` holds something that is not a dataset of ours.
    """
    paths = list(paths)
    pipeline = None if options.pipeline is None else prepare_pipeline(options.pipeline)
    inputs = _selected(find_inputs(paths, leave_out=(out, build)), options.selection) if paths else None
    if os.path.lexists(out):
        from opendance_hf.storage.pack import check_replaceable

        check_replaceable(out)
    if pipeline is None and not (build / "ledger.sqlite").is_file():
        raise BuildError(f"{build}: no build to continue; name the videos, or the folder with --build-dir")
    try:
        build.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(
            f"{build}: the working folder cannot be made ({error.strerror}); choose another with --build-dir"
        ) from None
    with _only_one(build), closing(_open_ledger(build)) as ledger:
        licence = options.licence or (ledger.recall() or {}).get("licence") or "other"
        pipeline = pipeline or _kept_pipeline(ledger, build, inputs)
        if inputs is None:
            ledger.retry()
        elif pipeline:
            _enter(ledger, inputs, pipeline)
        if pipeline:
            ledger.remember({"licence": licence, "pipeline": pipeline_fingerprint(pipeline)})
            with atomic_write(build / CONFIG) as part:
                part.write_text(dump_config(pipeline), encoding="utf-8")
            _process(ledger, pipeline, build, options, progress)
        _apply_decisions(ledger, build, options.inspected_only)
        items = ledger.items()
        _tidy(build, {row["id"] for row in ledger.sequences(withheld=True)})
        _publish(ledger, build, out, licence)
        _sweep(out)
    return BuildResult(out, build, items)


def _selected(inputs: list[Source], selection: Mapping[str, str] | None) -> list[Source]:
    """Return the inputs with what a list of selected videos refuses."""
    if selection is None:
        return inputs
    if not any(source.name in selection for source in inputs):
        raise BuildError(
            f"the list of selected videos names none of the {len(inputs)} input(s), such as {inputs[0].name}: give "
            "the folder that its names are relative to"
        )
    unnamed = "not in the list of selected videos"
    return [replace(s, refused=s.refused or selection.get(s.name, unnamed)) for s in inputs]


def _open_ledger(build: Path) -> Ledger:
    try:
        return Ledger(build / "ledger.sqlite")
    except sqlite3.DatabaseError as error:
        raise BuildError(
            f"{build / 'ledger.sqlite'}: not a ledger, or a damaged one ({error}); restore it, or choose another "
            "folder with --build-dir"
        ) from None


def _kept_pipeline(ledger: Ledger, build: Path, inputs: list[Source] | None) -> Pipeline | None:
    """Return the prepared pipeline of the build folder; None if nothing is left to do."""
    kept = ledger.recall()
    if kept is not None and inputs is None and all(item.status in DONE for item in ledger.items()):
        return None
    pipeline = prepare_pipeline(read_config(build / CONFIG)) if (build / CONFIG).is_file() else ()
    if not pipeline or kept is None or kept.get("pipeline") != pipeline_fingerprint(pipeline):
        raise BuildError(
            f"{build}: made by another version of OpenDance-HF, so it cannot continue as it was; leave out --continue "
            "and name the videos"
        )
    return pipeline


def _enter(ledger: Ledger, inputs: list[Source], pipeline: Pipeline) -> None:
    """Enter all inputs, and reject what needs no look inside; of the same content, the first in order of path counts."""
    ledger.keep_only([os.fspath(source.path) for source in inputs])
    fingerprint = work_fingerprint(pipeline)
    first: dict[str, Source] = {}
    for source in inputs:
        key, digest, stamp, refused = os.fspath(source.path), "unread", "", source.refused
        if not refused and source.path.is_file():
            try:
                stat = source.path.stat()
                stamp = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
                digest = ledger.known_sha256(key, stamp) or sha256_of(source.path)
                same = first.setdefault(digest, source)
                if same is not source and stat.st_size > 0:
                    refused = f"same content as {same.name}"
            except OSError as error:
                refused = f"the file cannot be read ({error.strerror}); check its permissions"
        # A decision made here is made anew in every build: the file it depends on may be gone by then.
        ledger.add(key, source.name, digest, "refused" if refused else fingerprint, stamp)
        if refused:
            ledger.finish(key, "rejected", refused, 0.0)


def _process(
    ledger: Ledger, pipeline: Pipeline, build: Path, options: BuildOptions, progress: Progress
) -> None:
    """Run the pipeline over every input that is not done."""
    videos = sum(item.status not in DONE for item in ledger.items())
    if not videos:
        return
    _log.info("Looking for the model weights (fetched once, then cached) ...")
    backends = [backend for stage in pipeline for backend in stage.backends.values()]
    for backend in backends:
        backend.fetch()
    gpus = _count_gpus() if any(backend.uses_gpu for backend in backends) else 0
    # With fewer videos than cores, each video is processed in several threads; GPUs are not shared by workers.
    workers = min(options.workers, videos, gpus or videos)
    threads = max(1, options.workers // workers)
    make = _MakeProcessor(pipeline, build.absolute(), threads)
    # This process waits for the others: it may as well import what it packs with, torch behind webdataset included.
    imports = Thread(target=_import_all, args=("opendance_hf.storage.pack", "webdataset"), daemon=True)
    imports.start()
    run_local(ledger, make, workers=workers, timeout_s=options.timeout_s, progress=progress, gpus=gpus)
    imports.join()  # SciPy fails on a partially imported torch


def _import_all(*modules: str) -> None:
    for module in modules:
        import_module(module)


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _apply_decisions(ledger: Ledger, build: Path, inspected_only: bool) -> None:
    """Withhold what people rejected, and what they have not decided if only what they kept is wanted."""
    reasons: dict[str, tuple[bool, str]] = {}
    with Inspection(build / "ledger.sqlite") as inspection:
        if inspected_only or inspection.has_decisions():
            inspection.refresh(build)
            found = outcomes(inspection)
            for name, outcome in found.items():
                if outcome.state == "rejected" or (inspected_only and outcome.state == "open"):
                    reasons[name] = (outcome.state == "rejected", outcome.text)
            counts = Counter(outcome.state for outcome in found.values())
            undecided = "held back" if inspected_only else "published; --inspected-only holds them back"
            _log.info(
                f"Inspection: {counts['kept']} kept, {counts['rejected']} rejected, {counts['open']} not decided"
                + (f" ({undecided})" if counts["open"] else "")
            )
    ledger.withhold(reasons)


def _publish(ledger: Ledger, build: Path, out: Path, licence: str) -> None:
    """Pack the sequences that are not withheld, or withdraw the dataset if there are none."""
    from opendance_hf.pipeline.group import assign_groups
    from opendance_hf.storage import load_sequence, pack

    rows = ledger.sequences()
    if rows:
        _log.info("Looking for songs and motions that videos share ...")
        assign_groups(build, ledger, licence)
        _log.info(f"Packing {len(rows)} sequence(s) into {printable(out)} ...")
        files = (build / "sequences" / f"{row['id']}.npz" for row in rows)
        pack((load_sequence(file) for file in files), out, licence=licence, figure=True)
        ledger.note_dataset(_identity(out))
    elif os.path.lexists(out):
        _withdraw(ledger, out)


def _identity(out: Path) -> str:
    """Return where a dataset lies and what identifies it; changes with its rows."""
    card = out / "README.md"
    # As bytes: the name of a folder need not be UTF-8, and the ledger's text must be.
    return f"{os.fsencode(out.resolve())!r} {sha256_of(card) if card.is_file() else 'no card'}"


def _withdraw(ledger: Ledger, out: Path) -> None:
    """Remove the dataset of a build that publishes nothing any more, if it is this build's."""
    if ledger.noted_dataset() != _identity(out):
        if any(out.iterdir()):
            _log.info(f"{printable(out)} is left as it is: another build made it, or it was changed since.")
        return
    import pyarrow.parquet as pq

    files = out.glob("data/*/*.parquet")
    names = [name for file in files for name in pq.read_table(file, columns=["id"])["id"].to_pylist()]
    failed = {item.sha256[:16] for item in ledger.items() if item.status == "failed"}
    if any(name.rpartition("_")[0] in failed for name in names):
        _log.info(
            f"{printable(out)} is left as it is: it has sequences of a video that failed, which may come again."
        )
        return
    # What was withdrawn must not stay published.
    _log.info(f"Nothing is published any more: removing the dataset in {printable(out)} ...")
    gone = out.absolute().with_name(f".{out.name}.{os.getpid()}.replaced")
    out.rename(gone)
    shutil.rmtree(gone)


def _tidy(build: Path, ids: set[str]) -> None:
    """Remove files of sequences that are no longer part of this build, and half-written files of killed ones."""
    for folder in {Path(name).parent for stage in STAGES.values() for name in stage.files}:
        for file in (build / folder).glob("*"):
            if file.stem not in ids:
                shutil.rmtree(file) if file.is_dir() else file.unlink()
    for file in (build / "work").rglob(".*.partial"):
        file.unlink()


def _sweep(out: Path) -> None:
    """Remove what a build that was killed while it packed left beside the dataset, now that this one is complete."""
    for suffix in ("partial", "replaced"):
        for folder in out.absolute().parent.glob(f".{glob.escape(out.name)}.*.{suffix}"):
            # Not that of another dataset, whose name goes on after the dot.
            if "." not in folder.name.removeprefix(f".{out.name}.").removesuffix(f".{suffix}"):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _only_one(build: Path) -> Iterator[None]:
    """Hold the build folder's lock; the system frees it when the process ends, however it ends."""
    import fcntl

    with (build / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BuildError(f"{build}: another build is using this folder") from None
        yield
