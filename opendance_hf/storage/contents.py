"""Check the files of a dataset or model against the allow-list of files that may be published.

All other files are refused, so that no video, audio or private file is published by mistake (paper section 3.2: no video or
audio is released). A quick check of the content refuses a video renamed to ``.json`` or ``.parquet``, and a tar with
members other than WebDataset samples.
"""

from __future__ import annotations

import os
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Literal

from opendance_hf.errors import OpenDanceError

#: Path of the only image in a dataset folder.
FIGURE: Final = "figures/statistics.png"
_MAX_HEADER_BYTES: Final = 100_000_000
_CHUNK_BYTES: Final = 1 << 20

Kind = Literal["dataset", "model", "space"]


class ContentError(OpenDanceError, ValueError):
    """Raised for a file that must not be published; the message names it, the allowed files, and the remedy."""


def published_files(folder: Path, kind: Kind) -> list[Path]:
    """Check the files of a folder and return those to publish, sorted.

    Hidden files (``.gitattributes``, temporary files) are never published. Of a model or a Space only the files directly in its
    folder are published; checkpoints, logs and sample dances are in subfolders.

    Raises:
        ContentError: naming the first file that is not allowed, or whose content does not match its suffix; and a folder of a
            dataset that cannot be listed or is a link, whose files would be left out.
    """
    files = []
    for path in sorted(_files_below(folder) if kind == "dataset" else folder.iterdir()):
        relative = path.relative_to(folder)
        if path.is_dir() or any(part.startswith(".") for part in relative.parts):
            continue
        check = PUBLISHED[kind].get(relative.as_posix()) or PUBLISHED[kind].get(path.suffix.lower())
        if check is None:
            allowed = ", ".join(PUBLISHED[kind])
            raise ContentError(
                f"{path}: not allowed in a {kind}: expected only {allowed} files, no video or audio; move it out of {folder}"
            )
        error_text = check(path)
        if error_text:
            raise ContentError(f"{path}: {error_text}; move it out of {folder} or write it again")
        files.append(path)
    return files


def publishable(name: str, kind: Kind) -> bool:
    """Return True if a file of that name may be in a folder of that kind, see :func:`published_files`."""
    path = PurePosixPath(name)
    if any(part.startswith(".") for part in path.parts) or (kind != "dataset" and len(path.parts) > 1):
        return False
    return name in PUBLISHED[kind] or path.suffix.lower() in PUBLISHED[kind]


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield all files in a folder and its folders that are not hidden; unlike ``rglob`` no folder is left out silently.

    Raises:
        ContentError: naming a folder that cannot be listed or is a link.
    """

    def refuse(error: OSError) -> None:
        raise ContentError(
            f"{error.filename}: cannot be listed ({error.strerror}), so its files would be left out; change its permissions, or "
            f"move it out of {folder}"
        ) from error

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(place, name) for name in folders):
            if path.is_symlink():
                raise ContentError(
                    f"{path}: is a link to a folder, so its files would be left out; move the folder itself there"
                )
        yield from (Path(place, name) for name in names)


def _parquet(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(max(0, path.stat().st_size - 4))
        return "" if start == file.read() == b"PAR1" else "is not a Parquet file"


def _png(path: Path) -> str:
    with path.open("rb") as file:
        return "" if file.read(8) == b"\x89PNG\r\n\x1a\n" else "is not a PNG image"


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return "" if _is_text(file) else "is not UTF-8 text"


def _is_text(file: BinaryIO) -> bool:
    rest = b""
    while chunk := file.read(_CHUNK_BYTES):
        data = rest + chunk
        try:
            data.decode("utf-8")
            rest = b""
        except UnicodeDecodeError as error:
            # The end of the chunk may split a character of up to four bytes.
            if len(data) - error.start > 3:
                return False
            rest = data[error.start :]
        if b"\0" in data:
            return False
    return not rest


def _safetensors(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(9)
    size = struct.unpack("<Q", start[:8])[0] if len(start) == 9 else 0
    valid = start.endswith(b"{") and size <= min(_MAX_HEADER_BYTES, path.stat().st_size - 8)
    return "" if valid else "is not a safetensors file"


def _wheel(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return "is not a wheel"
    return "" if any(name.endswith(".dist-info/WHEEL") for name in names) else "is not a wheel"


def _tar(path: Path) -> str:
    try:
        with tarfile.open(path, "r:") as tar:
            return next(_wrong_members(tar), "")
    except tarfile.TarError:
        return "is not an uncompressed tar file"


def _wrong_members(tar: tarfile.TarFile) -> Iterator[str]:
    for member in tar:
        file = tar.extractfile(member) if member.isreg() else None
        suffix = Path(member.name).suffix
        if file is None or suffix not in (".json", ".npy"):
            yield f"contains {member.name!r}, but expected only .json and .npy files"
        elif suffix == ".npy" and file.read(6) != b"\x93NUMPY":
            yield f"contains {member.name!r}, which is not a NumPy array"
        elif suffix == ".json" and not _is_text(file):  # type: ignore[arg-type]
            yield f"contains {member.name!r}, which is not UTF-8 text"


#: For each kind of folder, allowed suffixes or paths with the check of the content, which returns the error or "".
PUBLISHED: Final[Mapping[Kind, Mapping[str, Callable[[Path], str]]]] = {
    "dataset": {".parquet": _parquet, ".tar": _tar, ".md": _text, ".json": _text, FIGURE: _png},
    "model": {
        ".safetensors": _safetensors,
        **dict.fromkeys((".json", ".md", ".yaml", ".yml", ".txt", ".py", ".jinja"), _text),
    },
    "space": {"README.md": _text, "Dockerfile": _text, "requirements.txt": _text, ".whl": _wheel},
}
