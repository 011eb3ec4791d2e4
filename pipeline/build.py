"""``opendance build``: a folder of videos in, a dataset out, every input accounted for."""

from __future__ import annotations

import glob
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

from opendance_hf.assets import asset_files, sha256_of
from opendance_hf.errors import OpenDanceError
from opendance_hf.pipeline.inspection.results import outcomes
from opendance_hf.pipeline.inspection.store import Inspection
from opendance_hf.pipeline.ledger import DONE, Item, Ledger
from opendance_hf.pipeline.names import printable
from opendance_hf.pipeline.runners.local import Processor, Progress, run_local
from opendance_hf.pipeline.settings import REVISION, Settings

_OUTSIDE = (
    "a link that leads out of the folder; give the file it points to by name, or copy it into the folder"
)
#: Read beside the videos, not as videos.
_NOT_INPUTS = {"thumbs.db", "desktop.ini"}


class BuildError(OpenDanceError, RuntimeError):
    """A build that cannot start; the message says what to change."""


@dataclass(frozen=True)
class Source:
    """An input: where it lies, the name to show (always printable UTF-8), and why it is refused unread, if it is."""

    path: Path
    name: str
    refused: str = ""


@dataclass(frozen=True)
class BuildResult:
    """What a build came to.

    Attributes:
        out: the dataset folder; not written when nothing was published.
        build: the folder with the ledger, the previews and the intermediate results.
        items: every input with its status and reason.
    """

    out: Path
    build: Path
    items: list[Item]

    def count(self, status: str) -> int:
        """How many inputs ended with a status."""
        return sum(item.status == status for item in self.items)


def find_inputs(paths: Iterable[Path], leave_out: Iterable[Path] = ()) -> list[Source]:
    """Files to process, in the order of their paths: the files given, and every file below the folders given.

    Hidden files are left out; everything else counts as an input, so that a file that is no video is reported rather
    than overlooked. A link that leads out of the folder it was found in is refused: whoever gave the folder did not
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
    build: Path
    settings: Settings
    threads: int

    def __call__(self) -> Processor:
        # Imported in the workers only: the models and what they run on take seconds to load.
        from opendance_hf.pipeline.process import VideoProcessor

        return VideoProcessor(self.build, self.settings, self.threads)


def build_dataset(
    paths: Iterable[Path],
    out: Path,
    build: Path,
    settings: Settings | None,
    *,
    workers: int,
    timeout_s: float,
    progress: Progress,
    tell: Callable[[str], None],
    inspected_only: bool = False,
    selection: Mapping[str, str] | None = None,
) -> BuildResult:
    """Process all inputs that are not done yet, then pack what was published into a dataset.

    A build that was killed, at any moment, goes on where it was when it is called again with the same folders. What
    people rejected in an inspection is left out; it is published again when they decide otherwise.

    Args:
        paths: videos and folders of videos; none to go on with the inputs that the ledger knows, as they were.
        out: the dataset folder to write; replaced as a whole when the build is complete.
        build: working folder: ledger, intermediate results, previews; contains media, never published.
        settings: what the results depend on; None to go on with those of the build.
        workers: processor cores to use: a process each, or threads where there are fewer videos.
        timeout_s: time limit for one video.
        progress: shows what happens to each input.
        tell: prints a line for people.
        inspected_only: publish only what people kept in both rounds; without it, also what they have not decided.
        selection: by name (as inputs are shown), why a video is rejected unread, empty if it is not; a video without a name in it is too.

    Raises:
        BuildError: if the inputs cannot be found, another build uses the folder, or there is none to go on with.
        PackError: if ``out`` holds something that is not a dataset of ours.
        GenreError: if the genre classifier cannot be used.
    """
    paths = list(paths)
    inputs = find_inputs(paths, leave_out=(out, build)) if paths else None
    if selection is not None and inputs is not None:
        if not any(source.name in selection for source in inputs):
            raise BuildError(
                f"the list of selected videos names none of the {len(inputs)} input(s), such as {inputs[0].name}: give "
                "the folder that its names are relative to"
            )
        unnamed = "not in the list of selected videos"
        inputs = [replace(s, refused=s.refused or selection.get(s.name, unnamed)) for s in inputs]
    if os.path.lexists(out):
        from opendance_hf.storage.pack import check_replaceable

        check_replaceable(out)
    if settings is None and not (build / "ledger.sqlite").is_file():
        raise BuildError(f"{build}: no build to go on with; name the videos, or the folder with --build-dir")
    if settings is not None and settings.genre_model:
        from opendance_hf.pipeline.stages.genre import check_genre_model, genre_version

        check_genre_model(settings.genre_model)
        settings = replace(settings, genre_version=genre_version(settings.genre_model))
    try:
        build.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(
            f"{build}: the working folder cannot be made ({error.strerror}); choose another with --build-dir"
        ) from None
    with _only_one(build):
        try:
            ledger = Ledger(build / "ledger.sqlite")
        except sqlite3.DatabaseError as error:
            raise BuildError(
                f"{build / 'ledger.sqlite'}: not a ledger, or a damaged one ({error}); restore it, or choose another "
                "folder with --build-dir"
            ) from None
        try:
            if inputs is None:
                ledger.retry()
            going_on = settings is None
            if settings is None:
                settings = _recall(ledger, build, inputs)
            if inputs is not None:
                _enter(ledger, inputs, settings)
            ledger.remember(asdict(settings))
            if any(item.status not in DONE for item in ledger.items()):
                if going_on:
                    _check_models(settings)
                tell("Looking for the model weights (fetched once, then cached) ...")
                for name in ("nanodet", "blazepose"):
                    if name != "nanodet" or not settings.choice.detector:
                        asset_files(name)
                # With fewer videos than workers, each works on one video in several threads.
                videos = sum(item.status not in DONE for item in ledger.items())
                workers, threads = min(workers, videos), max(1, workers // videos)
                make = _MakeProcessor(build.absolute(), settings, threads)
                # This process waits for the others: it may as well load what it packs with.
                Thread(target=import_module, args=("opendance_hf.pipeline.group",), daemon=True).start()
                run_local(ledger, make, workers=workers, timeout_s=timeout_s, progress=progress)
            from opendance_hf.pipeline.group import assign_groups
            from opendance_hf.storage import load_sequence, pack

            _inspect(ledger, build, inspected_only, tell)
            items = ledger.items()
            rows = ledger.sequences()
            _tidy(build, {row["id"] for row in ledger.sequences(withheld=True)})
            if rows:
                tell("Looking for songs and motions that videos share ...")
                assign_groups(build, ledger, tell)
                tell(f"Packing {len(rows)} sequence(s) into {printable(out)} ...")
                files = (build / "sequences" / f"{row['id']}.npz" for row in rows)
                pack((load_sequence(file) for file in files), out, licence=settings.licence, figure=True)
                ledger.note_dataset(_identity(out))
            elif os.path.lexists(out):
                _withdraw(ledger, out, items, tell)
            _sweep(out)
        finally:
            ledger.close()
    return BuildResult(out, build, items)


def _enter(ledger: Ledger, inputs: list[Source], settings: Settings) -> None:
    """Enter all inputs, and reject what needs no look inside; of the same content, the first in order of path counts."""
    ledger.keep_only([os.fspath(source.path) for source in inputs])
    first: dict[str, Source] = {}
    for source in inputs:
        key, digest, refused = os.fspath(source.path), "unread", source.refused
        if not refused and source.path.is_file():
            try:
                digest = sha256_of(source.path)
                same = first.setdefault(digest, source)
                if same is not source and source.path.stat().st_size > 0:
                    refused = f"same content as {same.name}"
            except OSError as error:
                refused = f"the file cannot be read ({error.strerror}); check its permissions"
        # A decision made here is made anew in every build: the file it hangs on may be gone by then.
        ledger.add(key, source.name, digest, "refused" if refused else settings.fingerprint)
        if refused:
            ledger.finish(key, "rejected", refused, 0.0)


def _recall(ledger: Ledger, build: Path, inputs: list[Source] | None) -> Settings:
    """The settings that this build was made with; those of another version will do where nothing is left to process."""
    values = ledger.recall()
    known = {field.name for field in fields(Settings)}
    # Builds from before the classifier's version was kept lack that alone.
    ours = values is not None and {*values, "genre_version"} == known and values["revision"] == REVISION
    unfinished = inputs is not None or any(item.status not in DONE for item in ledger.items())
    if values is None or (unfinished and not ours):
        raise BuildError(
            f"{build}: made by another version of OpenDance-HF, so it cannot go on as it was; "
            "leave out --continue and name the videos and their --licence"
        )
    settings: Settings = _restored(Settings(), values)
    return settings


def _check_models(settings: Settings) -> None:
    """Look at the models of a build that goes on: they may have gone or changed since."""
    from opendance_hf.pipeline.paper import check_unchanged

    check_unchanged(settings.choice)
    if settings.genre_model:
        from opendance_hf.pipeline.stages.genre import check_genre_model, genre_version

        check_genre_model(settings.genre_model)
        if settings.genre_version not in ("", genre_version(settings.genre_model)):
            raise BuildError(
                f"{settings.genre_model}: not the --genre-model that the build was made with; put that back, or leave "
                "out --continue to process all videos with this one"
            )


def _restored(usual: Any, value: Any) -> Any:
    """A setting as it was before it became JSON, after the example of its usual value."""
    if is_dataclass(usual) and isinstance(value, dict):
        known = {field.name for field in fields(usual)} & set(value)
        return replace(usual, **{name: _restored(getattr(usual, name), value[name]) for name in known})  # type: ignore[type-var]
    return tuple(_restored(None, part) for part in value) if isinstance(value, list) else value


def _inspect(ledger: Ledger, build: Path, inspected_only: bool, tell: Callable[[str], None]) -> None:
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
            tell(
                f"Inspection: {counts['kept']} kept, {counts['rejected']} rejected, {counts['open']} not decided"
                + (f" ({undecided})" if counts["open"] else "")
            )
    ledger.withhold(reasons)


def _identity(out: Path) -> str:
    """Where a dataset lies and what it is: changes with its rows."""
    card = out / "README.md"
    # As bytes: the name of a folder need not be UTF-8, and the ledger's text must be.
    return f"{os.fsencode(out.resolve())!r} {sha256_of(card) if card.is_file() else 'no card'}"


def _withdraw(ledger: Ledger, out: Path, items: list[Item], tell: Callable[[str], None]) -> None:
    """Remove the dataset of a build that publishes nothing any more, if it is this build's."""
    if ledger.noted_dataset() != _identity(out):
        if any(out.iterdir()):
            tell(f"{printable(out)} is left as it is: another build made it, or it was changed since.")
        return
    import pyarrow.parquet as pq

    files = out.glob("data/*/*.parquet")
    names = [name for file in files for name in pq.read_table(file, columns=["id"])["id"].to_pylist()]
    failed = {item.sha256[:16] for item in items if item.status == "failed"}
    if any(name.rpartition("_")[0] in failed for name in names):
        tell(
            f"{printable(out)} is left as it is: it has sequences of a video that failed, which may come again."
        )
        return
    # What was withdrawn must not stay published.
    tell(f"Nothing is published any more: removing the dataset in {printable(out)} ...")
    gone = out.absolute().with_name(f".{out.name}.{os.getpid()}.replaced")
    out.rename(gone)
    shutil.rmtree(gone)


def _tidy(build: Path, ids: set[str]) -> None:
    """Remove sequences and previews that are no longer part of this build, and half-written files of killed ones."""
    for folder in ("sequences", "previews", "clips", "prints"):
        for file in (build / folder).glob("*"):
            if file.stem not in ids:
                shutil.rmtree(file) if file.is_dir() else file.unlink()
    for file in (build / "work").rglob("*.part"):
        file.unlink()


def _sweep(out: Path) -> None:
    """Remove what a build that was killed while it packed left beside the dataset, now that this one is whole."""
    for suffix in ("partial", "replaced"):
        for folder in out.absolute().parent.glob(f".{glob.escape(out.name)}.*.{suffix}"):
            # Not that of another dataset, whose name goes on after the dot.
            if "." not in folder.name.removeprefix(f".{out.name}.").removesuffix(f".{suffix}"):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _only_one(build: Path) -> Any:
    """Hold the build folder's lock; the system frees it when the process ends, however it ends."""
    import fcntl

    with (build / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BuildError(f"{build}: another build is using this folder") from None
        yield
