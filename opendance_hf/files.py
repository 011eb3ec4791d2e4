"""Check where results go, and write them atomically: a reader finds the complete old or the complete new content."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from opendance_hf.disk import MIN_ROOM, DiskError, check_room, disk_fault
from opendance_hf.errors import OpenDanceError

__all__ = [
    "HUB_ID",
    "IDENTITIES",
    "NOT_MEDIA_SUFFIXES",
    "DiskError",
    "OutputError",
    "atomic_write",
    "check_folder",
    "check_output",
    "check_outputs",
    "in_use",
    "is_in_use",
    "names_a_folder",
    "naming_errors",
    "new_folder",
    "partial_path",
    "remove_replaced",
    "replace_folder",
    "restore_replaced",
    "same_file",
    "staged_folder",
]

#: What the file systems of fsspec call the hash or the date of a file.
IDENTITIES: Final = (
    "ETag", "etag", "md5Hash", "blob_id", "LastModified", "last_modified", "updated", "mtime", "created",
)  # fmt: skip
#: Suffixes of texts, tables, subtitles and pictures, which lie beside videos and songs and are ignored in folders of them.
NOT_MEDIA_SUFFIXES: Final = frozenset(
    [
        ".txt",
        ".md",
        ".rst",
        ".log",
        ".nfo",
        ".description",
        ".json",
        ".jsonl",
        ".yaml",
        ".yml",
        ".xml",
        ".html",
        ".csv",
        ".tsv",
        ".xlsx",
        ".parquet",
        ".pdf",
        ".srt",
        ".vtt",
        ".ass",
        ".lrc",
        ".jpg",
        ".jpeg",
        ".png",
        ".webp",
        ".bmp",
        ".svg",
        ".npy",
        ".npz",
        ".pkl",
        ".py",
        ".sha256",
        ".md5",
    ]
)
#: Form of the names of repositories of the Hub, ``owner/name``.
HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")

#: Files of every dataset and of every model.
_RESULT_MARKS: Final = ("statistics.json", "config.json")


class OutputError(OpenDanceError, ValueError):
    """Raised for an output that is an input, an existing file or of the wrong kind; nothing has been written."""


def same_file(first: Path, second: Path) -> bool:
    """Return True if two paths lead to one existing file: other spellings, links, hard links and case included."""
    try:
        return os.path.samefile(first, second)
    except OSError:
        return False


def check_output(
    path: Path,
    inputs: Iterable[Path | str] = (),
    *,
    overwrite: bool = False,
    option: str = "--out",
    need_bytes: int = MIN_ROOM,
) -> None:
    """Check that an output file is not an input nor in one, does not exist or may be replaced, and can be written.

    Args:
        path: the file that will be written.
        inputs: files and folders that are read; names of the Hub are ignored. Nothing is written into an input folder.
        overwrite: True if an existing file may be replaced; never an input.
        option: option of the command that names the path, for messages.
        need_bytes: see :func:`opendance_hf.disk.check_room`.

    Raises:
        OutputError: naming the path, what it is and the remedy.
        DiskError: if it cannot be written.
    """
    path = Path(path)
    with _unusable(path, option):
        exists = os.path.lexists(path)
        for read, real in _existing(inputs):
            if same_file(path, read):
                raise OutputError(f"{path}: this input would be overwritten; choose another {option}")
            if read.is_dir() and Path(os.path.realpath(path)).is_relative_to(real):
                raise OutputError(
                    f"{path}: this is in the input {read}, which is not changed; choose another {option}"
                )
        if path.is_dir():
            raise OutputError(f"{path}: this is a folder; give {option} the name of a file")
        if exists and not (path.is_file() or path.is_symlink()):
            raise OutputError(f"{path}: this is a device or a pipe; give {option} the name of a file")
    if exists and not overwrite:
        raise OutputError(f"{path} exists: choose another {option}, or replace it with --overwrite")
    check_room(path, need_bytes, option=option)


def check_outputs(
    outputs: Mapping[str, Path | None], inputs: Iterable[Path | str] = (), *, overwrite: bool = False
) -> None:
    """Check several output files, given by the option that names each, and that no two are one file.

    Raises:
        OutputError, DiskError: see :func:`check_output`.
    """
    inputs, found = list(inputs), dict[str, str]()
    for option, path in outputs.items():
        if path is None:
            continue
        check_output(path, inputs, overwrite=overwrite, option=option)
        other = found.setdefault(os.path.realpath(path), option)
        if other != option:
            raise OutputError(f"{path}: both {other} and {option} would be written to this file; choose two")


def check_folder(
    folder: Path,
    inputs: Iterable[Path | str] = (),
    *,
    overwrite: bool = False,
    option: str = "--out",
    need_bytes: int = MIN_ROOM,
) -> None:
    """Check that an output folder is new or empty or may be changed, holds no input, and can be written.

    Args:
        folder: the folder that files will be written into.
        inputs: files and folders that are read; names of the Hub are ignored.
        overwrite: True if files in the folder may be replaced; never if one of them is an input.
        option: option of the command that names the folder, for messages.
        need_bytes: see :func:`opendance_hf.disk.check_room`.

    Raises:
        OutputError: naming the folder, what it is and the remedy.
        DiskError: if it cannot be written.
    """
    folder = Path(folder)
    with _unusable(folder, option):
        for read, real in _existing(inputs):
            if same_file(folder, read) or real.is_relative_to(os.path.realpath(folder)):
                what = "is an input" if same_file(folder, read) else f"contains the input {read}"
                raise OutputError(
                    f"{folder}: this folder {what}, which is not changed; choose another {option}"
                )
        for place in (folder, *folder.parents):
            if os.path.lexists(place) and not place.is_dir():
                raise OutputError(f"{place} is a file; give {option} a folder, new or empty")
        full = folder.is_dir() and any(folder.iterdir())
    if full and not overwrite:
        raise OutputError(
            f"{folder} is not empty: choose another {option}, or replace files in it with --overwrite"
        )
    check_room(folder, need_bytes, option=option)


def _existing(inputs: Iterable[Path | str]) -> Iterator[tuple[Path, Path]]:
    """Yield each input that is on this machine, and the path that it leads to."""
    for read in filter(os.path.exists, map(Path, inputs)):
        yield read, Path(os.path.realpath(read))


@contextmanager
def _unusable(path: Path, option: str) -> Iterator[None]:
    """Turn errors of a path that is too long, a loop of links or not to be read into one that names the option."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, OpenDanceError):
            raise
        raise OutputError(f"{path}: cannot be used ({error}); choose another {option}") from None


def partial_path(path: Path) -> Path:
    """Return a hidden temporary path beside a file, unique for each process and call, that is not too long."""
    stem = os.fsencode(path.name)[:100].decode("utf-8", "ignore")
    return path.with_name(f".{stem}.{uuid.uuid4().hex}.partial")


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it when the block ends without an error.

    Missing parent folders are created. The temporary name begins with a dot, ends in ``.partial`` and is unique for
    each process and call, so that several writers of one file do not interfere. After an error ``path`` is unchanged,
    and the temporary file and the created folders are removed. Errors of the disk get ``path`` as their file name.

    Args:
        path: the file to write.

    Raises:
        OSError: if a folder, the temporary file or ``path`` cannot be written.
    """
    path = Path(path)
    partial = partial_path(path)
    with naming_errors(path), new_folder(path.parent):
        try:
            yield partial
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def staged_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty temporary folder whose files move into ``folder`` when the block ends without an error.

    Files of the same name are replaced, others stay. After an error ``folder`` is unchanged, and removed if it is new.

    Args:
        folder: the folder to write; created with its parents.

    Raises:
        OSError: if it cannot be written.
    """
    folder = Path(folder)
    with naming_errors(folder), new_folder(folder):
        staging = folder / f".{uuid.uuid4().hex}.partial"
        staging.mkdir()
        try:
            yield staging
            for file in sorted(path for path in staging.rglob("*") if not path.is_dir()):
                target = folder / file.relative_to(staging)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def replace_folder(fresh: Path, out: Path) -> None:
    """Move the folder ``fresh`` to ``out``, in place of a folder that is there; after an error that one is restored.

    A process that is killed in between leaves it to :func:`restore_replaced`.
    """
    if not out.exists():
        os.replace(fresh, out)
        return
    # Beside the new folder, not inside it: removing that one must never remove the existing folder.
    old = out.with_name(f".{out.name}.{uuid.uuid4().hex}.replaced")
    os.replace(out, old)
    try:
        os.replace(fresh, out)
    except BaseException:
        os.replace(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def restore_replaced(out: Path) -> None:
    """Put back the newest dataset or model that :func:`replace_folder` had moved away from ``out`` when it was killed."""
    if os.path.lexists(out):
        return
    complete = [folder for folder in _replaced(out) if _is_result(folder)]
    if complete:
        # Moving a folder changes this time. An older one may have been killed while it was removed.
        max(complete, key=lambda folder: folder.stat().st_ctime_ns).rename(out)


def remove_replaced(out: Path) -> None:
    """Remove the folders that :func:`replace_folder` did not finish removing, if a dataset or model is at ``out``."""
    # Listed before ``out`` is looked at: what another process moves away afterwards may be the only dataset.
    left = _replaced(out)
    if _is_result(out):
        for folder in left:
            shutil.rmtree(folder, ignore_errors=True)


def _replaced(out: Path) -> list[Path]:
    """Return the folders that were moved away from ``out``, not those of another name that begins with this one's."""
    return [
        path
        for path in out.absolute().parent.glob(f".{glob.escape(out.name)}.*.replaced")
        if "." not in path.name.removeprefix(f".{out.name}.").removesuffix(".replaced")
    ]


def _is_result(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _RESULT_MARKS)


@contextmanager
def naming_errors(path: Path) -> Iterator[None]:
    """Give errors of the disk in the block the name of the result, which they lack or have as a temporary one."""
    try:
        yield
    except OSError as error:
        if disk_fault(error) is not None and not isinstance(error, OpenDanceError):
            error.filename = os.fspath(path)
        raise


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Create a folder with its parents; after an error in the block those that are new and empty are removed."""
    created = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for place in created:
            with contextlib.suppress(OSError):
                place.rmdir()
        raise


def names_a_folder(name: str | os.PathLike[str]) -> bool:
    """Return True if a name is a path on this machine, and False if it may be a repository of the Hub (``user/name``).

    A path exists, starts with ``.``, ``/`` or ``~``, does not have exactly one slash, or begins with an existing folder.
    """
    text = os.fspath(name)
    if isinstance(name, os.PathLike) or Path(text).expanduser().exists() or text.startswith((".", "/", "~")):
        return True
    return text.count("/") != 1 or Path(text).parent.is_dir()


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Mark a temporary folder for :func:`is_in_use` until the block or the process ends, with a lock if there are any."""
    lock = None
    with contextlib.suppress(ModuleNotFoundError, OSError):  # Windows; some network file systems
        lock = _locked(folder)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def is_in_use(folder: Path) -> bool:
    """Return True if a process is in a block of :func:`in_use` with this folder."""
    try:
        os.close(_locked(folder))
    except BlockingIOError:
        return True
    except (ModuleNotFoundError, OSError):
        pass
    return False


def _locked(folder: Path) -> int:
    """Lock a folder and return its file descriptor, whose closing releases it; raise BlockingIOError if it is locked."""
    import fcntl

    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(number)
        raise
    return number
