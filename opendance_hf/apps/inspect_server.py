"""Serve the web site of ``opendance inspect``, on which annotators watch the sequences of a build and decide.

Pages are static files without external resources and get their data as JSON from ``/api``. All state is in the ledger, so
the server can be killed at any time.

The server shows videos of the build folder: the clip of the source in round 1, the preview with the avatar in round 2.
Source videos are not served: many of their codecs (HEVC, MPEG-4, ProRes) are not supported by browsers, and the files may
not be on this machine. Builds of versions without clips show the left half of the preview, with the skeleton drawn over it.

Access is controlled as :mod:`opendance_hf.apps.serving` says, with a token for each person.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from opendance_hf.apps.serving import Address, BadRequest, Guard, read_json, refuse, set_cookie
from opendance_hf.errors import OpenDanceError
from opendance_hf.pipeline.clip import Repair
from opendance_hf.pipeline.inspection.exchange import export_csv
from opendance_hf.pipeline.inspection.queue import Item, decide, last_number, next_turn, renew, undo
from opendance_hf.pipeline.inspection.repairs import add_repair, list_repairs, shown_span, withdraw_repair
from opendance_hf.pipeline.inspection.results import progress, round_counts
from opendance_hf.pipeline.inspection.store import REASONS, Conflict, Inspection, InspectionError, Person
from opendance_hf.pipeline.ledger import describe_ledger_error
from opendance_hf.pipeline.repairs import REPAIRS

_STATIC: Final = Path(__file__).with_name("static") / "inspect"
#: Folders of the build with the videos: the source alone, and the source beside the avatar.
_FOLDERS: Final = ("clips", "previews")

Action = Callable[[Inspection, Person, dict[str, Any]], Any]


@dataclass(frozen=True)
class Site:
    """Settings of the server.

    Attributes:
        build: the working folder of ``opendance build``.
        address: where the server is reached.
        lease_s: duration of an assignment without activity, seconds.
    """

    build: Path
    address: Address = field(default_factory=Address)
    lease_s: float = 600.0

    @property
    def ledger(self) -> Path:
        """Path of the build's ledger."""
        return self.build / "ledger.sqlite"

    @property
    def cookie(self) -> str:
        """Name of the cookie, unique for the build: cookies are shared by all ports of a host."""
        return "opendance_" + hashlib.sha256(str(self.build.resolve()).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class _Pages:
    """Endpoints that answer with a file or a cookie."""

    site: Site

    async def login(self, request: Request) -> Response:
        """Log a person in with a token, as a cookie."""
        body = await read_json(request)
        token = body.get("token")
        person = await run_in_threadpool(_find_person, self.site, token) if isinstance(token, str) else None
        if person is None:
            return refuse(401, "Unknown token: use the link of this build's inspection.")
        answer = JSONResponse({"name": person.name})
        set_cookie(answer, self.site.cookie, str(token), self.site.address)
        return answer

    async def logout(self, _: Request) -> Response:
        """Remove the cookie."""
        answer = JSONResponse({})
        answer.delete_cookie(self.site.cookie, httponly=True, samesite="strict")
        return answer

    def video(self, request: Request) -> Response:
        """Send a video of a sequence."""
        if _find_person(self.site, request.cookies.get(self.site.cookie)) is None:
            return refuse(401, "Log in first.")
        folder, sequence = request.path_params["folder"], request.path_params["sequence"]
        with Inspection(self.site.ledger) as inspection:
            known = inspection.db.execute("SELECT 1 FROM sequences WHERE id = ?", (sequence,)).fetchone()
        path = _video(self.site, folder, sequence) if known and folder in _FOLDERS else None
        if path is None:
            return refuse(404, "This video does not exist.")
        return FileResponse(path, media_type="video/mp4", headers={"Cache-Control": "private, max-age=3600"})

    def stage(self, request: Request) -> Response:
        """Send the 3D stage of a sequence, with its own content security policy."""
        if _find_person(self.site, request.cookies.get(self.site.cookie)) is None:
            return refuse(401, "Log in first.")
        sequence = request.path_params["sequence"]
        with Inspection(self.site.ledger) as inspection:
            known = inspection.db.execute("SELECT 1 FROM sequences WHERE id = ?", (sequence,)).fetchone()
        return _stage(self.site, sequence) if known else refuse(404, "This sequence does not exist.")

    def decisions(self, request: Request) -> Response:
        """Send all decisions as CSV."""
        if _find_person(self.site, request.cookies.get(self.site.cookie)) is None:
            return refuse(401, "Log in first.")
        with Inspection(self.site.ledger) as inspection:
            text = export_csv(inspection)
        name = {"Content-Disposition": 'attachment; filename="decisions.csv"', "Cache-Control": "no-store"}
        return PlainTextResponse(text, media_type="text/csv", headers=name)


def make_app(site: Site) -> ASGIApp:
    """Create the ASGI application of a build."""

    def page(_: Request) -> Response:
        return FileResponse(_STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    pages = _Pages(site)

    def action(work: Action) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            body = await read_json(request) if request.method == "POST" else {}
            return await run_in_threadpool(_run_action, site, work, request.cookies.get(site.cookie), body)

        return endpoint

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/api/login", pages.login, methods=["POST"]),
            Route("/api/logout", pages.logout, methods=["POST"]),
            Route("/api/me", action(lambda _, me, __: _me(site, me))),
            Route("/api/progress", action(lambda inspection, _, __: progress(inspection))),
            Route("/api/next", action(lambda *args: _next(site, *args)), methods=["POST"]),
            Route("/api/decide", action(lambda *args: _decide(site, *args)), methods=["POST"]),
            Route("/api/undo", action(lambda *args: _undo(site, *args)), methods=["POST"]),
            Route("/api/repairs", action(lambda inspection, _, __: _repairs_json(inspection))),
            Route("/api/repair", action(_repair), methods=["POST"]),
            Route("/api/withdraw", action(_withdraw), methods=["POST"]),
            Route("/api/renew", action(lambda inspection, me, _: renew(inspection, me)), methods=["POST"]),
            Route("/decisions.csv", pages.decisions),
            Route("/video/{folder}/{sequence}.mp4", pages.video),
            Route("/stage/{sequence}", pages.stage),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        exception_handlers={
            BadRequest: lambda _, error: refuse(error.status, str(error)),
            sqlite3.Error: lambda _, error: refuse(
                507, f"Not saved: {describe_ledger_error(site.ledger, error)}."
            ),
        },
    )
    return Guard(app, site.address)


def _find_person(site: Site, token: str | None) -> Person | None:
    if not token or len(token) > 200:
        return None
    with Inspection(site.ledger) as inspection:
        return inspection.person(token)


def _run_action(site: Site, work: Action, token: str | None, body: dict[str, Any]) -> Response:
    with Inspection(site.ledger, lease_s=site.lease_s) as inspection:
        me = inspection.person(token) if token and len(token) <= 200 else None
        if me is None:
            return refuse(401, "Log in first.")
        try:
            return JSONResponse(work(inspection, me, body), headers={"Cache-Control": "no-store"})
        except Conflict as error:
            return refuse(409, str(error))
        except InspectionError as error:
            return refuse(400, str(error))


def _me(site: Site, me: Person) -> dict[str, Any]:
    return {
        "name": me.name,
        "adjudicates": me.adjudicates,
        "build": site.build.resolve().name,
        "reasons": {number: list(reasons.items()) for number, reasons in REASONS.items()},
        "lease_s": site.lease_s,
        "repairs": {name: {"label": kind.label, "needs": kind.needs} for name, kind in REPAIRS.items()},
    }


def _next(site: Site, inspection: Inspection, me: Person, body: dict[str, Any]) -> dict[str, Any]:
    inspection.refresh(site.build)
    return _turn_json(site, inspection, me, _text_of(body, "desk"))


def _decide(site: Site, inspection: Inspection, me: Person, body: dict[str, Any]) -> dict[str, Any]:
    desk, round_, reasons = _text_of(body, "desk"), body.get("round"), body.get("reasons", [])
    if (
        type(round_) is not int
        or not isinstance(reasons, list)
        or not all(isinstance(r, str) for r in reasons)
    ):
        raise InspectionError("invalid decision: expected an integer as round and a list of text as reasons")
    subject, verdict, note = _text_of(body, "subject"), _text_of(body, "verdict"), _text_of(body, "note", "")
    decide(inspection, me, desk, round_, subject, verdict, reasons, note)  # type: ignore[arg-type]
    return _turn_json(site, inspection, me, desk)


def _undo(site: Site, inspection: Inspection, me: Person, body: dict[str, Any]) -> dict[str, Any]:
    desk = _text_of(body, "desk")
    number = body.get("number")
    if type(number) is not int:
        raise InspectionError(f"invalid number {number!r}: expected the integer number of a decision")
    undone = undo(inspection, me, desk, number)  # type: ignore[arg-type]
    return {"undone": asdict(undone), **_turn_json(site, inspection, me, desk)}


def _repair(inspection: Inspection, me: Person, body: dict[str, Any]) -> dict[str, Any]:
    kinds = {"kind": (str,), "first": (int,), "last": (int,), "dancer": (int, NoneType),
             "other": (int, NoneType), "foot": (str, NoneType)}  # fmt: skip
    values = {name: body.get(name) for name in kinds}
    for name, value in values.items():
        if type(value) not in kinds[name]:
            expected = " or ".join("null" if kind is NoneType else kind.__name__ for kind in kinds[name])
            raise InspectionError(f"the repair has {name} {value!r:.40}, expected {expected}")
    motion = _text_of(body, "subject")
    span = shown_span(inspection, motion, values["first"], values["last"])  # type: ignore[arg-type]
    fields = (values[name] for name in ("dancer", "other", "foot"))
    add_repair(inspection, me, motion, Repair(values["kind"], *span, *fields))  # type: ignore[arg-type]
    return _repairs_json(inspection, _text_of(body, "sequence"))


def _withdraw(inspection: Inspection, me: Person, body: dict[str, Any]) -> dict[str, Any]:
    number = body.get("number")
    if type(number) is not int:
        raise InspectionError(f"invalid number {number!r:.40}: expected the integer number of a repair")
    withdraw_repair(inspection, me, number)
    return _repairs_json(inspection, _text_of(body, "sequence", "") or None)


def _repairs_json(inspection: Inspection, sequence: str | None = None) -> dict[str, Any]:
    return {"repairs": [asdict(repair) for repair in list_repairs(inspection, sequence)]}


def _turn_json(site: Site, inspection: Inspection, me: Person, desk: str) -> dict[str, Any]:
    turn = next_turn(inspection, me, desk)  # type: ignore[arg-type]
    rounds = round_counts(inspection)
    return {
        "desk": desk,
        "item": _item_json(site, inspection, turn.item),
        "ahead": _item_json(site, inspection, turn.ahead),
        "rounds": rounds,
        "disputed": sum(counts["disputed"] for counts in rounds.values()),
        "last": last_number(inspection, me, desk),  # type: ignore[arg-type]
    }


def _item_json(site: Site, inspection: Inspection, item: Item | None) -> dict[str, Any] | None:
    """Return an item as JSON with its video: in round 1 the clip, or without one the preview, to be cropped."""
    if item is None:
        return None
    folders = ("clips", "previews") if item.round == 1 else ("previews",)
    found = next((name for name in folders if _video(site, name, item.sequence)), None)
    path = _video(site, found, item.sequence) if found else None
    return {
        **asdict(item),
        "video": f"/video/{found}/{item.sequence}.mp4?v={path.stat().st_mtime_ns}" if path else None,
        "cut": item.round == 1 and found == "previews",
        **_repairs_json(inspection, item.sequence),
    }


def _video(site: Site, folder: str, sequence: str) -> Path | None:
    """Return the path of a video in the build folder; None if it does not exist or is outside the folder."""
    root = (site.build / folder).resolve()
    path = (root / f"{sequence}.mp4").resolve()
    return path if path.parent == root and path.is_file() else None


def _stage(site: Site, sequence: str) -> Response:
    """Return the stage of a sequence of the build, or why there is none."""
    from opendance_hf.apps.sequence_stage import sequence_stage
    from opendance_hf.apps.view import content_policy, render_page

    try:
        page = render_page(sequence_stage(site.build, sequence))
    except (OpenDanceError, OSError) as error:
        return refuse(404, f"No stage: {error}")
    policy = f"{content_policy()}; frame-ancestors 'none'"
    return HTMLResponse(page, headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"})


def _text_of(body: dict[str, Any], name: str, default: str | None = None) -> str:
    value = body.get(name, default)
    if not isinstance(value, str):
        raise InspectionError(f"the request has {name} {value!r:.40}, expected text")
    return value
