"""Select the posts of active dancers from a table of metadata (paper section 3.1).

The table has one row per post or one row per user, in CSV, JSON lines or Parquet. It is read in batches, so it may have
millions of rows. By default a user must have more than 100 followers, at least two posts in the past 90 days, and a
weight of more than 0.5 for the tag Entertainment-Dance.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from opendance_hf.errors import OpenDanceError, one_line, shown
from opendance_hf.pipeline.printable import printable

#: Number of rows of a Parquet file that are read at a time.
_BATCH: Final = 10_000
_TAG: Final = "Entertainment-Dance"
#: Columns of the list that ``opendance collect`` writes and ``opendance build --selected`` reads.
LIST_HEADER: Final = ("video", "status", "reason")


class CollectError(OpenDanceError, ValueError):
    """Raised for a table that cannot be used; the message names the file, the line, the column and the remedy."""


def listed_name(video: str) -> str:
    """Return the display name that a build gives to a video of the table: ``./a//b.mp4`` becomes ``a/b.mp4``."""
    name = os.path.normpath(video)
    try:
        return printable(name)
    except UnicodeEncodeError:  # a lone surrogate, which cannot occur in a file name
        return name.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True)
class Criteria:
    """Criteria that a user must meet; the defaults are the paper's."""

    followers_over: int = 100
    min_posts: int = 2
    tag: str = _TAG
    tag_weight_over: float = 0.5


@dataclass(frozen=True)
class Columns:
    """Names of the table's columns.

    Attributes:
        video: file name of the video, relative to the folder of videos.
        followers: number of followers of the user.
        posts: number of posts of the user in the past 90 days.
        tag_weight: weight of the dance tag, a number from 0 to 1; or all tags with their weights, as a JSON object or a
            Parquet map or struct.
    """

    video: str = "video"
    followers: str = "followers"
    posts: str = "posts_90d"
    tag_weight: str = "dance_weight"

    @classmethod
    def parse(cls, changes: list[str]) -> Columns:
        """Return the default names with changes of the form ``followers=fans``.

        Raises:
            CollectError: if a change has another form, or names an unknown column.
        """
        known = [f.name for f in fields(cls)]
        values = {}
        for change in changes:
            name, equals, value = change.partition("=")
            if not equals or name not in known or not value:
                raise CollectError(
                    f"cannot read the column {change!r}: expected NAME=COLUMN, with NAME one of {', '.join(known)}"
                )
            values[name] = value
        return cls(**values)


@dataclass
class Counts:
    """Counts of selected, rejected and unreadable rows; a rejected row counts for the first criterion it fails."""

    rows: int = 0
    followers: int = 0
    posts: int = 0
    tag: int = 0
    selected: int = 0
    bad: list[str] = field(default_factory=list)
    num_bad: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as a dictionary that JSON can hold."""
        return asdict(self)


def select(
    table: Path, criteria: Criteria, columns: Columns, counts: Counts, *, strict: bool = False
) -> Iterator[tuple[str, str]]:
    """Yield every post of the table with its reason for rejection, empty if it is selected; update ``counts``.

    A row that cannot be read is counted as bad. Its line and column are stored for the first hundred bad rows.

    Raises:
        CollectError: if the file is of an unknown type or lacks a column; if ``strict``, at the first bad row.
    """
    for line, row in _rows(table):
        counts.rows += 1
        try:
            if isinstance(row, str):
                raise _BadCell(row, missing=True)
            video = _text(row, columns.video)
            reason = _reject(row, criteria, columns, counts)
        except _BadCell as bad:
            message = f"{table}, line {line}: {bad}"
            if strict or (bad.missing and counts.rows == 1):
                raise CollectError(message) from None
            counts.num_bad += 1
            if len(counts.bad) < 100:
                counts.bad.append(message)
            named = row.get(columns.video) if isinstance(row, dict) else None
            video, reason = str(named or f"line {line}"), f"metadata cannot be read: {bad}"
        if not reason:
            counts.selected += 1
        yield video, reason


def _reject(row: dict[str, Any], criteria: Criteria, columns: Columns, counts: Counts) -> str:
    followers = _number(row, columns.followers)
    posts = _number(row, columns.posts)
    weight = _weight(row, columns.tag_weight, criteria.tag)
    if not followers > criteria.followers_over:
        counts.followers += 1
        return f"the user has {followers:.0f} followers; more than {criteria.followers_over} are required"
    if not posts >= criteria.min_posts:
        counts.posts += 1
        return f"the user posted {posts:.0f} time(s) in the past 90 days; at least {criteria.min_posts} are required"
    if not weight > criteria.tag_weight_over:
        counts.tag += 1
        return f"the tag {criteria.tag} has the weight {weight:.2f}; more than {criteria.tag_weight_over:g} is required"
    return ""


class _BadCell(ValueError):
    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


def _cell(row: dict[str, Any], column: str) -> Any:
    if column not in row:
        raise _BadCell(
            f"no column {column!r}: the table has {one_line(', '.join(map(str, row)))}; name the right one with --column",
            missing=True,
        )
    return row[column]


def _text(row: dict[str, Any], column: str) -> str:
    value = _cell(row, column)
    if not isinstance(value, str) or not value.strip():
        raise _BadCell(f"column {column!r} must name a video, got {shown(value)}")
    return value


def _number(row: dict[str, Any], column: str) -> float:
    value = _cell(row, column)
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not 0 <= number < float("inf"):
        raise _BadCell(f"column {column!r} must be a finite number of at least 0, got {shown(value)}")
    return number


def _weight(row: dict[str, Any], column: str, tag: str) -> float:
    """Return the weight of a tag: the number itself, or its entry in a mapping of all tags; 0 if it is absent."""
    value = _cell(row, column)
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise _BadCell(f"column {column!r} holds broken JSON: {value[:40]!r}") from None
    if isinstance(value, list):  # a Parquet map
        try:
            value = dict(value)
        except (TypeError, ValueError):
            raise _BadCell(
                f"column {column!r} must be a number or weights by tag, got {shown(value)}"
            ) from None
    if isinstance(value, dict):
        return _number({column: value.get(tag) or 0.0}, column)
    return _number(row, column)


def _rows(table: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield line numbers and rows, or the error in a row. Lines count from 1; the header of a CSV file is line 1."""
    suffix = table.suffix.lower()
    if not table.is_file():
        raise CollectError(f"{table}: no such file")
    if suffix == ".csv":
        with table.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            reader = csv.DictReader(file)
            try:
                for row in reader:
                    row.pop(None, None)  # more cells than columns
                    yield reader.line_num, row
            except csv.Error as error:
                raise CollectError(f"{table}, line {reader.line_num}: {error}") from None
    elif suffix in (".jsonl", ".ndjson"):
        with table.open(encoding="utf-8", errors="replace") as file:
            for line, text in enumerate(file, 1):
                if text.strip():
                    yield line, _parse_row(text)
    elif suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            line = 0
            for batch in pq.ParquetFile(table).iter_batches(_BATCH):
                for row in batch.to_pylist():
                    line += 1
                    yield line, row
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise CollectError(f"{table}: not a readable Parquet file: {one_line(error)}") from None
    else:
        raise CollectError(
            f"{table}: unknown type of table {suffix!r}: expected .csv, .jsonl, .ndjson or .parquet"
        )


def _parse_row(text: str) -> dict[str, Any] | str:
    """Parse a line as a JSON object; return the error as text if it is not one."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"not a JSON object ({error})"
    return row if isinstance(row, dict) else "not a JSON object"


def read_selection(listed: Path) -> dict[str, str]:
    """Read the list of ``opendance collect``: the reason for rejection by video, empty if it is selected.

    A video in several rows is selected if one of them selects it.

    Raises:
        CollectError: if the file cannot be read or is not such a list.
    """
    found: dict[str, str] = {}
    try:
        with listed.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            if tuple(next(reader, ())) != LIST_HEADER:
                raise CollectError(
                    f"{listed}: not a list of opendance collect: expected the header {','.join(LIST_HEADER)}"
                )
            for row in reader:
                if len(row) != 3 or row[1] not in ("selected", "rejected"):
                    raise CollectError(
                        f"{listed}, line {reader.line_num}: expected VIDEO,selected|rejected,REASON, got {','.join(row)!r:.80}"
                    )
                reason = (row[2] or "rejected in the list") if row[1] == "rejected" else ""
                name = listed_name(row[0])
                found[name] = reason if found.get(name, reason) else ""
    except (OSError, UnicodeError, csv.Error) as error:
        raise CollectError(f"{listed}: cannot be read ({error})") from None
    return found
