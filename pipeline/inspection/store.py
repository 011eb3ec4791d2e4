"""Store the inspection tables in the build's ledger: settings, people and their tokens, items, decisions, assignments."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import sqlite3
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import numpy as np

from opendance_hf.errors import OpenDanceError

Verdict = Literal["keep", "reject"]

_VIDEO: Final = {
    "camera": "The camera is moving dramatically",
    "people": "More than two people, or occlusions",
    "back": "Back to the camera all the time",
    "tools": "A dance with tools, such as a pole",
    "repeat": "Repeats one movement, or stands still",
}
_RESULT: Final = {
    "orientation": "Abnormal orientation",
    "severe_jitter": "Severe jitter",
    "body_jitter": "Body jitter",
}
#: Reasons for rejection by round (paper 3.1, Manual Inspection). Round 2 repeats those of round 1, for what was missed
#: there; a reason has the same index in both.
REASONS: Final[dict[int, dict[str, str]]] = {1: _VIDEO, 2: _VIDEO | _RESULT}

LEASE_S: Final = 600.0
#: How far a repair may move the ends of a sequence beyond its span, milliseconds.
_SPAN_MARGIN_MS: Final = 500
_NAME: Final = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,38}[^\s\x00-\x1f\x7f])?")

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS inspection_settings (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS inspection_people (
    name TEXT PRIMARY KEY,
    token_sha256 TEXT,
    adjudicates INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS inspection_items (
    sequence TEXT NOT NULL,
    round INTEGER NOT NULL,
    subject TEXT NOT NULL,
    stamp TEXT NOT NULL,
    PRIMARY KEY (sequence, round)
);
CREATE INDEX IF NOT EXISTS inspection_subjects ON inspection_items (round, subject);
CREATE TABLE IF NOT EXISTS inspection_decisions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    round INTEGER NOT NULL,
    subject TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('vote', 'ruling')),
    annotator TEXT NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('keep', 'reject')),
    reasons TEXT NOT NULL,
    note TEXT NOT NULL,
    sequence TEXT NOT NULL,
    source TEXT NOT NULL,
    start_s REAL NOT NULL,
    end_s REAL NOT NULL,
    decided_at TEXT NOT NULL,
    seconds REAL,
    withdrawn_at TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS inspection_votes ON inspection_decisions (round, subject, annotator)
    WHERE kind = 'vote' AND withdrawn_at IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS inspection_rulings ON inspection_decisions (round, subject)
    WHERE kind = 'ruling' AND withdrawn_at IS NULL;
CREATE TABLE IF NOT EXISTS inspection_leases (
    round INTEGER NOT NULL,
    subject TEXT NOT NULL,
    kind TEXT NOT NULL,
    annotator TEXT NOT NULL,
    shown_at REAL,
    expires_at REAL NOT NULL,
    PRIMARY KEY (round, subject, kind, annotator)
);
CREATE TABLE IF NOT EXISTS inspection_repairs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    span TEXT NOT NULL,
    motion TEXT NOT NULL,
    annotator TEXT NOT NULL,
    kind TEXT NOT NULL,
    repair_start_s REAL NOT NULL,
    repair_end_s REAL NOT NULL,
    dancer INTEGER,
    other INTEGER,
    foot TEXT,
    sequence TEXT NOT NULL,
    source TEXT NOT NULL,
    start_s REAL NOT NULL,
    end_s REAL NOT NULL,
    num_dancers INTEGER NOT NULL,
    decided_at TEXT NOT NULL,
    withdrawn_at TEXT
);
CREATE VIEW IF NOT EXISTS inspection_outcomes AS
SELECT i.sequence, i.round, i.subject, coalesce(d.votes, 0) AS votes, CASE
    WHEN d.ruling IS NOT NULL THEN d.ruling
    WHEN coalesce(d.votes, 0) < coalesce((SELECT value FROM inspection_settings WHERE name = 'votes'), 1) THEN 'open'
    WHEN d.keeps = d.votes THEN 'keep'
    WHEN d.keeps = 0 THEN 'reject'
    ELSE 'disputed' END AS outcome
FROM inspection_items AS i LEFT JOIN (
    SELECT round, subject, sum(kind = 'vote') AS votes, sum(kind = 'vote' AND verdict = 'keep') AS keeps,
        max(CASE kind WHEN 'ruling' THEN verdict END) AS ruling
    FROM inspection_decisions WHERE withdrawn_at IS NULL GROUP BY round, subject
) AS d ON d.round = i.round AND d.subject = i.subject;
"""


class InspectionError(OpenDanceError, RuntimeError):
    """Raised for invalid input to an inspection; the message names the value and what was expected."""


class Conflict(InspectionError):
    """Raised when the item of a decision was changed or decided meanwhile; the page then shows the next item."""


@dataclass(frozen=True)
class Person:
    """An annotator or adjudicator."""

    name: str
    adjudicates: bool = False


@dataclass(frozen=True)
class Decision:
    """One valid decision.

    Attributes:
        kind: ``vote``, or ``ruling`` for the final decision on a disputed item.
        reasons: keys of :data:`REASONS`; empty for ``keep``.
    """

    annotator: str
    kind: str
    verdict: Verdict
    reasons: tuple[str, ...]
    note: str


class Inspection:
    """The inspection tables of a ledger. Changes are on disk when a call returns, even after a power failure.

    Args:
        ledger: the build's ``ledger.sqlite``.
        clock: function that returns seconds since 1970.
        lease_s: duration of an assignment without activity, seconds.
    """

    def __init__(
        self, ledger: Path, clock: Callable[[], float] = time.time, lease_s: float = LEASE_S
    ) -> None:
        self.build, self.clock, self.lease_s = ledger.parent, clock, lease_s
        self.unreadable: list[Path] = []
        self.db = sqlite3.connect(ledger, timeout=60, isolation_level=None)
        self.db.row_factory = sqlite3.Row
        self.db.execute("PRAGMA journal_mode = WAL")
        # FULL, since decisions must survive a power failure. The pipeline's own rows could be computed again.
        self.db.execute("PRAGMA synchronous = FULL")
        if not self.db.execute("SELECT 1 FROM sqlite_master WHERE name = 'inspection_repairs'").fetchone():
            self.db.executescript(_SCHEMA)

    def __enter__(self) -> Inspection:
        return self

    def __exit__(self, *_: object) -> None:
        self.db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block in one transaction, rolled back after an error."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield self.db
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    @property
    def votes_needed(self) -> int:
        """Number of people who judge each item in each round."""
        row = self.db.execute("SELECT value FROM inspection_settings WHERE name = 'votes'").fetchone()
        return int(row["value"]) if row else 1

    @votes_needed.setter
    def votes_needed(self, value: int) -> None:
        if value < 1:
            raise InspectionError(f"annotators per item must be at least 1, got {value}")
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO inspection_settings VALUES ('votes', ?)", (value,))

    def add_person(self, name: str, *, adjudicates: bool = False, new_token: bool = False) -> str | None:
        """Add a person, or allow a known one to adjudicate.

        Only a hash of the token is stored.

        Returns:
            A new login token; None if the person's token is still valid.

        Raises:
            InspectionError: if the name is invalid.
        """
        check_name(name)
        token = secrets.token_urlsafe(24)
        with self.transaction() as db:
            db.execute("INSERT OR IGNORE INTO inspection_people (name) VALUES (?)", (name,))
            if adjudicates:
                db.execute("UPDATE inspection_people SET adjudicates = 1 WHERE name = ?", (name,))
            changed = db.execute(
                "UPDATE inspection_people SET token_sha256 = ? WHERE name = ? AND (token_sha256 IS NULL OR ?)",
                (_digest(token), name, new_token),
            )
            return token if changed.rowcount else None

    def people(self) -> list[Person]:
        """Return everybody who may log in, sorted by name."""
        rows = self.db.execute(
            "SELECT name, adjudicates FROM inspection_people WHERE token_sha256 IS NOT NULL ORDER BY name"
        )
        return [Person(row["name"], bool(row["adjudicates"])) for row in rows]

    def person(self, token: str) -> Person | None:
        """Return the person with this token; None if it is unknown."""
        digest, found = _digest(token), None
        for row in self.db.execute(
            "SELECT name, adjudicates, token_sha256 FROM inspection_people WHERE token_sha256 IS NOT NULL"
        ):
            if hmac.compare_digest(digest, row["token_sha256"]):
                found = Person(row["name"], bool(row["adjudicates"]))
        return found

    def has_decisions(self) -> bool:
        """Return whether any decision was made."""
        return self.db.execute("SELECT 1 FROM inspection_decisions LIMIT 1").fetchone() is not None

    def refresh(self, build: Path) -> None:
        """Update the items to the sequences of a build folder; decisions are not changed.

        Sequences whose file is missing or unreadable are not items. ``unreadable`` lists the unreadable files.
        """
        known = {
            (row["sequence"], row["round"]): (row["subject"], row["stamp"])
            for row in self.db.execute("SELECT * FROM inspection_items")
        }
        items: dict[tuple[str, int], tuple[str, str]] = {}
        unreadable: list[Path] = []
        rows = self.db.execute(
            "SELECT s.id, s.summary, i.sha256 FROM sequences AS s JOIN items AS i ON i.path = s.path"
        )
        for row in rows.fetchall():
            summary = json.loads(row["summary"])
            file = build / "sequences" / f"{row['id']}.npz"
            try:
                stat = file.stat()
            except OSError:
                continue  # the build will write it again
            span = span_of(row["sha256"], summary["start_s"], summary["end_s"])
            # Files are read again only if they have changed.
            stamp = f"{span} {stat.st_size} {stat.st_mtime_ns}"
            old = known.get((row["id"], 2), ("", ""))
            motion = old if old[1] == stamp else (_motion_digest(span, file), stamp)
            if not motion[0]:
                unreadable.append(file)  # for example truncated by a full disk
                continue
            items[row["id"], 1] = (self._judged_span(span) if summary.get("repairs") else span, "")
            items[row["id"], 2] = motion
        self.unreadable = unreadable
        changed = [(*key, *value) for key, value in items.items() if known.get(key) != value]
        removed = [key for key in known if key not in items]
        if changed or removed:
            with self.transaction() as db:
                db.executemany("DELETE FROM inspection_items WHERE sequence = ? AND round = ?", removed)
                db.executemany("INSERT OR REPLACE INTO inspection_items VALUES (?, ?, ?, ?)", changed)

    def _judged_span(self, span: str) -> str:
        """Return the subject of round 1 of a repaired sequence: that of the sequence it is a part of."""
        video, start_ms, end_ms = _parse_span(span)
        for row in self.db.execute(
            "SELECT span FROM inspection_repairs WHERE span LIKE ? ORDER BY decided_at, number",
            (f"{video}@%",),
        ):
            _, first_ms, last_ms = _parse_span(row["span"])
            if first_ms - _SPAN_MARGIN_MS <= start_ms and end_ms <= last_ms + _SPAN_MARGIN_MS:
                return str(row["span"])
        return span


def video_of(sha256: str) -> str:
    """Return the part of the hash of a video's content that subjects begin with."""
    return sha256[:32]


def span_of(sha256: str, start_s: float, end_s: float) -> str:
    """Return the subject of round 1: a span of a source video."""
    return f"{video_of(sha256)}@{round(start_s * 1000)}-{round(end_s * 1000)}"


def check_span(span: str) -> None:
    """Raise InspectionError unless a text is a subject of round 1."""
    if not re.fullmatch(r"[0-9a-f]{32}@\d+-\d+", span):
        raise InspectionError(
            f"invalid span {span!r:.80}: expected the hash of the video, '@' and milliseconds"
        )


def _parse_span(span: str) -> tuple[str, int, int]:
    video, _, times = span.partition("@")
    start, _, end = times.partition("-")
    return video, int(start), int(end)


def check_name(name: str) -> None:
    """Raise InspectionError unless the name of a person is valid."""
    if not _NAME.fullmatch(name):
        raise InspectionError(
            f"invalid name {name!r}: expected 1 to 40 printable characters without spaces at the ends"
        )


def row_number(number: int) -> int:
    """Return a number of a row as it is, and one that SQLite cannot hold as -1, which no row has."""
    return number if abs(number) < 2**63 else -1


def decision_of(row: sqlite3.Row) -> Decision:
    """Convert a row of ``inspection_decisions``."""
    reasons = tuple(row["reasons"].split())
    return Decision(row["annotator"], row["kind"], row["verdict"], reasons, row["note"])


def timestamp(seconds: float) -> str:
    """Format seconds since 1970 as ISO 8601 in UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _digest(token: str) -> str:
    # A token has 192 random bits, so an unsalted hash cannot be reversed by guessing.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _motion_digest(span: str, file: Path) -> str:
    """Hash the motion of a sequence, which round 2 judges, without its music features and provenance.

    Returns an empty string if the file cannot be read, so that one damaged file does not block the others.
    """
    digest = hashlib.sha256(span.encode())
    try:
        with np.load(file, allow_pickle=False) as archive:
            for name in ("joints", "smpl_pose", "smpl_transl"):
                digest.update(np.ascontiguousarray(archive[name]).tobytes())
    # Exceptions of zipfile and numpy for truncated, damaged or foreign archives; they have no common base class.
    except (OSError, ValueError, TypeError, KeyError, EOFError, IndexError, RuntimeError,
            AttributeError, zipfile.BadZipFile, zlib.error):  # fmt: skip
        return ""
    return digest.hexdigest()[:32]
