"""Store the state of every input in one SQLite file, on which resuming, statistics and inspection are based."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from opendance_hf.disk import describe_disk_error

Status = Literal["pending", "running", "published", "rejected", "failed", "waiting"]
#: States in which an input is not processed again; ``waiting`` means that annotators have not decided yet.
DONE: Final = ("published", "rejected", "waiting")
#: Hash of an input that is not a regular file, or is refused without reading it.
UNREAD: Final = "unread"
#: States of inputs that a build has to process.
UNFINISHED: Final = ("pending", "running")

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS items (
    path BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending',
    reason TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0,
    stamp TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS stages (
    path BLOB NOT NULL,
    stage TEXT NOT NULL,
    seconds REAL NOT NULL,
    computed INTEGER NOT NULL DEFAULT 1,
    reused INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (path, stage)
);
CREATE TABLE IF NOT EXISTS sequences (
    id TEXT PRIMARY KEY,
    path BLOB NOT NULL,
    summary TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS dropped (
    path BLOB NOT NULL,
    start_s REAL NOT NULL,
    end_s REAL NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT '',
    stage TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS withheld (
    id TEXT PRIMARY KEY,
    rejected INTEGER NOT NULL,
    reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS groups (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    since INTEGER NOT NULL,
    compared TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS items_by_status ON items (status, path);
CREATE INDEX IF NOT EXISTS sequences_by_path ON sequences (path);
CREATE INDEX IF NOT EXISTS dropped_by_path ON dropped (path);
"""
#: Inputs that are read at a time.
_PAGE: Final = 1000

#: Columns that ledgers of earlier versions lack.
_ADDED: Final = (
    ("items", "stamp", "TEXT NOT NULL DEFAULT ''"),
    ("stages", "computed", "INTEGER NOT NULL DEFAULT 1"),
    ("stages", "reused", "INTEGER NOT NULL DEFAULT 0"),
    ("dropped", "detail", "TEXT NOT NULL DEFAULT ''"),
    ("dropped", "stage", "TEXT NOT NULL DEFAULT ''"),
    ("groups", "compared", "TEXT NOT NULL DEFAULT ''"),
)


@dataclass(frozen=True)
class StageRuns:
    """Number and duration of the runs of a stage for one input.

    Attributes:
        seconds: total duration.
        computed: number of runs that computed their result.
        reused: number of runs whose result came from the cache.
    """

    seconds: float
    computed: int = 1
    reused: int = 0


class DroppedSpan(NamedTuple):
    """A span of an input that is not used; see :class:`opendance_hf.pipeline.stage.Dropped`."""

    start_s: float
    end_s: float
    reason: str
    detail: str = ""
    stage: str = ""


class DropCount(NamedTuple):
    """How often a stage dropped spans for one reason, over all inputs."""

    stage: str
    reason: str
    spans: int
    inputs: int
    seconds: float


@dataclass(frozen=True)
class Item:
    """One input of a build; ``stamp`` as in :meth:`Ledger.add`."""

    path: str
    name: str
    sha256: str
    status: Status
    reason: str
    attempts: int
    seconds: float
    stamp: str = ""


_ITEM: Final = "path, name, sha256, status, reason, attempts, seconds, stamp"


def _item(row: sqlite3.Row, **changes: str) -> Item:
    return Item(**{**dict(row), "path": os.fsdecode(row["path"]), **changes})


def describe_ledger_error(ledger: Path, error: sqlite3.Error) -> str:
    """Return a message with the path of a ledger, the cause of an error of SQLite and the remedy."""
    code = getattr(error, "sqlite_errorname", None) or ""
    if message := describe_disk_error(error, [ledger.parent]):
        return message
    if code.startswith("SQLITE_BUSY"):
        remedy = "another program has locked it; try again later"
    elif code.startswith(("SQLITE_IOERR_LOCK", "SQLITE_IOERR_SHM", "SQLITE_PROTOCOL", "SQLITE_NOLFS")):
        remedy = "file locks may not be supported there, as on some network file systems; use a folder on a local disk"
    elif code.startswith(("SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_IOERR", "SQLITE_AUTH")):
        remedy = "make sure that the folder is writable and its disk works"
    else:
        remedy = "it is not a ledger, or a damaged one: restore a copy, or build into another folder"
    return f"{ledger}: cannot be used as a ledger ({error}); {remedy}"


class Ledger:
    """The ledger of a build folder. Every method is one transaction, so a killed process loses at most one call."""

    def __init__(self, path: Path) -> None:
        # Paths are stored as bytes: file names may be invalid UTF-8, which SQLite's text type does not accept.
        self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)
        for table, column, kind in _ADDED:
            names = {row["name"] for row in self._db.execute(f"PRAGMA table_info({table})")}
            if column not in names:
                self._db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make one transaction of all calls in the block, which is faster for thousands of inputs."""
        with self._transaction():
            yield

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if self._db.in_transaction:  # of :meth:`together`
            yield self._db
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite has rolled back by itself if the disk is full
                self._db.execute("ROLLBACK")
            raise

    def add(self, path: str, name: str, sha256: str, fingerprint: str, stamp: str = "") -> None:
        """Add an input. If its content or the pipeline has changed, its earlier results are deleted.

        Args:
            path: path of the file.
            name: display name.
            sha256: hash of the content.
            fingerprint: :func:`opendance_hf.pipeline.config.work_fingerprint`. A stored one is compatible if its first
                part (for the rows) is equal and it contains all further parts (for other files that stages write).
            stamp: of the file, see :func:`opendance_hf.pipeline.process.stamp_of`, for :meth:`known_sha256`.
        """
        with self._transaction() as db:
            old = db.execute(
                "SELECT sha256, fingerprint FROM items WHERE path = ?", (os.fsencode(path),)
            ).fetchone()
            if old is not None and old["sha256"] == sha256 and _covers(old["fingerprint"], fingerprint):
                # Inputs that were running when a build was killed, and failed ones, are tried again.
                db.execute(
                    "UPDATE items SET status = 'pending', attempts = 0 "
                    "WHERE path = ? AND status IN ('running', 'failed')",
                    (os.fsencode(path),),
                )
                db.execute("UPDATE items SET stamp = ? WHERE path = ?", (stamp, os.fsencode(path)))
                return
            self._forget(db, path)
            db.execute(
                "INSERT OR REPLACE INTO items (path, name, sha256, fingerprint, stamp) VALUES (?, ?, ?, ?, ?)",
                (os.fsencode(path), name, sha256, fingerprint, stamp),
            )

    def fingerprints(self) -> Iterator[tuple[str, str, str]]:
        """Yield path, hash and fingerprint of every input; the ledger must not be changed meanwhile."""
        for row in self._db.execute("SELECT path, sha256, fingerprint FROM items"):
            yield os.fsdecode(row["path"]), row["sha256"], row["fingerprint"]

    def known_sha256(self, path: str, stamp: str) -> str | None:
        """Return the stored hash of an input's content; None if its file has changed since."""
        row = self._db.execute(
            "SELECT sha256 FROM items WHERE path = ? AND stamp = ?", (os.fsencode(path), stamp)
        ).fetchone()
        return None if row is None or not stamp else str(row["sha256"])

    def keep_only(self, paths: list[str]) -> None:
        """Delete inputs that are not part of the build any more."""
        keep = set(paths)
        with self._transaction() as db:
            for row in db.execute("SELECT path FROM items").fetchall():
                if os.fsdecode(row["path"]) not in keep:
                    self._forget(db, os.fsdecode(row["path"]))
                    db.execute("DELETE FROM items WHERE path = ?", (row["path"],))

    @staticmethod
    def _forget(db: sqlite3.Connection, path: str) -> None:
        for table in ("stages", "sequences", "dropped"):
            db.execute(f"DELETE FROM {table} WHERE path = ?", (os.fsencode(path),))

    def start(self, path: str) -> int:
        """Mark an input as running and return the number of this attempt, from 1."""
        with self._transaction() as db:
            self._forget(db, path)
            db.execute(
                "UPDATE items SET status = 'running', reason = '', attempts = attempts + 1 WHERE path = ?",
                (os.fsencode(path),),
            )
            return int(
                db.execute("SELECT attempts FROM items WHERE path = ?", (os.fsencode(path),)).fetchone()[0]
            )

    def stage(self, path: str, stage: str, seconds: float, computed: int = 1, reused: int = 0) -> None:
        """Store the duration and number of runs of a stage for an input so far."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO stages (path, stage, seconds, computed, reused) VALUES (?, ?, ?, ?, ?)",
                (os.fsencode(path), stage, seconds, computed, reused),
            )

    def finish(
        self,
        path: str,
        status: Status,
        reason: str,
        seconds: float,
        sequences: Sequence[dict[str, Any]] = (),
        dropped: Sequence[DroppedSpan] = (),
    ) -> None:
        """Store the result of an input: status, reason, sequences (with an ``id`` each) and dropped spans."""
        with self._transaction() as db:
            db.execute(
                "UPDATE items SET status = ?, reason = ?, seconds = ? WHERE path = ?",
                (status, reason, seconds, os.fsencode(path)),
            )
            db.executemany(
                "INSERT OR REPLACE INTO sequences (id, path, summary) VALUES (?, ?, ?)",
                [(row["id"], os.fsencode(path), json.dumps(row, sort_keys=True)) for row in sequences],
            )
            db.executemany(
                "INSERT INTO dropped (path, start_s, end_s, reason, detail, stage) VALUES (?, ?, ?, ?, ?, ?)",
                [(os.fsencode(path), *span) for span in dropped],
            )

    def items(self) -> list[Item]:
        """Return all inputs sorted by path; one whose sequences are all withheld is ``rejected`` or ``waiting``."""
        return list(self.each_item())

    def each_item(self) -> Iterator[Item]:
        """Yield what :meth:`items` returns, a page at a time, so that millions need no memory."""
        for page in self._pages("1"):
            withheld = self._withheld_of(row["path"] for row in page if row["status"] == "published")
            for row in page:
                reasons = withheld.get(row["path"], [])
                if not reasons or not all(w["reason"] for w in reasons):
                    yield _item(row)
                    continue
                status = "rejected" if all(w["rejected"] for w in reasons) else "waiting"
                reason = "; ".join(dict.fromkeys(w["reason"] for w in reasons))
                yield _item(row, status=status, reason=reason)

    def unfinished(self) -> Iterator[Item]:
        """Yield the inputs that are still to be processed, sorted by path.

        An input that becomes unfinished behind the one that was yielded last is not seen.
        """
        for page in self._pages("status IN ('pending', 'running')"):
            yield from map(_item, page)

    def count(self, *statuses: str) -> int:
        """Return the number of inputs with one of the stored statuses."""
        marks = ", ".join("?" * len(statuses))
        found = self._db.execute(f"SELECT count(*) FROM items WHERE status IN ({marks})", statuses)
        return int(found.fetchone()[0])

    def item(self, path: str) -> Item:
        """Return an input, as it was processed.

        Raises:
            KeyError: if it is not in the ledger.
        """
        row = self._db.execute(f"SELECT {_ITEM} FROM items WHERE path = ?", (os.fsencode(path),)).fetchone()
        if row is None:
            raise KeyError(path)
        return _item(row)

    def _pages(self, where: str) -> Iterator[list[sqlite3.Row]]:
        """Yield inputs sorted by path; the ledger may change between the pages."""
        last = b""
        while page := self._db.execute(
            f"SELECT {_ITEM} FROM items WHERE path > ? AND {where} ORDER BY path LIMIT {_PAGE}", (last,)
        ).fetchall():
            yield page
            last = page[-1]["path"]

    def _withheld_of(self, paths: Iterable[bytes]) -> dict[bytes, list[sqlite3.Row]]:
        """Return, by path, the sequences of the inputs that have any withheld one, each with its decision or None."""
        found: dict[bytes, list[sqlite3.Row]] = {}
        if self._db.execute("SELECT 1 FROM withheld LIMIT 1").fetchone() is None:
            return found
        for path in paths:
            rows = self._db.execute(
                "SELECT w.rejected, w.reason FROM sequences AS s LEFT JOIN withheld AS w ON w.id = s.id"
                " WHERE s.path = ? ORDER BY s.id",
                (path,),
            ).fetchall()
            if rows:
                found[path] = rows
        return found

    def stages(self, path: str) -> dict[str, StageRuns]:
        """Return the runs of every stage of an input, in the order of the first run."""
        rows = self._db.execute(
            "SELECT stage, seconds, computed, reused FROM stages WHERE path = ? ORDER BY rowid",
            (os.fsencode(path),),
        )
        return {row["stage"]: StageRuns(row["seconds"], row["computed"], row["reused"]) for row in rows}

    def sequences(self, path: str | None = None, *, withheld: bool = False) -> list[dict[str, Any]]:
        """Return summaries of the published sequences of one input or of all, sorted by id.

        Args:
            path: the input; None for all.
            withheld: include withheld sequences.
        """
        where, values = ("path = ?", (os.fsencode(path),)) if path is not None else ("1", ())
        if not withheld:
            where += " AND id NOT IN (SELECT id FROM withheld)"
        rows = self._db.execute(f"SELECT summary FROM sequences WHERE {where} ORDER BY id", values)
        return [json.loads(row["summary"]) for row in rows]

    def sequence_ids(self, *, withheld: bool = False) -> list[str]:
        """Return the sorted ids of the published sequences of all inputs, and with ``withheld`` also of the others."""
        where = "1" if withheld else "id NOT IN (SELECT id FROM withheld)"
        return [row["id"] for row in self._db.execute(f"SELECT id FROM sequences WHERE {where} ORDER BY id")]

    def withhold(self, reasons: dict[str, tuple[bool, str]]) -> None:
        """Replace the set of withheld sequences.

        The results of the input stay, so that a changed decision needs no second processing.

        Args:
            reasons: by sequence id, true if annotators rejected it (false if undecided), and the reason as text.
        """
        with self._transaction() as db:
            db.execute("DELETE FROM withheld")
            db.executemany(
                "INSERT INTO withheld VALUES (?, ?, ?)",
                [(name, rejected, reason) for name, (rejected, reason) in reasons.items()],
            )

    def withheld(self, path: str) -> dict[str, str]:
        """Return the reasons of an input's withheld sequences, by id."""
        rows = self._db.execute(
            "SELECT w.id, w.reason FROM withheld AS w JOIN sequences AS s ON s.id = w.id"
            " WHERE s.path = ? ORDER BY w.id",
            (os.fsencode(path),),
        )
        return {row["id"]: row["reason"] for row in rows}

    def remember(self, settings: dict[str, Any]) -> None:
        """Store the settings of the build, for ``--continue``."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO settings VALUES ('build', ?)", (json.dumps(settings, sort_keys=True),)
            )

    def recall(self) -> dict[str, Any] | None:
        """Return the settings that :meth:`remember` stored; None if the ledger has none."""
        row = self._db.execute("SELECT value FROM settings WHERE name = 'build'").fetchone()
        return None if row is None else dict(json.loads(row["value"]))

    def note_dataset(self, value: str) -> None:
        """Store the identity of the dataset that this build wrote last."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO settings VALUES ('dataset', ?)", (value,))

    def noted_dataset(self) -> str | None:
        """Return the identity that :meth:`note_dataset` stored; None if there is none."""
        row = self._db.execute("SELECT value FROM settings WHERE name = 'dataset'").fetchone()
        return None if row is None else str(row["value"])

    def paths_of(self, ids: Iterable[str]) -> list[str]:
        """Return the inputs that sequences come from, sorted and without duplicates."""
        find = "SELECT path FROM sequences WHERE id = ?"
        return sorted({os.fsdecode(row["path"]) for key in ids for row in self._db.execute(find, (key,))})

    def reopen(self, paths: Iterable[str]) -> None:
        """Reset inputs to ``pending`` and delete their results."""
        with self._transaction() as db:
            for path in paths:
                self._forget(db, path)
                db.execute(
                    "UPDATE items SET status = 'pending', attempts = 0 WHERE path = ?", (os.fsencode(path),)
                )

    def retry(self) -> None:
        """Reset all unfinished and failed inputs to ``pending``, as :meth:`add` does for one."""
        with self._transaction() as db:
            db.execute(
                "UPDATE items SET status = 'pending', attempts = 0 WHERE status IN ('running', 'failed')"
            )

    def dropped(self, path: str) -> list[DroppedSpan]:
        """Return the dropped spans of an input, in order of time."""
        rows = self._db.execute(
            "SELECT start_s, end_s, reason, detail, stage FROM dropped WHERE path = ? ORDER BY start_s",
            (os.fsencode(path),),
        )
        return [DroppedSpan(*row) for row in rows]

    def drop_counts(self) -> list[DropCount]:
        """Return how much each stage dropped for each reason, most seconds first."""
        rows = self._db.execute(
            "SELECT stage, reason, count(*), count(DISTINCT path), sum(end_s - start_s) AS seconds FROM dropped"
            " GROUP BY stage, reason ORDER BY seconds DESC, stage, reason"
        )
        return [DropCount(*row) for row in rows]

    def group_names(self) -> dict[str, tuple[int, str]]:
        """Return, for every sequence that ever had a group, the age (smaller is older) and the name of the group."""
        rows = self._db.execute("SELECT id, since, name FROM groups")
        return {row["id"]: (row["since"], row["name"]) for row in rows}

    def compared(self) -> dict[str, str]:
        """Return, for every sequence that was compared with all others, the mark that :meth:`name_groups` stored."""
        return dict(self._db.execute("SELECT id, compared FROM groups WHERE compared != ''").fetchall())

    def name_groups(self, names: dict[str, str], compared: Mapping[str, str] | None = None) -> int:
        """Store the group of every sequence and return the number of sequences whose group changed.

        Args:
            names: the group by the id of a sequence.
            compared: by id, a mark of the fingerprint that was compared with those of all others here. The marks of other
                sequences, such as withheld ones, are forgotten: they were not compared with what came meanwhile.
        """
        marks = compared or {}
        with self._transaction() as db:
            old = {row["id"]: row["name"] for row in db.execute("SELECT id, name FROM groups")}
            since = {row["name"]: row["first"] for row in db.execute(
                "SELECT name, MIN(since) AS first FROM groups GROUP BY name"
            )}  # fmt: skip
            now = max(since.values(), default=0) + 1
            db.execute("UPDATE groups SET compared = ''")
            db.executemany(
                "INSERT OR REPLACE INTO groups (id, name, since, compared) VALUES (?, ?, ?, ?)",
                [(key, name, since.get(name, now), marks.get(key, "")) for key, name in names.items()],
            )
        return sum(old.get(key, name) != name for key, name in names.items())


def _covers(old: str, new: str) -> bool:
    """Return whether results of the fingerprint ``old`` are valid for ``new``, see :meth:`Ledger.add`."""
    before, after = old.split(), new.split()
    return before[:1] == after[:1] and set(after) <= set(before)
