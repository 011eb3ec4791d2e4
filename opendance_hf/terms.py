"""Terms of data whose owners ask that they go wherever the data goes."""

from __future__ import annotations

from typing import Final

#: Terms by the licence of a row (``--licence``), in the words of their owners.
TERMS: Final[dict[str, str]] = {
    "cmu-mocap": (
        "The data used in this project was obtained from mocap.cs.cmu.edu. The database was created with funding from NSF "
        "EIA-0196217. It is free for all uses, but may not be resold directly, even in converted form."
    ),
}


def terms_of(licence: str) -> str:
    """Return the licence of a row with its terms, if it has any that must be quoted."""
    return f"{licence}: {TERMS[licence]}" if licence in TERMS else licence
