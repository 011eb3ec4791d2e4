"""``opendance inspect``: who inspects a build, with which links, and decisions as CSV."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from opendance_hf.files import atomic_write
from opendance_hf.pipeline.inspection.exchange import export_csv, import_csv
from opendance_hf.pipeline.inspection.store import Inspection, InspectionError


@dataclass(frozen=True)
class InspectOptions:
    """What ``opendance inspect`` is asked to do; see its ``--help``."""

    build: Path
    annotators: list[str] = field(default_factory=list)
    adjudicators: list[str] = field(default_factory=list)
    new_tokens: list[str] = field(default_factory=list)
    votes_needed: int | None = None
    host: str = "127.0.0.1"
    port: int = 8765
    public_url: str = ""
    lease_s: float = 600.0
    export: Path | None = None
    import_: Path | None = None


def run_inspect(options: InspectOptions, console: Console) -> None:
    """Export, import, or serve until Ctrl-C.

    Raises:
        InspectionError: if the folder is no build, a file cannot be used, or the server cannot start.
    """

    def tell(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    with open_inspection(options.build) as inspection, _usable(options.build / "ledger.sqlite"):
        for file in inspection.unreadable:
            tell(f"{file}: damaged, so nobody is asked about it; put back a copy")
        if options.import_ is not None:
            added = import_decisions(inspection, options.import_)
            tell(f"{options.import_}: {added} new decision(s)")
        if options.export is not None:
            write_decisions(inspection, options.export)
            tell(f"written:  {options.export}")
        if options.import_ is not None or options.export is not None:
            return
        try:
            from opendance_hf.apps.inspect_server import Site, listen, serve
        except ModuleNotFoundError as error:
            raise InspectionError(
                f'{error.name} is missing: pip install "opendance-hf[inspect]" (or, in the checkout, ".[inspect]")'
            ) from None
        public_url = _checked_url(options.public_url) if options.public_url else ""
        site = Site(options.build, options.host, public_url, options.lease_s)
        if options.votes_needed is not None:
            inspection.votes_needed = options.votes_needed
        sock = listen(site, options.port)
        shown = f"[{options.host}]" if ":" in options.host else options.host
        address = public_url or f"http://{shown}:{sock.getsockname()[1]}"
        tokens = add_people(inspection, options)
        items = inspection.db.execute("SELECT count(*) FROM inspection_items WHERE round = 1").fetchone()[0]
        needed = inspection.votes_needed
        people = inspection.people()
        by = "1 person looks" if needed == 1 else f"{needed} people look"
        tell(f"Inspecting {options.build}: {items} sequence(s), {by} at each in each round.")
        for person in people:
            role = ", adjudicates" if person.adjudicates else ""
            token = tokens.get(person.name)
            tell(f"  {person.name}{role}:  " + (f"{address}/#token={token}" if token else address))
        if len(tokens) < len(people):
            tell("Known people log in with the link they got; --new-token NAME makes a new one.")
        if tokens:
            tell("Each link logs one person in. It is shown this once; nobody else should see it.")
        if needed > 1 and not any(person.adjudicates for person in people):
            tell("Nobody may adjudicate yet: items on which people disagree wait for an --adjudicator.")
        if needed > len(people):
            tell(f"Each item needs {needed} people, but there are {len(people)}: add some with --annotator.")
        tell("Every decision is saved as it is made. Stop with Ctrl-C.")
    serve(site, sock)


def _checked_url(url: str) -> str:
    """How people reach the server, without a slash at the end: its pages ask for ``/api`` and ``/static`` of a host."""
    try:
        parts = urlsplit(url.removesuffix("/"))
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or f"{parts.scheme}://{parts.netloc}" != url.removesuffix("/") or "@" in url:
        raise InspectionError(
            f"--public-url {url}: give scheme and host without a path, as https://inspect.example.org; "
            "a proxy can give the server a host name of its own"
        )
    return f"{parts.scheme}://{parts.netloc}"


def open_inspection(build: Path) -> Inspection:
    """The inspection of a build, its items up to date.

    Raises:
        InspectionError: if the folder is not a build, or its ledger cannot be used.
    """
    ledger = build / "ledger.sqlite"
    if not ledger.is_file():
        beside = build.with_name(build.name + ".build")
        hint = f"; did you mean {beside}?" if (beside / "ledger.sqlite").is_file() else ""
        raise InspectionError(f"{build}: no ledger.sqlite; give the working folder of opendance build{hint}")
    with _usable(ledger):
        if ledger.stat().st_size == 0:
            raise sqlite3.DatabaseError("it is empty")
        inspection = Inspection(ledger)
        try:
            inspection.refresh(build)
        except BaseException:
            inspection.db.close()
            raise
        return inspection


@contextmanager
def _usable(ledger: Path) -> Iterator[None]:
    """Say what is the matter with a ledger that SQLite cannot work with."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorname", "")
        if code.startswith("SQLITE_BUSY"):
            remedy = "another program holds it; try again when that is done"
        elif code.startswith(
            ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_FULL", "SQLITE_IOERR")
        ):
            remedy = "the folder must be writable, and its disk not full"
        else:
            remedy = "put back a copy of it, or start anew with opendance build --out a new folder"
        raise InspectionError(f"{ledger}: cannot be used as a ledger ({error}); {remedy}") from error


def add_people(inspection: Inspection, options: InspectOptions) -> dict[str, str]:
    """Enter everybody the options name; returns the tokens that are new, by name.

    Raises:
        InspectionError: if a name cannot be used, or a new token is asked for somebody unknown.
    """
    known = {person.name for person in inspection.people()}
    named = [*options.annotators, *options.adjudicators]
    if not known and not named:
        named = ["annotator"]  # one person, one build, no ceremony
    for name in options.new_tokens:
        if name not in known:
            raise InspectionError(f"--new-token {name}: nobody of that name; --annotator {name} adds them")
    tokens = {}
    for name in dict.fromkeys([*named, *options.new_tokens]):
        token = inspection.add_person(
            name, adjudicates=name in options.adjudicators, new_token=name in options.new_tokens
        )
        if token is not None:
            tokens[name] = token
    return tokens


def import_decisions(inspection: Inspection, path: Path) -> int:
    """Add the decisions of a CSV file; returns how many were new.

    Raises:
        InspectionError: naming the file and the line.
    """
    try:
        return import_csv(inspection, path.read_text(encoding="utf-8"))
    except (InspectionError, OSError, UnicodeDecodeError) as error:
        raise InspectionError(f"{path}: {error}") from error


def write_decisions(inspection: Inspection, path: Path) -> None:
    """Write all decisions as CSV; the file is whole or not there.

    Raises:
        InspectionError: if it cannot be written.
    """
    try:
        with atomic_write(path) as partial:
            partial.write_text(export_csv(inspection), encoding="utf-8")
    except OSError as error:
        raise InspectionError(f"{path}: cannot be written ({error.strerror})") from None
