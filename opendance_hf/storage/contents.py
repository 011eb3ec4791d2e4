"""The files that a dataset or a model may hold when it is published, by allow-list.

Everything else is refused by name, so that no video, audio or private file leaves by mistake (paper section 3.2: no
video or audio is released). Content is checked too, cheaply: a video renamed to ``.json`` or ``.parquet`` is refused,
and so is a tar with other members than WebDataset samples.
"""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final, Literal

from opendance_hf.errors import OpenDanceError

#: The one picture of a dataset folder.
FIGURE: Final = "figures/statistics.png"
_MAX_HEADER_BYTES: Final = 100_000_000
_CHUNK_BYTES: Final = 1 << 20

Kind = Literal["dataset", "model"]


class ContentError(OpenDanceError, ValueError):
    """A file that is not published; the message names it, the files that are allowed, and what to do."""


def published_files(folder: Path, kind: Kind) -> list[Path]:
    """Check the files of a folder and return those to publish, sorted.

    Hidden files (``.gitattributes``, temporary files) are never published. A model is the files of its folder alone:
    checkpoints, logs and sample dances lie in folders of their own.

    Raises:
        ContentError: naming the first file that is not allowed, or whose content is not what its name says.
    """
    files = []
    for path in sorted(folder.rglob("*") if kind == "dataset" else folder.iterdir()):
        relative = path.relative_to(folder)
        if path.is_dir() or any(part.startswith(".") for part in relative.parts):
            continue
        check = PUBLISHED[kind].get(relative.as_posix()) or PUBLISHED[kind].get(path.suffix.lower())
        if check is None:
            allowed = ", ".join(PUBLISHED[kind])
            raise ContentError(
                f"{path}: a {kind} holds only {allowed} files, never video or audio; move it out of {folder}"
            )
        wrong = check(path)
        if wrong:
            raise ContentError(f"{path}: {wrong}; move it out of {folder} or write it anew")
        files.append(path)
    return files


def _parquet(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(max(0, path.stat().st_size - 4))
        return "" if start == file.read() == b"PAR1" else "is not a Parquet file"


def _png(path: Path) -> str:
    with path.open("rb") as file:
        return "" if file.read(8) == b"\x89PNG\r\n\x1a\n" else "is not a PNG picture"


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return "" if _is_text(file) else "is not a text in UTF-8"


def _is_text(file: BinaryIO) -> bool:
    rest = b""
    while chunk := file.read(_CHUNK_BYTES):
        data = rest + chunk
        try:
            data.decode("utf-8")
            rest = b""
        except UnicodeDecodeError as error:
            # A character of up to four bytes may be cut by the end of the chunk.
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
    right = start.endswith(b"{") and size <= min(_MAX_HEADER_BYTES, path.stat().st_size - 8)
    return "" if right else "is not a safetensors file"


def _tar(path: Path) -> str:
    try:
        with tarfile.open(path, "r:") as tar:
            return next(_wrong_members(tar), "")
    except tarfile.TarError:
        return "is not a tar"


def _wrong_members(tar: tarfile.TarFile) -> Iterator[str]:
    for member in tar:
        file = tar.extractfile(member) if member.isreg() else None
        suffix = Path(member.name).suffix
        if file is None or suffix not in (".json", ".npy"):
            yield f"holds {member.name!r}, but samples are .json and .npy files"
        elif suffix == ".npy" and file.read(6) != b"\x93NUMPY":
            yield f"holds {member.name!r}, which is not a NumPy array"
        elif suffix == ".json" and not _is_text(file):  # type: ignore[arg-type]
            yield f"holds {member.name!r}, which is not a text in UTF-8"


#: For each kind of folder: suffix, or path in the folder, and the check of the content, which returns what is wrong.
PUBLISHED: Final[Mapping[Kind, Mapping[str, Callable[[Path], str]]]] = {
    "dataset": {".parquet": _parquet, ".tar": _tar, ".md": _text, ".json": _text, FIGURE: _png},
    "model": {
        ".safetensors": _safetensors,
        **dict.fromkeys((".json", ".md", ".yaml", ".yml", ".txt", ".py", ".jinja"), _text),
    },
}
