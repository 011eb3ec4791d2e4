"""List the files of datasets: names in order, without links that leave the folder, and lists of names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from opendance_hf.loading_scripts.items import LayoutError

_MAX_LIST_BYTES = 16 * 1024**2


def files_of(folder: Path, pattern: str, expected: str) -> list[Path]:
    """Return the files of a folder that match a pattern, sorted; hidden files and links out of the folder are left out.

    Args:
        folder: the folder.
        pattern: of :meth:`pathlib.Path.glob`.
        expected: what the dataset is and where it is published, for the message.

    Raises:
        LayoutError: if there are none.
    """
    root = folder.resolve()
    found = [
        path
        for path in sorted(folder.glob(pattern))
        if not path.name.startswith(".") and path.is_file() and path.resolve().is_relative_to(root)
    ]
    if not found:
        raise LayoutError(f"{folder}: no files {pattern}; expected {expected}")
    return found


def names_in(path: Path) -> list[str]:
    """Return the names of a list, one a line; none if there is no such file.

    Raises:
        LayoutError: if it is too large or not text.
    """
    if not path.is_file():
        return []
    if path.stat().st_size > _MAX_LIST_BYTES:
        raise LayoutError(
            f"{path}: {path.stat().st_size:,} bytes, expected a list of names of at most {_MAX_LIST_BYTES:,}"
        )
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise LayoutError(f"{path}: not a list of names in UTF-8") from None
    return [line.strip() for line in lines if line.strip()]


def split_lists(files: Mapping[str, Path]) -> dict[str, str]:
    """Return the split of each name in lists given by split; the first list that has a name counts."""
    splits: dict[str, str] = {}
    for split, path in files.items():
        for name in names_in(path):
            splits.setdefault(name, split)
    return splits
