"""Record the repairs of sequences, which are decisions like verdicts, and withdraw them.

A repair belongs to a span of a source video. Its dancers and sides are those of the motion that it was made on, so repairs
of the same motion are applied in the order of :data:`~opendance_hf.pipeline.repairs.REPAIRS`, before those of a later one.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from opendance_hf.pipeline.clip import Repair
from opendance_hf.pipeline.config import CONFIG, stages_in, with_repairs
from opendance_hf.pipeline.inspection.store import (
    Conflict,
    Inspection,
    InspectionError,
    Person,
    row_number,
    timestamp,
    video_of,
)
from opendance_hf.pipeline.ledger import DONE
from opendance_hf.pipeline.repairs import (
    PREVIEW_FPS,
    REPAIRS,
    RepairError,
    check_repair,
    describe,
    span_of_frames,
)
from opendance_hf.schema import FPS

#: Columns of a repair in the table, by its fields.
_FIELDS: Final = {
    field.name: f"repair_{field.name}" if field.name.endswith("_s") else field.name
    for field in fields(Repair)
}
_SAME: Final = " AND ".join(f"{column} IS ?" for column in _FIELDS.values())


@dataclass(frozen=True)
class Repaired:
    """A repair that an annotator made.

    Attributes:
        state: ``waiting`` for a build, ``applied`` or ``withdrawn``.
        start_s, end_s: its span, seconds of the source.
    """

    number: int
    annotator: str
    text: str
    sequence: str
    source: str
    start_s: float
    end_s: float
    state: str


def repair_of(row: sqlite3.Row) -> Repair:
    """Convert a row of ``inspection_repairs``."""
    return Repair(**{name: row[column] for name, column in _FIELDS.items()})


def standing_repairs(inspection: Inspection) -> dict[str, tuple[Repair, ...]]:
    """Return the valid repairs of each video in the order in which they are applied, by :func:`video_of` its hash."""
    found: dict[str, list[tuple[int, int, Repair]]] = {}
    motions: dict[str, int] = {}
    for row in inspection.db.execute(
        "SELECT * FROM inspection_repairs WHERE withdrawn_at IS NULL ORDER BY decided_at, number"
    ):
        repair, made_on = repair_of(row), motions.setdefault(row["motion"], len(motions))
        order = (made_on, list(REPAIRS).index(repair.kind), repair)
        found.setdefault(video_of(row["span"]), []).append(order)
    return {
        video: tuple(repair for *_, repair in sorted(own, key=lambda one: one[:2]))
        for video, own in found.items()
    }


def waiting_motions(inspection: Inspection) -> list[str]:
    """Return the subjects of round 2 with repairs that no build has taken up.

    The repairs that a video was processed with are part of its fingerprint in the ledger. The motion alone does not tell:
    a repair may change nothing. While a repair of a video waits, those of its other sequences wait that changed nothing.
    """
    rows = inspection.db.execute(
        "SELECT DISTINCT r.motion, r.span, v.fingerprint, v.status FROM inspection_repairs AS r"
        " JOIN inspection_items AS i ON i.round = 2 AND i.subject = r.motion"
        " LEFT JOIN sequences AS s ON s.id = i.sequence LEFT JOIN items AS v ON v.path = s.path"
        " WHERE r.withdrawn_at IS NULL"
    ).fetchall()
    repairs = standing_repairs(inspection) if rows else {}
    return [
        row["motion"]
        for row in rows
        if row["status"] not in DONE
        or row["fingerprint"] != with_repairs(row["fingerprint"], repairs[video_of(row["span"])])
    ]


def add_repair(inspection: Inspection, me: Person, motion: str, repair: Repair) -> None:
    """Record a repair. The same one sent twice, because a response was lost, is recorded once.

    Args:
        inspection: the tables.
        me: who made it.
        motion: subject of the item of round 2 that it was made on.
        repair: what to repair.

    Raises:
        InspectionError: if it does not fit the sequence or the pipeline, or overlaps with one of the same kind.
        Conflict: if the sequence was rebuilt meanwhile.
    """
    with inspection.transaction() as db:
        item = _item(inspection, motion)
        summary = json.loads(item["summary"])
        span = (summary["start_s"], summary["end_s"], summary["num_dancers"])
        repair = _check(inspection, repair, *span)
        if db.execute(
            f"SELECT 1 FROM inspection_repairs WHERE motion = ? AND withdrawn_at IS NULL AND {_SAME}",
            (motion, *asdict(repair).values()),
        ).fetchone():
            return
        if other := find_clash(inspection, motion, repair):
            raise InspectionError(
                f"{describe(repair)}: overlaps with or touches the same repair by {other['annotator']}, from "
                f"{other['repair_start_s']:.2f} to {other['repair_end_s']:.2f} s; withdraw that one first"
            )
        insert_repair(
            inspection,
            {
                **dict(zip(_FIELDS.values(), asdict(repair).values(), strict=True)),
                **dict(zip(("start_s", "end_s", "num_dancers"), span, strict=True)),
                **{"span": item["span"], "motion": motion, "annotator": me.name, "source": item["name"]},
                **{"sequence": item["sequence"], "decided_at": timestamp(inspection.clock())},
                "withdrawn_at": None,
            },
        )


def shown_span(inspection: Inspection, motion: str, first: int, last: int) -> tuple[float, float]:
    """Return the span, seconds of the source, of frames of the preview of a motion, the last one included.

    Raises:
        InspectionError: if the preview does not have the frames.
        Conflict: if the sequence was rebuilt meanwhile.
    """
    summary = json.loads(_item(inspection, motion)["summary"])
    count = max(1, round(summary["num_frames"] / FPS * PREVIEW_FPS))
    if first > last:
        raise InspectionError("the last frame must not lie before the first")
    if first < 0 or last >= count:
        raise InspectionError(
            f"frames {first!r:.20} to {last!r:.20}: the preview has frames 0 to {count - 1}"
        )
    return span_of_frames(summary["start_s"], first, last)


def _item(inspection: Inspection, motion: str) -> sqlite3.Row:
    """Return the sequence of a motion: its id, its span, its summary and the name of its source.

    Raises:
        Conflict: if no sequence has the motion.
    """
    row: sqlite3.Row | None = inspection.db.execute(
        "SELECT i.sequence, first.subject AS span, s.summary, v.name FROM inspection_items AS i"
        " JOIN inspection_items AS first ON first.sequence = i.sequence AND first.round = 1"
        " JOIN sequences AS s ON s.id = i.sequence JOIN items AS v ON v.path = s.path"
        " WHERE i.round = 2 AND i.subject = ?",
        (motion,),
    ).fetchone()
    if row is None:
        raise Conflict("The sequence was rebuilt meanwhile: look at it again before you repair it.")
    return row


def _check(inspection: Inspection, repair: Repair, start_s: float, end_s: float, num_dancers: int) -> Repair:
    """Return what :func:`check_repair` does; raise InspectionError unless it fits the sequence and the pipeline."""
    stages = stages_in(inspection.build / CONFIG)
    try:
        repair = check_repair(repair, start_s, end_s, num_dancers, has_bodies="lift" in stages)
    except RepairError as error:
        raise InspectionError(str(error)) from error
    stage = stages.get(REPAIRS[repair.kind].stage)
    if stage is None:
        raise InspectionError(
            f"{describe(repair)}: the pipeline of this build has no stage {REPAIRS[repair.kind].stage!r}; build the "
            "videos with a pipeline that has one"
        )
    shortest_s, left_s = (
        getattr(stage, "min_duration_s", 0.0),
        max(repair.start_s - start_s, end_s - repair.end_s),
    )
    if left_s < shortest_s:
        raise InspectionError(
            f"{describe(repair)}: leaves {max(left_s, 0):.1f} s, at least {shortest_s:g} s are needed; reject the "
            "sequence instead"
        )
    return repair


def find_clash(inspection: Inspection, motion: str, repair: Repair) -> sqlite3.Row | None:
    """Return a valid repair of the same kind, dancers and foot on the same motion that overlaps or touches.

    Twice would be undone, and neighbouring frames of the preview may show the same frame of the source.
    """
    row: sqlite3.Row | None = inspection.db.execute(
        "SELECT * FROM inspection_repairs WHERE motion = ? AND withdrawn_at IS NULL AND kind = ? AND dancer IS ?"
        " AND other IS ? AND foot IS ? AND repair_start_s < ? AND repair_end_s > ?",
        (
            motion,
            repair.kind,
            repair.dancer,
            repair.other,
            repair.foot,
            repair.end_s + 1e-3,
            repair.start_s - 1e-3,
        ),
    ).fetchone()
    return row


def insert_repair(inspection: Inspection, row: dict[str, Any]) -> None:
    """Add a row to the table."""
    inspection.db.execute(
        f"INSERT INTO inspection_repairs ({', '.join(row)}) VALUES (:{', :'.join(row)})", row
    )


def withdraw_repair(inspection: Inspection, me: Person, number: int) -> None:
    """Mark a repair as withdrawn; the next build makes the sequence without it. Withdrawing twice changes nothing.

    Raises:
        InspectionError: if the repair is unknown, or somebody else's and the person may not adjudicate.
        Conflict: if a later repair was made on its result.
    """
    with inspection.transaction() as db:
        row = db.execute(
            "SELECT * FROM inspection_repairs WHERE number = ?", (row_number(number),)
        ).fetchone()
        if row is None:
            raise InspectionError(f"there is no repair with the number {number}")
        if row["annotator"] != me.name and not me.adjudicates:
            raise InspectionError(
                f"{describe(repair_of(row))} was made by {row['annotator']}: only they or an adjudicator may withdraw it"
            )
        if row["withdrawn_at"] is not None:
            return
        later = db.execute(
            "SELECT * FROM inspection_repairs WHERE span = ? AND motion != ? AND withdrawn_at IS NULL AND"
            " (decided_at, number) > (?, ?) AND repair_start_s < ? AND repair_end_s > ?",
            (
                row["span"],
                row["motion"],
                row["decided_at"],
                number,
                row["repair_end_s"],
                row["repair_start_s"],
            ),
        ).fetchone()
        if later is not None:
            raise Conflict(
                f"“{describe(repair_of(later))}” by {later['annotator']} was made on the result: withdraw it first."
            )
        db.execute(
            "UPDATE inspection_repairs SET withdrawn_at = ? WHERE number = ?",
            (timestamp(inspection.clock()), number),
        )


def list_repairs(inspection: Inspection, sequence: str | None = None) -> list[Repaired]:
    """Return the valid repairs of a sequence, or all repairs with the withdrawn ones, in the order they were made."""
    rows = inspection.db.execute(
        "SELECT * FROM inspection_repairs WHERE :sequence IS NULL OR (withdrawn_at IS NULL AND span ="
        " (SELECT subject FROM inspection_items WHERE round = 1 AND sequence = :sequence))"
        " ORDER BY decided_at, number",
        {"sequence": sequence},
    ).fetchall()
    waiting = waiting_motions(inspection)
    out = []
    for row in rows:
        state = "withdrawn" if row["withdrawn_at"] else "waiting" if row["motion"] in waiting else "applied"
        span = (row["repair_start_s"], row["repair_end_s"])
        text = describe(repair_of(row))
        out.append(
            Repaired(row["number"], row["annotator"], text, row["sequence"], row["source"], *span, state)
        )
    return out
