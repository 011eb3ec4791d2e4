"""``opendance import``: datasets of other people's motion: captures, and published dance datasets.

Every item, one dance of one or more dancers, becomes rows of the dataset: resampled to 60 FPS, its skeleton rigid, the ground
at zero, with the features of its song. What is measured must be a person's: see :func:`opendance_hf.apps.plausible.check`.

Lengths of music and motion: the shorter one counts if they differ by at most :data:`MAX_DIFFERENCE_S`; otherwise the item is
rejected. Motions longer than :data:`MAX_ROW_S` are cut into equal rows.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from opendance_hf import __version__
from opendance_hf.apps.plausible import ImplausibleError, check, ground_height
from opendance_hf.errors import OpenDanceError
from opendance_hf.files import atomic_write, check_folder
from opendance_hf.formats import FORMATS, format_named
from opendance_hf.formats.detect import SUFFIXES_OF
from opendance_hf.formats.motion import Motion
from opendance_hf.formats.resample import resampled, with_poses
from opendance_hf.loading_scripts import DATASETS, Item, layout_named
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.music import AudioError, extract
from opendance_hf.music.sound import measure_sound
from opendance_hf.schema import (
    FPS,
    Backend,
    DanceSequence,
    Provenance,
    flat_dancers,
    mean_joint_speed,
    validate,
)
from opendance_hf.storage import PackReport, Splits, load_sequence, pack, save_sequence
from opendance_hf.storage.licences import LICENCES

#: Largest difference between the lengths of the dancers' files, of music and motion, seconds.
MAX_DANCERS_DIFFER_S: Final = 0.5
MAX_DIFFERENCE_S: Final = 2.0
#: Lengths of rows, seconds (paper section 3.2).
MIN_ROW_S: Final = 4.0
MAX_ROW_S: Final = 120.0
#: Version of the import: raise it when rows of the same files become others.
_VERSION: Final = 1
_AUDIO_SUFFIXES: Final = (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".aac", ".opus", ".mp4", ".mkv", ".webm")
#: Number of reasons and remarks that are printed.
_SHOWN: Final = 10
#: Tasks that are handed to the workers at a time, for each of them.
_AHEAD: Final = 4

log = logging.getLogger(__name__)


class ImportingError(OpenDanceError, ValueError):
    """Raised if nothing can be imported; the message has the path, the cause and the remedy."""


class RejectedItem(OpenDanceError, ValueError):
    """Raised for an item that is left out; the message is the reason."""


@dataclass(frozen=True)
class ImportOptions:
    """Options of :func:`import_dataset`.

    Attributes:
        audio: folder of songs; None for a dataset without music.
        licence: of the rows; by default the dataset's own, or ``unknown``.
        answers: what motion files do not tell: ``fps``, ``up``, ``names``.
        workers: number of processes.
        allow_empty: True if a dataset may have no row.
    """

    audio: Path | None = None
    licence: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    workers: int = 1
    allow_empty: bool = False


@dataclass(frozen=True)
class Outcome:
    """Result of one item.

    Attributes:
        item: its id.
        status: ``published``, ``rejected`` (by a stated rule) or ``failed`` (the file cannot be read).
        reason: why it is not published.
        rows: ids of its rows.
        split: official split, empty if there is none.
        group: the song.
        seconds: of the rows.
        notes: what was measured and should be known.
    """

    item: str
    status: str
    reason: str = ""
    rows: tuple[str, ...] = ()
    split: str = ""
    group: str = ""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImportReport:
    """Hold the results of all items and of the packing, None if nothing was published."""

    outcomes: tuple[Outcome, ...]
    pack: PackReport | None

    def count(self, status: str) -> int:
        """Return the number of items of a status."""
        return sum(outcome.status == status for outcome in self.outcomes)


def plan(name: str, source: Path, options: ImportOptions) -> list[Item]:
    """Return the items of a dataset, or of a file or folder of motion files.

    Raises:
        ImportingError: if the name is unknown or there are no such files.
        LayoutError: if the folder is not laid out as the dataset.
    """
    if not source.exists():
        raise ImportingError(f"{source}: no such file or folder")
    if name in DATASETS and source.is_dir():
        return list(layout_named(name).items(source))
    if name not in FORMATS:
        known = sorted({*DATASETS, *FORMATS})
        raise ImportingError(f"unknown format {name!r}: expected one of {', '.join(known)}")
    files = [source] if source.is_file() else _files(source, name)
    if not files:
        suffixes = ", ".join(SUFFIXES_OF.get(name, ("*",)))
        raise ImportingError(f"{source}: no files of the format {name} ({suffixes}) in the folder")
    return [
        Item(_relative(file, source), (file,), name, _relative(file, source), audio=file.stem)
        for file in files
    ]


def _files(folder: Path, name: str) -> list[Path]:
    """Return the files of a format below a folder; hidden files, and links out of the folder, are left out."""
    suffixes, root = SUFFIXES_OF.get(name, ()), folder.resolve()
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if (
            path.suffix.lower() in suffixes
            and not hidden
            and path.is_file()
            and path.resolve().is_relative_to(root)
        ):
            found.append(path)
    return found


def _relative(file: Path, source: Path) -> str:
    return file.stem if file == source else file.relative_to(source).with_suffix("").as_posix()


def import_dataset(
    name: str,
    source: Path,
    out: Path,
    options: ImportOptions,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> ImportReport:
    """Make a dataset of other people's motion.

    Rows of finished items are kept in ``OUT.import``, so that an interrupted import continues; an item is redone if its
    files, its song or the options change.

    Args:
        name: key of :data:`opendance_hf.loading_scripts.DATASETS` or :data:`opendance_hf.formats.FORMATS`.
        source: folder of the dataset, or a file or folder of motion files.
        out: folder of the dataset.
        options: see :class:`ImportOptions`.
        on_progress: called with the numbers of finished and of all items.

    Raises:
        ImportingError: if there is nothing to import, or nothing can be published.
        OpenDanceError: of the layout, or of packing.
        OSError: if files cannot be written.
    """
    items = plan(name, source, options)
    if repeated := [key for key, count in Counter(item.id for item in items).items() if count > 1]:
        raise ImportingError(f"{source}: several items have the id {repeated[0]!a}")
    licence = options.licence or (layout_named(name).LICENCE if name in DATASETS else "unknown")
    work = out.with_name(f"{out.name}.import")
    rows = work / "sequences"
    rows.mkdir(parents=True, exist_ok=True)
    songs = _songs(options.audio)
    tasks = [_Task(item, songs, rows, licence, options.answers) for item in items]
    outcomes = tuple(_run(tasks, options.workers, on_progress))
    published = [row for outcome in outcomes for row in outcome.rows]
    splits = {row: outcome.split for outcome in outcomes for row in outcome.rows if outcome.split}
    packed = None
    if published:
        sequences = (load_sequence(rows / f"{row}.npz") for row in sorted(published))
        packed = pack(
            sequences,
            out,
            licence=licence if licence in LICENCES else "other",
            splits=Splits(official=splits),
        )
    with atomic_write(work / "report.json") as partial:
        partial.write_text(
            json.dumps([asdict(outcome) for outcome in outcomes], indent=2) + "\n", encoding="utf-8"
        )
    if not published and not options.allow_empty:
        shown = "; ".join(f"{o.item}: {o.reason}" for o in outcomes[:3])
        raise ImportingError(
            f"{source}: none of {len(items)} item(s) can be published ({shown}); see {work / 'report.json'}"
        )
    return ImportReport(outcomes, packed)


def _songs(folder: Path | None) -> dict[str, Path] | None:
    """Return the songs of a folder by their names without suffix."""
    if folder is None:
        return None
    if not folder.is_dir():
        raise ImportingError(f"{folder}: --audio is not a folder of songs")
    files = (
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in _AUDIO_SUFFIXES and path.is_file()
    )
    songs: dict[str, Path] = {}
    for path in files:
        songs.setdefault(path.stem, path)
    if not songs:
        raise ImportingError(f"{folder}: no songs in the folder ({', '.join(_AUDIO_SUFFIXES)})")
    return songs


@dataclass(frozen=True)
class _Task:
    """Hold what a worker needs for one item; ``songs`` is None for a dataset without music."""

    item: Item
    songs: dict[str, Path] | None
    rows: Path
    licence: str
    answers: dict[str, Any]

    def alone(self) -> _Task:
        """Return the task with the song of its item only, so that little is sent to the worker."""
        if self.songs is None or self.item.audio is None:
            return self
        song = self.songs.get(self.item.audio)
        return replace(self, songs={} if song is None else {self.item.audio: song})


def _run(tasks: Sequence[_Task], workers: int, on_progress: Callable[[int, int], None]) -> Iterator[Outcome]:
    """Yield the outcomes in the order of the tasks; only some tasks are in the workers' hands at a time."""
    if workers <= 1 or len(tasks) == 1:
        for number, task in enumerate(tasks, start=1):
            yield import_item(task.alone())
            on_progress(number, len(tasks))
        return
    results: dict[int, Outcome] = {}
    pending: dict[Future[Outcome], int] = {}
    upcoming = iter(enumerate(tasks))
    yielded = 0
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        while yielded < len(tasks):
            while len(pending) < workers * _AHEAD and (following := next(upcoming, None)) is not None:
                pending[pool.submit(import_item, following[1].alone())] = following[0]
            finished, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                number = pending.pop(future)
                try:
                    results[number] = future.result()
                except BrokenProcessPool:
                    raise ImportingError(
                        f"a worker was killed, perhaps for memory, near {tasks[number].item.id}; run the command again, with "
                        "fewer --workers: finished items are kept"
                    ) from None
            while yielded in results:
                yield results.pop(yielded)
                yielded += 1
                on_progress(yielded, len(tasks))


def import_item(task: _Task) -> Outcome:
    """Make the rows of one item, or say why there are none; nothing but the disk's errors is raised."""
    item = task.item
    if item.ignored:
        return Outcome(item.id, "rejected", item.ignored)
    try:
        key = _key(task)
        record = task.rows / f"{key}.json"
        if (kept := _kept(record, task.rows)) is not None:
            return kept
        outcome = _make_rows(task, key)
    except (RejectedItem, ImplausibleError) as error:
        return Outcome(item.id, "rejected", str(error))
    except (OpenDanceError, FileNotFoundError, MemoryError) as error:
        return Outcome(item.id, "failed", str(error) or type(error).__name__)
    with atomic_write(record) as partial:
        partial.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    return outcome


def _kept(record: Path, rows: Path) -> Outcome | None:
    """Return the outcome of an earlier run whose rows are all there."""
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        outcome = Outcome(**{**found, "rows": tuple(found["rows"]), "notes": tuple(found["notes"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return outcome if all((rows / f"{row}.npz").is_file() for row in outcome.rows) else None


def _key(task: _Task) -> str:
    """Return the hash of all that the rows depend on."""
    item, total = task.item, hashlib.sha256()
    said = (item.id, item.format, item.group, item.split, item.audio_start_s, sorted(item.answers.items()))
    total.update(
        repr((said, task.licence, sorted(task.answers.items()), _VERSION, task.songs is None)).encode()
    )
    for path in [*item.motions, *_song_of(task)]:
        total.update(_digest(path).encode())
    return total.hexdigest()[:24]


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RejectedItem(f"{path}: cannot be read ({error.strerror})") from None


def _song_of(task: _Task) -> list[Path]:
    """Return the song of an item; none for a dataset without music."""
    if task.songs is None:
        return []
    song = task.songs.get(task.item.audio or "")
    if song is None:
        raise RejectedItem(f"no song {task.item.audio or ''!a} in the folder of --audio")
    return [song]


def _make_rows(task: _Task, key: str) -> Outcome:
    item = task.item
    motion = resampled(with_poses(_read(task)), FPS)
    height = ground_height(motion.joints)
    assert motion.transl is not None
    motion = replace(motion, joints=motion.joints - [0, height, 0], transl=motion.transl - [0, height, 0])
    notes = check(motion)
    start = round(item.audio_start_s * FPS) / FPS
    frames = motion.num_frames
    songs = _song_of(task)
    for song in songs:
        try:
            left = float(measure_sound(song).ends_s[-1]) - start
        except AudioError as error:
            raise RejectedItem(str(error)) from None
        if abs(left - frames / FPS) > MAX_DIFFERENCE_S:
            raise RejectedItem(
                f"the motion lasts {frames / FPS:.1f} s and its song {left:.1f} s from {start:g} s on: they differ by more than "
                f"{MAX_DIFFERENCE_S:g} s"
            )
        frames = min(frames, int(left * FPS))
    if frames < MIN_ROW_S * FPS:
        raise RejectedItem(f"lasts {frames / FPS:.2f} s, rows need at least {MIN_ROW_S:g} s")
    count = -(-frames // round(MAX_ROW_S * FPS))
    edges = np.linspace(0, frames, count + 1).round().astype(int)
    rows = []
    for number, (first, end) in enumerate(itertools.pairwise(edges)):
        name = f"{key}_{number:02d}"
        save_sequence(task.rows / f"{name}.npz", _row(task, motion, songs, name, (int(first), int(end))))
        rows.append(name)
    return Outcome(
        item.id, "published", "", tuple(rows), item.split or "", item.group, frames / FPS, tuple(notes)
    )


def _read(task: _Task) -> Motion:
    """Read the dancers of an item into one motion of equal lengths."""
    item, module = task.item, format_named(task.item.format)
    parts = [module.read(path, **{**item.answers, **task.answers}) for path in item.motions]
    if len({part.fps for part in parts}) != 1:
        raise RejectedItem(
            f"the files of its dancers have the rates {', '.join(f'{part.fps:g}' for part in parts)}"
        )
    lengths = [part.num_frames for part in parts]
    if (max(lengths) - min(lengths)) / parts[0].fps > MAX_DANCERS_DIFFER_S:
        raise RejectedItem(f"the files of its dancers have {', '.join(map(str, lengths))} frames")
    if len(parts) == 1:
        return parts[0]
    parts = [with_poses(part) for part in parts]
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(part, name)[:, : min(lengths)] for part in parts])
        for name in ("joints", "poses", "transl")
    }
    offsets = np.concatenate([part.rest_offsets for part in parts if part.rest_offsets is not None])
    return replace(parts[0], **arrays, rest_offsets=offsets, betas=None, confidence=None)


def _row(
    task: _Task, motion: Motion, songs: Sequence[Path], name: str, span: tuple[int, int]
) -> DanceSequence:
    """Return one row: a span of the motion with the features of its part of the song."""
    item, (first, end) = task.item, span
    poses, transl, offsets = motion.poses, motion.transl, motion.rest_offsets
    assert poses is not None
    assert transl is not None
    assert offsets is not None
    poses, transl = poses[:, first:end].astype(np.float32), transl[:, first:end].astype(np.float32)
    offsets = offsets.astype(np.float32)
    joints = forward_kinematics(poses, transl, offsets[:, None])
    confidence = (
        np.ones(joints.shape[:2], np.float32)
        if motion.confidence is None
        else motion.confidence[:, first:end]
    )
    music: dict[str, Any] = {"music_beats": np.zeros(0, np.int32)}
    if songs:
        start = item.audio_start_s + first / FPS
        found = extract(songs[0], start, start + (end - first) / FPS, end - first)
        music = {name: getattr(found, name) for name in found.__dataclass_fields__}
    backends = [Backend("import", item.format, __version__)]
    betas = motion.betas
    row = DanceSequence(
        id=name,
        group=_name("song" if songs else "file", item.group),
        num_dancers=len(poses),
        num_frames=end - first,
        joints=flat_dancers(joints),
        smpl_pose=flat_dancers(poses),
        smpl_transl=flat_dancers(transl),
        rest_offsets=offsets.reshape(-1),
        smpl_betas=None if betas is None else betas.astype(np.float32).reshape(-1),
        motion_velocity=mean_joint_speed(joints),
        confidence=flat_dancers(confidence),
        provenance=Provenance(
            source_sha256=_digest(item.motions[0]),
            start_s=first / FPS,
            end_s=end / FPS,
            source_fps=float(item.answers.get("fps") or motion.meta.get("source_fps", motion.fps)),
            licence=task.licence,
            opendance_version=__version__,
            backends=tuple(backends),
        ),
        **music,
    )
    return validate(row)


def _name(kind: str, text: str) -> str:
    """Return the name of a group: no file name of the source is published."""
    return f"{kind}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:16]}"


def run_import(name: str, source: Path, out: Path, options: ImportOptions, console: Console) -> ImportReport:
    """Import with a progress bar; arguments and errors as of :func:`import_dataset`."""
    inputs = [source, *([options.audio] if options.audio else [])]
    check_folder(out, inputs, overwrite=True)
    if within := [path for path in inputs if path.is_dir() and out.resolve().is_relative_to(path.resolve())]:
        raise ImportingError(
            f"{out}: is in the input folder {within[0]}, which is not changed; choose another --out"
        )
    columns = (TextColumn("importing"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task("", total=None)
        return import_dataset(
            name, source, out, options, lambda done, total: bars.update(task, completed=done, total=total)
        )


def print_report(console: Console, report: ImportReport, out: Path) -> None:
    """Print what became of the items: counts, reasons, and what was measured."""

    def say(line: str, style: str | None = None) -> None:
        console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)

    for status, style in (("rejected", "yellow"), ("failed", "red")):
        reasons = [(o.reason, o.item) for o in report.outcomes if o.status == status]
        for reason, item in reasons[:_SHOWN]:
            say(f"{status}: {ascii(item)[1:-1]}: {reason}", style)
        if len(reasons) > _SHOWN:
            say(f"{status}: {len(reasons) - _SHOWN} more", style)
    notes = Counter(note for outcome in report.outcomes for note in outcome.notes)
    for note, count in notes.most_common(_SHOWN):
        say(f"note: {count} item(s): {note}")
    shared = shared_groups(report.outcomes)
    if shared:
        say(f"note: {shared} song(s) are in several of the official splits", "yellow")
    published = [outcome for outcome in report.outcomes if outcome.status == "published"]
    seconds = sum(outcome.seconds for outcome in published)
    say(
        f"{len(report.outcomes)} item(s): {len(published)} published, {report.count('rejected')} rejected, "
        f"{report.count('failed')} failed; {sum(len(o.rows) for o in published)} row(s), {seconds:.1f} s of dance"
    )
    if report.pack is not None:
        say(f"dataset:  {out}")
    say(f"report:   {out.with_name(f'{out.name}.import') / 'report.json'}")


def shared_groups(outcomes: Sequence[Outcome]) -> int:
    """Return the number of songs whose dances are in several official splits."""
    splits: dict[str, set[str]] = {}
    for outcome in outcomes:
        if outcome.split and outcome.rows:
            splits.setdefault(outcome.group, set()).add(outcome.split)
    return sum(len(found) > 1 for found in splits.values())
