"""Build a dataset from folders of videos and record the result of every input (``opendance build``)."""

from __future__ import annotations

import errno
import glob
import logging
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import chain
from pathlib import Path
from threading import Thread

from opendance_hf.archives import is_archive
from opendance_hf.assets import sha256_of
from opendance_hf.disk import MIN_ROOM, check_room
from opendance_hf.files import atomic_write, is_in_use, remove_replaced, restore_replaced
from opendance_hf.pipeline.config import (
    CONFIG,
    dump_config,
    pipeline_fingerprint,
    prepare_pipeline,
    read_config,
    stages_in,
)
from opendance_hf.pipeline.inputs import (
    NO_REPAIRS,
    Source,
    changed_repairs,
    check_not_vanished,
    find_inputs,
    refresh_pending,
    register_inputs,
    reopen_repaired,
    selected,
)
from opendance_hf.pipeline.inputs import BuildError as BuildError
from opendance_hf.pipeline.inspection.repairs import standing_repairs
from opendance_hf.pipeline.inspection.results import outcomes
from opendance_hf.pipeline.inspection.store import Inspection
from opendance_hf.pipeline.ledger import UNFINISHED, Item, Ledger, describe_ledger_error
from opendance_hf.pipeline.pipelines import STAGES, Pipeline
from opendance_hf.pipeline.printable import printable
from opendance_hf.pipeline.process import Repairs, check_place, place_of
from opendance_hf.pipeline.repairs import REPAIRS
from opendance_hf.pipeline.runners import RUNNERS, Work
from opendance_hf.pipeline.runners.worker import Limits, NoProgress, Progress

_log = logging.getLogger(__name__)

#: Space that the results of a video need at least, in the working folder, bytes; a video of 8 s takes 12 MB.
_ROOM_PER_VIDEO = 3_000_000
#: Errors of ``flock`` on file systems without locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@dataclass(frozen=True)
class BuildOptions:
    """Options of a build.

    Args:
        pipeline: the stages; None to use the configuration stored in the build folder.
        licence: licence of the source videos, for the rows and the card: an identifier of the Hub, such as
            ``cc-by-4.0``; None to use the one stored in the build folder.
        workers: number of processor cores to use: one process each, or threads where there are fewer videos. On a Ray
            cluster, the largest number of actors of a pool.
        timeout_s: time limit for one video, seconds.
        memory_gb: memory limit of the worker of a video, in 10^9 bytes; None for no limit.
        runner: a name of :data:`opendance_hf.pipeline.runners.RUNNERS`.
        address: of a Ray cluster; None starts one on this machine.
        leave_out: files that are left for a later build; their earlier results stay published.
        gpus_per_actor: share of a GPU that an actor of a Ray pool with GPU stages takes.
        inspected_only: publish only sequences that annotators kept in both rounds. Otherwise undecided ones are published
            too.
        selection: reason to reject a video unread, by its display name; an empty reason selects it. Videos that it does
            not name are rejected. None selects all.
    """

    pipeline: Pipeline | None = None
    licence: str | None = None
    workers: int = 1
    timeout_s: float = 3600
    memory_gb: float | None = None
    runner: str = "local"
    address: str | None = None
    leave_out: Iterable[Path] = ()
    gpus_per_actor: float = 1.0
    inspected_only: bool = False
    selection: Mapping[str, str] | None = None


@dataclass(frozen=True)
class BuildResult:
    """The result of a build.

    Attributes:
        out: the dataset folder; not written when no sequence was published.
        build: the working folder with the ledger, the previews and the intermediate results.
        counts: number of inputs by status.
    """

    out: Path
    build: Path
    counts: Mapping[str, int]

    @property
    def items(self) -> list[Item]:
        """All inputs with their status and reason, read from the ledger."""
        with closing(Ledger(self.build / "ledger.sqlite")) as ledger:
            return ledger.items()

    def count(self, status: str) -> int:
        """Return how many inputs ended with a status."""
        return self.counts.get(status, 0)


def _check_output(option: str, folder: Path, paths: Iterable[Path]) -> None:
    """Refuse an output folder that is an input, or that an input lies in.

    An output folder inside a folder of videos is possible: it is not searched for videos.

    Raises:
        BuildError: naming the option and the input.
    """
    for path in paths:
        if path.resolve().is_relative_to(folder.resolve()):
            what = (
                "is an input of the build"
                if path.resolve() == folder.resolve()
                else f"contains the input {printable(path)}"
            )
            raise BuildError(f"{option} {printable(folder)} {what}: choose another folder for the output")


def _check_folders(out: Path, build: Path) -> None:
    """Refuse a working folder with foreign files, and one that lies in the dataset folder, which is replaced as a whole.

    Raises:
        BuildError: naming the folder.
    """
    if build.resolve().is_relative_to(out.resolve()):
        raise BuildError(
            f"--build-dir {printable(build)} lies in --out {printable(out)}, which is replaced as a whole: choose another "
            "folder"
        )
    if build.is_dir() and not (build / "ledger.sqlite").is_file():
        foreign = sorted(
            path.name for path in build.iterdir() if path.name not in ("lock", "ledger.sqlite-wal")
        )
        if foreign:
            raise BuildError(
                f"--build-dir {printable(build)} is not the working folder of a build and is not empty (it has "
                f"{printable(foreign[0])}): choose another folder"
            )


@contextmanager
def _ledger_errors(build: Path) -> Iterator[None]:
    """Convert errors of SQLite in the block to BuildError with the cause and the remedy."""
    try:
        yield
    except sqlite3.Error as error:
        raise BuildError(describe_ledger_error(build / "ledger.sqlite", error)) from error


def build_dataset(
    paths: Iterable[Path], out: Path, build: Path, options: BuildOptions, progress: Progress | None = None
) -> BuildResult:
    """Process all unfinished inputs and pack the published sequences into a dataset.

    A build that was killed continues when it is called again with the same folders. Sequences that annotators rejected
    in an inspection are excluded, and included again when the decision changes. Videos whose repairs have changed since
    are processed again. Videos are processed in new processes, so a script must call this below ``if __name__ == "__main__":``.

    Args:
        paths: videos and folders of videos; none to continue with the inputs in the ledger.
        out: the dataset folder to write; replaced atomically when the build is complete.
        build: working folder with the ledger, the configuration, intermediate results and previews. It contains media
            and must not be published.
        options: options of the build.
        progress: receives the status of each input, if given.

    Raises:
        BuildError: if an input is not found or lies in an output folder, another build uses the folder, or no build
            exists to continue.
        VanishedError: if a disk of the inputs is not there any more; their results stay.
        LicenceError: if the licence is not an identifier of the Hub.
        ConfigError: if a file of the pipeline's backends is missing.
        PackError: if ``out`` holds something other than an OpenDance-HF dataset.
    """
    from opendance_hf.storage.licences import check_licence

    paths = list(paths)
    asked_licence = None if options.licence is None else check_licence(options.licence)
    _check_output("--out", out, paths)
    _check_output("--build-dir", build, paths)
    _check_folders(out, build)
    pipeline = None if options.pipeline is None else prepare_pipeline(options.pipeline)
    inputs = (
        selected(find_inputs(paths, leave_out=(out, build, *options.leave_out)), options.selection)
        if paths
        else None
    )
    for stage in pipeline or ():
        if inputs and (refuse := getattr(stage, "refuse", None)):
            reasons = refuse([source.path for source in inputs])
            inputs = [replace(one, refused=one.refused or reasons.get(one.path, "")) for one in inputs]
    if os.path.lexists(out):
        from opendance_hf.storage.pack import check_replaceable

        check_replaceable(out)
    if pipeline is None and not (build / "ledger.sqlite").is_file():
        raise BuildError(f"{build}: no build to continue; name the videos, or the folder with --build-dir")
    check_room(build, option="--build-dir")
    check_room(out)
    _make_folder(build)
    with _ledger_errors(build), folder_lock(build), closing(_open_ledger(build)) as ledger:
        restore_replaced(out)
        _remove_interrupted_output(out)  # before room for the new dataset is looked for
        if inputs is not None:
            check_not_vanished(ledger, paths, inputs)
        kept = ledger.recall() or {}
        licence = asked_licence or kept.get("licence") or "other"
        repairs = _repairs(build, pipeline)
        changed = changed_repairs(ledger, repairs) if inputs is None else {}
        lost = _inputs_without_files(ledger, build, named=inputs is not None)
        if pipeline is None:
            pipeline = _stored_pipeline(ledger, build, needed=inputs is not None or bool(changed or lost))
        # Only now that the build can continue, since it deletes results.
        reopen_repaired(ledger, changed)
        for file in chain.from_iterable(lost.values()):
            file.unlink(missing_ok=True)  # a damaged one would count as written
        ledger.reopen(lost)
        # The licence is kept even where nothing is left to process. The configuration is kept before any input is
        # registered with it: a build that is killed in between continues with the configuration of its inputs.
        made = {"pipeline": pipeline_fingerprint(pipeline)} if pipeline else {}
        ledger.remember({**kept, **made, "licence": licence})
        if pipeline:
            _register(ledger, build, pipeline, inputs, repairs, options.leave_out)
            _process(ledger, pipeline, build, options, progress or NoProgress(), repairs)
        if inputs and not ledger.sequence_ids(withheld=True):  # the dataset will be removed
            check_not_vanished(ledger, paths, [])
        _apply_decisions(ledger, build, options.inspected_only)
        counts: Counter[str] = Counter(item.status for item in ledger.each_item())
        _remove_stale_files(build, set(ledger.sequence_ids(withheld=True)))
        _publish(ledger, build, out, licence)
    return BuildResult(out, build, counts)


def _make_folder(build: Path) -> None:
    try:
        build.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(
            f"{build}: the working folder cannot be created ({error.strerror}); choose another with --build-dir"
        ) from None


def _register(
    ledger: Ledger,
    build: Path,
    pipeline: Pipeline,
    inputs: list[Source] | None,
    repairs: Repairs,
    later: Iterable[Path],
) -> None:
    """Store the configuration, and enter the inputs; those of the ledger are tried again if none are given."""
    with atomic_write(build / CONFIG) as part:
        part.write_text(dump_config(pipeline), encoding="utf-8")
    if inputs is None:
        ledger.retry()
        refresh_pending(ledger, pipeline, repairs)
    else:
        register_inputs(ledger, inputs, pipeline, repairs, later)


def _open_ledger(build: Path) -> Ledger:
    """Open the ledger; one that cannot be created leaves no files and no folder."""
    file = build / "ledger.sqlite"
    is_new = not file.exists()
    try:
        return Ledger(file)
    except sqlite3.DatabaseError:
        if is_new:
            for suffix in ("", "-wal", "-shm", "-journal"):
                file.with_name(file.name + suffix).unlink(missing_ok=True)
            (build / "lock").unlink(missing_ok=True)
            with suppress(OSError):
                build.rmdir()
        raise


def _stored_pipeline(ledger: Ledger, build: Path, *, needed: bool) -> Pipeline | None:
    """Return the prepared pipeline that is stored in the build folder; None if it is not needed and all inputs are done.

    Raises:
        ConfigError: if the stored pipeline cannot be read, or a file of its backends is missing.
        BuildError: if there is no stored pipeline, or it belongs to another version of OpenDance-HF.
    """
    settings = ledger.recall()
    if settings is not None and not needed and not ledger.count(*UNFINISHED, "failed"):
        return None
    pipeline = prepare_pipeline(read_config(build / CONFIG)) if (build / CONFIG).is_file() else ()
    if not pipeline or settings is None or settings.get("pipeline") != pipeline_fingerprint(pipeline):
        raise BuildError(
            f"{build}: made by another version of OpenDance-HF, so --continue is not possible; run without --continue and "
            "name the videos"
        )
    return pipeline


def _inputs_without_files(ledger: Ledger, build: Path, *, named: bool) -> dict[str, list[Path]]:
    """Return the inputs with a sequence whose files are gone or damaged, as after a power loss, and these files.

    Args:
        ledger: the ledger.
        build: the build folder.
        named: True if the inputs of this build are named: one that is not there any more is left out of the build anyway.

    Raises:
        BuildError: if an input that is needed to make a file again is not there; the results that are left stay.
    """
    lost: dict[str, list[Path]] = {}
    for name in ledger.sequence_ids(withheld=True):
        sequence, fingerprint = (build / place / f"{name}.npz" for place in ("sequences", "fingerprints"))
        files = [] if is_archive(sequence) else [sequence]
        if fingerprint.exists() and not is_archive(fingerprint):  # builds of older versions have none
            files.append(fingerprint)
        if not files:
            continue
        (path,) = ledger.paths_of([name])
        if Path(path).is_file():
            lost.setdefault(path, []).extend(files)
        elif not named:
            raise BuildError(
                f"{printable(files[0])}: is gone or damaged, and its video {printable(path)} is not there to make it again; put "
                "the video back or restore a copy of the file, and run the same command; to leave the video out, name the others "
                "instead of --continue"
            )
    if lost:
        _log.info(f"Files of sequences are gone or damaged: {len(lost)} video(s) are processed again.")
    return lost


def _repairs(build: Path, pipeline: Pipeline | None) -> Repairs:
    """Return the repairs of annotators that the pipeline has stages for, or the stored one if there is none.

    If the stored one cannot be read, all repairs are returned: which of them were left out is not known.
    """
    with Inspection(build / "ledger.sqlite") as inspection:
        repairs = standing_repairs(inspection)
    names = {stage.name for stage in pipeline or stages_in(build / CONFIG).values()} if repairs else set()
    if not names:
        return repairs
    out = {
        video: tuple(one for one in own if REPAIRS[one.kind].stage in names) for video, own in repairs.items()
    }
    left_out = sum(map(len, repairs.values())) - sum(map(len, out.values()))
    if left_out:
        _log.info(
            f"Inspection: {left_out} repair(s) not applied, as the pipeline lacks the stage repair or cut"
        )
    return out


def _process(
    ledger: Ledger,
    pipeline: Pipeline,
    build: Path,
    options: BuildOptions,
    progress: Progress,
    repairs: Repairs = NO_REPAIRS,
) -> None:
    """Run the pipeline on every unfinished input."""
    videos = ledger.count(*UNFINISHED)
    if not videos:
        return
    check_room(build, max(MIN_ROOM, videos * _ROOM_PER_VIDEO), option="--build-dir")
    _log.info("Fetching the model weights (cached after the first time) ...")
    backends = [backend for stage in pipeline for backend in stage.backends.values()]
    for backend in backends:
        backend.fetch()
    # This process is idle while the workers run: import the code that groups and packs meanwhile.
    imports = Thread(target=_import_packing, daemon=True)
    imports.start()
    memory = None if options.memory_gb is None else int(options.memory_gb * 1e9)
    limits = Limits(options.timeout_s, memory)
    work = Work(
        pipeline,
        build.absolute(),
        videos,
        options.workers,
        limits,
        repairs,
        options.address,
        options.gpus_per_actor,
    )
    place = place_of(build)
    RUNNERS[options.runner](ledger, work, progress)
    check_place(build, place)


def _import_packing() -> None:
    for module in ("opendance_hf.pipeline.group", "datasets", "scipy.cluster.hierarchy"):
        import_module(module)


def _apply_decisions(ledger: Ledger, build: Path, inspected_only: bool) -> None:
    """Withhold sequences that annotators rejected and, with ``inspected_only``, those without a decision."""
    reasons: dict[str, tuple[bool, str]] = {}
    with Inspection(build / "ledger.sqlite") as inspection:
        if inspected_only or inspection.has_decisions():
            inspection.refresh(build)
            by_sequence = outcomes(inspection)
            for name, outcome in by_sequence.items():
                if outcome.state == "rejected" or (inspected_only and outcome.state == "open"):
                    reasons[name] = (outcome.state == "rejected", outcome.text)
            counts = Counter(outcome.state for outcome in by_sequence.values())
            undecided = "withheld" if inspected_only else "published; --inspected-only withholds them"
            _log.info(
                f"Inspection: {counts['kept']} kept, {counts['rejected']} rejected, {counts['open']} not decided"
                + (f" ({undecided})" if counts["open"] else "")
            )
    ledger.withhold(reasons)


def _publish(ledger: Ledger, build: Path, out: Path, licence: str) -> None:
    """Pack the sequences that are not withheld; remove the dataset if there are none."""
    from opendance_hf.pipeline.group import assign_groups
    from opendance_hf.storage import pack_files

    ids = ledger.sequence_ids()
    if ids:
        _log.info("Grouping sequences that share a song or a motion ...")
        assign_groups(build, ledger, licence)
        _log.info(f"Packing {len(ids)} sequence(s) into {printable(out)} ...")
        files = [build / "sequences" / f"{name}.npz" for name in ids]
        # The Parquet and the WebDataset files.
        check_room(out, max(MIN_ROOM, 2 * sum(file.stat().st_size for file in files if file.is_file())))
        pack_files(files, out, licence=licence, figure=True)
        ledger.note_dataset(_dataset_identity(out))
    elif os.path.lexists(out):
        _withdraw(ledger, out)


def _dataset_identity(out: Path) -> str:
    """Return the path of a dataset and the hash of its card, which changes with its rows."""
    card = out / "README.md"
    # The repr of bytes: folder names may be invalid UTF-8, which SQLite's text type does not accept.
    return f"{os.fsencode(out.resolve())!r} {sha256_of(card) if card.is_file() else 'no card'}"


def _withdraw(ledger: Ledger, out: Path) -> None:
    """Remove the dataset at ``out`` if this build wrote it; used when no sequence is published any more."""
    if ledger.noted_dataset() != _dataset_identity(out):
        if any(out.iterdir()):
            _log.info(f"{printable(out)} is not removed: another build wrote it, or it was changed since.")
        return
    import pyarrow.parquet as pq

    files = out.glob("data/*/*.parquet")
    names = [name for file in files for name in pq.read_table(file, columns=["id"])["id"].to_pylist()]
    failed = {item.sha256[:16] for item in ledger.each_item() if item.status == "failed"}
    if any(name.rpartition("_")[0] in failed for name in names):
        _log.info(
            f"{printable(out)} is not removed: it has sequences of a video that failed and may succeed next time."
        )
        return
    _log.info(f"No sequence is published any more: removing the dataset in {printable(out)} ...")
    # Not "replaced", which would be put back if this process is killed while it deletes.
    removed = out.absolute().with_name(f".{out.name}.{os.getpid()}.partial")
    out.rename(removed)
    shutil.rmtree(removed)


def _remove_stale_files(build: Path, ids: set[str]) -> None:
    """Remove files of sequences that are no longer in this build, and partial files of killed processes."""
    for pattern in {name for stage in STAGES.values() for name in stage.files}:
        current = {build / pattern.format(id=name) for name in ids}
        for file in build.glob(pattern.replace("{id}", "*")):
            if file not in current and file.is_file():
                file.unlink()
        for partial in (build / pattern).parent.glob(".*.part*"):
            partial.unlink()
    for partial in (build / "work").rglob(".*.partial"):
        partial.unlink()


def _remove_interrupted_output(out: Path) -> None:
    """Remove temporary folders beside the dataset that a build left when it was killed while packing.

    Those that another process is packing into stay.
    """
    remove_replaced(out)
    for folder in out.absolute().parent.glob(f".{glob.escape(out.name)}.*.partial"):
        # A further dot means another dataset whose name begins with this one's.
        own = "." not in folder.name.removeprefix(f".{out.name}.").removesuffix(".partial")
        if own and not is_in_use(folder):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def folder_lock(folder: Path, option: str = "--build-dir") -> Iterator[None]:
    """Hold the lock of a folder that ``option`` names, such as that of a build; the operating system releases it when the process ends.

    Raises:
        BuildError: if another process holds it, or the file system has no locks.
    """
    try:
        import fcntl
    except ModuleNotFoundError:
        raise BuildError(
            "a build needs the file locks of Linux or macOS; on Windows, run it in WSL 2"
        ) from None
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(file.fileno()), os.stat(folder / "lock")):
                raise BlockingIOError  # the one who held it has removed it, and another one may hold the next
        except OSError as error:
            if error.errno in _NO_LOCKS:
                raise BuildError(
                    f"{folder}: file locks are not supported there ({error.strerror}), as on some network file systems; "
                    f"choose a folder on a local disk with {option}"
                ) from None
            # EAGAIN, or EACCES on some systems; or its owner has just removed it.
            if not isinstance(error, BlockingIOError | PermissionError | FileNotFoundError):
                raise BuildError(
                    f"{folder}: cannot be locked ({error.strerror}); choose another {option}"
                ) from None
            raise BuildError(
                f"{folder}: another build is using this folder; wait for it, or choose another with {option}"
            ) from None
        yield
