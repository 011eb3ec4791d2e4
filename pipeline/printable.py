"""Names of files as people read them."""

from __future__ import annotations

import os
import re
from typing import Final

_STEERING: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(path: str | os.PathLike[str]) -> str:
    """A path as text that any terminal, page and database takes.

    Bytes that are not UTF-8 become ``\\xNN``, and so do characters that steer a terminal or turn the direction of text:
    a file name must not colour, hide or rewrite what is said of it.
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
