"""Cases of odd and damaged video and sound."""

from __future__ import annotations

from typing import Final

from benchmarks.cases import Case

CASES: Final[tuple[Case, ...]] = ()
