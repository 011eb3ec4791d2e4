"""Export decisions as CSV, for a spreadsheet or another machine, and import them without loss."""

from __future__ import annotations

import csv
import io
import math
import sqlite3
from datetime import UTC, datetime
from typing import Final

from opendance_hf.pipeline.inspection.queue import check_decision
from opendance_hf.pipeline.inspection.store import (
    REASONS,
    Inspection,
    InspectionError,
    check_name,
    timestamp,
)

COLUMNS: Final = (
    "round", "subject", "kind", "annotator", "verdict", "reasons", "note", "sequence", "source", "start_s", "end_s",
    "decided_at", "seconds", "withdrawn_at",
)  # fmt: skip
#: Spreadsheets run cells that start with these as formulas; an apostrophe before them prevents it.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "'")


def export_csv(inspection: Inspection) -> str:
    """Return all decisions as CSV, including withdrawn ones, in the order they were made."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    rows = inspection.db.execute(f"SELECT {', '.join(COLUMNS)} FROM inspection_decisions ORDER BY number")
    writer.writerows([_escape_formula(value) for value in row] for row in rows)
    return out.getvalue()


def import_csv(inspection: Inspection, text: str) -> int:
    """Add the decisions of :func:`export_csv` and return the number of new ones. After an error none is added.

    Known decisions are skipped. If an annotator, or two adjudicators, decided on one subject twice, the later decision is
    valid and the earlier one is stored as withdrawn.

    Raises:
        InspectionError: naming the line and the cause.
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    added, line = 0, 1
    try:
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise InspectionError(f"the column(s) {', '.join(missing)} are missing")
        with inspection.transaction():
            for row in reader:
                line = reader.line_num
                if None in row.values() or None in row:
                    raise InspectionError(
                        f"wrong number of columns: expected {len(reader.fieldnames or ())} as in the header"
                    )
                added += _add(inspection, {name: _unescape_formula(row[name]) for name in COLUMNS})
    except (InspectionError, ValueError, OverflowError, csv.Error, sqlite3.IntegrityError) as error:
        raise InspectionError(f"line {line}: {error}") from error
    return added


def _add(inspection: Inspection, row: dict[str, str]) -> bool:
    db = inspection.db
    round_, reasons = int(row["round"]), row["reasons"].split()
    if row["kind"] not in ("vote", "ruling"):
        raise InspectionError(f"unknown kind of decision {row['kind']!r}: expected 'vote' or 'ruling'")
    check_name(row["annotator"])
    if not row["subject"]:
        raise InspectionError("the subject is empty")
    check_decision(round_, row["verdict"], reasons, row["note"])
    start_s, end_s = _number(row, "start_s"), _number(row, "end_s")
    if end_s < start_s:
        raise InspectionError(f"end_s {end_s:g} is less than start_s {start_s:g}")
    values = {
        **row,
        "round": round_,
        "reasons": " ".join(key for key in REASONS[round_] if key in reasons),
        "start_s": start_s,
        "end_s": end_s,
        "seconds": _number(row, "seconds") if row["seconds"] else None,
        "decided_at": _time(row["decided_at"]),
        "withdrawn_at": _time(row["withdrawn_at"]) if row["withdrawn_at"] else None,
    }
    same = "round = :round AND subject = :subject AND kind = :kind"
    known = db.execute(
        f"SELECT number, withdrawn_at FROM inspection_decisions WHERE {same} AND annotator = :annotator"
        " AND decided_at = :decided_at AND verdict = :verdict AND reasons = :reasons",
        values,
    ).fetchone()
    if known is not None:
        if known["withdrawn_at"] is None and values["withdrawn_at"] is not None:
            db.execute(
                "UPDATE inspection_decisions SET withdrawn_at = ? WHERE number = ?",
                (values["withdrawn_at"], known["number"]),
            )
        return False
    if values["withdrawn_at"] is None:
        who = "" if row["kind"] == "ruling" else " AND annotator = :annotator"
        standing = db.execute(
            f"SELECT number, decided_at FROM inspection_decisions WHERE {same}{who} AND withdrawn_at IS NULL",
            values,
        ).fetchone()
        if standing is not None and standing["decided_at"] >= str(values["decided_at"]):
            values["withdrawn_at"] = standing["decided_at"]
        elif standing is not None:
            db.execute(
                "UPDATE inspection_decisions SET withdrawn_at = ? WHERE number = ?",
                (values["decided_at"], standing["number"]),
            )
    db.execute(
        f"INSERT INTO inspection_decisions ({', '.join(COLUMNS)}) VALUES (:{', :'.join(COLUMNS)})", values
    )
    return True


def _escape_formula(value: object) -> object:
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _unescape_formula(text: str) -> str:
    return text.removeprefix("'")


def _number(row: dict[str, str], name: str) -> float:
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InspectionError(f"{name} is {row[name]!r}, expected a finite number")
    return value


def _time(text: str) -> str:
    """Convert ISO 8601 of any time zone to the ledger's format, UTC."""
    moment = datetime.fromisoformat(text)
    return timestamp((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
