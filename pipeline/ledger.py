"""What happened to every input: one SQLite file, the single truth for resume, statistics and inspection."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

Status = Literal["pending", "running", "published", "rejected", "failed"]
#: States an input does not leave by itself.
DONE: Final = ("published", "rejected")

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS items (
    path BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending',
    reason TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS stages (
    path BLOB NOT NULL,
    stage TEXT NOT NULL,
    seconds REAL NOT NULL,
    detail TEXT NOT NULL DEFAULT '',
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
    reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS groups (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    since INTEGER NOT NULL
);
"""


@dataclass(frozen=True)
class Item:
    """One input of a build."""

    path: str
    name: str
    sha256: str
    status: Status
    reason: str
    attempts: int
    seconds: float


class Ledger:
    """The ledger of a build folder. Every method is one transaction; a killed process loses at most its own."""

    def __init__(self, path: Path) -> None:
        # Paths are kept as bytes: a file name need not be UTF-8, and SQLite's text must be.
        self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def add(self, path: str, name: str, sha256: str, fingerprint: str) -> None:
        """Enter an input; one that changed since, or was processed with other settings, starts anew."""
        with self._transaction() as db:
            old = db.execute(
                "SELECT sha256, fingerprint FROM items WHERE path = ?", (os.fsencode(path),)
            ).fetchone()
            if old is not None and (old["sha256"], old["fingerprint"]) == (sha256, fingerprint):
                # What was running when a build died has to run again; what failed gets another chance.
                db.execute(
                    "UPDATE items SET status = 'pending', attempts = 0 "
                    "WHERE path = ? AND status IN ('running', 'failed')",
                    (os.fsencode(path),),
                )
                return
            self._forget(db, path)
            db.execute(
                "INSERT OR REPLACE INTO items (path, name, sha256, fingerprint) VALUES (?, ?, ?, ?)",
                (os.fsencode(path), name, sha256, fingerprint),
            )

    def keep_only(self, paths: list[str]) -> None:
        """Forget inputs that are not part of the build any more."""
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
        """Mark an input as running and return which attempt this is."""
        with self._transaction() as db:
            self._forget(db, path)
            db.execute(
                "UPDATE items SET status = 'running', reason = '', attempts = attempts + 1 WHERE path = ?",
                (os.fsencode(path),),
            )
            return int(
                db.execute("SELECT attempts FROM items WHERE path = ?", (os.fsencode(path),)).fetchone()[0]
            )

    def stage(self, path: str, stage: str, seconds: float, detail: str = "") -> None:
        """Record that a stage of an input is done."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO stages (path, stage, seconds, detail) VALUES (?, ?, ?, ?)",
                (os.fsencode(path), stage, seconds, detail),
            )

    def finish(
        self,
        path: str,
        status: Status,
        reason: str,
        seconds: float,
        sequences: Sequence[dict[str, Any]] = (),
        dropped: Sequence[tuple[float, float, str]] = (),
    ) -> None:
        """Record an input's end: its status and reason, its sequences (with an ``id`` each) and unused spans."""
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
                "INSERT INTO dropped VALUES (?, ?, ?, ?)", [(os.fsencode(path), *span) for span in dropped]
            )

    def items(self) -> list[Item]:
        """All inputs in the order of their paths."""
        rows = self._db.execute(
            "SELECT path, name, sha256, status, reason, attempts, seconds FROM items ORDER BY path"
        )
        return [Item(**{**dict(row), "path": os.fsdecode(row["path"])}) for row in rows]

    def stages(self, path: str) -> dict[str, float]:
        """Seconds of every stage of an input, in the order they ran."""
        rows = self._db.execute(
            "SELECT stage, seconds FROM stages WHERE path = ? ORDER BY rowid", (os.fsencode(path),)
        )
        return {row["stage"]: row["seconds"] for row in rows}

    def sequences(self, path: str | None = None) -> list[dict[str, Any]]:
        """Summaries of the published sequences, of one input or of all, by id."""
        where, values = ("WHERE path = ?", (os.fsencode(path),)) if path is not None else ("", ())
        rows = self._db.execute(f"SELECT summary FROM sequences {where} ORDER BY id", values)
        return [json.loads(row["summary"]) for row in rows]

    def dropped(self, path: str) -> list[tuple[float, float, str]]:
        """Spans of an input that were not used: start and end in seconds, and why."""
        rows = self._db.execute(
            "SELECT start_s, end_s, reason FROM dropped WHERE path = ? ORDER BY start_s", (os.fsencode(path),)
        )
        return [(row["start_s"], row["end_s"], row["reason"]) for row in rows]

    def group_names(self) -> dict[str, tuple[int, str]]:
        """For every sequence that ever had a group, when its name was given (smaller is earlier) and the name."""
        rows = self._db.execute("SELECT id, since, name FROM groups")
        return {row["id"]: (row["since"], row["name"]) for row in rows}

    def name_groups(self, names: dict[str, str]) -> int:
        """Record the group of every sequence; returns how many had another one before."""
        with self._transaction() as db:
            old = {row["id"]: row["name"] for row in db.execute("SELECT id, name FROM groups")}
            since = {row["name"]: row["first"] for row in db.execute(
                "SELECT name, MIN(since) AS first FROM groups GROUP BY name"
            )}  # fmt: skip
            now = max(since.values(), default=0) + 1
            db.executemany(
                "INSERT OR REPLACE INTO groups (id, name, since) VALUES (?, ?, ?)",
                [(key, name, since.get(name, now)) for key, name in names.items()],
            )
        return sum(old.get(key, name) != name for key, name in names.items())
