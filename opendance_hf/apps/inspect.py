"""Set up the inspection of a build, start its server, and export and import decisions (``opendance inspect``)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from opendance_hf.errors import missing_extra
from opendance_hf.files import atomic_write, check_output
from opendance_hf.pipeline.inspection.exchange import export_csv, import_csv
from opendance_hf.pipeline.inspection.store import Inspection, InspectionError
from opendance_hf.pipeline.ledger import describe_ledger_error


@dataclass(frozen=True)
class InspectOptions:
    """Options of ``opendance inspect``; see its ``--help``."""

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
    overwrite: bool = False


def run_inspect(options: InspectOptions, console: Console) -> None:
    """Export or import decisions, or run the server until Ctrl-C.

    Raises:
        InspectionError: if the folder is not a build, a file cannot be used, a package is missing, or the server cannot start.
        OutputError: if the file to export exists, belongs to the build or is the one to import.
        DiskError: if it cannot be written.
    """

    if options.export is not None:
        inputs = [options.build, *([options.import_] if options.import_ is not None else [])]
        check_output(options.export, inputs, overwrite=options.overwrite, option="--export")

    def print_line(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    with open_inspection(options.build) as inspection, _ledger_errors(options.build / "ledger.sqlite"):
        for file in inspection.unreadable:
            print_line(f"{file}: damaged, so it is not inspected; restore a copy")
        if options.import_ is not None:
            added = import_decisions(inspection, options.import_)
            print_line(f"{options.import_}: {added} new decision(s)")
        if options.export is not None:
            write_decisions(inspection, options.export)
            print_line(f"written:  {options.export}")
        if options.import_ is not None or options.export is not None:
            return
        try:
            from opendance_hf.apps.inspect_server import Site, make_app
            from opendance_hf.apps.serving import Address, listen, public_url, serve
        except ModuleNotFoundError as error:
            if (message := missing_extra(error)) is None:
                raise
            raise InspectionError(message) from None
        address = Address(options.host, public_url(options.public_url))
        site = Site(options.build, address, options.lease_s)
        if options.votes_needed is not None:
            inspection.votes_needed = options.votes_needed
        sock = listen(address, options.port)
        link = address.link(sock)
        tokens = add_people(inspection, options)
        items = inspection.db.execute("SELECT count(*) FROM inspection_items WHERE round = 1").fetchone()[0]
        needed = inspection.votes_needed
        people = inspection.people()
        judges = "1 person" if needed == 1 else f"{needed} people"
        print_line(f"Inspecting {options.build}: {items} sequence(s), each judged by {judges} in each round.")
        for person in people:
            role = ", adjudicates" if person.adjudicates else ""
            token = tokens.get(person.name)
            print_line(f"  {person.name}{role}:  " + (f"{link}/#token={token}" if token else link))
        if len(tokens) < len(people):
            print_line("Known people log in with their existing link; --new-token NAME creates a new one.")
        if tokens:
            print_line("Each link logs one person in and is shown only once; send it to that person only.")
        if needed > 1 and not any(person.adjudicates for person in people):
            print_line("Nobody may adjudicate yet: disputed items stay open until there is an --adjudicator.")
        if needed > len(people):
            print_line(
                f"Each item needs {needed} people, but there are {len(people)}: add more with --annotator."
            )
        print_line("Every decision is saved immediately. Stop with Ctrl-C.")
    serve(make_app(site), sock)


def open_inspection(build: Path) -> Inspection:
    """Open the inspection of a build and update its items.

    Raises:
        InspectionError: if the folder is not a build, or its ledger cannot be used.
    """
    ledger = build / "ledger.sqlite"
    if not ledger.is_file():
        beside = build.with_name(build.name + ".build")
        hint = f"; did you mean {beside}?" if (beside / "ledger.sqlite").is_file() else ""
        raise InspectionError(f"{build}: no ledger.sqlite; give the working folder of opendance build{hint}")
    with _ledger_errors(ledger):
        if ledger.stat().st_size == 0:
            raise sqlite3.DatabaseError("the file is empty")
        inspection = Inspection(ledger)
        try:
            inspection.refresh(build)
        except BaseException:
            inspection.db.close()
            raise
        return inspection


@contextmanager
def _ledger_errors(ledger: Path) -> Iterator[None]:
    """Convert errors of SQLite in the block to InspectionError with a remedy."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise InspectionError(describe_ledger_error(ledger, error)) from error


def add_people(inspection: Inspection, options: InspectOptions) -> dict[str, str]:
    """Add all people that the options name; return new tokens by name.

    Raises:
        InspectionError: if a name is invalid, or a new token is requested for an unknown person.
    """
    known = {person.name for person in inspection.people()}
    named = [*options.annotators, *options.adjudicators]
    if not known and not named:
        named = ["annotator"]  # default for an inspection by one person
    for name in options.new_tokens:
        if name not in known:
            raise InspectionError(f"--new-token {name}: unknown person; add them with --annotator {name}")
    tokens = {}
    for name in dict.fromkeys([*named, *options.new_tokens]):
        token = inspection.add_person(
            name, adjudicates=name in options.adjudicators, new_token=name in options.new_tokens
        )
        if token is not None:
            tokens[name] = token
    return tokens


def import_decisions(inspection: Inspection, path: Path) -> int:
    """Add the decisions of a CSV file and return the number of new ones.

    Raises:
        InspectionError: naming the file and the line.
    """
    try:
        return import_csv(inspection, path.read_text(encoding="utf-8"))
    except (InspectionError, OSError, UnicodeDecodeError) as error:
        raise InspectionError(f"{path}: {error}") from error


def write_decisions(inspection: Inspection, path: Path) -> None:
    """Write all decisions as CSV, atomically.

    Raises:
        OSError: if it cannot be written.
    """
    with atomic_write(path) as partial:
        partial.write_text(export_csv(inspection), encoding="utf-8")
