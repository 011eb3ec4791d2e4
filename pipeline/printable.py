"""Convert file names to text that is safe to print."""

from __future__ import annotations

import os
import re
from typing import Final

_CONTROL_CHARACTERS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(path: str | os.PathLike[str]) -> str:
    """Return a path as valid UTF-8 text without control characters.

    Invalid bytes, control characters and characters that change the direction of text are escaped (``\\xNN``,
    ``\\uNNNN``), so that a file name cannot change colours, hide text or rewrite lines in a terminal.
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return _CONTROL_CHARACTERS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
