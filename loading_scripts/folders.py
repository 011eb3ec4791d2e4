"""List the files of a dataset's folder: regular files with printable names that do not leave it, and lists of names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opendance_hf.loading_scripts import LayoutError

#: Official splits by their names in the files of most datasets.
SPLITS: Final = {"train": "train", "val": "validation", "test": "test"}
#: A list of names of a dataset has some kilobytes.
_MAX_LIST_BYTES: Final = 16 * 1024**2


@dataclass(frozen=True)
class Found:
    """One file of a folder.

    Attributes:
        path: the file.
        name: its name without suffix; other than printable characters are escaped.
        problem: why it must not be read, empty if it may be.
    """

    path: Path
    name: str
    problem: str


def printable(text: str) -> str:
    """Return a name of a file with escapes for characters that are not printable."""
    return text if text.isprintable() else ascii(text)[1:-1]


def files_in(root: Path, folder: str, suffix: str) -> list[Found]:
    """Return the files of one suffix in a subfolder, sorted by name; an empty list if the subfolder does not exist.

    Args:
        root: folder of the dataset.
        folder: below it, with slashes.
        suffix: such as ``.pkl``.
    """
    base = root.joinpath(*folder.split("/"))
    if not base.is_dir():
        return []
    inside = root.resolve()
    found = []
    for entry in sorted(base.iterdir()):
        if entry.suffix.lower() != suffix:
            continue
        problem = ""
        if not entry.stem.isprintable():
            problem = "its name has control characters; rename the file"
        elif entry.is_symlink() and not _is_inside(entry, inside):
            problem = "it is a link that leaves the folder; copy the file into it"
        elif not entry.is_file():
            problem = "it is not a file"
        found.append(Found(entry, printable(entry.stem), problem))
    return found


def _is_inside(path: Path, folder: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(folder)
    except (OSError, RuntimeError):  # a cycle of links, or one to nothing
        return False


def names_in(root: Path, file: str) -> list[str] | None:
    """Return the names of a list, one a line, or None if the file does not exist.

    Raises:
        LayoutError: if it is not a file of the dataset's folder, or too large.
    """
    path = root.joinpath(*file.split("/"))
    if not os.path.lexists(path):
        return None
    if not _is_inside(path, root.resolve()) or not path.is_file():
        raise LayoutError(f"{path}: expected a file in the folder, found a folder or a link that leaves it")
    if (size := path.stat().st_size) > _MAX_LIST_BYTES:
        raise LayoutError(
            f"{path}: {size:,} bytes; a list of names has at most {_MAX_LIST_BYTES:,}. Is it another file?"
        )
    lines = (line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return [printable(line) for line in lines if line]


def splits_in(root: Path, files: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the official split by name, from (list file, split) of those lists that exist; the first list counts.

    Raises:
        LayoutError: as :func:`names_in`.
    """
    splits: dict[str, str] = {}
    for file, split in files:
        for name in names_in(root, file) or ():
            splits.setdefault(name, split)
    return splits


def not_the_dataset(root: Path, expected: str, published: str) -> LayoutError:
    """Return the error for a folder that is not the dataset.

    Args:
        root: the folder.
        expected: what it must contain.
        published: where the data is to be had.
    """
    where = "no such folder" if not root.is_dir() else "not laid out as this dataset"
    return LayoutError(f"{root}: {where}: expected {expected}. {published}")
