"""Print for every case what is found and the right value: ``python -m benchmarks.cases [NAME ...]``.

Exits with 1 if a case is wrong.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.cases import Case, files, media, pictures

CASES: Final[tuple[Case, ...]] = (*media.CASES, *files.CASES, *pictures.CASES)


def main(names: list[str]) -> int:
    """Measure the named cases, or all; return the exit status."""
    unknown = sorted(set(names) - {case.name for case in CASES})
    if unknown:
        print(f"unknown case {unknown[0]!r}: expected one of {', '.join(case.name for case in CASES)}")
        return 2
    table = Table("case", "found", "right", "", show_lines=True)
    failed = 0
    for case in CASES:
        if names and case.name not in names:
            continue
        with tempfile.TemporaryDirectory(prefix="case-") as folder:
            try:
                found, right = case.measure(Path(folder))
            except Exception as error:  # a case that ends in a traceback is a finding, not the end of the run
                found, right = f"{type(error).__name__}: {error}", False
                traceback.print_exc()
        failed += not right
        table.add_row(case.name, found, case.right, "ok" if right else "WRONG")
    Console().print(table)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
