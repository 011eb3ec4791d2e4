"""Decisions as CSV: out for a spreadsheet or another machine, and back in without loss."""

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
#: A spreadsheet would run these as formulas; an apostrophe before them makes it show them.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "'")


def export_csv(inspection: Inspection) -> str:
    """Every decision ever made, withdrawn ones included, in the order they were made."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    rows = inspection.db.execute(f"SELECT {', '.join(COLUMNS)} FROM inspection_decisions ORDER BY number")
    writer.writerows([_shown(value) for value in row] for row in rows)
    return out.getvalue()


def import_csv(inspection: Inspection, text: str) -> int:
    """Add the decisions of :func:`export_csv`; returns how many were new. All are added, or none.

    What is known already is skipped. Where a person, or two adjudicators, decided on one thing twice, the later
    decision stands and the earlier is kept as withdrawn.

    Raises:
        InspectionError: naming the line and the cause.
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    added, line = 0, 1
    try:
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise InspectionError(f"misses the column(s) {', '.join(missing)}")
        with inspection.transaction():
            for row in reader:
                line = reader.line_num
                if None in row.values() or None in row:
                    raise InspectionError(f"has not {len(reader.fieldnames or ())} columns")
                added += _add(inspection, {name: _read(row[name]) for name in COLUMNS})
    except (InspectionError, ValueError, OverflowError, csv.Error, sqlite3.IntegrityError) as error:
        raise InspectionError(f"line {line}: {error}") from error
    return added


def _add(inspection: Inspection, row: dict[str, str]) -> bool:
    db = inspection.db
    round_, given = int(row["round"]), row["reasons"].split()
    if row["kind"] not in ("vote", "ruling"):
        raise InspectionError(f"{row['kind']!r} is no kind of decision; vote and ruling are")
    check_name(row["annotator"])
    if not row["subject"]:
        raise InspectionError("a decision needs a subject")
    check_decision(round_, row["verdict"], given, row["note"])
    start_s, end_s = _number(row, "start_s"), _number(row, "end_s")
    if end_s < start_s:
        raise InspectionError(f"it ends before it begins: {end_s:g} s and {start_s:g} s")
    values = {
        **row,
        "round": round_,
        "reasons": " ".join(key for key in REASONS[round_] if key in given),
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


def _shown(value: object) -> object:
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _read(text: str) -> str:
    return text.removeprefix("'")


def _number(row: dict[str, str], name: str) -> float:
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InspectionError(f"{name} is {row[name]!r}, not a finite number")
    return value


def _time(text: str) -> str:
    """ISO 8601 of any zone, as the ledger writes it."""
    moment = datetime.fromisoformat(text)
    return timestamp((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
