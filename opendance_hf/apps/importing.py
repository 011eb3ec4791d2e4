"""``opendance import``: a dataset from motion of other projects."""

from __future__ import annotations

import inspect
import json
import multiprocessing
import os
import re
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from opendance_hf.apps.import_item import Job, Outcome, import_item
from opendance_hf.errors import OpenDanceError
from opendance_hf.files import OutputError, atomic_write, check_folder, new_folder
from opendance_hf.formats import FORMATS, format_named
from opendance_hf.formats.detect import SUFFIXES_OF
from opendance_hf.loading_scripts import DATASETS, Item, LayoutError, layout_named
from opendance_hf.metrics.person import fall_doubt
from opendance_hf.pipeline.printable import printable
from opendance_hf.storage.licences import LICENCES, check_licence
from opendance_hf.storage.pack import PackReport, check_replaceable, pack_files
from opendance_hf.terms import TERMS

#: Suffixes of songs.
SOUNDS: Final = (
    ".wav", ".mp3", ".flac", ".m4a", ".ogg", ".opus", ".aac", ".wma", ".mp4", ".m4v", ".mov", ".mkv", ".webm",
)  # fmt: skip
#: Items in the hands of each worker.
_AHEAD: Final = 4
#: Unpublished items that the terminal shows; the report has all.
_SHOWN: Final = 12
#: Folders of the store, and names of the files in them that are ours: only these are ever removed.
_KEPT: Final = ("sequences", "items")
_ROW: Final = re.compile(r"[0-9a-f]{32}-\d+\.npz")
_ITEM: Final = re.compile(r"[0-9a-f]{32}\.json")
_PARTIAL: Final = re.compile(r"\.[0-9a-f]{32}[^/]*\.[0-9a-f]{32}\.partial")


class Named(Protocol):
    """Interface of an item to make rows of."""

    @property
    def name(self) -> str:
        """Name of the item, for people."""


JobT = TypeVar("JobT", bound=Named)


class ImportingError(OpenDanceError, ValueError):
    """Raised if nothing can be imported; the message has the folder, the cause and the remedy."""


@dataclass(frozen=True)
class ImportOptions:
    """Options of :func:`run_import`.

    Attributes:
        audio: folder of the songs; without it rows have no music.
        licence: of the motion; by default that of the dataset, or unknown.
        answers: what files do not tell, for the reader: ``fps``, ``up`` and ``names``.
        workers: processes; one item at a time in this process if it is 1.
        allow_empty: True if an import that publishes nothing is no error.
    """

    audio: Path | None = None
    licence: str | None = None
    answers: dict[str, Any] = field(default_factory=dict)
    workers: int = 1
    allow_empty: bool = False


@dataclass(frozen=True)
class ImportResult:
    """Result of :func:`run_import`.

    Attributes:
        outcomes: of every item, in their order.
        packed: the dataset; None if nothing was published.
    """

    outcomes: tuple[Outcome, ...]
    packed: PackReport | None

    def count(self, status: str) -> int:
        """Return the number of items that ended so: published, rejected or failed."""
        return sum(outcome.status == status for outcome in self.outcomes)


def run_import(name: str, path: Path, out: Path, options: ImportOptions, console: Console) -> ImportResult:
    """Make a dataset of a folder of motion files, or of one file.

    Finished items are kept in ``OUT.import``: an import that was stopped continues, and files that changed are read again.

    Args:
        name: a key of :data:`opendance_hf.loading_scripts.DATASETS` or of :data:`opendance_hf.formats.FORMATS`.
        path: the folder of the dataset, or of files of the format, or one such file.
        out: the dataset folder; an existing dataset is replaced.
        options: see :class:`ImportOptions`.
        console: shows progress and results.

    Raises:
        ImportingError: if the format is unknown, there are no files, or it does not take an answer.
        LayoutError: if the folder is not laid out as the dataset.
        LicenceError: if the licence is unknown.
        OutputError, PackError, DiskError: if ``out`` cannot be written.
    """
    out = Path(os.path.abspath(out))
    licence = _licence(name, options)
    _check_answers(name, options.answers)
    if not path.exists():
        raise ImportingError(f"{path}: no such file or folder")
    store = check_places(out, [path, *([options.audio] if options.audio else [])])
    jobs = _jobs(name, path, store, licence, options)
    if not jobs and not options.allow_empty:
        raise ImportingError(f"{path}: no {' or '.join(_suffixes(name))} files in it" if name in FORMATS else
                             f"{path}: no dances in it")  # fmt: skip
    work = Work(name, licence, import_item, options.workers)
    return make_dataset(work, jobs, out, console)


def check_places(out: Path, inputs: Sequence[Path]) -> Path:
    """Check that a dataset can be made at an absolute path; return its store, the folder of finished items.

    Raises:
        OutputError, PackError, DiskError: if ``out`` or the store holds other files or an input, or cannot be written.
        ImportingError: if the store has a report of another program.
    """
    store = out.with_name(f"{out.name}.import")
    _check_places([out, store], inputs)
    check_replaceable(out)
    _check_report(store / "report.json")
    return store


@dataclass(frozen=True)
class Work(Generic[JobT]):
    """How items become a dataset.

    Attributes:
        name: of the format, for the report.
        licence: of the rows.
        make: makes the rows of one item; runs in other processes.
        workers: processes; one item at a time in this process if it is 1.
        doing: what the progress bar calls it.
    """

    name: str
    licence: str
    make: Callable[[JobT], Outcome]
    workers: int = 1
    doing: str = "importing"


def make_dataset(
    work: Work[JobT], jobs: Sequence[JobT], out: Path, console: Console, before: Sequence[Outcome] = ()
) -> ImportResult:
    """Make the rows of items and pack them, write the report, and print the result.

    Args:
        work: see :class:`Work`.
        jobs: items of :func:`check_places`'s store.
        out: the dataset folder, absolute.
        console: shows progress and results.
        before: results of items that are known, for the report.
    """
    store = out.with_name(f"{out.name}.import")
    with new_folder(store / "sequences"), new_folder(store / "items"):
        for left in [
            path for folder in _KEPT for path in (store / folder).iterdir() if _PARTIAL.fullmatch(path.name)
        ]:
            left.unlink(missing_ok=True)
        outcomes = _without_leaks(_unique_rows([*before, *_with_progress(work, jobs, console)]))
        _write_report(store / "report.json", work.name, work.licence, outcomes)
    packed = _pack(outcomes, store, out, work.licence)
    if packed is not None:
        _forget_others(store, outcomes)
    result = ImportResult(tuple(outcomes), packed)
    _print_result(console, result, out, store)
    return result


def _licence(name: str, options: ImportOptions) -> str:
    """Return the licence of the rows: any text of a dataset's module, or a known one of the user."""
    if options.licence is not None:
        return options.licence if options.licence in TERMS else check_licence(options.licence)
    return layout_named(name).LICENCE if name in DATASETS else "unknown"


def _check_answers(name: str, answers: dict[str, Any]) -> None:
    if name not in DATASETS and name not in FORMATS:
        raise ImportingError(
            f"unknown format {name!r}: expected a dataset ({', '.join(DATASETS) or 'none here'}) or a format "
            f"({', '.join(FORMATS)})"
        )
    if answers.get("up", "y") not in ("y", "z"):
        raise ImportingError(f"--up {answers['up']}: expected y or z")
    if name in FORMATS:
        taken = inspect.signature(format_named(name).read).parameters
        if unknown := [answer for answer in answers if answer not in taken]:
            raise ImportingError(f"{name}: takes no --{unknown[0]}, since its files have it")


def _check_places(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Raise OutputError if something would be written into an input or over it, DiskError if it cannot be written."""
    for folder in outputs:
        check_folder(folder, inputs, overwrite=True)
        for read in inputs:
            if read.is_dir() and Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(read)):
                raise OutputError(
                    f"{folder}: this is in the input {read}, which is not changed; choose another --out"
                )


def _suffixes(name: str) -> tuple[str, ...]:
    if name not in SUFFIXES_OF:
        raise ImportingError(f"{name}: files of this format are written, not read")
    return SUFFIXES_OF[name]


def files_in(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the files of a folder and its subfolders, without hidden ones; folders that are links are not entered."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.suffix.lower() in suffixes)


def _jobs(name: str, path: Path, store: Path, licence: str, options: ImportOptions) -> list[Job]:
    """Return the items, with the reason for those that cannot be imported."""
    root = path if path.is_dir() else path.parent
    laid_out = _laid_out(name, path)
    items: Iterable[Item] = laid_out or []
    if laid_out is None:
        files = files_in(path, _suffixes(name)) if path.is_dir() else [path]
        items = (Item(file.stem, (file,), name, group="") for file in files)
    songs: dict[str, list[Path]] = defaultdict(list)
    for sound in files_in(options.audio, SOUNDS) if options.audio else []:
        songs[sound.stem].append(sound)
    jobs, seen = [], dict[str, str]()
    for item in items:
        shown = item.id
        if laid_out is None:
            shown = str(item.motions[0].relative_to(root))
            item = replace(item, audio=_song_of(item, songs) if options.audio else None)
        refused = item.ignored and f"left out by the authors of the dataset: {item.ignored}"
        song = None
        if options.audio and not refused:
            song, refused = _song(item, songs, options.audio)
        if item.id in seen and not refused:
            refused = f"{seen[item.id]} has the same id {item.id!r}; rename one"
        seen.setdefault(item.id, shown)
        jobs.append(
            Job(item, printable(shown), root, options.audio, song, options.answers, licence, store, refused)
        )
    return jobs


def _laid_out(name: str, path: Path) -> list[Item] | None:
    """Return the items of a dataset; None for files of a format, as those of a dataset in another layout are.

    Raises:
        LayoutError: if the folder is neither laid out as the dataset nor has files of a format of its name.
    """
    if name not in DATASETS or (name in FORMATS and not path.is_dir()):
        return None
    try:
        return list(layout_named(name).items(path))
    except LayoutError:
        if name in FORMATS and files_in(path, _suffixes(name)):
            return None
        raise


def _song_of(item: Item, songs: dict[str, list[Path]]) -> str:
    """Return the stem of a file's song: its own, or a code in its name, as AIST++ has them."""
    codes = [item.id, *item.id.split("_")]
    return next((code for code in codes if code in songs), item.id)


def _song(item: Item, songs: dict[str, list[Path]], folder: Path) -> tuple[Path | None, str]:
    """Return the file of an item's song, or the reason why there is none."""
    if item.audio is None:
        return None, "its song is unknown; import it without --audio"
    found = songs.get(item.audio, [])
    if len(found) == 1:
        return found[0], ""
    if found:
        return None, f"several songs are named {item.audio}: {', '.join(path.name for path in found)}"
    return None, f"no song {item.audio} in {folder}"


def _parent_watch() -> None:
    """End this worker when the process that started it is gone: a killed import leaves none behind."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class _Workers(Generic[JobT]):
    """Worker processes that make items in order; one that dies costs only the item that killed it."""

    def __init__(self, count: int, make: Callable[[JobT], Outcome]) -> None:
        self.count, self.make = count, make
        self.pool = self._new(count)

    @staticmethod
    def _new(count: int) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(count, mp_context=context, initializer=_parent_watch)

    def _submit(self, job: JobT) -> Future[Outcome] | None:
        try:
            return self.pool.submit(self.make, job)
        except BrokenProcessPool:
            return None

    def _alone(self, job: JobT) -> Outcome:
        with self._new(1) as pool:
            try:
                return pool.submit(self.make, job).result()
            except BrokenProcessPool:
                why = "the process that read it died; is the file damaged, or too large for the memory?"
                return Outcome(job.name, "failed", why)

    def run(self, jobs: Iterable[JobT]) -> Iterator[Outcome]:
        """Yield the result of each item in order."""
        coming = iter(jobs)
        waiting: deque[tuple[JobT, Future[Outcome] | None]] = deque()
        try:
            while True:
                while len(waiting) < _AHEAD * self.count and (job := next(coming, None)) is not None:
                    waiting.append((job, self._submit(job)))
                if not waiting:
                    return
                job, future = waiting.popleft()
                try:
                    if future is None:
                        raise BrokenProcessPool
                    outcome = future.result()
                except BrokenProcessPool:
                    self.pool.shutdown(cancel_futures=True)
                    outcome = self._alone(job)
                    self.pool = self._new(self.count)
                    waiting = deque((job, self._submit(job)) for job, _ in waiting)
                yield outcome
        finally:
            self.pool.shutdown(cancel_futures=True)


def _with_progress(work: Work[JobT], jobs: Sequence[JobT], console: Console) -> Iterator[Outcome]:
    count = min(work.workers, len(jobs))
    outcomes = map(work.make, jobs) if count <= 1 else _Workers(count, work.make).run(jobs)
    columns = (
        TextColumn(work.doing), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[bad]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task, bad = bar.add_task("", total=len(jobs), bad=""), 0
        for outcome in outcomes:
            bad += outcome.status != "published"
            bar.update(task, advance=1, bad=f"{bad} not published" if bad else "")
            yield outcome


def _unique_rows(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Reject items whose row has the id of an earlier one."""
    found, seen = [], dict[str, str]()
    for outcome in outcomes:
        taken = [row.id for row in outcome.rows if row.id in seen]
        if taken:
            reason = f"{seen[taken[0]]} has the same id {taken[0]!r}; rename one"
            outcome = Outcome(outcome.name, "rejected", reason)
        seen |= {row.id: outcome.name for row in outcome.rows}
        found.append(outcome)
    return found


def _without_leaks(outcomes: list[Outcome]) -> list[Outcome]:
    """Reject items of no official split whose song is in an official one that is held out: training must not hear it."""
    held = {
        row.group: outcome.split
        for outcome in outcomes
        for row in outcome.rows
        if outcome.split not in (None, "train")
    }
    found = []
    for outcome in outcomes:
        split = next((held[row.group] for row in outcome.rows if row.group in held), None)
        if outcome.split is None and split is not None:
            reason = f"its song is in the official {split} split, and it is in none"
            outcome = Outcome(outcome.name, "rejected", reason)
        found.append(outcome)
    return found


def shared_groups(outcomes: Iterable[Outcome]) -> dict[str, list[str]]:
    """Return the groups that official splits share, with these splits."""
    splits: dict[str, set[str]] = defaultdict(set)
    for outcome in outcomes:
        for row in outcome.rows:
            if outcome.split:
                splits[row.group].add(outcome.split)
    return {group: sorted(found) for group, found in sorted(splits.items()) if len(found) > 1}


def _check_report(path: Path) -> None:
    """Check that a report may be replaced.

    Raises:
        ImportingError: if there is one that no import wrote.
    """
    if not path.exists():
        return
    try:
        ours = {"format", "counts", "items"} <= set(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        ours = False
    if not ours:
        raise ImportingError(f"{path}: was not written by an import; move it away, or choose another --out")


def _write_report(path: Path, name: str, licence: str, outcomes: Sequence[Outcome]) -> None:
    report = {
        "format": name,
        "licence": licence,
        "counts": dict(Counter(outcome.status for outcome in outcomes)),
        "checks": _checks(outcomes),
        "shared_groups": shared_groups(outcomes),
        "items": [{**asdict(outcome), "warning": outcome.warning} for outcome in outcomes],
    }
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _checks(outcomes: Sequence[Outcome]) -> str:
    """Return what was measured of all published dancers, one line; empty if there is none."""
    people = [person for outcome in outcomes if outcome.status == "published" for person in outcome.people]
    if not people:
        return ""
    legs, arms = (np.percentile([getattr(p, part) for p in people], (0, 100)) for part in ("leg_m", "arm_m"))
    slopes = [person.slope_deg for person in people if person.slope_deg is not None]
    falls = [fall for person in people for fall in person.falls_mps2]
    solved = sum(outcome.solved for outcome in outcomes)
    parts = [
        f"{len(people)} dancer(s)",
        f"legs {legs[0]:.2f} to {legs[1]:.2f} m",
        f"arms {arms[0]:.2f} to {arms[1]:.2f} m",
        f"ground level within {max(slopes):.1f} degrees" if slopes else "slope of the ground unknown",
        f"free fall {np.median(falls):.1f} m/s2 in {len(falls)} jump(s)" if falls else "nobody jumps",
        *([f"rotations of {solved} item(s) computed from positions"] if solved else []),
    ]
    return ", ".join(parts)


def _pack(outcomes: Sequence[Outcome], store: Path, out: Path, licence: str) -> PackReport | None:
    rows = [row for outcome in outcomes for row in outcome.rows]
    if not rows:
        return None
    splits = {row.id: outcome.split for outcome in outcomes for row in outcome.rows if outcome.split}
    files = [store / "sequences" / row.file for row in rows]
    return pack_files(
        files, out, splits=splits, licence=licence if licence in LICENCES else "other", figure=True
    )


def _forget_others(store: Path, outcomes: Sequence[Outcome]) -> None:
    """Remove the rows of files that changed or are gone; files of other names are not ours."""
    kept = {row.file for outcome in outcomes for row in outcome.rows}
    keys = {name.rsplit("-", 1)[0] for name in kept}
    for path in (store / "sequences").iterdir():
        if _ROW.fullmatch(path.name) and path.name not in kept:
            path.unlink()
    for path in (store / "items").iterdir():
        if _ITEM.fullmatch(path.name) and path.stem not in keys:
            path.unlink()


def _print_result(console: Console, result: ImportResult, out: Path, store: Path) -> None:
    def say(line: str, style: str | None = None) -> None:
        console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)

    bad = [outcome for outcome in result.outcomes if outcome.status != "published"]
    for outcome in bad[:_SHOWN]:
        say(f"{outcome.name}: {outcome.status} ({printable(outcome.reason)})", "red" if outcome.status == "failed" else "yellow")  # fmt: skip
    if len(bad) > _SHOWN:
        say(f"... and {len(bad) - _SHOWN} more, see the report")
    for outcome in [outcome for outcome in result.outcomes if outcome.warning][:_SHOWN]:
        say(f"warning: {outcome.name}: {outcome.warning}", "yellow")
    falls = tuple(f for o in result.outcomes for p in o.people for f in p.falls_mps2)
    if doubt := fall_doubt(falls):
        say(f"warning: over all items: {doubt}", "yellow")
    if checks := _checks(result.outcomes):
        say(f"checked:  {checks}")
    if shared := shared_groups(result.outcomes):
        say(f"warning: the official splits share {len(shared)} song(s), see the report", "yellow")
    rows = [row for outcome in result.outcomes for row in outcome.rows]
    again = sum(outcome.reused for outcome in result.outcomes)
    counts = ", ".join(f"{result.count(status)} {status}" for status in ("published", "rejected", "failed"))
    say(f"{len(result.outcomes)} item(s): {counts}; {len(rows)} sequence(s), {sum(row.seconds for row in rows):.1f} s of dance" + (f"; {again} item(s) imported before" if again else ""))  # fmt: skip
    if result.packed is None:
        say("No item was published, so no dataset was written.", "yellow")
    else:
        say(f"dataset:  {printable(out)}")
    say(f"report:   {printable(store / 'report.json')}")
