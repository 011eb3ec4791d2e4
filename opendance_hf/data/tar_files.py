"""Find tars by a pattern, on this machine or elsewhere, and give access to their bytes without reading them whole."""

from __future__ import annotations

import glob
import hashlib
import io
import mmap
import os
import re
from abc import ABC, abstractmethod
from collections import OrderedDict
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.assets import cache_dir
from opendance_hf.errors import OpenDanceError
from opendance_hf.files import IDENTITIES, atomic_write

Bytes = npt.NDArray[np.uint8]

#: Largest size in bytes of what was fetched from remote tars, on disk; ``OPENDANCE_TAR_CACHE_GB`` sets another.
CACHE_BYTES: Final = 20 * 10**9
#: What is fetched at a time while headers are read.
_READ_AHEAD: Final = 65_536
#: A process looks at the size of the cache whenever it has added so much.
_LOOK_AFTER: Final = 256 * 2**20
#: Files that a process has open at a time.
_MAPS: Final = 256


class TarError(OpenDanceError, ValueError):
    """A tar that cannot be found or read, or a damaged sample; the message names the tar and the sample."""


class TarFile(ABC):
    """Bytes of one tar.

    Attributes:
        name: path or URL.
        version: changes with the content.
        size: in bytes.
    """

    name: str
    version: str
    size: int

    @abstractmethod
    def open(self) -> Any:
        """Open the file for reading and seeking."""

    @abstractmethod
    def view(self, offset: int, size: int) -> Bytes:
        """Return a range of bytes, mapped from a file on this machine.

        Raises:
            TarError: if there are fewer, or the tar cannot be read.
        """

    def cache(self) -> Path:
        """Return the folder of what is kept of this tar between runs."""
        key = hashlib.sha256(f"{self.name} {self.version}".encode()).hexdigest()[:32]
        return cache_dir() / "tars" / key

    def _error(self, error: object) -> TarError:
        return TarError(f"{self.name}: cannot be read ({' '.join(str(error).split()) or repr(error)})")


class _Maps:
    """The files that were mapped last; those of another process are not used."""

    def __init__(self) -> None:
        self._process = 0
        self._maps: OrderedDict[str, Bytes] = OrderedDict()

    def map(self, path: str, version: str | None = None) -> Bytes:
        if self._process != os.getpid():
            self._process = os.getpid()
            self._maps.clear()
        key = version or path
        if key not in self._maps:
            with open(path, "rb") as file:
                if version is not None and version != _version(path, os.fstat(file.fileno())):
                    raise ValueError("it was changed since it was opened; start again")
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._maps[key] = np.frombuffer(mapped, np.uint8)
            if len(self._maps) > _MAPS:
                self._maps.popitem(last=False)
        self._maps.move_to_end(key)
        return self._maps[key]


_maps: Final = _Maps()


def _version(path: str, state: os.stat_result) -> str:
    return f"{os.path.abspath(path)} {state.st_size} {state.st_mtime_ns}"


class LocalTar(TarFile):
    """A tar on a disk of this machine."""

    def __init__(self, path: str) -> None:
        self.name = path
        try:
            state = os.stat(path)
        except OSError as error:
            raise TarError(f"{path}: no such tar ({error.strerror})") from None
        self.size = state.st_size
        self.version = _version(path, state)

    def open(self) -> Any:
        """Open the file for reading and seeking."""
        try:
            return open(self.name, "rb")
        except OSError as error:
            raise self._error(error) from None

    def view(self, offset: int, size: int) -> Bytes:
        """Return a range of bytes of the mapped file."""
        try:
            found = _maps.map(self.name, self.version)[offset : offset + size]
        except (OSError, ValueError) as error:
            raise self._error(error) from None
        if len(found) < size:
            raise TarError(
                f"{self.name}: has {self.size} bytes, expected {offset + size}; was it changed or cut?"
            )
        return found


class RemoteTar(TarFile):
    """A tar at a URL that fsspec can read: ``hf://`` or ``https://``. What is read once is kept on disk, see :data:`CACHE_BYTES`."""

    def __init__(self, url: str, size: int, version: str) -> None:
        self.name, self.size, self.version = url, size, version
        self._process = 0
        self._file: Any = None
        self._added = _LOOK_AFTER

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_process": 0}

    def open(self) -> Any:
        """Open the file for reading and seeking; every read is a request of at least 64 KiB."""
        return io.BufferedReader(_Ranges(self), _READ_AHEAD)

    def fetch(self, offset: int, size: int) -> bytes:
        """Fetch a range of bytes.

        Raises:
            TarError: if that fails.
        """
        try:
            # A connection of another process must not be used.
            if self._file is None or self._process != os.getpid():
                from fsspec.core import url_to_fs

                system, path = url_to_fs(self.name)
                self._file = system.open(path, "rb", cache_type="none")
                self._process = os.getpid()
            self._file.seek(offset)
            found: bytes = self._file.read(size)
        except Exception as error:  # errors of the Hub, of HTTP and of fsspec have no common base class
            raise self._error(error) from error
        if len(found) != size:
            raise TarError(f"{self.name}: {len(found)} bytes came from {offset}, expected {size}")
        return found

    def view(self, offset: int, size: int) -> Bytes:
        """Return a range of bytes of a file in the cache, into which it is fetched unless it is there."""
        path = self.cache() / f"{offset}-{size}"
        try:
            found = _maps.map(str(path))
            if len(found) == size:
                return found
        except (OSError, ValueError):
            pass
        content = self.fetch(offset, size)
        with atomic_write(path) as partial:
            partial.write_bytes(content)
        self._added += size
        if self._added >= _LOOK_AFTER:
            self._added = 0
            _shrink(cache_dir() / "tars", path)
        return np.frombuffer(content, np.uint8)


class _Ranges(io.RawIOBase):
    """A remote tar as a file."""

    def __init__(self, tar: RemoteTar) -> None:
        self._tar, self._at = tar, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._tar.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        size = max(0, min(len(buffer), self._tar.size - self._at))
        if size:
            buffer[:size] = self._tar.fetch(self._at, size)
            self._at += size
        return size


def _shrink(folder: Path, keep: Path) -> None:
    """Remove the oldest ranges in the cache, so that it has at most 90% of its largest size; indices stay."""
    most = float(os.environ.get("OPENDANCE_TAR_CACHE_GB", CACHE_BYTES / 1e9)) * 1e9
    files: list[tuple[float, int, str]] = []
    for tar in os.scandir(folder):
        for file in os.scandir(tar.path) if tar.is_dir() else ():
            if re.fullmatch(r"\d+-\d+", file.name) and file.name != keep.name:
                try:
                    state = file.stat()
                except FileNotFoundError:
                    continue  # another process has removed it
                files.append((state.st_mtime, state.st_size, file.path))
    total = sum(size for _, size, _ in files)
    if total <= most:
        return
    for _, size, path in sorted(files):
        Path(path).unlink(missing_ok=True)  # mapped bytes stay readable
        total -= size
        if total <= 0.9 * most:
            break


def names_tars(dataset: str | os.PathLike[str]) -> bool:
    """Return True for the path, URL or pattern of tars."""
    return os.fspath(dataset).endswith(".tar")


def find_tars(pattern: str) -> list[TarFile]:
    """Return the tars that a pattern names, sorted by name.

    Args:
        pattern: path, ``hf://datasets/USER/NAME/...`` or another URL of fsspec; ``*``, ``?`` and ``[...]`` match files,
            ``{00..31}`` stands for every number of as many digits. Files of the Hub are those of one commit.

    Raises:
        TarError: if there are none, or one that is named without ``*`` is missing.
    """
    found: list[TarFile] = []
    for name in _numbered(pattern):
        if "://" in name:
            found += _remote(name)
        else:
            path = os.path.expanduser(name)
            paths = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else [path]
            found += [LocalTar(path) for path in paths]
    if not found:
        raise TarError(f"{pattern}: no such tars")
    return found


def _numbered(pattern: str) -> list[str]:
    """Write out ``{00..31}``, which may occur several times."""
    parts = re.split(r"\{(\d+)\.\.(\d+)\}", pattern)
    choices = [[part] for part in parts[::3]]
    for place, (first, last) in enumerate(zip(parts[1::3], parts[2::3], strict=True)):
        numbers = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
        choices.insert(2 * place + 1, numbers)
    return ["".join(parts) for parts in product(*choices)]


def _remote(pattern: str) -> list[TarFile]:
    try:
        from fsspec.core import url_to_fs

        pattern = _at_commit(pattern)
        system, path = url_to_fs(pattern)
        protocol = pattern.partition("://")[0]
        paths = sorted(system.glob(path)) if glob.has_magic(path) else [path]
        tars: list[TarFile] = []
        for path in paths:
            about = system.info(path)
            lfs = about.get("lfs") or {}
            url = path if "://" in path else f"{protocol}://{path}"
            version = lfs.get("sha256") or next((about[key] for key in IDENTITIES if about.get(key)), None)
            if version is None:
                raise ValueError(
                    f"neither a hash nor a date is told of {url}, so changes would not be seen; download it"
                )
            tars.append(RemoteTar(url, int(about["size"]), f"{about['size']} {version}"))
        return tars
    except Exception as error:  # see RemoteTar.fetch
        why = " ".join(str(error).split()) or repr(error)
        raise TarError(
            f"{pattern}: cannot be read ({why}); check the name, the network, HF_TOKEN and HF_HUB_OFFLINE"
        ) from error


def _at_commit(pattern: str) -> str:
    """Name the present commit of a repository of the Hub, so that a push does not change the data of a run."""
    if not pattern.startswith("hf://"):
        return pattern
    from huggingface_hub import HfApi, HfFileSystem

    path: Any = HfFileSystem().resolve_path(pattern)
    if not hasattr(path, "repo_id"):
        return pattern  # a bucket, which has no commits
    commit = HfApi().repo_info(path.repo_id, repo_type=path.repo_type, revision=path.revision).sha
    kind = "" if path.repo_type == "model" else f"{path.repo_type}s/"
    return f"hf://{kind}{path.repo_id}@{commit}/{path.path_in_repo}"
