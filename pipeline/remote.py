"""Copy videos of object storage to this machine, through fsspec (``s3://``, ``gs://``, ``hf://`` ...).

A folder of copies follows its URL: new and changed files are copied, files that left the URL are deleted, and a copy that was
interrupted goes on with the files that are not there yet.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, Final

from opendance_hf.disk import MIN_ROOM, check_room, disk_fault
from opendance_hf.files import IDENTITIES, NOT_MEDIA_SUFFIXES, atomic_write, new_folder
from opendance_hf.pipeline.build import folder_lock
from opendance_hf.pipeline.inputs import BuildError
from opendance_hf.pipeline.printable import printable

_log = logging.getLogger(__name__)

#: What was copied, beside the copies: identity of each remote file by name.
_INDEX: Final = ".copied.jsonl"
#: How often the copy of a file is tried.
_ATTEMPTS: Final = 3
_BLOCK: Final = 2**20


def is_url(name: str) -> bool:
    """Return True for ``scheme://...``, False for a path."""
    return "://" in name


@contextmanager
def local_inputs(names: Iterable[str], store: Path) -> Iterator[list[Path]]:
    """Yield the local paths of inputs; those that are URLs are copied to folders in ``store``, which nobody else may change.

    Raises:
        BuildError: if another build uses the copies; and see :func:`mirror`.
        DiskError: if the copies do not fit on the disk.
    """
    names = list(names)
    if not any(map(is_url, names)):
        yield [Path(name) for name in names]
        return
    check_room(store)
    with new_folder(store), folder_lock(store, "--out"):
        try:
            yield [mirror(name, store / _folder_name(name)) if is_url(name) else Path(name) for name in names]
        finally:
            if [path.name for path in store.iterdir()] == ["lock"]:  # nothing was copied
                (store / "lock").unlink()


def mirror(url: str, folder: Path) -> Path:
    """Make a folder of copies equal to the media files at or below a URL, and return it.

    Args:
        url: of a file or a folder.
        folder: made by an earlier call with the same URL, or not there.

    Raises:
        BuildError: if the URL cannot be read, has no media files or names that are not relative, or the package for its
            scheme is missing. Copies that are complete are kept.
        DiskError: if the copies do not fit on the disk.
    """
    from huggingface_hub.utils.tqdm import tqdm

    known = _known(folder)
    try:
        fs, found = _listed(url, known)
    except Exception as error:  # of any storage: they have no common base class
        raise BuildError(f"{url}: {_cause(error)}") from None
    if not found:
        raise BuildError(f"{url}: no videos there; give the URL of a file, or of a folder")
    wanted = {name: identity for name, (_, _, identity) in found.items()}
    missing = [
        name
        for name, (_, size, identity) in sorted(found.items())
        if known.get(name) != identity or not _is_whole(folder / name, size)
    ]
    check_room(folder, MIN_ROOM + sum(found[name][1] for name in missing))
    folder.mkdir(parents=True, exist_ok=True)
    _remove_others(folder, wanted)
    if missing:
        _log.info(f"Copying {len(missing)} of {len(found)} file(s) from {url} ...")
    for name in tqdm(missing, desc="copying", unit="file", delay=5, disable=None, leave=False):
        remote, size, _ = found[name]
        try:
            _copy(fs, remote, size, folder / name)
        except Exception as error:
            if disk_fault(error, [folder]) is not None:
                raise
            raise BuildError(f"{url}: {printable(name)} cannot be copied: {_cause(error)}") from None
        with (folder / _INDEX).open("a", encoding="utf-8") as index:
            index.write(_line(name, wanted[name]))
    with atomic_write(folder / _INDEX) as part:
        part.write_text("".join(_line(*one) for one in sorted(wanted.items())), encoding="utf-8")
    return folder


def _is_whole(copy: Path, size: int) -> bool:
    return copy.is_file() and copy.stat().st_size == size  # after a loss of power it may be empty


def _listed(url: str, known: Iterable[str]) -> tuple[Any, dict[str, tuple[str, int, str]]]:
    """Return the file system of a URL, and the remote path, size and identity of every media file by its relative name."""
    import fsspec

    fs, root = fsspec.core.url_to_fs(url)
    infos = (
        [(root, fs.info(root))]
        if fs.isfile(root)
        else [
            (info["name"], info)
            for info in _files(fs, root, [f"{root.rstrip('/')}/{name}" for name in known])
        ]
    )
    found = {}
    for path, info in infos:
        name = (
            PurePosixPath(path).relative_to(root) if path != root else PurePosixPath(path.rpartition("/")[2])
        )
        if any(part.startswith(".") for part in name.parts) or name.suffix.lower() in NOT_MEDIA_SUFFIXES:
            continue
        if name.is_absolute() or not name.parts or "\\" in str(name) or "\0" in str(name):
            raise ValueError(f"the name {printable(str(name))} is not one of a file in a folder")
        size = info.get("size")
        if size is None or not any(info.get(key) for key in IDENTITIES):
            raise ValueError(
                f"{fs.protocol!r} says neither size and date nor a hash of {printable(str(name))}, so changes would not be seen; "
                "download the videos"
            )
        # Whatever the storage says of a file: its hash, or size and times.
        said = json.dumps(info, sort_keys=True, default=str)
        found[str(name)] = (path, int(size), hashlib.sha256(said.encode()).hexdigest())
    return fs, found


def _files(fs: Any, folder: str, known: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the files below a folder, and those that links lead to.

    fsspec's find() and walk() leave out folders that cannot be listed, whose copies would be deleted then.

    Raises:
        ValueError: for a link to nothing or to a folder, and for an empty folder below which files were ``known``: their copies
            would be deleted likewise.
    """
    infos = fs.ls(folder, detail=True)
    if not infos and any(name.startswith(f"{folder.rstrip('/')}/") for name in known):
        raise ValueError(
            f"{printable(folder)} is empty, and videos came from there; if its disk is not mounted, mount it; if they are deleted, "
            "delete the folder"
        )
    for info in infos:
        name = info["name"]
        if info.get("islink"):
            info = fs.info(name) if fs.isfile(name) else {"type": "link"}
        if info["type"] == "file":
            yield info
        elif info["type"] == "directory" and name.rstrip("/") != folder.rstrip("/"):
            yield from _files(fs, name, known)
        elif info["type"] == "link":
            raise ValueError(
                f"{printable(name)} is a link, and not to a file; remove it, or mount what it leads to"
            )


def _remove_others(folder: Path, wanted: Container[str]) -> None:
    """Remove what left the URL, copies that were cut off, and folders that are empty then."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            with suppress(OSError):
                path.rmdir()
        elif path.name != _INDEX and path.relative_to(folder).as_posix() not in wanted:
            path.unlink()


def _copy(fs: Any, remote: str, size: int, target: Path) -> None:
    """Copy a file atomically; faults of the network are tried again.

    Raises:
        OSError: if the file has another size than was announced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with atomic_write(target) as part:
                with fs.open(remote, "rb", block_size=_BLOCK) as source, part.open("wb") as out:
                    while block := source.read(_BLOCK):
                        out.write(block)
                if part.stat().st_size != size:
                    raise OSError(f"{part.stat().st_size} bytes came, {size} were announced")
            return
        except Exception as error:
            if attempt == _ATTEMPTS or disk_fault(error, [target]) is not None:
                raise


def _known(folder: Path) -> dict[str, str]:
    """Return the identity of every file that was copied; a damaged line is ignored, and its file copied again."""
    known = {}
    with suppress(FileNotFoundError):
        for line in (folder / _INDEX).read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, TypeError):
                name, identity = json.loads(line)
                known[str(name)] = str(identity)
    return known


def _line(name: str, identity: str) -> str:
    return json.dumps([name, identity]) + "\n"


def _folder_name(url: str) -> str:
    """Return a folder for a URL: its last part, and a hash, as other URLs may end likewise."""
    last = "".join(c for c in url.rstrip("/").rpartition("/")[2] if c.isalnum() or c in "-_.").strip(".")
    return f"{last[:60] or 'videos'}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def _cause(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ImportError):
        return f"{text}; pip install what is missing, and run the same command"
    if isinstance(error, FileNotFoundError):
        return "no such file or folder there"
    return f"{text}; check the URL, the network and your access, and run the same command: complete copies are kept"
