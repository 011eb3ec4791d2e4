"""Export decisions as CSV, for a spreadsheet or another machine, and import them without loss."""

from __future__ import annotations

import csv
import io
import json
import math
import sqlite3
from datetime import UTC, datetime
from typing import Any, Final

from opendance_hf.errors import one_line
from opendance_hf.pipeline.clip import Repair
from opendance_hf.pipeline.inspection.queue import check_decision
from opendance_hf.pipeline.inspection.repairs import find_clash, insert_repair
from opendance_hf.pipeline.inspection.store import (
    REASONS,
    Inspection,
    InspectionError,
    check_name,
    check_span,
    timestamp,
)
from opendance_hf.pipeline.repairs import check_repair

COLUMNS: Final = (
    "round", "subject", "kind", "annotator", "verdict", "reasons", "note", "sequence", "source", "start_s", "end_s",
    "decided_at", "seconds", "withdrawn_at",
)  # fmt: skip
#: Further columns, of repairs; ``kind`` is then ``repair`` and ``subject`` the motion that it was made on.
REPAIR_COLUMNS: Final = (
    "repair", "repair_start_s", "repair_end_s", "dancer", "other", "foot", "num_dancers", "span",
)  # fmt: skip
#: Spreadsheets run cells that start with these as formulas; an apostrophe before them prevents it.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "'")


def export_csv(inspection: Inspection) -> str:
    """Return all decisions as CSV, including withdrawn ones, in the order they were made; repairs come last."""
    out = io.StringIO()
    writer = csv.DictWriter(out, (*COLUMNS, *REPAIR_COLUMNS), lineterminator="\n")
    writer.writeheader()
    decisions = inspection.db.execute(
        f"SELECT {', '.join(COLUMNS)} FROM inspection_decisions ORDER BY number"
    )
    repairs = inspection.db.execute(
        "SELECT 2 AS round, motion AS subject, 'repair' AS kind, kind AS repair, * FROM inspection_repairs"
        " ORDER BY number"
    )
    for row in (*decisions, *repairs):
        values = {name: row[name] for name in row.keys() if name in writer.fieldnames}  # noqa: SIM118
        writer.writerow({name: _escape_formula(value) for name, value in values.items()})
    return out.getvalue()


def import_csv(inspection: Inspection, text: str) -> int:
    """Add the decisions of :func:`export_csv` and return the number of new ones. After an error none is added.

    Known decisions are skipped. If an annotator, or two adjudicators, decided on one subject twice, the later decision is
    valid and the earlier one is stored as withdrawn. A repair that overlaps with or touches the same one of somebody else
    is stored as withdrawn.

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
                values = {
                    name: _unescape_formula(row.get(name) or "") for name in (*COLUMNS, *REPAIR_COLUMNS)
                }
                add = _add_repair if values["kind"] == "repair" else _add
                added += add(inspection, values)
    except (InspectionError, ValueError, OverflowError, csv.Error, sqlite3.IntegrityError) as error:
        raise InspectionError(f"line {line}: {one_line(error)}") from error
    return added


def _add(inspection: Inspection, row: dict[str, str]) -> bool:
    db = inspection.db
    round_, reasons = int(row["round"]), row["reasons"].split()
    if row["kind"] not in ("vote", "ruling"):
        raise InspectionError(
            f"unknown kind of decision {row['kind']!r}: expected 'vote', 'ruling' or 'repair'"
        )
    check_decision(round_, row["verdict"], reasons, row["note"])
    values = {
        **{name: row[name] for name in COLUMNS},
        **_common(row),
        "round": round_,
        "reasons": " ".join(key for key in REASONS[round_] if key in reasons),
        "seconds": _number(row, "seconds") if row["seconds"] else None,
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


def _common(row: dict[str, str]) -> dict[str, Any]:
    """Check and convert the columns that verdicts and repairs share."""
    check_name(row["annotator"])
    if not row["subject"]:
        raise InspectionError("the subject is empty")
    start_s, end_s = _number(row, "start_s"), _number(row, "end_s")
    if end_s < start_s:
        raise InspectionError(f"end_s {end_s:g} is less than start_s {start_s:g}")
    return {
        "start_s": start_s,
        "end_s": end_s,
        "decided_at": _time(row["decided_at"]),
        "withdrawn_at": _time(row["withdrawn_at"]) if row["withdrawn_at"] else None,
    }


def _add_repair(inspection: Inspection, row: dict[str, str]) -> bool:
    common, num_dancers = _common(row), int(_number(row, "num_dancers"))
    repair = Repair(
        row["repair"],
        _number(row, "repair_start_s"),
        _number(row, "repair_end_s"),
        int(row["dancer"]) if row["dancer"] else None,
        int(row["other"]) if row["other"] else None,
        row["foot"] or None,
    )
    here = inspection.db.execute(
        "SELECT s.summary FROM inspection_items AS i JOIN sequences AS s ON s.id = i.sequence"
        " WHERE i.round = 2 AND i.subject = ?",
        (row["subject"],),
    ).fetchone()
    if here is not None:
        num_dancers = json.loads(here["summary"])["num_dancers"]
    repair = check_repair(repair, common["start_s"], common["end_s"], num_dancers)
    check_span(row["span"])
    values = {
        **common,
        **{name: row[name] for name in ("span", "annotator", "sequence", "source")},
        **{"motion": row["subject"], "num_dancers": num_dancers, "kind": repair.kind, "foot": repair.foot},
        **{"repair_start_s": repair.start_s, "repair_end_s": repair.end_s},
        **{"dancer": repair.dancer, "other": repair.other},
    }
    known = inspection.db.execute(
        "SELECT number, withdrawn_at FROM inspection_repairs WHERE motion = :motion AND kind = :kind"
        " AND annotator = :annotator AND decided_at = :decided_at AND repair_start_s = :repair_start_s"
        " AND repair_end_s = :repair_end_s AND dancer IS :dancer AND other IS :other AND foot IS :foot",
        values,
    ).fetchone()
    if known is not None:
        if known["withdrawn_at"] is None and values["withdrawn_at"] is not None:
            inspection.db.execute(
                "UPDATE inspection_repairs SET withdrawn_at = ? WHERE number = ?",
                (values["withdrawn_at"], known["number"]),
            )
        return False
    if values["withdrawn_at"] is None and find_clash(inspection, row["subject"], repair):
        values["withdrawn_at"] = values["decided_at"]
    insert_repair(inspection, values)
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
