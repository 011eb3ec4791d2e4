"""Items are handed out once, decisions stand, belong to what was seen, and come to what the paper's two rounds mean."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from opendance_hf.pipeline.inspection.exchange import COLUMNS, REPAIR_COLUMNS, export_csv, import_csv
from opendance_hf.pipeline.inspection.queue import (
    DESKS,
    Conflict,
    Desk,
    decide,
    last_number,
    next_turn,
    renew,
)
from opendance_hf.pipeline.inspection.queue import undo as undo_number
from opendance_hf.pipeline.inspection.results import outcomes, progress
from opendance_hf.pipeline.inspection.store import REASONS, Decision, Inspection, InspectionError, Person
from opendance_hf.pipeline.ledger import Ledger
from tests.pipeline.builds import make_build, make_result

ANA, BO, CLEO = Person("ana"), Person("bo"), Person("cleo", adjudicates=True)


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        self.now += 0.001  # no two moments are the same
        return self.now


@pytest.fixture
def build(tmp_path: Path) -> Path:
    make_build(tmp_path / "build")
    return tmp_path / "build"


def open_build(build: Path, votes: int = 1, clock: Clock | None = None) -> Inspection:
    inspection = Inspection(build / "ledger.sqlite", clock or Clock(), lease_s=600)
    inspection.refresh(build)
    inspection.votes_needed = votes
    return inspection


def undo(inspection: Inspection, me: Person, desk: Desk) -> Decision | None:
    number = last_number(inspection, me, desk)
    return None if number is None else undo_number(inspection, me, desk, number)


def vote(inspection: Inspection, me: Person, desk: Desk, *reasons: str, note: str = "") -> str:
    """Decide on the next item; returns its sequence."""
    item = next_turn(inspection, me, desk).item
    assert item is not None
    decide(inspection, me, desk, item.round, item.subject, "reject" if reasons else "keep", reasons, note)
    return item.sequence


def test_the_reasons_are_those_of_the_paper() -> None:
    assert list(REASONS[1]) == ["camera", "people", "back", "tools", "repeat"]
    assert list(REASONS[2]) == [*REASONS[1], "orientation", "severe_jitter", "body_jitter"]


def test_a_long_name_of_a_desk_is_shown_in_part(build: Path) -> None:
    with open_build(build) as inspection, pytest.raises(InspectionError, match="unknown desk 'a") as caught:
        next_turn(inspection, ANA, "a" * 3000)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 300


def test_one_person_two_rounds(build: Path) -> None:
    inspection = open_build(build)
    assert next_turn(inspection, ANA, "round2").item is None, "nothing has passed round 1"
    first = vote(inspection, ANA, "round1")
    second = vote(inspection, ANA, "round1", "people", "camera")
    third = vote(inspection, ANA, "round1")
    assert next_turn(inspection, ANA, "round1").item is None
    assert vote(inspection, ANA, "round2", "body_jitter") == first
    assert vote(inspection, ANA, "round2") == third
    found = outcomes(inspection)
    assert {name: outcome.state for name, outcome in found.items()} == {
        first: "rejected",
        second: "rejected",
        third: "kept",
    }
    assert found[first].text == "rejected by people in round 2: body jitter"
    assert found[second].text == (
        "rejected by people in round 1: the camera is moving dramatically; more than two people, or occlusions"
    )
    data = progress(inspection)
    assert (data["kept"], data["rejected"], data["open"]) == (1, 2, 0)
    assert data["retention"] == pytest.approx(1 / 3)
    assert [row["retention"] for row in data["rounds"]] == [pytest.approx(2 / 3), 0.5]
    assert data["people"][0]["round1"] == 3


def test_asking_twice_gives_the_same_and_two_people_get_different_items(build: Path) -> None:
    inspection = open_build(build)
    turn = next_turn(inspection, ANA, "round1")
    assert turn.item
    assert turn.ahead
    assert next_turn(inspection, ANA, "round1") == turn
    other = next_turn(inspection, BO, "round1").item
    assert other
    assert other.sequence not in (turn.item.sequence, turn.ahead.sequence)
    # What is only loaded in advance for one is given to another rather than letting them wait.
    third = next_turn(inspection, CLEO, "round1").item
    assert third == turn.ahead
    assert next_turn(inspection, ANA, "round1").ahead is None
    assert next_turn(inspection, Person("dan"), "round1").item is None


def test_an_item_goes_to_as_many_people_as_wanted(build: Path) -> None:
    inspection = open_build(build, votes=2)
    seen = Counter[str]()
    for person in (ANA, BO, CLEO):
        while (item := next_turn(inspection, person, "round1").item) is not None:
            decide(inspection, person, "round1", 1, item.subject, "keep")
            seen[item.sequence] += 1
    assert set(seen.values()) == {2}
    # Items that others have judged come first, so that items are finished.
    inspection = open_build(build, votes=3)
    assert next_turn(inspection, CLEO, "round1").item is not None


def test_a_silent_person_loses_an_item_after_a_while(build: Path) -> None:
    clock = Clock()
    inspection = open_build(build, clock=clock)
    mine = next_turn(inspection, ANA, "round1").item
    assert mine
    clock.now += 400
    renew(inspection, ANA)
    clock.now += 400
    assert next_turn(inspection, BO, "round1").item != mine, "the page is still open"
    clock.now += 700
    assert next_turn(inspection, BO, "round1").item == mine
    with pytest.raises(Conflict, match="Somebody else"):
        decide(inspection, ANA, "round1", 1, mine.subject, "keep")
    # Late, but nobody else has it: the work counts.
    clock.now += 700
    decide(inspection, ANA, "round1", 1, mine.subject, "keep")


def test_undo_goes_back_step_by_step(build: Path) -> None:
    inspection = open_build(build)
    first = vote(inspection, ANA, "round1")
    second = vote(inspection, ANA, "round1", "back", note="from behind")
    third = next_turn(inspection, ANA, "round1").item
    undone = undo(inspection, ANA, "round1")
    assert undone
    assert (undone.verdict, undone.reasons, undone.note) == ("reject", ("back",), "from behind")
    assert undo(inspection, ANA, "round1")
    assert undo(inspection, ANA, "round1") is None
    # Forward again in the order of before, and nobody else can slip in.
    assert next_turn(inspection, BO, "round1").item is None
    assert [vote(inspection, ANA, "round1") for _ in range(3)] == [first, second, third and third.sequence]
    rows = inspection.db.execute("SELECT count(*), count(withdrawn_at) FROM inspection_decisions").fetchone()
    assert tuple(rows) == (5, 2), "what was taken back is still there"
    assert undo(inspection, BO, "round1") is None


def test_undo_passes_over_what_cannot_be_taken_back(build: Path) -> None:
    inspection = open_build(build, votes=2)
    for me in (ANA, BO):
        vote(inspection, me, "round1")
    second = vote(inspection, ANA, "round1")
    assert vote(inspection, BO, "round1", "back") == second
    vote(inspection, CLEO, "adjudicate")
    third = vote(inspection, ANA, "round1")
    ledger = Ledger(build / "ledger.sqlite")
    ledger.start(next(i.path for i in ledger.items() if third.startswith(i.sha256[:16])))
    inspection.refresh(build)
    # The third is being rebuilt, the second is adjudicated: the first is what can be taken back.
    assert undo(inspection, ANA, "round1")
    assert undo(inspection, ANA, "round1") is None
    rows = inspection.db.execute(
        "SELECT sequence FROM inspection_decisions WHERE annotator = 'ana' AND withdrawn_at IS NULL"
    )
    assert {row["sequence"] for row in rows} == {second, third}


def test_the_same_undo_sent_twice_counts_once(build: Path) -> None:
    inspection = open_build(build)
    vote(inspection, ANA, "round1", "back")
    first = last_number(inspection, ANA, "round1")
    assert first is not None
    vote(inspection, ANA, "round1")
    with pytest.raises(Conflict, match="not your last"):
        undo_number(inspection, ANA, "round1", first)
    with pytest.raises(Conflict):
        undo_number(inspection, BO, "round1", first)
    second = last_number(inspection, ANA, "round1")
    assert second is not None
    assert undo_number(inspection, ANA, "round1", second) == undo_number(inspection, ANA, "round1", second)
    assert last_number(inspection, ANA, "round1") == first


def test_disagreement_is_adjudicated(build: Path) -> None:
    inspection = open_build(build, votes=2)
    first = vote(inspection, ANA, "round1")
    assert vote(inspection, BO, "round1", "tools", note="a pole") == first
    assert outcomes(inspection)[first].text == "not decided yet in round 1: people disagree"
    assert next_turn(inspection, CLEO, "round2").item is None
    with pytest.raises(InspectionError, match="--adjudicator"):
        next_turn(inspection, ANA, "adjudicate")
    item = next_turn(inspection, CLEO, "adjudicate").item
    assert item
    assert item.sequence == first
    assert [(d.annotator, d.verdict, d.reasons, d.note) for d in item.decisions] == [
        ("ana", "keep", (), ""),
        ("bo", "reject", ("tools",), "a pole"),
    ]
    assert not next_turn(inspection, CLEO, "round1").item.decisions, "the rounds are blind"  # type: ignore[union-attr]
    number = last_number(inspection, ANA, "round1")
    assert number is not None
    decide(inspection, CLEO, "adjudicate", 1, item.subject, "reject", ["tools"])
    assert outcomes(inspection)[first].state == "rejected"
    with pytest.raises(Conflict, match="adjudicated"):
        undo_number(inspection, ANA, "round1", number)
    assert last_number(inspection, ANA, "round1") is None
    assert undo(inspection, CLEO, "adjudicate")
    assert outcomes(inspection)[first].disputed


@pytest.mark.parametrize(
    ("round_", "verdict", "reasons", "message"),
    [
        (1, "keep", ["camera"], r"'keep' with 1 reason"),
        (1, "reject", [], r"'reject' with 0 reason"),
        (1, "reject", ["body_jitter"], "reason 'body_jitter'"),
        (1, "perhaps", [], "verdict 'perhaps'"),
        (3, "keep", [], "round 3"),
    ],
)
def test_senseless_decisions_are_refused(
    build: Path, round_: int, verdict: str, reasons: list[str], message: str
) -> None:
    inspection = open_build(build)
    item = next_turn(inspection, ANA, "round1").item
    assert item
    with pytest.raises(InspectionError, match=message):
        decide(inspection, ANA, "round1", round_, item.subject, verdict, reasons)
    assert not inspection.has_decisions()


def test_the_same_decision_sent_twice_counts_once(build: Path) -> None:
    inspection = open_build(build)
    item = next_turn(inspection, ANA, "round1").item
    assert item
    for _ in range(2):
        decide(inspection, ANA, "round1", 1, item.subject, "reject", ["tools"])
    with pytest.raises(Conflict, match="already"):
        decide(inspection, ANA, "round1", 1, item.subject, "keep")
    assert inspection.db.execute("SELECT count(*) FROM inspection_decisions").fetchone()[0] == 1
    with pytest.raises(Conflict, match="rebuilt"):
        decide(inspection, ANA, "round1", 1, "of another build", "keep")


def rebuild(build: Path, seed: int) -> None:
    """Process the first video anew, with another result."""
    ledger = Ledger(build / "ledger.sqlite")
    item = ledger.items()[0]
    ledger.start(item.path)
    row = make_result(build, item.sha256, 0, seed)
    ledger.finish(item.path, "published", "", 1.0, [row])
    ledger.close()


def test_a_rebuilt_sequence_is_asked_for_again_in_round_2_only(build: Path) -> None:
    inspection = open_build(build)
    first = vote(inspection, ANA, "round1")
    vote(inspection, ANA, "round1", "back")
    vote(inspection, ANA, "round1", "back")
    vote(inspection, ANA, "round2")
    assert outcomes(inspection)[first].state == "kept"
    rebuild(build, seed=77)
    inspection.refresh(build)
    assert outcomes(inspection)[first].text == "not decided yet in round 2"
    item = next_turn(inspection, ANA, "round2").item
    assert item
    assert item.sequence == first
    # The old result again: what was said of it holds.
    rebuild(build, seed=0)
    inspection.refresh(build)
    assert outcomes(inspection)[first].state == "kept"


def test_while_an_input_is_processed_its_sequences_are_out_of_reach(build: Path) -> None:
    inspection = open_build(build)
    item = next_turn(inspection, ANA, "round1").item
    assert item
    ledger = Ledger(build / "ledger.sqlite")
    ledger.start(ledger.items()[0].path)
    assert next_turn(inspection, ANA, "round1").item is None, "seen before the items are brought in line"
    inspection.refresh(build)
    other = next_turn(inspection, ANA, "round1").item
    assert other
    assert other.sequence != item.sequence
    with pytest.raises(Conflict):
        decide(inspection, ANA, "round1", 1, item.subject, "keep")


@pytest.mark.parametrize("damage", ["cut off", "garbled", "no archive", "another archive"])
def test_a_damaged_file_keeps_nobody_from_the_others(build: Path, damage: str) -> None:
    inspection = open_build(build)
    first = vote(inspection, ANA, "round1")
    file = build / "sequences" / f"{first}.npz"
    whole = file.read_bytes()
    if damage == "cut off":
        file.write_bytes(whole[:-100])
    elif damage == "garbled":
        np.savez_compressed(file, joints=np.random.default_rng(0).normal(size=999))
        data = bytearray(file.read_bytes())
        data[80:200] = b"\xff" * 120
        file.write_bytes(data)
    elif damage == "no archive":
        with file.open("wb") as out:
            np.save(out, np.zeros(3))
    else:
        np.savez(file, x=1)
    inspection.refresh(build)
    assert inspection.unreadable == [file]
    assert first not in outcomes(inspection)
    assert len(outcomes(inspection)) == 2
    vote(inspection, ANA, "round1")
    file.write_bytes(whole)
    inspection.refresh(build)
    assert not inspection.unreadable
    assert outcomes(inspection)[first].text == "not decided yet in round 2", "what was decided holds"


def test_decisions_survive_whatever_a_build_does_to_its_ledger(build: Path) -> None:
    inspection = open_build(build)
    for _ in range(3):
        vote(inspection, ANA, "round1")
    text = export_csv(inspection)
    ledger = Ledger(build / "ledger.sqlite")
    for item in ledger.items():
        ledger.add(item.path, item.name, "another hash", "another setting")
    ledger.keep_only([])
    inspection.refresh(build)
    assert outcomes(inspection) == {}
    assert export_csv(inspection) == text


def test_people_and_tokens(build: Path) -> None:
    inspection = open_build(build)
    token = inspection.add_person("ana")
    assert token
    assert inspection.person(token) == ANA
    assert inspection.add_person("ana", adjudicates=True) is None, "their token still holds"
    assert inspection.person(token) == Person("ana", adjudicates=True)
    fresh = inspection.add_person("ana", new_token=True)
    assert fresh
    assert inspection.person(token) is None
    assert inspection.person(fresh)
    assert inspection.person("") is None
    assert inspection.person("\udcff") is None
    assert fresh.encode() not in (build / "ledger.sqlite").read_bytes()
    for name in ("", " ana", "a\nb", "x" * 41):
        with pytest.raises(InspectionError, match="printable"):
            inspection.add_person(name)


def test_a_decision_is_on_the_disk_when_it_returns(build: Path) -> None:
    inspection = open_build(build)
    assert inspection.db.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
    vote(inspection, ANA, "round1")
    other = sqlite3.connect(f"file:{build}/ledger.sqlite?mode=ro", uri=True)
    assert other.execute("SELECT annotator FROM inspection_decisions").fetchall() == [("ana",)]


def test_csv_goes_round_without_loss(build: Path, tmp_path: Path) -> None:
    inspection = open_build(build, votes=2)
    vote(inspection, ANA, "round1", "camera", "back", note='=HYPERLINK("x"), "quoted"\nline')
    vote(inspection, ANA, "round1", note="'+1")
    vote(inspection, ANA, "round1")
    undo(inspection, ANA, "round1")
    vote(inspection, BO, "round1")
    text = export_csv(inspection)
    assert text.splitlines()[0] == ",".join((*COLUMNS, *REPAIR_COLUMNS))
    assert "'=HYPERLINK" in text, "a spreadsheet must not run it"
    # The same videos built in another folder: decisions belong to content, not to folders.
    make_build(tmp_path / "other")
    other = open_build(tmp_path / "other", votes=2)
    assert import_csv(other, text) == 4
    assert export_csv(other) == text
    assert import_csv(other, "\ufeff" + text.replace("\n", "\r\n")) == 0
    assert outcomes(other) == outcomes(inspection)
    assert not other.people(), "an import lets nobody in"


def test_of_two_decisions_the_later_stands(build: Path, tmp_path: Path) -> None:
    make_build(tmp_path / "other")
    clock = Clock()
    old, new = open_build(build, clock=clock), open_build(tmp_path / "other", clock=clock)
    first = vote(old, ANA, "round1", "camera")
    clock.now += 10
    assert vote(new, ANA, "round1") == first
    assert import_csv(new, export_csv(old)) == 1
    assert import_csv(old, export_csv(new)) == 1
    for inspection in (old, new):
        assert outcomes(inspection)[first].round == 2, "kept in round 1"
        assert inspection.db.execute("SELECT count(*) FROM inspection_decisions").fetchone()[0] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("round,subject", "runde,subject"), r"line 1: the column\(s\) round"),
        ((",keep,", ",maybe,"), "line 2: unknown verdict 'maybe'"),
        (("vote", "vote,more"), "line 2: .*expected 22"),
        (("2027", "soon"), "line 2: .*soon"),
        ((",ana,", ",,"), "line 2: .*printable"),
        ((",ana,", ",a\tb,"), "line 2: .*printable"),
        ((",ana,", f",{'x' * 41},"), "line 2: .*printable"),
        (("mp4,0.0,", "mp4,nan,"), "line 2: start_s is 'nan', expected a finite number"),
        (("mp4,0.0,", "mp4,,"), "line 2: start_s is '', expected a finite number"),
        (("mp4,0.0,", "mp4,1e9,"), "line 2: end_s .* start_s 1e\\+09"),
        (("+00:00,0.0,", "+00:00,inf,"), "line 2: seconds is 'inf', expected a finite number"),
        (("+00:00,0.0,", "+00:00,1e999,"), "line 2: seconds is '1e999', expected a finite number"),
        (("2027", "0000"), "line 2: .*year"),
    ],
)
def test_a_bad_csv_changes_nothing(build: Path, change: tuple[str, str], message: str) -> None:
    inspection = open_build(build)
    vote(inspection, ANA, "round1")
    text = export_csv(inspection)
    undo(inspection, ANA, "round1")
    before = export_csv(inspection)
    assert change[0] in text
    with pytest.raises(InspectionError, match=message):
        import_csv(inspection, text.replace(*change))
    assert export_csv(inspection) == before


def test_reasons_are_kept_as_we_write_them(build: Path) -> None:
    inspection = open_build(build)
    vote(inspection, ANA, "round1", "camera", "back")
    text = export_csv(inspection)
    assert ",camera back," in text
    assert import_csv(inspection, text.replace("camera back", " back  camera back")) == 0, "known already"
    other = text.replace(",ana,", ",bo,").replace("camera back", " back  camera back")
    assert import_csv(inspection, other) == 1
    assert export_csv(inspection).count(",camera back,") == 2


def test_people_at_the_same_moment(build: Path) -> None:
    """Each with a connection of their own, as the server's threads have."""
    make_build(build.with_name("large"), (2,) * 10)
    build = build.with_name("large")
    open_build(build, votes=2).db.close()
    failed: list[BaseException] = []

    def work(me: Person) -> None:
        try:
            with Inspection(build / "ledger.sqlite") as inspection:
                while (item := next_turn(inspection, me, "round1").item) is not None:
                    decide(inspection, me, "round1", 1, item.subject, "keep")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(Person(f"p{n}"),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    with Inspection(build / "ledger.sqlite") as inspection:
        votes = Counter(
            row["subject"] for row in inspection.db.execute("SELECT subject FROM inspection_decisions")
        )
        assert len(votes) == 20
        assert set(votes.values()) == {2}


class Crowd(RuleBasedStateMachine):
    """Four people who do anything in any order, with time passing."""

    people = (ANA, BO, CLEO, Person("dan", adjudicates=True))

    @initialize(votes=st.integers(1, 3))
    def begin(self, votes: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        build = Path(self.folder.name, "build")
        make_build(build, (2, 1))
        self.clock = Clock()
        self.inspection = open_build(build, votes, self.clock)
        self.inspection.db.execute("PRAGMA synchronous = OFF")  # no power cut here
        self.held: dict[str, Any] = {}
        self.rows = 0

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.inspection.db.close()
            self.folder.cleanup()

    @rule(who=st.sampled_from(people), desk=st.sampled_from(DESKS))
    def ask(self, who: Person, desk: Desk) -> None:
        if desk == "adjudicate" and not who.adjudicates:
            return
        turn = next_turn(self.inspection, who, desk)
        assert next_turn(self.inspection, who, desk).item == turn.item
        if turn.item is None:
            return
        self.held[who.name] = (desk, turn.item)
        state = {
            (row["sequence"], row["round"]): row["outcome"]
            for row in self.inspection.db.execute("SELECT * FROM inspection_outcomes")
        }
        key = (turn.item.sequence, turn.item.round)
        assert state[key] == ("disputed" if desk == "adjudicate" else "open")
        assert turn.item.round == 1 or state[turn.item.sequence, 1] == "keep"
        assert turn.ahead != turn.item
        if desk != "adjudicate":
            mine = self.inspection.db.execute(
                "SELECT 1 FROM inspection_decisions WHERE subject = ? AND round = ? AND annotator = ?"
                " AND kind = 'vote' AND withdrawn_at IS NULL",
                (turn.item.subject, turn.item.round, who.name),
            )
            assert mine.fetchone() is None, "nobody gets what they judged"

    @rule(who=st.sampled_from(people), keep=st.booleans())
    def decide(self, who: Person, keep: bool) -> None:
        if who.name not in self.held:
            return
        desk, item = self.held.pop(who.name)
        try:
            decide(
                self.inspection, who, desk, item.round, item.subject,
                "keep" if keep else "reject", [] if keep else ["camera"],
            )  # fmt: skip
        except Conflict:
            return

    @rule(who=st.sampled_from(people), desk=st.sampled_from(DESKS))
    def undo(self, who: Person, desk: Desk) -> None:
        if desk != "adjudicate" or who.adjudicates:
            try:
                undo(self.inspection, who, desk)
            except Conflict:
                return

    @rule(seconds=st.sampled_from([1.0, 300.0, 700.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def no_item_has_more_votes_and_viewers_than_it_needs(self) -> None:
        if not hasattr(self, "inspection"):
            return
        db, needed = self.inspection.db, self.inspection.votes_needed
        total = Counter[tuple[int, str, str]]()
        for row in db.execute(
            "SELECT round, subject, kind FROM inspection_decisions WHERE withdrawn_at IS NULL"
            " UNION ALL SELECT round, subject, kind FROM inspection_leases"
            " WHERE shown_at IS NOT NULL AND expires_at > ?",
            (self.clock.now,),
        ):
            total[tuple(row)] += 1
        for (_, _, kind), count in total.items():
            assert count <= (needed if kind == "vote" else 1)
        rows = db.execute("SELECT count(*) FROM inspection_decisions").fetchone()[0]
        assert rows >= self.rows, "a decision was lost"
        self.rows = rows


Crowd.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
test_a_crowd = Crowd.TestCase
