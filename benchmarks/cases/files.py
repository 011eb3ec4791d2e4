"""Cases of output paths, disks, file formats and settings."""

from __future__ import annotations

from typing import Final

from benchmarks.cases import Case

CASES: Final[tuple[Case, ...]] = ()
