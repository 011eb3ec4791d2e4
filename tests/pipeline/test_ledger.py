"""The ledger remembers what happened, and knows what has to run again."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opendance_hf.pipeline.ledger import DropCount, DroppedSpan, Item, Ledger, StageRuns


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def only(ledger: Ledger) -> Item:
    (item,) = ledger.items()
    return item


def test_new_inputs_are_pending_in_order_of_path(ledger: Ledger) -> None:
    for name in ("b", "a", "c"):
        ledger.add(f"/in/{name}.mp4", f"{name}.mp4", name * 8, "f")
    assert [(item.name, item.status, item.attempts) for item in ledger.items()] == [
        ("a.mp4", "pending", 0),
        ("b.mp4", "pending", 0),
        ("c.mp4", "pending", 0),
    ]


def test_round_trip_of_a_published_input(ledger: Ledger) -> None:
    ledger.add("/in/a.mp4", "a.mp4", "abc", "f")
    assert ledger.start("/in/a.mp4") == 1
    assert only(ledger).status == "running"
    for number, stage in enumerate(("probe", "pose", "fit")):
        ledger.stage("/in/a.mp4", stage, 0.5 * number)
    rows = [{"id": "x_01", "bpm": 120.5, "metrics": {"pck": 0.5}}, {"id": "x_00", "bpm": 99.0}]
    dropped = [
        DroppedSpan(7.5, 9.0, "nobody in the picture", stage="track"),
        DroppedSpan(0.0, 1.5, "too many people", "3, at most 2 allowed", "track"),
    ]
    ledger.finish("/in/a.mp4", "published", "", 12.5, rows, dropped)
    item = only(ledger)
    assert (item.status, item.reason, item.seconds, item.attempts) == ("published", "", 12.5, 1)
    assert [(name, runs.seconds) for name, runs in ledger.stages("/in/a.mp4").items()] == [
        ("probe", 0.0),
        ("pose", 0.5),
        ("fit", 1.0),
    ]
    assert ledger.sequences("/in/a.mp4") == ledger.sequences() == [rows[1], rows[0]]
    assert ledger.dropped("/in/a.mp4") == sorted(dropped)
    assert ledger.sequences("/in/other.mp4") == ledger.dropped("/in/other.mp4") == []


@pytest.mark.parametrize(
    ("status", "after"),
    [
        ("pending", "pending"),
        ("running", "pending"),
        ("failed", "pending"),
        ("published", "published"),
        ("rejected", "rejected"),
    ],
)
def test_what_a_second_build_does_again(ledger: Ledger, status: str, after: str) -> None:
    ledger.add("/in/a.mp4", "a.mp4", "abc", "f")
    if status != "pending":
        ledger.start("/in/a.mp4")
    if status not in ("pending", "running"):
        rows = [{"id": "x"}] if status == "published" else []
        ledger.finish("/in/a.mp4", status, "why", 1.0, rows, [DroppedSpan(0.0, 1.0, "dark")])  # type: ignore[arg-type]
    ledger.add("/in/a.mp4", "a.mp4", "abc", "f")
    item = only(ledger)
    assert item.status == after
    if after == "pending":
        assert item.attempts == 0
        assert ledger.start("/in/a.mp4") == 1
    else:
        assert item.reason == "why"
        assert ledger.dropped("/in/a.mp4") == [DroppedSpan(0.0, 1.0, "dark")]


@pytest.mark.parametrize(("sha256", "fingerprint"), [("other", "f"), ("abc", "other")])
def test_another_content_or_other_settings_start_anew(ledger: Ledger, sha256: str, fingerprint: str) -> None:
    ledger.add("/in/a.mp4", "a.mp4", "abc", "f")
    ledger.start("/in/a.mp4")
    ledger.stage("/in/a.mp4", "fit", 1.0)
    ledger.finish("/in/a.mp4", "published", "", 1.0, [{"id": "x"}], [DroppedSpan(0.0, 1.0, "dark")])
    ledger.add("/in/a.mp4", "a.mp4", sha256, fingerprint)
    assert (only(ledger).status, only(ledger).sha256, only(ledger).attempts) == ("pending", sha256, 0)
    assert not ledger.sequences()
    assert not ledger.stages("/in/a.mp4")
    assert not ledger.dropped("/in/a.mp4")


def test_a_second_attempt_forgets_the_first(ledger: Ledger) -> None:
    ledger.add("/in/a.mp4", "a.mp4", "abc", "f")
    ledger.start("/in/a.mp4")
    ledger.stage("/in/a.mp4", "detect", 3.0)
    ledger.finish("/in/a.mp4", "pending", "the worker died", 3.0, dropped=[DroppedSpan(0.0, 1.0, "dark")])
    assert ledger.start("/in/a.mp4") == 2
    assert not ledger.stages("/in/a.mp4")
    assert not ledger.dropped("/in/a.mp4")
    assert only(ledger).reason == ""


def test_inputs_that_left_are_forgotten_with_all_they_made(ledger: Ledger) -> None:
    for name in "ab":
        ledger.add(name, name, name, "f")
        ledger.start(name)
        ledger.stage(name, "fit", 1.0)
        ledger.finish(name, "published", "", 1.0, [{"id": f"{name}_00"}], [DroppedSpan(0.0, 1.0, "dark")])
    ledger.keep_only(["b", "c"])
    assert only(ledger).path == "b"
    assert ledger.sequences() == [{"id": "b_00"}]
    assert not ledger.stages("a")
    assert not ledger.dropped("a")


@given(st.binary(min_size=1, max_size=40).filter(lambda raw: b"\0" not in raw))
def test_paths_are_bytes(raw: bytes) -> None:
    ledger = Ledger(Path(":memory:"))
    path = os.fsdecode(b"/in/" + raw)
    ledger.add(path, "name", "abc", "f")
    ledger.start(path)
    ledger.stage(path, "fit", 1.0)
    ledger.finish(path, "published", "", 1.0, [{"id": "x"}], [DroppedSpan(0.0, 1.0, "dark")])
    ledger.keep_only([path])
    assert only(ledger).path == path
    assert os.fsencode(only(ledger).path) == b"/in/" + raw
    assert ledger.sequences(path) == [{"id": "x"}]
    assert ledger.stages(path) == {"fit": StageRuns(1.0)}
    assert ledger.dropped(path) == [DroppedSpan(0.0, 1.0, "dark")]
    ledger.close()


def test_a_finish_that_fails_leaves_nothing_behind(ledger: Ledger) -> None:
    ledger.add("a", "a", "abc", "f")
    ledger.start("a")
    with pytest.raises(sqlite3.Error):
        ledger.finish("a", "published", "", 1.0, [{"id": "x"}], [(0.0, 1.0, None)])  # type: ignore[list-item]
    assert only(ledger).status == "running"
    assert not ledger.sequences()


def test_reopened_file_says_the_same(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "ledger.sqlite")
    first.add("a", "a", "abc", "f")
    first.start("a")
    first.finish("a", "rejected", "the file is empty", 0.1)
    items = first.items()
    # Read by somebody else while it is open, and again after it was closed.
    second = Ledger(tmp_path / "ledger.sqlite")
    assert second.items() == items
    first.close()
    second.close()
    assert Ledger(tmp_path / "ledger.sqlite").items() == items


def test_withheld_sequences_are_not_published(ledger: Ledger) -> None:
    for name, count in (("a", 2), ("b", 1)):
        ledger.add(name, name, name, "f")
        ledger.start(name)
        ledger.finish(name, "published", "", 1.0, [{"id": f"{name}_{n:02d}"} for n in range(count)])
    ledger.withhold({"a_00": (True, "jitter"), "b_00": (True, "dark"), "gone_00": (True, "x")})
    assert [(item.status, item.reason) for item in ledger.items()] == [
        ("published", ""),
        ("rejected", "dark"),
    ]
    assert [row["id"] for row in ledger.sequences()] == ["a_01"]
    assert ledger.sequences("b") == []
    assert ledger.sequences("b", withheld=True) == [{"id": "b_00"}]
    assert ledger.withheld("a") == {"a_00": "jitter"}
    ledger.withhold({"a_00": (True, "jitter"), "a_01": (False, "not decided")})
    assert [(item.status, item.reason) for item in ledger.items()] == [
        ("waiting", "jitter; not decided"),
        ("published", ""),
    ]


def test_the_settings_of_a_build_are_remembered(ledger: Ledger) -> None:
    assert ledger.recall() is None
    ledger.remember({"licence": "mit"})
    ledger.remember({"licence": "cc0", "previews": True})
    assert ledger.recall() == {"licence": "cc0", "previews": True}


def test_unfinished_inputs_get_another_chance(ledger: Ledger) -> None:
    for status in ("running", "failed", "rejected", "published"):
        ledger.add(status, status, status, "f")
        ledger.start(status)
        if status != "running":
            ledger.finish(status, status, "", 1.0)  # type: ignore[arg-type]
    ledger.retry()
    found = {item.name: (item.status, item.attempts) for item in ledger.items()}
    assert found == {
        "running": ("pending", 0),
        "failed": ("pending", 0),
        "rejected": ("rejected", 1),
        "published": ("published", 1),
    }


@pytest.mark.parametrize(
    ("old", "new", "again"),
    [
        ("rows preview:1", "rows preview:1", False),
        ("rows preview:1", "rows", False),
        ("rows", "rows preview:1", True),
        ("rows preview:1", "rows preview:2", True),
        ("rows", "other", True),
    ],
)
def test_only_what_was_not_made_is_made(ledger: Ledger, old: str, new: str, again: bool) -> None:
    ledger.add("a", "a", "abc", old)
    ledger.finish("a", "published", "", 1.0, [{"id": "x"}])
    ledger.add("a", "a", "abc", new)
    assert (only(ledger).status == "pending") == again


def test_a_file_that_was_not_touched_is_not_hashed_again(ledger: Ledger) -> None:
    ledger.add("a", "a", "abc", "f", "9 1000 7")
    assert ledger.known_sha256("a", "9 1000 7") == "abc"
    assert ledger.known_sha256("a", "9 1001 7") is None
    assert ledger.known_sha256("b", "9 1000 7") is None
    ledger.add("c", "c", "unread", "refused")
    assert ledger.known_sha256("c", "") is None


def test_a_ledger_of_an_earlier_version_gets_its_columns(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "ledger.sqlite")
    old.executescript(
        "CREATE TABLE items (path BLOB PRIMARY KEY, name TEXT, sha256 TEXT, fingerprint TEXT,"
        " status TEXT DEFAULT 'pending', reason TEXT DEFAULT '', attempts INTEGER DEFAULT 0, seconds REAL DEFAULT 0);"
        "CREATE TABLE stages (path BLOB, stage TEXT, seconds REAL, detail TEXT DEFAULT '', PRIMARY KEY (path, stage));"
        "INSERT INTO items (path, name, sha256, fingerprint) VALUES (X'61', 'a', 'abc', 'f');"
        "INSERT INTO stages (path, stage, seconds) VALUES (X'61', 'fit', 2.0);"
    )
    old.close()
    ledger = Ledger(tmp_path / "ledger.sqlite")
    assert ledger.stages("a") == {"fit": StageRuns(2.0)}
    ledger.add("a", "a", "abc", "f", "stamp")
    assert ledger.known_sha256("a", "stamp") == "abc"
    ledger.close()


def test_what_stages_drop_is_counted_by_reason(ledger: Ledger) -> None:
    for name, seconds in (("a", 2.0), ("b", 3.0)):
        ledger.add(name, name, name, "f")
        spans = [DroppedSpan(0.0, seconds, "too many people", f"{name}", "track")] * 2
        ledger.finish(
            name, "rejected", "too many people", 1.0, [], [*spans, DroppedSpan(9, 10, "dark", "", "gate")]
        )
    assert ledger.drop_counts() == [
        DropCount("track", "too many people", 4, 2, 10.0),
        DropCount("gate", "dark", 2, 2, 2.0),
    ]


def test_a_name_of_a_group_is_as_old_as_its_first_sequence(ledger: Ledger) -> None:
    assert ledger.name_groups({"a": "one"}) == 0, "nothing had another name before"
    assert ledger.name_groups({"a": "one", "b": "two", "c": "three"}) == 0
    assert ledger.group_names() == {"a": (1, "one"), "b": (2, "two"), "c": (2, "three")}
    assert ledger.name_groups({"a": "one", "b": "one", "c": "three", "d": "four"}) == 1
    assert ledger.group_names() == {"a": (1, "one"), "b": (1, "one"), "c": (2, "three"), "d": (3, "four")}


def test_only_a_published_input_is_rejected_by_people(ledger: Ledger) -> None:
    """One that failed in a later build keeps that, though its sequences of before are withheld."""
    ledger.add("a", "a", "abc", "f")
    ledger.finish("a", "failed", "took longer than 1 s", 1.0, [{"id": "a_00"}])
    ledger.withhold({"a_00": (True, "jitter")})
    assert (only(ledger).status, only(ledger).reason) == ("failed", "took longer than 1 s")
