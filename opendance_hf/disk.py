"""Describe errors of disks and file systems, and check before long work that its results can be written."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from opendance_hf.errors import OpenDanceError

#: Space that a disk must have for any result, bytes. A disk with less is reported as full.
MIN_ROOM: Final = 1024**2

#: Cause and remedy of errors that say that a file cannot be written.
_WRITING: Final = {
    errno.ENOSPC: ("no space left on this disk", "free some space"),
    errno.EDQUOT: ("the disk quota is used up", "free some space"),
    errno.EROFS: ("this file system is read-only", "mount it for writing"),
    errno.EFBIG: (
        "the file would be larger than this disk or process may have (ulimit -f)",
        "raise the limit",
    ),
}
_LOCKS: Final = {
    errno.ENOLCK: ("file locks are not supported there, as on some network file systems", "use a local disk"),
}
_RESOURCES: Final = {
    errno.EMFILE: ("too many open files", "raise the limit (ulimit -n)"),
    errno.ENFILE: ("too many open files on this machine", "close other programs"),
}
#: Errors of disks and network folders that are not there any more, although their folder is.
_DISCONNECTED: Final = {
    number: (f"the disk or network folder does not answer ({os.strerror(number)})", "mount it again")
    for number in (
        errno.ENOTCONN,
        errno.ESTALE,
        errno.ENODEV,
        errno.ENXIO,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
    )
}
#: Errors that may concern an input as well.
_PLACES: Final = {
    **_DISCONNECTED,
    errno.EACCES: ("permission denied", "change its permissions"),
    errno.EPERM: ("operation not permitted", "change its permissions"),
    errno.ENAMETOOLONG: ("this name is too long for the file system", "give a shorter one"),
    errno.EIO: ("input/output error of the disk", "check the disk"),
    errno.ENOTDIR: ("a file lies where a folder is needed", "move it away"),
    errno.EISDIR: ("a folder lies where a file is needed", "give the name of a file"),
}
#: Errors that are the cause wherever they occur in a chain of errors.
_SURE: Final = {**_WRITING, **_LOCKS, **_RESOURCES}
_CAUSES: Final = {**_SURE, **_PLACES}
#: Error number at the end of the text of errors of Rust, such as safetensors.
_NUMBER: Final = re.compile(r"\(os error (\d+)\)$")
#: Words of errors without a number. Those of full and read-only disks count only if a disk is full or read-only.
_TEXTS: Final = {
    "no space left": errno.ENOSPC,
    "disk is full": errno.ENOSPC,
    "quota exceeded": errno.EDQUOT,
    "read-only file system": errno.EROFS,
    "readonly database": errno.EROFS,
    "file too large": errno.EFBIG,
    "too many open files": errno.EMFILE,
}
#: Texts of libraries that have compared sizes, or tried, themselves: datasets, filelock.
_SURE_TEXTS: Final = {
    re.compile(r"^Not enough disk space\. "): errno.ENOSPC,
    re.compile(r"^FileSystem does not appear to support flock"): errno.ENOLCK,
}
#: Quoted text may be the name of a file.
_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
#: Classes of errors of requests, httpx and urllib, whose texts are those of a server, in which a quota is not the disk's.
_HTTP: Final = {"HTTPError", "RequestException"}
#: Errors of torch (C++) and SQLite that do not say why; a disk without room is taken for the cause.
_UNEXPLAINED: Final = re.compile(
    "PytorchStreamWriter|inline_container|unexpected pos|file write failed|iostream error|disk I/O error",
    re.IGNORECASE,
)


#: Names of temporary files, see :func:`opendance_hf.files.partial_path`.
_PARTIAL: Final = re.compile(r"\.([^/]*)\.[0-9a-f]{32}\.partial$")


class DiskError(OpenDanceError, OSError):
    """Raised if a place cannot be written; the message has the path, the cause and the remedy."""


def free_bytes(path: Path) -> int | None:
    """Return the space left on the disk of a path, which need not exist; None if the file system does not tell."""
    try:
        state = os.statvfs(_existing(path))
    except (OSError, AttributeError):
        return None
    return state.f_bavail * state.f_frsize if state.f_blocks else None


def is_read_only(path: Path) -> bool:
    """Return True if the file system of a path, which need not exist, is mounted for reading only."""
    try:
        return bool(os.statvfs(_existing(path)).f_flag & os.ST_RDONLY)
    except (OSError, AttributeError):
        return False


def is_disconnected(error: OSError) -> bool:
    """Return True for an error of a disk or network folder that is not there any more, as no file of it can be read."""
    return error.errno in _DISCONNECTED


def check_room(path: Path, need_bytes: int = MIN_ROOM, *, option: str = "--out") -> None:
    """Check that a file or folder can be created, and that its disk has room; nothing is created.

    Args:
        path: what will be written; missing parents will be created.
        need_bytes: space that the result needs at least.
        option: option of the command that names the path, for messages.

    Raises:
        DiskError: naming the path, the cause and the remedy.
    """
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(path)  # raises for names that are too long
        place = _existing(path)
        if place == Path(os.path.abspath(path)) and not path.is_dir():
            place = place.parent
        if not place.is_dir():
            raise DiskError(
                f"{path}: cannot be written, {place} is a file, not a folder; choose another {option}"
            )
        if is_read_only(place):
            raise OSError(errno.EROFS, "", os.fspath(path))
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "", os.fspath(path))
        free = free_bytes(place)
        if free is not None and free < need_bytes:
            raise DiskError(
                f"{path}: no space left on this disk: {_megabytes(free)} of about {_megabytes(need_bytes)} MB are free; "
                f"free about {_megabytes(need_bytes - free)} MB or choose another {option}"
            )
        with tempfile.TemporaryFile(dir=place):  # quotas, inodes and rights of network folders
            pass
    except DiskError:
        raise
    except OSError as error:
        if error.errno not in _CAUSES:
            raise
        raise DiskError(
            f"{path}: cannot be written, {_cause(error.errno)} or choose another {option}"
        ) from None


def disk_fault(error: BaseException, places: Iterable[Path | str | None] = ()) -> tuple[int, str] | None:
    """Return error number and path (empty if unknown) of a full or read-only disk that is the cause of an error.

    The causes and contexts of the error are searched: libraries wrap errors of the disk in their own. The words of an error
    without a number count only if one of the places really is full or read-only, since they may be names of files.

    Args:
        error: any error.
        places: where the command writes; places of temporary files and caches are added.
    """
    places = list(places)
    for one in _chain(error):
        if isinstance(one, DiskError):
            return None  # its message says all
        number = _error_number(one) or _told_number(one, places)
        if number in _SURE:
            return number, _file_of(one)
    return None


def describe_disk_error(error: BaseException, places: Iterable[Path | str | None] = ()) -> str | None:
    """Return a message with path, cause and remedy if the disk is the cause of an error, else None.

    Args:
        error: any error; of an OSError without a cause, permissions and names are described too.
        places: where the command writes. One that is full or read-only is named if the error has no path.
    """
    places = list(places)
    fault = disk_fault(error, places)
    if fault is None and any(_UNEXPLAINED.search(_own_words(one)) for one in _chain(error)):
        full = next((place for place in _candidates(places) if _has_fault(place, errno.ENOSPC)), None)
        fault = None if full is None else (errno.ENOSPC, os.fspath(full))
    if fault is None and isinstance(error, OSError) and not isinstance(error, OpenDanceError):
        fault = (error.errno, _file_of(error)) if error.errno in _PLACES and error.filename else None
    if fault is None:
        return None
    number, file = fault
    path = file or os.fspath(_likely_place(places, number))
    text = f"{path}: {_cause(number)}"
    free = free_bytes(Path(path)) if number in (errno.ENOSPC, errno.EDQUOT) else None
    found = "" if free is None else f" ({_megabytes(free)} MB are free)"
    left = "; what this command had not finished was removed" if number in _WRITING else ""
    return f"{text} or choose another place{found}{left}"


def _cause(number: int) -> str:
    cause, remedy = _CAUSES[number]
    return f"{cause}; {remedy}"


def _megabytes(number: int) -> str:
    return f"{number / 1e6:,.1f}" if number < 1e8 else f"{number / 1e6:,.0f}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            pending += [one.__context__, one.__cause__]


def _error_number(error: BaseException) -> int:
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", "") or ""
        if name.startswith("SQLITE_READONLY"):
            return errno.EROFS
        if name.startswith("SQLITE_FULL"):
            return errno.ENOSPC
    number = getattr(error, "errno", None)  # of an OSError, and of all errors of ffmpeg
    if number is not None:
        return number if isinstance(error, OSError) and number in _CAUSES else 0
    found = _NUMBER.search(_own_words(error))
    return int(found[1]) if found and int(found[1]) in _CAUSES else 0


def _told_number(error: BaseException, places: Iterable[Path | str | None]) -> int:
    """Return the number of the fault that an error without a number tells in words; 0 if it tells none or it is not there."""
    if getattr(error, "errno", None) is not None:
        return 0
    text = _own_words(error)
    sure = next((number for words, number in _SURE_TEXTS.items() if words.search(text)), 0)
    number = sure or next((number for words, number in _TEXTS.items() if words in text.lower()), 0)
    if sure or number not in (errno.ENOSPC, errno.EROFS):
        return number
    return number if any(_has_fault(place, number) for place in _candidates(places)) else 0


def _own_words(error: BaseException) -> str:
    """Return the text of an error without what it quotes; empty for our own errors and those of servers."""
    if isinstance(error, OpenDanceError) or _HTTP & {kind.__name__ for kind in type(error).__mro__}:
        return ""
    return _QUOTED.sub("", str(error))


def _file_of(error: BaseException) -> str:
    name = getattr(error, "filename", None)
    text = os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else ""
    return _PARTIAL.sub(r"\1", text)


def _existing(path: Path) -> Path:
    """Return the path itself or its nearest parent that exists."""
    path = Path(os.path.abspath(path))
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return path


def _candidates(places: Iterable[Path | str | None]) -> Iterator[Path]:
    """Yield the places that a command writes to, and those of temporary files and caches."""
    yield from (Path(place) for place in places if place)
    yield Path(tempfile.gettempdir())
    home = Path.home() / ".cache"
    yield Path(os.environ.get("HF_HOME") or home / "huggingface")
    yield Path(os.environ.get("HF_DATASETS_CACHE") or home / "huggingface" / "datasets")
    yield Path(os.environ.get("OPENDANCE_CACHE") or home / "opendance-hf")


def _likely_place(places: Iterable[Path | str | None], number: int) -> Path:
    """Return the place that an error without a path concerns: one that is full or read-only, or has the least space.

    What the command itself writes comes first: on one disk all places have the same space, and other
    programs change it between two readings.
    """
    if number in _LOCKS:  # those of the libraries of Hugging Face
        return list(_candidates(()))[1]
    candidates = list(_candidates(places))
    return next(
        (place for place in candidates if _has_fault(place, number)),
        candidates[0] if number == errno.EFBIG else min(candidates, key=lambda place: free_bytes(place) or 0),
    )


def _has_fault(place: Path, number: int) -> bool:
    if number == errno.EROFS:
        return is_read_only(place)
    free = free_bytes(place)
    return number == errno.ENOSPC and free is not None and free < MIN_ROOM
