"""Read lines of text files of unknown origin, whose lines may be of any length."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

from opendance_hf.formats import FormatError

#: Longer lines and words are refused, characters; a frame of 1,000 joints in a BVH takes 72,000.
MAX_LINE: Final = 100_000


def limited_lines(path: Path, file: TextIO) -> Iterator[str]:
    """Yield the lines of a file, each of which takes a limited amount of memory.

    Args:
        path: the file, for messages.
        file: the same, open.

    Raises:
        FormatError: if a line has :data:`MAX_LINE` characters or more.
    """
    while line := file.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise FormatError(
                f"{path}: has a line of {MAX_LINE:,} characters or more; it is damaged, or not a motion file"
            )
        yield line
