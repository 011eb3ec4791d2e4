"""Repairs are decisions: recorded once, withdrawn and not deleted, carried by CSV, and taken up by the next build."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from opendance_hf.errors import OpenDanceError
from opendance_hf.pipeline.build import CONFIG, BuildOptions, _repairs, build_dataset
from opendance_hf.pipeline.clip import Repair
from opendance_hf.pipeline.config import dump_config, work_fingerprint
from opendance_hf.pipeline.inputs import changed_repairs, reopen_repaired
from opendance_hf.pipeline.inspection.exchange import export_csv, import_csv
from opendance_hf.pipeline.inspection.queue import decide, next_turn
from opendance_hf.pipeline.inspection.repairs import (
    add_repair,
    list_repairs,
    standing_repairs,
    withdraw_repair,
)
from opendance_hf.pipeline.inspection.results import outcomes
from opendance_hf.pipeline.inspection.store import Conflict, Inspection, InspectionError, Person, video_of
from opendance_hf.pipeline.ledger import Ledger
from opendance_hf.pipeline.pipelines import paper_pipeline
from tests.pipeline.builds import PIPELINE, make_build, make_result
from tests.pipeline.test_inspection import ANA, BO, CLEO, Clock, open_build, vote

SIDES = Repair("exchange_sides", 5.1, 5.4, dancer=1)
PIN = Repair("pin_foot", 5.2, 5.5, dancer=1, foot="left")
DANCERS = Repair("exchange_dancers", 5.1, 5.4, 1, 2)


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """One video of two sequences; the second, from 5 to 5.67 s, has two dancers."""
    make_build(tmp_path / "build", (2, 1), sources=tmp_path / "videos")
    return tmp_path / "build"


def subject(inspection: Inspection, index: int = 1, number: int = 2) -> str:
    row = inspection.db.execute(
        "SELECT subject FROM inspection_items WHERE sequence LIKE ? AND round = ? ORDER BY sequence",
        (f"%_{index:02d}", number),
    ).fetchone()
    return str(row["subject"])


def texts(inspection: Inspection) -> list[tuple[str, str, str]]:
    return [(one.annotator, one.text, one.state) for one in list_repairs(inspection)]


def test_a_repair_is_recorded_once_and_withdrawn_but_not_deleted(build: Path) -> None:
    inspection = open_build(build)
    for _ in range(2):
        add_repair(inspection, ANA, subject(inspection), SIDES)
    assert texts(inspection) == [("ana", "exchange left and right of dancer 1", "waiting")]
    number = list_repairs(inspection)[0].number
    with pytest.raises(InspectionError, match=r"made by ana: only they or an adjudicator"):
        withdraw_repair(inspection, BO, number)
    for _ in range(2):
        withdraw_repair(inspection, ANA, number)
    assert texts(inspection) == [("ana", "exchange left and right of dancer 1", "withdrawn")]
    assert standing_repairs(inspection) == {}
    add_repair(inspection, ANA, subject(inspection), SIDES)
    withdraw_repair(inspection, CLEO, list_repairs(inspection)[1].number)
    assert [state for *_, state in texts(inspection)] == ["withdrawn"] * 2
    for unknown in (99, -1, 2**70, -(2**70)):
        with pytest.raises(InspectionError, match=f"no repair with the number {unknown}"):
            withdraw_repair(inspection, ANA, unknown)


def test_what_does_not_fit_or_would_cancel_itself_is_refused(build: Path) -> None:
    inspection = open_build(build)
    motion = subject(inspection)
    with pytest.raises(InspectionError, match="only one dancer"):
        add_repair(inspection, ANA, subject(inspection, 0), Repair("exchange_dancers", 0.1, 0.3, 1, 2))
    with pytest.raises(InspectionError, match=r"outside of the sequence, which is from 5\.00 to 5\.67 s"):
        add_repair(inspection, ANA, motion, Repair("exchange_sides", 0.1, 0.3, 1))
    with pytest.raises(
        InspectionError, match=r"cut: leaves 0\.3 s, at least 4 s are needed; reject the sequence"
    ):
        add_repair(inspection, ANA, motion, Repair("cut", 5.0, 5.4))
    add_repair(inspection, BO, motion, SIDES)
    with pytest.raises(
        InspectionError, match=r"overlaps with or touches the same repair by bo, from 5\.10 to 5\.40 s"
    ):
        add_repair(inspection, ANA, motion, Repair("exchange_sides", 5.3, 5.5, 1))
    with pytest.raises(InspectionError, match="touches the same repair by bo"):
        add_repair(inspection, ANA, motion, Repair("exchange_sides", 5.4, 5.5, 1))
    add_repair(inspection, ANA, motion, Repair("exchange_sides", 5.3, 5.5, 2))
    add_repair(inspection, ANA, motion, DANCERS)
    with pytest.raises(
        InspectionError, match="exchange dancers 1 and 2: overlaps with or touches the same repair by ana"
    ):
        add_repair(inspection, BO, motion, Repair("exchange_dancers", 5.2, 5.5, 2, 1))
    with pytest.raises(Conflict, match="rebuilt meanwhile"):
        add_repair(inspection, ANA, "0" * 32, SIDES)


def test_a_pipeline_without_the_stage_or_with_bodies_refuses(build: Path) -> None:
    inspection = open_build(build)
    (build / CONFIG).write_text(dump_config(paper_pipeline()))
    with pytest.raises(InspectionError, match="SMPL bodies"):
        add_repair(inspection, ANA, subject(inspection), SIDES)
    add_repair(inspection, ANA, subject(inspection), DANCERS)
    (build / CONFIG).write_text(dump_config(tuple(s for s in PIPELINE if s.name != "repair")))
    with pytest.raises(InspectionError, match="has no stage 'repair'"):
        add_repair(inspection, ANA, subject(inspection), SIDES)
    assert _repairs(build, None) == {video: () for video in standing_repairs(inspection)}
    assert list(_repairs(build, PIPELINE).values()) == [(DANCERS,)]


def test_repairs_of_one_motion_come_in_the_order_of_the_table(build: Path) -> None:
    inspection = open_build(build)
    for repair in (DANCERS, SIDES, PIN):
        add_repair(inspection, ANA, subject(inspection), repair)
    (found,) = standing_repairs(inspection).values()
    assert found == (PIN, SIDES, DANCERS)
    rebuild(inspection, build, seed=77)
    add_repair(inspection, ANA, subject(inspection), Repair("pin_foot", 5.2, 5.5, dancer=2, foot="left"))
    (found,) = standing_repairs(inspection).values()
    assert [repair.kind for repair in found] == ["pin_foot", "exchange_sides", "exchange_dancers", "pin_foot"]


def rebuild(inspection: Inspection, build: Path, seed: int, **summary: Any) -> None:
    """The second sequence gets another motion, and another summary."""
    video = inspection.db.execute("SELECT sha256, path FROM items ORDER BY name").fetchone()
    row = {**make_result(build, video["sha256"], 1, seed), **summary}
    inspection.db.execute("UPDATE sequences SET summary = ? WHERE id = ?", (json.dumps(row), row["id"]))
    inspection.refresh(build)


def test_what_was_repaired_is_judged_again_in_round_2_alone(build: Path) -> None:
    inspection = open_build(build)
    while next_turn(inspection, ANA, "round1").item:
        vote(inspection, ANA, "round1")
    motion, span = subject(inspection), subject(inspection, number=1)
    add_repair(inspection, BO, motion, DANCERS)
    offered = set()
    while item := next_turn(inspection, ANA, "round2").item:
        offered.add(item.subject)
        vote(inspection, ANA, "round2")
    assert motion not in offered, "the next build replaces it"
    assert len(offered) == 2
    with pytest.raises(Conflict, match="repaired"):
        decide(inspection, ANA, "round2", 2, motion, "keep")
    # A repair may move the ends of a sequence; what was judged in round 1 is still all of it.
    rebuild(
        inspection, build, 77, start_s=5.2, end_s=5.6, repairs=["exchange dancers 1 and 2, frames 0 to 9"]
    )
    assert subject(inspection, number=1) == span
    assert [one.state for one in list_repairs(inspection)] == ["applied"]
    item = next_turn(inspection, ANA, "round2").item
    assert item is not None
    assert item.subject not in (motion, *offered)
    vote(inspection, ANA, "round2")
    assert {outcome.state for outcome in outcomes(inspection).values()} == {"kept"}
    # Withdrawn and built again it is the old motion, of which nobody has judged round 2.
    withdraw_repair(inspection, BO, list_repairs(inspection)[0].number)
    rebuild(inspection, build, seed=1)
    assert subject(inspection) == motion
    assert next_turn(inspection, ANA, "round2").item is not None


def test_a_repair_on_which_another_was_made_is_not_withdrawn_first(build: Path) -> None:
    inspection = open_build(build)
    add_repair(inspection, ANA, subject(inspection), DANCERS)
    rebuild(inspection, build, 77, repairs=["exchange dancers 1 and 2, frames 0 to 9"])
    add_repair(inspection, BO, subject(inspection), SIDES)
    first, second = list_repairs(inspection)
    assert (first.state, second.state) == ("applied", "waiting")
    with pytest.raises(Conflict, match=r"“exchange left and right of dancer 1” by bo was made on the result"):
        withdraw_repair(inspection, ANA, first.number)
    withdraw_repair(inspection, BO, second.number)
    withdraw_repair(inspection, ANA, first.number)


def test_csv_carries_repairs_without_loss(build: Path, tmp_path: Path) -> None:
    inspection = open_build(build)
    vote(inspection, ANA, "round1", "camera")
    for repair in (SIDES, PIN, DANCERS):
        add_repair(inspection, ANA, subject(inspection), repair)
    withdraw_repair(inspection, ANA, list_repairs(inspection)[1].number)
    text = export_csv(inspection)
    make_build(tmp_path / "other", (2, 1), sources=tmp_path / "videos")
    other = open_build(tmp_path / "other")
    assert import_csv(other, text) == 4
    assert export_csv(other) == text
    assert import_csv(other, text) == 0
    assert standing_repairs(other) == standing_repairs(inspection)
    withdraw_repair(inspection, ANA, list_repairs(inspection)[0].number)
    assert import_csv(other, export_csv(inspection)) == 0, "known, but withdrawn since"
    assert export_csv(other) == export_csv(inspection)
    # The same repair by somebody else would undo this one.
    mine = text.replace(",ana,", ",zoe,")
    import_csv(inspection, mine)
    (found,) = standing_repairs(inspection).values()
    assert found == (SIDES, DANCERS), "hers of the sides, which nobody else has now, and one of the dancers"
    before = standing_repairs(inspection)
    assert ",exchange_dancers,5.1,5.4,1,2,," in text
    import_csv(inspection, text.replace(",ana,", ",bo,").replace(",5.1,5.4,1,2,,", ",5.2,5.5,2,1,,"))
    assert standing_repairs(inspection) == before, "the same pair in the other order"
    # A file of a version without repairs.
    lines = [",".join(line.split(",")[:14]) for line in text.splitlines()[:2]]
    assert import_csv(open_build(build), "\n".join(lines)) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("exchange_dancers", "polish"), "line 2: unknown repair 'polish'"),
        ((",1,2,,2,", ",1,2,,1,"), None),
        ((",1,2,,2,", ",1,3,,2,"), "line 2: exchange dancers 1 and 3: the sequence has no dancer 3"),
        ((",5.1,5.4,", ",5.1,9.4,"), "line 2: .*outside of the sequence"),
        ((",5.1,5.4,", ",,5.4,"), "line 2: repair_start_s is ''"),
        ((",1,2,,2,", ",one,2,,2,"), "line 2: .*one"),
        (("@5000-", "@x-"), "line 2: invalid span"),
    ],
)
def test_a_bad_repair_in_a_csv_is_named_with_its_line(
    build: Path, change: tuple[str, str], message: str | None
) -> None:
    inspection = open_build(build)
    add_repair(inspection, ANA, subject(inspection), DANCERS)
    text = export_csv(inspection)
    assert change[0] in text
    before = export_csv(inspection)
    if message is None:  # the number of dancers is known here
        assert import_csv(inspection, text.replace(*change)) == 0
    else:
        with pytest.raises(InspectionError, match=message):
            import_csv(inspection, text.replace(*change))
    assert export_csv(inspection) == before


def test_elsewhere_the_file_itself_says_how_many_dancers_there_are(build: Path, tmp_path: Path) -> None:
    inspection = open_build(build)
    add_repair(inspection, ANA, subject(inspection), DANCERS)
    make_build(tmp_path / "other", (1,))
    with pytest.raises(
        InspectionError, match="line 2: exchange dancers 1 and 2: the sequence has only one dancer"
    ):
        import_csv(open_build(tmp_path / "other"), export_csv(inspection).replace(",1,2,,2,", ",1,2,,1,"))


def test_a_build_takes_up_the_inputs_whose_repairs_have_changed(build: Path, tmp_path: Path) -> None:
    inspection, ledger = open_build(build), Ledger(build / "ledger.sqlite")

    def states() -> dict[str, str]:
        reopen_repaired(ledger, changed_repairs(ledger, _repairs(build, None)))
        return {item.name: item.status for item in ledger.items()}

    def finish() -> None:
        for item in ledger.items():
            if item.status == "pending":
                ledger.finish(item.path, "published", "", 1.0)

    done = {"dance_00.mp4": "published", "dance_01.mp4": "published"}
    assert states() == done
    add_repair(inspection, ANA, subject(inspection), SIDES)
    repaired = {**done, "dance_00.mp4": "pending"}
    assert states() == repaired
    finish()
    assert states() == done, "processed with it"
    sha256 = next(item.sha256 for item in ledger.items() if item.name == "dance_00.mp4")
    assert fingerprints_of(ledger)[str(tmp_path / "videos/dance_00.mp4")] == work_fingerprint(
        PIPELINE, standing_repairs(inspection)[video_of(sha256)]
    )
    withdraw_repair(inspection, ANA, list_repairs(inspection)[0].number)
    assert states() == repaired
    finish()
    assert set(fingerprints_of(ledger).values()) == {work_fingerprint(PIPELINE)}


def test_a_repair_that_changes_no_motion_waits_for_one_build_only(build: Path) -> None:
    inspection, ledger = open_build(build), Ledger(build / "ledger.sqlite")
    while next_turn(inspection, ANA, "round1").item:
        vote(inspection, ANA, "round1")
    motion, other = subject(inspection), subject(inspection, 0)

    def offered() -> set[str]:
        found = set()
        for _ in range(3):
            item = next_turn(inspection, Person(f"person {len(found)}"), "round2").item
            found |= {item.subject} if item else set()
        return found

    def take_up() -> None:
        """Build the video again, with the motions that it had."""
        reopen_repaired(ledger, changed_repairs(ledger, _repairs(build, None)))
        (item,) = ledger.unfinished()
        assert list_repairs(inspection)[-1].state == "waiting", "the build is still at it"
        rows = [make_result(build, item.sha256, index, index) for index in (0, 1)]
        ledger.finish(item.path, "published", "", 1.0, rows)
        inspection.refresh(build)

    add_repair(inspection, ANA, motion, SIDES)
    assert len(offered()) == 2
    assert motion not in offered()
    take_up()
    assert subject(inspection) == motion
    assert [one.state for one in list_repairs(inspection)] == ["applied"]
    assert motion in offered()
    # A repair of the other sequence of the video is taken up in its own time.
    add_repair(inspection, BO, other, Repair("pin_foot", 0.1, 0.3, 1, foot="left"))
    assert list_repairs(inspection)[1].state == "waiting"
    assert other not in offered()
    take_up()
    assert [one.state for one in list_repairs(inspection)] == ["applied"] * 2
    assert len(offered()) == 3


def test_a_video_that_is_not_there_keeps_its_sequences(
    build: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inspection, ledger = open_build(build), Ledger(build / "ledger.sqlite")
    add_repair(inspection, ANA, subject(inspection), SIDES)
    (tmp_path / "videos" / "dance_00.mp4").unlink()
    with caplog.at_level("INFO"):
        assert changed_repairs(ledger, _repairs(build, None)) == {}
    assert "1 video(s) that are not there: dance_00.mp4" in caplog.text
    assert {item.status for item in ledger.items()} == {"published"}
    assert len(ledger.sequences()) == 3


@pytest.mark.parametrize(
    ("foreign", "changes", "message"),
    [
        (lambda _: "- nonsense: [", True, "not a readable YAML file"),
        (lambda text: text.replace("min_duration_s: 4.0", "min_duration_s: 3.5"), True, "made by another version"),
        (lambda _: "- nonsense: [", False, ""),
    ],
)  # fmt: skip
def test_a_build_that_cannot_continue_loses_no_repaired_sequence(
    build: Path, tmp_path: Path, foreign: Callable[[str], str], changes: bool, message: str
) -> None:
    inspection, ledger = open_build(build), Ledger(build / "ledger.sqlite")
    add_repair(inspection, ANA, subject(inspection), SIDES)
    if not changes:  # this repair is in the result already
        reopen_repaired(ledger, changed_repairs(ledger, _repairs(build, None)))
        (item,) = ledger.unfinished()
        rows = [make_result(build, item.sha256, index, index) for index in (0, 1)]
        ledger.finish(item.path, "published", "", 1.0, rows)
    before = (ledger.sequences(), ledger.items(), fingerprints_of(ledger))
    (build / CONFIG).write_text(foreign((build / CONFIG).read_text()))
    with nullcontext() if not message else pytest.raises(OpenDanceError, match=message):
        build_dataset([], tmp_path / "set", build, BuildOptions())
    assert (ledger.sequences(), ledger.items(), fingerprints_of(ledger)) == before


def test_a_ledger_of_an_earlier_version_gets_the_table(build: Path) -> None:
    open_build(build).db.close()
    old = sqlite3.connect(build / "ledger.sqlite")
    old.execute("DROP TABLE inspection_repairs")
    old.close()
    inspection = Inspection(build / "ledger.sqlite", Clock())
    assert list_repairs(inspection) == []
    assert standing_repairs(inspection) == {}


def fingerprints_of(ledger: Ledger) -> dict[str, str]:
    return {path: fingerprint for path, _, fingerprint in ledger.fingerprints()}
