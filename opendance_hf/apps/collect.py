"""Select videos to process from a table of posts (``opendance collect``)."""

from __future__ import annotations

import csv
import json
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from opendance_hf.files import atomic_write, check_outputs
from opendance_hf.pipeline.collect import (
    LIST_HEADER,
    CollectError,
    Columns,
    Counts,
    Criteria,
    listed_name,
    select,
)


@dataclass(frozen=True)
class CollectOptions:
    """Options of a selection.

    Attributes:
        videos: folder of the videos; a post whose video is not in it is rejected.
        json_file: JSON file to write with the counts.
        strict: True to stop at the first row that cannot be read.
        overwrite: True to replace files that exist; inputs are never replaced.
    """

    videos: Path | None = None
    json_file: Path | None = None
    strict: bool = False
    overwrite: bool = False


def run_collect(
    table: Path,
    out: Path,
    criteria: Criteria,
    columns: Columns,
    options: CollectOptions | None = None,
    *,
    console: Console,
) -> Counts:
    """Write ``out``, a CSV with ``video``, ``status`` and ``reason`` of every post of ``table``, in order.

    Args:
        table: CSV, JSON lines or Parquet file.
        out: the CSV to write, for ``opendance build --selected``.
        criteria: criteria that users must meet.
        columns: names of the table's columns.
        options: see there.
        console: console on which the counts are printed.

    Raises:
        CollectError: if the table cannot be used.
        OutputError: if a file to write is the table, is in the folder of videos, or exists and ``options.overwrite`` is False.
        DiskError: if a file cannot be written.
    """
    options = options or CollectOptions()
    videos, json_file = options.videos, options.json_file
    inputs = [table, *([videos] if videos else [])]
    check_outputs({"--out": out, "--json": json_file}, inputs, overwrite=options.overwrite)
    if videos is not None and not videos.is_dir():
        raise CollectError(f"{videos}: no such folder")
    counts, absent = Counts(), 0
    with ExitStack() as results:  # both are written, or none
        partial = results.enter_context(atomic_write(out))
        with partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file)
            writer.writerow(LIST_HEADER)
            for video, reason in select(table, criteria, columns, counts, strict=options.strict):
                if not reason and videos is not None and not _is_found_by_build(videos, video):
                    absent += 1
                    reason = "no such file in the folder of videos"
                writer.writerow((listed_name(video), "rejected" if reason else "selected", reason))
        if not counts.rows:
            raise CollectError(f"{table}: the table has no rows")
        counts.selected -= absent
        if json_file is not None:
            found = {**counts.as_dict(), "no_video": absent}
            results.enter_context(atomic_write(json_file)).write_text(json.dumps(found, indent=2) + "\n")
    console.print(_table(counts, absent, criteria))
    for message in counts.bad[:5]:
        console.print(message, style="yellow", markup=False, highlight=False, soft_wrap=True)
    return counts


def _is_found_by_build(videos: Path, name: str) -> bool:
    """Return whether a build of the folder finds this file: it is inside, not hidden, and not behind a linked folder."""
    relative = Path(os.path.normpath(name))
    if relative.is_absolute() or any(part.startswith(".") for part in relative.parts):
        return False
    try:
        root = videos.resolve()
        file = root / relative
        without_links = file.parent.resolve() == file.parent
        return without_links and file.resolve().is_relative_to(root) and file.is_file()
    except (OSError, ValueError, RuntimeError):  # RuntimeError: a link to itself
        return False


def _table(counts: Counts, absent: int, criteria: Criteria) -> Table:
    shown = Table(title="Posts by the first criterion they fail", box=box.SIMPLE, title_justify="left")
    shown.add_column("criterion")
    shown.add_column("posts", justify="right")
    for text, number in (
        ("in the table", counts.rows),
        ("cannot be read", counts.num_bad),
        (f"not more than {criteria.followers_over} followers", counts.followers),
        (f"fewer than {criteria.min_posts} posts in 90 days", counts.posts),
        (f"{criteria.tag} not over {criteria.tag_weight_over:g}", counts.tag),
        ("no such video", absent),
        ("selected", counts.selected),
    ):
        shown.add_row(text, f"{number:,}")
    return shown
