"""Convert file names to text that is safe to print."""

from __future__ import annotations

import os

from opendance_hf.errors import escape_controls


def printable(path: str | os.PathLike[str]) -> str:
    """Return a path as valid UTF-8 text without control characters.

    Invalid bytes, control characters and characters that change the direction of text are escaped (``\\xNN``,
    ``\\uNNNN``), so that a file name cannot change colours, hide text or rewrite lines in a terminal.
    """
    return escape_controls(os.fsencode(path).decode("utf-8", "backslashreplace"))
