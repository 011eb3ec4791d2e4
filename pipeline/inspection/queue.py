"""Assign items to annotators, record their decisions and undo them, each in one transaction.

At any time an item is assigned to at most as many annotators as it still needs. An assignment expires without activity, and
the item is then assigned to another annotator.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from opendance_hf.errors import shown
from opendance_hf.pipeline.inspection.repairs import waiting_motions
from opendance_hf.pipeline.inspection.store import (
    REASONS,
    Conflict,
    Decision,
    Inspection,
    InspectionError,
    Person,
    decision_of,
    row_number,
    timestamp,
)

#: Queue that an annotator works on: one of the two rounds, or the disputed items.
Desk = Literal["round1", "round2", "adjudicate"]
DESKS: Final[tuple[Desk, ...]] = ("round1", "round2", "adjudicate")
_ROUND: Final[dict[Desk, int | None]] = {"round1": 1, "round2": 2, "adjudicate": None}
MAX_NOTE: Final = 500

# Items that may be assigned to an annotator: neither decided nor judged by this annotator, and in round 2 only those kept
# in round 1 without a repair that waits for the next build, which may replace the motion. `held` counts other annotators
# who are judging the item now, `ahead` those for whom it is only preloaded. Items with votes come first, so that they are
# completed first.
_CANDIDATES: Final = """
WITH outcomes AS MATERIALIZED (SELECT * FROM inspection_outcomes)
SELECT o.round, o.subject, o.sequence,
    CASE :kind WHEN 'vote' THEN o.votes ELSE 0 END AS done,
    (SELECT count(*) FROM inspection_leases AS l WHERE l.round = o.round AND l.subject = o.subject
        AND l.kind = :kind AND l.annotator != :me AND l.shown_at IS NOT NULL) AS held,
    (SELECT count(*) FROM inspection_leases AS l WHERE l.round = o.round AND l.subject = o.subject
        AND l.kind = :kind AND l.annotator != :me AND l.shown_at IS NULL) AS ahead,
    mine.annotator IS NOT NULL AS is_mine, mine.shown_at
FROM outcomes AS o
LEFT JOIN outcomes AS first ON first.sequence = o.sequence AND first.round = 1
LEFT JOIN inspection_leases AS mine
    ON mine.round = o.round AND mine.subject = o.subject AND mine.kind = :kind AND mine.annotator = :me
WHERE (o.round = :round OR :round IS NULL) AND (o.subject = :subject OR :subject IS NULL)
    AND o.outcome = CASE :kind WHEN 'vote' THEN 'open' ELSE 'disputed' END
    AND (o.round = 1 OR first.outcome = 'keep')
    AND (o.round = 1 OR o.subject NOT IN (SELECT value FROM json_each(:waiting)))
    AND (:kind = 'ruling' OR NOT EXISTS (
        SELECT 1 FROM inspection_decisions AS d WHERE d.round = o.round AND d.subject = o.subject
            AND d.kind = 'vote' AND d.annotator = :me AND d.withdrawn_at IS NULL))
GROUP BY o.round, o.subject
HAVING done + held < :needed
ORDER BY mine.shown_at DESC NULLS LAST, is_mine DESC, done + held + ahead >= :needed, o.round, done DESC, o.sequence
LIMIT 2
"""


@dataclass(frozen=True)
class Item:
    """An item to judge.

    Attributes:
        subject: identity of what is judged, to which the decision belongs.
        sequence: id of the sequence, which names its preview and its clip.
        source: name of the source video.
        start_s, end_s: span of the source video, seconds.
        decisions: decisions of others, for adjudication only; empty in the rounds, which are blind.
    """

    round: int
    subject: str
    sequence: str
    source: str
    start_s: float
    end_s: float
    num_dancers: int
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True)
class Turn:
    """The item to judge now and the item to preload; None if there is none."""

    item: Item | None
    ahead: Item | None


def next_turn(inspection: Inspection, me: Person, desk: Desk) -> Turn:
    """Assign the next item to a person, and choose the one to preload.

    Repeated calls return the same item until it is decided. An item that is only preloaded may be assigned to somebody
    else who would have none.

    Raises:
        InspectionError: if the desk is unknown, or the person may not adjudicate.
    """
    kind, needed = _kind(me, desk), _needed(inspection, desk)
    with inspection.transaction() as db:
        now = _expire(inspection)
        rows = _candidates(inspection, me, desk)
        # Release items that were only preloaded or belong to another desk.
        db.execute(
            "DELETE FROM inspection_leases WHERE annotator = :me"
            " AND (shown_at IS NULL OR kind != :kind OR (kind = 'vote' AND round != :round))",
            {"me": me.name, "kind": kind, "round": _ROUND[desk]},
        )
        current = rows[0] if rows else None
        following = rows[1] if len(rows) > 1 else None
        if current is not None:
            _lease(inspection, me, kind, current, now if current["shown_at"] is None else current["shown_at"])
        if following is not None and following["shown_at"] is None:
            if following["done"] + following["held"] + following["ahead"] < needed:
                _lease(inspection, me, kind, following, None)
            else:
                following = None
        item, ahead = _item(db, current), _item(db, following)
        if item is not None and kind == "ruling":
            item = replace(item, decisions=_decisions(db, item.round, item.subject))
    return Turn(item, ahead)


def renew(inspection: Inspection, me: Person) -> None:
    """Extend the assignments of a person, whose page is still open."""
    with inspection.transaction() as db:
        now = _expire(inspection)
        db.execute(
            "UPDATE inspection_leases SET expires_at = ? WHERE annotator = ?",
            (now + inspection.lease_s, me.name),
        )


def decide(
    inspection: Inspection,
    me: Person,
    desk: Desk,
    round_: int,
    subject: str,
    verdict: str,
    reasons: Sequence[str] = (),
    note: str = "",
) -> None:
    """Record a decision. The same decision sent twice, because a response was lost, is recorded once.

    Raises:
        InspectionError: if the decision is invalid, such as a rejection without a reason.
        Conflict: if the item can no longer be decided by this person.
    """
    kind = _kind(me, desk)
    check_decision(round_, verdict, reasons, note)
    listed = " ".join(key for key in REASONS[round_] if key in reasons)
    with inspection.transaction() as db:
        now = _expire(inspection)
        old = db.execute(
            "SELECT verdict, reasons FROM inspection_decisions WHERE round = ? AND subject = ? AND kind = ?"
            " AND annotator = ? AND withdrawn_at IS NULL",
            (round_, subject, kind, me.name),
        ).fetchone()
        if old is not None:
            if tuple(old) == (verdict, listed):
                return
            raise Conflict("You have already decided on this item; undo withdraws that decision.")
        row = next(
            (row for row in _candidates(inspection, me, desk, subject) if row["round"] == round_), None
        )
        item = _item(db, row)
        if row is None or item is None:
            raise Conflict("Somebody else has decided on this item meanwhile, or it was repaired or rebuilt.")
        db.execute(
            "INSERT INTO inspection_decisions (round, subject, kind, annotator, verdict, reasons, note, sequence,"
            " source, start_s, end_s, decided_at, seconds) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(round_, subject, kind, me.name, verdict, listed, note.strip()),
                *(item.sequence, item.source, item.start_s, item.end_s, timestamp(now)),
                None if row["shown_at"] is None else round(now - row["shown_at"], 1),
            ),
        )
        db.execute(
            "DELETE FROM inspection_leases WHERE round = ? AND subject = ? AND kind = ? AND annotator = ?",
            (round_, subject, kind, me.name),
        )


def last_number(inspection: Inspection, me: Person, desk: Desk) -> int | None:
    """Return the number of a person's last decision at a desk that :func:`undo` can withdraw; None if there is none.

    Votes that were adjudicated since, and decisions on items that are no longer in the build, are skipped.
    """
    row = inspection.db.execute(
        "SELECT max(number) FROM inspection_decisions AS d WHERE annotator = :me AND kind = :kind"
        " AND withdrawn_at IS NULL AND (round = :round OR :round IS NULL)"
        " AND EXISTS (SELECT 1 FROM inspection_items AS i WHERE i.round = d.round AND i.subject = d.subject)"
        " AND (kind = 'ruling' OR NOT EXISTS (SELECT 1 FROM inspection_decisions AS r WHERE r.round = d.round"
        " AND r.subject = d.subject AND r.kind = 'ruling' AND r.withdrawn_at IS NULL))",
        {"me": me.name, "kind": _kind(me, desk), "round": _ROUND[desk]},
    ).fetchone()
    return row[0]


def undo(inspection: Inspection, me: Person, desk: Desk, number: int) -> Decision:
    """Withdraw a person's last decision at a desk and assign the item to them again.

    Args:
        number: number of the decision, from :func:`last_number`. It makes the request idempotent: sent twice, because a
            response was lost, it withdraws one decision.

    Raises:
        Conflict: if it is not their last decision, was adjudicated since, or the sequence was rebuilt.
    """
    kind = _kind(me, desk)
    with inspection.transaction() as db:
        row = db.execute(
            "SELECT * FROM inspection_decisions WHERE number = ? AND annotator = ? AND kind = ?",
            (row_number(number), me.name, kind),
        ).fetchone()
        if row is not None and row["withdrawn_at"] is not None:
            return decision_of(row)
        if row is None:
            raise Conflict(f"You have no decision with the number {number}.")
        key = (row["round"], row["subject"])
        if not db.execute("SELECT 1 FROM inspection_items WHERE round = ? AND subject = ?", key).fetchone():
            raise Conflict("The sequence of your last decision is no longer in the build.")
        ruled = db.execute(
            "SELECT 1 FROM inspection_decisions WHERE round = ? AND subject = ? AND kind = 'ruling'"
            " AND withdrawn_at IS NULL",
            key,
        ).fetchone()
        if kind == "vote" and ruled:
            raise Conflict("Your last decision has been adjudicated; only that ruling can be withdrawn now.")
        if number != last_number(inspection, me, desk):
            raise Conflict("That is not your last decision.")
        now = inspection.clock()
        db.execute(
            "UPDATE inspection_decisions SET withdrawn_at = ? WHERE number = ?",
            (timestamp(now), row["number"]),
        )
        _lease(inspection, me, kind, row, now)
    return decision_of(row)


def check_decision(round_: int, verdict: str, reasons: Sequence[str], note: str) -> None:
    """Raise InspectionError unless a decision is valid: known round, verdict and reasons, and a note that is not too long."""
    if round_ not in REASONS:
        raise InspectionError(f"unknown round {round_}: expected {' or '.join(map(str, REASONS))}")
    unknown = sorted(set(reasons) - set(REASONS[round_]))
    if unknown:
        raise InspectionError(
            f"unknown reason {unknown[0]!r} in round {round_}: expected one of {', '.join(REASONS[round_])}"
        )
    if verdict not in ("keep", "reject"):
        raise InspectionError(f"unknown verdict {verdict!r}: expected 'keep' or 'reject'")
    if (verdict == "reject") != bool(reasons):
        raise InspectionError(
            f"verdict {verdict!r} with {len(set(reasons))} reason(s): a rejection needs at least one, 'keep' has none"
        )
    if len(note) > MAX_NOTE:
        raise InspectionError(f"the note has {len(note)} characters: at most {MAX_NOTE} are allowed")


def _candidates(
    inspection: Inspection, me: Person, desk: Desk, subject: str | None = None
) -> list[sqlite3.Row]:
    values = {
        "kind": _kind(me, desk),
        "me": me.name,
        "round": _ROUND[desk],
        "needed": _needed(inspection, desk),
        "subject": subject,
        "waiting": json.dumps(waiting_motions(inspection)),
    }
    return inspection.db.execute(_CANDIDATES, values).fetchall()


def _expire(inspection: Inspection) -> float:
    """Delete expired assignments and return the current time."""
    now = inspection.clock()
    inspection.db.execute("DELETE FROM inspection_leases WHERE expires_at <= ?", (now,))
    return now


def _lease(inspection: Inspection, me: Person, kind: str, row: sqlite3.Row, shown_at: float | None) -> None:
    inspection.db.execute(
        "INSERT OR REPLACE INTO inspection_leases VALUES (?, ?, ?, ?, ?, ?)",
        (row["round"], row["subject"], kind, me.name, shown_at, inspection.clock() + inspection.lease_s),
    )


def _item(db: sqlite3.Connection, row: sqlite3.Row | None) -> Item | None:
    if row is None:
        return None
    found = db.execute(
        "SELECT s.summary, i.name FROM sequences AS s JOIN items AS i ON i.path = s.path WHERE s.id = ?",
        (row["sequence"],),
    ).fetchone()
    if found is None:  # the build is processing it again at this moment
        return None
    summary = json.loads(found["summary"])
    span = (summary["start_s"], summary["end_s"], summary["num_dancers"])
    return Item(row["round"], row["subject"], row["sequence"], found["name"], *span)


def _decisions(db: sqlite3.Connection, round_: int, subject: str) -> tuple[Decision, ...]:
    rows = db.execute(
        "SELECT * FROM inspection_decisions WHERE round = ? AND subject = ? AND withdrawn_at IS NULL"
        " ORDER BY number",
        (round_, subject),
    )
    return tuple(map(decision_of, rows))


def _kind(me: Person, desk: Desk) -> str:
    if desk not in DESKS:
        raise InspectionError(f"unknown desk {shown(desk)}: expected one of {', '.join(DESKS)}")
    if desk == "adjudicate" and not me.adjudicates:
        raise InspectionError(f"{me.name} may not adjudicate; the server's option --adjudicator allows it")
    return "ruling" if desk == "adjudicate" else "vote"


def _needed(inspection: Inspection, desk: Desk) -> int:
    return 1 if desk == "adjudicate" else inspection.votes_needed
