"""Find the inputs of a build, and register them in its ledger."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from opendance_hf.assets import sha256_of
from opendance_hf.disk import is_disconnected
from opendance_hf.errors import OpenDanceError
from opendance_hf.files import NOT_MEDIA_SUFFIXES
from opendance_hf.pipeline.config import has_repairs, with_repairs, work_fingerprint
from opendance_hf.pipeline.inspection.store import video_of
from opendance_hf.pipeline.ledger import DONE, UNREAD, Item, Ledger
from opendance_hf.pipeline.pipelines import Pipeline
from opendance_hf.pipeline.printable import printable
from opendance_hf.pipeline.process import EMPTIED, Repairs, emptied, is_broken_link, stamp_of, vanished_disks
from opendance_hf.pipeline.stage import VanishedError

_log = logging.getLogger(__name__)

_OUTSIDE_LINK = (
    "a link that leads out of the folder; give the file it points to by name, or copy it into the folder"
)
#: File names of the operating system that are skipped in folders of videos.
_NOT_INPUTS = {"thumbs.db", "desktop.ini"}
#: Folders that an operating system keeps on every disk, for itself alone.
_SYSTEM_FOLDERS = {"lost+found", "system volume information", "$recycle.bin"}
_MAX_NAMED = 3
#: Inputs that are registered in one transaction.
_TOGETHER = 1000
#: Fingerprint of inputs that are not processed: every build checks them again, as the original of a duplicate may have been
#: removed.
_REFUSED = "refused"
#: In place of the hash of an input whose earlier results stay.
_AS_BEFORE = "as before"
#: Of videos that nobody repaired.
NO_REPAIRS: Final[Repairs] = {}


class BuildError(OpenDanceError, RuntimeError):
    """Raised when a build cannot start; the message names what to change."""


@dataclass(frozen=True)
class Source:
    """An input video.

    Attributes:
        path: path of the file.
        name: display name, always printable UTF-8.
        refused: reason to reject it without reading it; empty if there is none.
    """

    path: Path
    name: str
    refused: str = ""


def find_inputs(paths: Iterable[Path], leave_out: Iterable[Path] = ()) -> list[Source]:
    """Return the files to process, sorted by path: the given files, and all files below the given folders.

    In folders, hidden files are skipped, and texts, tables, subtitles and pictures are ignored with one line in the
    log. Every other file counts as an input, so that a file that is not a video is reported. A link that leads out of
    its folder is refused, since it may expose the rest of the disk. A file or link given by name is accepted.

    Args:
        paths: files and folders.
        leave_out: folders inside the given ones that are not searched (the build's own output).

    Raises:
        BuildError: if a path does not exist, a folder cannot be listed, or no input is found.
        OSError: of a disk that does not answer.
    """
    paths = list(paths)
    skipped = [folder.resolve() for folder in leave_out]
    found: dict[Path, Source] = {}
    ignored: dict[Path, str] = {}
    for path in paths:
        if path.is_dir():
            root = path.resolve()
            for file in _files_below(path):
                name = file.relative_to(path)
                target = Path(os.path.realpath(file))  # Path.resolve raises on a link to itself
                # Linked folders are not searched: one that lies inside the given folder is found by its own path.
                outside = file.is_symlink() and not target.is_relative_to(root)
                if name.name.lower() in _NOT_INPUTS or (file.is_dir() and not outside):
                    continue
                if any(target.is_relative_to(folder) for folder in skipped):
                    continue
                if file.suffix.lower() in NOT_MEDIA_SUFFIXES:
                    ignored[file.absolute()] = printable(name)
                    continue
                refused = _OUTSIDE_LINK if outside else ""
                found.setdefault(file.absolute(), Source(file.absolute(), printable(name), refused))
        elif path.exists():
            found[path.absolute()] = Source(path.absolute(), printable(path.name))
        else:
            raise BuildError(f"{printable(path)}: no such file or folder")
    note = _describe_ignored([name for path, name in sorted(ignored.items()) if path not in found])
    if not found:
        raise BuildError(
            f"no videos in {', '.join(map(printable, paths))}" + (f"; ignored {note}" if note else "")
        )
    if note:
        _log.info(f"Ignored {note}")
    return [found[path] for path in sorted(found)]


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield the files and links below a folder that are not hidden, in any order.

    Raises:
        BuildError: if a folder cannot be listed; its videos would be missing without a word.
    """

    def refuse(error: OSError) -> None:
        # A folder that is gone meanwhile is the matter of check_not_vanished.
        if isinstance(error, FileNotFoundError) or Path(error.filename).name.lower() in _SYSTEM_FOLDERS:
            return
        if is_disconnected(error):
            raise error
        raise BuildError(
            f"{printable(error.filename)}: this folder of videos cannot be listed ({error.strerror}); change its permissions "
            "or check its disk, and run the same command"
        ) from None

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        yield from (Path(place, name) for name in (*links, *files) if not name.startswith("."))


def _describe_ignored(names: list[str]) -> str:
    """Return one line on the ignored files of folders; empty if there are none."""
    if not names:
        return ""
    kind = "1 file that is" if len(names) == 1 else f"{len(names)} files that are"
    more = ", ..." if len(names) > _MAX_NAMED else ""
    return f"{kind} not media: {', '.join(names[:_MAX_NAMED])}{more}"


def selected(inputs: list[Source], selection: Mapping[str, str] | None) -> list[Source]:
    """Return the inputs, each with its reason for refusal from a list of selected videos."""
    if selection is None:
        return inputs
    if not any(source.name in selection for source in inputs):
        raise BuildError(
            f"the list of selected videos names none of the {len(inputs)} input(s), such as {inputs[0].name}: give "
            "the folder that its names are relative to"
        )
    unnamed = "not in the list of selected videos"
    return [replace(s, refused=s.refused or selection.get(s.name, unnamed)) for s in inputs]


def check_not_vanished(ledger: Ledger, paths: Iterable[Path], inputs: list[Source]) -> None:
    """Check that no folder is empty that inputs of the ledger come from: their results would be forgotten.

    Args:
        ledger: of the build.
        paths: files and folders that were given; the inputs of others are forgotten.
        inputs: that were found in them.

    Raises:
        BuildError: naming the empty folder, such as the mount point of a disk that is not there.
    """
    found = {os.fspath(source.path) for source in inputs}
    named = [path.absolute() for path in paths]
    seen: set[Path] = set()
    for name, _, _ in ledger.fingerprints():
        path = Path(name)
        if name in found or path.parent in seen or os.path.lexists(path):
            continue
        seen.add(path.parent)
        if any(path.is_relative_to(one) for one in named) and (place := emptied(path)) is not None:
            raise BuildError(f"{printable(place)}: {EMPTIED}")


def register_inputs(
    ledger: Ledger,
    inputs: list[Source],
    pipeline: Pipeline,
    repairs: Repairs = NO_REPAIRS,
    later: Iterable[Path] = (),
) -> None:
    """Add all inputs to the ledger and reject those that need no processing, duplicates among them.

    Of inputs with the same content, the first by path is processed. Inputs that cannot be read any more keep their earlier
    results. Inputs of the ledger that are not given are forgotten at the end, when all given ones have been read.

    Args:
        ledger: of the build.
        inputs: that were found.
        pipeline: that will process them.
        repairs: of annotators, by video.
        later: files that are left for a later build; they keep their results, too.

    Raises:
        VanishedError: if a disk of the inputs is not there any more; nothing is forgotten.
    """
    fingerprint = work_fingerprint(pipeline)
    left = [item for path in later if (item := _finished(ledger, path.absolute())) is not None]
    first = {item.sha256: Source(Path(item.path), item.name) for item in left if item.status == "published"}
    unread: list[str] = []
    for start in range(0, len(inputs), _TOGETHER):
        # Files are read before the ledger is locked: annotators decide meanwhile.
        found = [_identify(ledger, source, first) for source in inputs[start : start + _TOGETHER]]
        with ledger.together():
            for source, digest, stamp in found:
                key = os.fspath(source.path)
                if digest == _AS_BEFORE:
                    unread.append(source.name)
                    continue
                own = (
                    _REFUSED
                    if source.refused
                    else with_repairs(fingerprint, repairs.get(video_of(digest), ()))
                )
                ledger.add(key, source.name, digest, own, stamp)
                if source.refused:
                    ledger.finish(key, "rejected", source.refused, 0.0)
    ledger.keep_only([os.fspath(source.path) for source in inputs] + [item.path for item in left])
    if unread:
        more = ", ..." if len(unread) > _MAX_NAMED else ""
        _log.warning(
            f"{len(unread)} file(s) cannot be read, or were deleted meanwhile, and keep their earlier results: "
            f"{', '.join(unread[:_MAX_NAMED])}{more}; check their disk and permissions"
        )


def _identify(ledger: Ledger, source: Source, first: dict[str, Source]) -> tuple[Source, str, str]:
    """Return an input, refused if it needs no processing, the hash of its content and its stamp.

    The hash is :data:`_AS_BEFORE` if the file cannot be read, but could be in an earlier build.

    Args:
        ledger: knows the hashes of files that have not changed.
        source: the input.
        first: the first input of every content so far; changed in place.

    Raises:
        VanishedError: if the disk of the input is not there.
    """
    digest, stamp, refused = UNREAD, "", source.refused
    try:
        with vanished_disks(source.path):
            if not refused and stat.S_ISREG((found := source.path.stat()).st_mode):
                digest, stamp = _content(ledger, source.path)
                original = first.setdefault(digest, source)
                if original is not source and found.st_size > 0:
                    refused = f"same content as {original.name}"
    except VanishedError:
        raise
    except OSError as error:
        if not is_broken_link(source.path, error):
            if (known := _finished(ledger, source.path)) is not None:
                if known.status == "published":  # else a copy of it may be processed
                    first.setdefault(known.sha256, source)
                return source, _AS_BEFORE, ""
            if not isinstance(error, FileNotFoundError):
                refused = f"the file cannot be read ({error.strerror}); check its permissions"
    return replace(source, refused=refused), digest, stamp


def _finished(ledger: Ledger, path: Path) -> Item | None:
    """Return an input that was read and finished in an earlier build; None if it was not."""
    try:
        item = ledger.item(os.fspath(path))
    except KeyError:
        return None
    return item if item.status in DONE and item.sha256 != UNREAD else None


def _content(ledger: Ledger, path: Path) -> tuple[str, str]:
    """Return the hash of a file's content and its stamp; the file is read only if its stamp has changed."""
    stamp = stamp_of(path)
    return ledger.known_sha256(os.fspath(path), stamp) or sha256_of(path), stamp


def refresh_pending(ledger: Ledger, pipeline: Pipeline, repairs: Repairs = NO_REPAIRS) -> None:
    """Hash unfinished inputs again if their files have changed since they were registered."""
    fingerprint = work_fingerprint(pipeline)
    for item in ledger.unfinished():
        path = Path(item.path)
        if path.is_file():
            digest, stamp = _content(ledger, path)
            own = with_repairs(fingerprint, repairs.get(video_of(digest), ()))
            ledger.add(item.path, item.name, digest, own, stamp)


def changed_repairs(ledger: Ledger, repairs: Repairs) -> dict[str, str]:
    """Return the new fingerprints, by path, of finished inputs whose repairs are not those they were processed with.

    Videos that are not there are left out, with one line in the log: their sequences stay as they are.
    """
    found: dict[str, str] = {}
    missing = []
    candidates = [
        (path, old)
        for path, sha256, old in ledger.fingerprints()
        if has_repairs(old) or video_of(sha256) in repairs
    ]
    for path, old in candidates:
        item = ledger.item(path)
        new = with_repairs(old, repairs.get(video_of(item.sha256), ()))
        if item.status not in DONE or old in (new, _REFUSED):
            continue
        if Path(item.path).is_file():
            found[path] = new
        else:
            missing.append(item.name)
    if missing:
        _log.info(
            f"Repairs wait for {len(missing)} video(s) that are not there: {', '.join(missing[:_MAX_NAMED])}"
        )
    return found


def reopen_repaired(ledger: Ledger, changed: Mapping[str, str]) -> None:
    """Mark the inputs of :func:`changed_repairs` as pending, which deletes their results.

    Call it only when the build can continue: a build that stops afterwards has lost the sequences.
    """
    for path, fingerprint in changed.items():
        item = ledger.item(path)
        ledger.add(path, item.name, item.sha256, fingerprint)
