"""Check licence identifiers against those of the Hub."""

from __future__ import annotations

import difflib
import re
from typing import Final

from opendance_hf.errors import OpenDanceError

#: The table of https://huggingface.co/docs/hub/repositories-licenses.
_TABLE: Final = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
    lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
    openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
    fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma unknown other
"""
LICENCES: Final = tuple(_TABLE.split())


class LicenceError(OpenDanceError, ValueError):
    """Raised for a licence that is not an identifier of the Hub; the message has the nearest one."""


def check_licence(licence: str) -> str:
    """Return a licence identifier of the Hub in lower case.

    Raises:
        LicenceError: if the Hub does not know it.
    """
    name = licence.strip().lower()
    if name in LICENCES:
        return name
    nearest = _nearest(name)
    hint = f"did you mean {nearest!r}? E" if nearest else "e"
    raise LicenceError(
        f"unknown licence {licence!r}: {hint}xpected an identifier of the Hub, such as cc-by-4.0, or other "
        "(https://huggingface.co/docs/hub/repositories-licenses has the list)"
    )


def _nearest(name: str) -> str | None:
    """Return the most similar identifier: the newest version of a name without one, else by spelling."""
    plain = re.sub(r"[\s_]+", "-", re.sub(r"\blicen[cs]e\b", "", name).strip())
    spellings = (plain, "-".join(re.findall(r"[a-z]+|\d+(?:\.\d+)*", plain)))  # "apache2" as "apache-2"
    for spelling in spellings:
        versions = [known for known in LICENCES if re.fullmatch(rf"{re.escape(spelling)}[-\d.]*", known)]
        if spelling and versions:
            return versions[-1] if spelling not in versions else spelling
    return next(iter(difflib.get_close_matches(spellings[-1], LICENCES, n=1)), None)
