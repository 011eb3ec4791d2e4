"""Two people inspect ten clips in a real browser while the server is killed; nothing they decided is lost."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from opendance_hf.apps.inspect import InspectOptions, add_people, open_inspection
from opendance_hf.cli import app
from opendance_hf.pipeline.inspection.queue import decide, next_turn
from opendance_hf.pipeline.inspection.store import REASONS, Inspection, Person
from opendance_hf.pipeline.ledger import Ledger
from tests.apps.chromium import DESKTOP, PHONE, Chromium, Page, axe, find_chromium
from tests.pipeline.builds import make_build

READY = "turn !== null && !busy && (turn.item === null || document.querySelector('#stage video')?.readyState >= 2)"
#: (person, round, sequence, verdict, reasons)
Decided = tuple[str, int, str, str, str]


class Server:
    """``opendance inspect`` as people run it."""

    def __init__(self, build: Path) -> None:
        pytest.importorskip("starlette")
        pytest.importorskip("uvicorn")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.build = build
        self.links: dict[str, str] = {}
        self.start("--annotator", "ana", "--adjudicator", "bo", "--annotators-per-item", "2")

    def start(self, *options: str) -> None:
        code = "from opendance_hf.cli import main; main()"
        command = [
            sys.executable,
            "-c",
            code,
            "inspect",
            str(self.build),
            "--port",
            str(self.port),
            *options,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(line)
            if found := re.match(r"  (\w+).*?(http://\S+#token=\S+)", line):
                self.links[found[1]] = found[2]
            if "Stop with Ctrl-C" in line:
                return
        raise AssertionError("the server did not start:\n" + "".join(said))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def run(*options: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["inspect", *options])
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture
def build(tmp_path: Path) -> Path:
    make_build(tmp_path / "set.build")
    return tmp_path / "set.build"


def test_what_is_no_build_is_refused(build: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    code, said = run(str(tmp_path / "set"))
    assert code == 2
    assert f"no ledger.sqlite; give the working folder of opendance build; did you mean {build}?" in said
    assert run(str(tmp_path / "none"))[0] == 2


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, "another database", "cut off"])
def test_a_ledger_that_is_none(build: Path, content: bytes | str) -> None:
    ledger = build / "ledger.sqlite"
    whole = ledger.read_bytes()
    ledger.unlink()
    if isinstance(content, bytes):
        ledger.write_bytes(content)
    elif content == "cut off":
        ledger.write_bytes(whole[: len(whole) // 2])
    else:
        sqlite3.connect(ledger).executescript("CREATE TABLE songs (name TEXT)")
    code, said = run(str(build), "--export", str(build.parent / "decisions.csv"))
    assert code == 2, said
    assert f"{ledger}: cannot be used as a ledger (" in said
    assert "cannot be used as a ledger" in said
    assert content != b"" or ledger.read_bytes() == b"", "nothing is written into it"


def test_a_damaged_sequence_is_named(build: Path) -> None:
    file = next((build / "sequences").glob("*.npz"))
    file.write_bytes(file.read_bytes()[:-100])
    code, said = run(str(build), "--export", str(build.parent / "decisions.csv"))
    assert code == 0, said
    assert said.count(f"{file}: damaged, ") == 1


def test_options_that_cannot_be_met(build: Path) -> None:
    pytest.importorskip("starlette")
    assert "--annotator zoe" in run(str(build), "--port", "0", "--new-token", "zoe")[1]  # fmt: skip
    assert "printable" in run(str(build), "--port", "0", "--annotator", " ")[1]
    assert "https://dance.example.org" in run(str(build), "--public-url", "inspect.local")[1]
    for url in (
        "https://example.org/inspect",
        "https://example.org/?a",
        "https://example.org/#a",
        "https://",
        "https://me:secret@example.org",
        "https://[",
        "https://example.org:port",
    ):
        code, said = run(str(build), "--port", "0", "--public-url", url)
        assert code == 2
        assert "without a path" in said
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1, port {port}" in run(str(build), "--port", str(port))[1]


def test_who_gets_a_link(build: Path) -> None:
    with open_inspection(build) as inspection:
        alone = add_people(inspection, InspectOptions(build))
        assert list(alone) == ["annotator"], "one person, one build, no ceremony"
        assert add_people(inspection, InspectOptions(build)) == {}
        options = InspectOptions(build, annotators=["ana", "ana"], adjudicators=["bo"])
        tokens = add_people(inspection, options)
        assert list(tokens) == ["ana", "bo"]
        assert add_people(inspection, options) == {}, "the same command again logs nobody out"
        fresh = add_people(inspection, InspectOptions(build, new_tokens=["ana"]))
        assert inspection.person(fresh["ana"]) == Person("ana")
        assert inspection.person(tokens["ana"]) is None


def test_decisions_as_csv(build: Path, tmp_path: Path) -> None:
    with open_inspection(build) as inspection:
        item = next_turn(inspection, Person("ana"), "round1").item
        assert item
        decide(inspection, Person("ana"), "round1", 1, item.subject, "reject", ["back"])
    file = tmp_path / "decisions.csv"
    assert run(str(build), "--export", str(file)) == (0, f"written: {file}")
    make_build(tmp_path / "other")
    assert run(str(tmp_path / "other"), "--import", str(file)) == (0, f"{file}: 1 new decision(s)")
    assert decisions(tmp_path / "other") == decisions(build)
    file.write_text(file.read_text().replace("reject", "perhaps"))
    code, said = run(str(tmp_path / "other"), "--import", str(file))
    assert (code, f"{file}: line 2: unknown verdict 'perhaps'" in said) == (2, True)
    assert run(str(build), "--export", str(file / "decisions.csv"))[0] == 2, "a file is not a folder"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    find_chromium()
    make_build(tmp_path / "opendance-3d.build", (2, *[1] * 8), videos=True)
    server = Server(tmp_path / "opendance-3d.build")
    yield server
    server.kill()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    browser = Chromium(tmp_path / "profile")
    yield browser
    browser.close()


def press(page: Page, keys: str, who: str) -> Decided:
    """Decide with the keyboard on what the page shows; a digit marks a reason."""
    number, sequence = page.run("[turn.item.round, turn.item.sequence]")
    for key in keys:
        page.press(key)
    page.press("Enter")
    marked = [list(REASONS[number])[int(key) - 1] for key in sorted(keys) if key.isdigit()]
    return (who, number, sequence, "reject" if marked else "keep", " ".join(marked))


def settled(page: Page, before: str = "") -> bool:
    """Wait for the page to show the next item; False when there is none."""
    page.wait(f"{READY} && (turn.item === null || turn.item.round + turn.item.sequence !== {before!r})")
    return bool(page.run("turn.item !== null"))


def shown(page: Page) -> str:
    return str(page.run("turn.item ? turn.item.round + turn.item.sequence : ''"))


def decisions(build: Path, kind: str = "vote") -> list[Decided]:
    ledger = sqlite3.connect(f"file:{build / 'ledger.sqlite'}?mode=ro", uri=True)
    rows = ledger.execute(
        "SELECT annotator, round, sequence, verdict, reasons FROM inspection_decisions"
        " WHERE kind = ? AND withdrawn_at IS NULL ORDER BY number",
        (kind,),
    ).fetchall()
    ledger.close()
    return rows


def screenshot(page: Page, name: str) -> None:
    """For people who look; see docs/inspection.md."""
    if folder := os.environ.get("OPENDANCE_SCREENSHOTS"):
        page.screenshot(Path(folder, f"{name}.png"))


def accessible(page: Page) -> None:
    """Nothing for axe to find, on a desktop and on a phone."""
    for size in (PHONE, DESKTOP):
        page.resize(*size)
        assert axe(page) == []


def check_stage(page: Page) -> None:
    """The key of the stage leads to the page of this sequence, which is not paused behind it."""
    page.run(
        "document.getElementById('stage-link').onclick = (event) => { opened = event.currentTarget.href; return false }"
    )
    page.run("globalThis.opened = ''; video.play()")
    page.press("v")
    assert page.run("new URL(opened).pathname === `/stage/${turn.item.sequence}` && video.paused")
    status, kind, text = page.run(
        "fetch(opened).then(async (reply) => [reply.status, reply.headers.get('content-type'), await reply.text()])"
    )
    assert (status, kind.partition(";")[0]) == (200, "text/html")
    assert f'"name": "{page.run("turn.item.sequence")}"' in text


def test_two_people_two_rounds_and_a_killed_server(server: Server, browser: Chromium) -> None:
    build, out = server.build, server.build.with_name("opendance-3d")
    stranger = browser.page(f"http://127.0.0.1:{server.port}/")
    stranger.wait("!document.getElementById('login').hidden")
    screenshot(stranger, "login")
    accessible(stranger)
    pages = {name: browser.page(server.links[name]) for name in ("ana", "bo")}
    ana, bo = pages["ana"], pages["bo"]
    assert "token" not in ana.wait("location.hash === '#round1' && location.href")
    made: list[Decided] = []

    def turns(keys: dict[str, list[str]], limit: int = 99) -> None:
        """Both in turn, until there is nothing left for either."""
        at_work = dict.fromkeys(pages, True)
        for _ in range(limit):
            for name, page in pages.items():
                if at_work[name]:
                    before = shown(page)
                    made.append(press(page, keys[name].pop(0) if keys[name] else "", name))
                    at_work[name] = settled(page, before)
            if not any(at_work.values()):
                return

    for page in pages.values():
        assert settled(page)
    # It moves, it can be stopped, stepped and slowed.
    ana.wait("video.currentTime > 0.1 && !video.paused")
    ana.press(" ")
    ana.wait("video.paused")
    at = ana.run("video.currentTime = 0.5")
    ana.press("ArrowRight")
    assert ana.run("video.currentTime") == pytest.approx(at + 1 / 30)
    ana.press("z")
    assert ana.run("video.playbackRate") == 0.5
    ana.press("x")
    ana.press("?")
    ana.wait("document.getElementById('help').open")
    screenshot(ana, "help")
    accessible(ana)
    ana.press("Escape")
    ana.wait("!document.getElementById('help').open")
    # A reason marked and unmarked; a rejection without a reason is none.
    ana.press("3")
    screenshot(ana, "round1")
    accessible(ana)
    ana.press("3")
    ana.press("r")
    assert "at least one reason" in ana.text()
    assert not decisions(build)

    turns({"ana": ["15", ""], "bo": []}, limit=3)
    assert decisions(build) == made
    # The server dies; what is decided meanwhile waits in the page and is saved when it is back.
    server.kill()
    before = shown(ana)
    late = press(ana, "2", "ana")
    ana.wait("!document.getElementById('banner').hidden")
    assert "not saved yet" in ana.text()
    screenshot(ana, "server-gone")
    server.start()
    assert settled(ana, before)
    assert ana.run("document.getElementById('banner').hidden")
    made.append(late)
    assert decisions(build) == made

    # Undo, from the keyboard: the item is back with its reasons marked.
    before = shown(bo)
    taken = press(bo, "4", "bo")
    assert settled(bo, before)
    bo.press("u")
    bo.wait(f"{READY} && turn.item.round + turn.item.sequence === {before!r} && marked.has('tools')")
    bo.press("Escape")
    assert bo.run("marked.size") == 0
    assert taken not in decisions(build)

    turns({"ana": [], "bo": []})
    first = [row for row in made if row[1] == 1]
    assert sorted(decisions(build)) == sorted(made) == sorted(first)
    assert len({(row[0], row[2]) for row in first}) == len(first) == 20, "ten items, two people each"

    # Where they disagree, bo has the last word.
    rejected = {row[2] for row in first if row[3] == "reject"}
    assert len(rejected) == 2
    bo.wait("!document.getElementById('empty').hidden")
    screenshot(bo, "round1-done")
    bo.press("Enter")
    bo.wait(f"{READY} && desk === 'adjudicate'")
    assert "ana rejects it" in " ".join(bo.text().split())
    screenshot(bo, "adjudicate")
    accessible(bo)
    before = shown(bo)
    rulings = [press(bo, "1", "bo")]
    assert settled(bo, before)
    before = shown(bo)
    rulings.append(press(bo, "", "bo"))
    assert not settled(bo, before)
    assert decisions(build, "ruling") == rulings

    # Round 2 shows what passed round 1, source and avatar side by side.
    server.kill()
    server.start()
    for page in pages.values():
        page.run("document.querySelector('[data-desk=round2]').click()")
        page.wait(f"{READY} && desk === 'round2'")
    assert ana.run("video.videoWidth > video.videoHeight")
    ana.press("7")
    screenshot(ana, "round2")
    accessible(ana)
    check_stage(ana)
    ana.press("7")
    turns({"ana": ["", "8"], "bo": ["", "8"]}, limit=2)
    turns({"ana": [], "bo": []})
    assert sorted(decisions(build)) == sorted(made)
    second = [row for row in made if row[1] == 2]
    assert len(second) == 18
    assert {row[2] for row in second} == {row[2] for row in first} - {rulings[0][2]}
    screenshot(ana, "round2-done")
    ana.run("document.querySelector('[data-desk=overview]').click()")
    ana.wait("!document.getElementById('overview').hidden")
    assert "Cohen’s κ" in ana.text()
    screenshot(ana, "overview")
    accessible(ana)
    for page in (*pages.values(), stranger):
        assert page.complaints() == []

    server.kill()
    _the_build_applies_it(build, out, rulings, second)


def _the_build_applies_it(build: Path, out: Path, rulings: list[Decided], second: list[Decided]) -> None:
    with Inspection(build / "ledger.sqlite") as inspection:
        assert {person.name for person in inspection.people()} == {"ana", "bo"}
    disputed = {row[2] for row in second if row[3] == "reject"} - {
        row[2] for row in second if row[3] == "keep"
    }
    done = CliRunner().invoke(app, ["build", "--continue", "--out", str(out)])
    assert done.exit_code == 0, done.output
    ledger = Ledger(build / "ledger.sqlite")
    published = {row["id"] for row in ledger.sequences()}
    everything = {row["id"] for row in ledger.sequences(withheld=True)}
    assert len(everything) == 10
    assert everything - published == {rulings[0][2]} | disputed
    assert (out / "README.md").is_file()
    ledger.close()


def test_a_span_is_repaired_with_the_keyboard_and_taken_back(server: Server, browser: Chromium) -> None:
    with Inspection(server.build / "ledger.sqlite") as inspection:
        inspection.refresh(server.build)
        inspection.votes_needed = 1
        while item := next_turn(inspection, Person("cleo"), "round1").item:
            decide(inspection, Person("cleo"), "round1", 1, item.subject, "keep")
    page = browser.page(server.links["ana"])
    page.wait("turn !== null")
    page.run("document.querySelector('[data-desk=round2]').click()")
    page.wait(f"{READY} && desk === 'round2' && turn.item")
    while page.run("turn.item.num_dancers") < 2:
        before = shown(page)
        press(page, "", "ana")
        assert settled(page, before)
    before = shown(page)
    page.press("f")
    page.wait("!document.getElementById('repair').hidden && video.paused")
    page.run("video.currentTime = 0.1 + 1e-4")
    page.wait("!video.seeking")
    page.press("i")
    for _ in range(6):
        page.press("ArrowRight")
    page.press("o")
    assert "0.10 s" in page.text()
    assert "0.30 s" in page.text()
    # The menus take the keys of their own: a letter chooses, and does not decide.
    page.run("document.getElementById('repair-kind').focus()")
    page.press("k")
    assert shown(page) == before
    labels = page.run("[...document.getElementById('repair-dancer').options].map((option) => option.label)")
    assert labels == ["1, orange", "2, blue"]
    page.run("document.getElementById('repair-kind').value = 'exchange_dancers'")
    page.run("document.getElementById('repair-kind').dispatchEvent(new Event('change'))")
    screenshot(page, "repair")
    page.run("document.getElementById('repair-save').focus()")
    page.press("Enter")
    page.wait("document.querySelectorAll('#repairs li').length === 1")
    assert "exchange dancers 1 and 2, 0.08 to 0.32 s" in page.text()
    assert page.run("document.getElementById('keep').hidden")
    screenshot(page, "repair-saved")
    # What does not fit is refused by name, and nothing is lost.
    page.run("document.getElementById('repair-kind').value = 'cut'")
    page.run("document.getElementById('repair-save').click()")
    page.wait("document.getElementById('hint').textContent.includes('at least 4 s are needed')")
    page.press("Enter")
    assert settled(page, before), "the next sequence; the repaired one waits for the build"
    page.run("document.querySelector('[data-desk=overview]').click()")
    page.wait("document.querySelectorAll('#repair-table tr').length === 2")
    page.run("changeRepairs('/api/withdraw', { number: 999, sequence: '' })")
    status = "[...document.querySelectorAll('[role=status]')].find((node) => node.offsetParent !== null)"
    page.wait(f"({status} || document.body).textContent.startsWith('there is no repair with the number 999')")
    screenshot(page, "repair-overview")
    page.run("document.querySelector('#repair-table button').click()")
    page.wait("document.querySelector('#repair-table').innerText.includes('withdrawn')")
    assert page.run(f"{status}.textContent") == ""
    page.run("document.querySelector('[data-desk=round2]').click()")
    page.wait(f"{READY} && desk === 'round2'")
    assert page.run("turn.rounds[2].open") > 0
    assert page.complaints() == []
