"""Serve the web site of ``opendance app``: a song comes in, waits, is danced to, and is seen on a stage.

All state is in the folders of :mod:`opendance_hf.apps.app_jobs`, so the server can be killed at any time; what reads them runs in
threads, never in the event loop. The work is done by the :class:`~opendance_hf.apps.app_desk.Desk`. Access is controlled as
:mod:`opendance_hf.apps.serving` says: by the token of the link, with which all share all dances; or, if the site is open, by a random
cookie, with which each browser has its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from opendance_hf.apps import app_jobs
from opendance_hf.apps.app_desk import Desk, exported, kinds, reason_of
from opendance_hf.apps.app_jobs import (
    ENERGIES,
    MIN_SECONDS,
    Job,
    JobError,
    QueueFullError,
)
from opendance_hf.apps.app_worker import DISK_FULL, FILM, file_stem
from opendance_hf.apps.export import missing_for
from opendance_hf.apps.serving import BadRequest, Door, Guard, read_json, refuse, set_cookie
from opendance_hf.disk import DiskError
from opendance_hf.errors import OpenDanceError

_STATIC: Final = Path(__file__).with_name("static")
#: Of a song with 8,000 beats.
_MAX_CHANGES_BYTES: Final = 256_000
#: Time limits to send a song and each piece of it, seconds.
_SEND_S: Final = 900.0
_PIECE_S: Final = 30.0
_GONE: Final = "This dance does not exist, or was deleted."

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Site:
    """Endpoints of the site."""

    desk: Desk
    door: Door

    @property
    def is_open(self) -> bool:
        return self.door.token is None

    def owner(self, request: Request) -> str | None:
        """Return whose jobs a request sees, or None for a stranger."""
        if not self.is_open:
            return "" if self.door.admits(request) else None
        known = request.cookies.get(self.door.name, "")
        return hashlib.sha256(known.encode()).hexdigest()[:32] if 20 <= len(known) <= 100 else None

    def known_owner(self, request: Request) -> str:
        """Return whose jobs a request sees.

        Raises:
            BadRequest: if it is a stranger's.
        """
        owner = self.owner(request)
        if owner is None:
            remedy = "Load the front page first" if self.is_open else "Use the link that the command printed"
            raise BadRequest(401, f"{remedy}.")
        return owner

    def job(self, request: Request) -> Job:
        """Return the job that a request names.

        Raises:
            BadRequest: if it is a stranger's, or does not exist for this owner.
        """
        job = self.desk.jobs.find(request.path_params["job"], self.known_owner(request))
        if job is None:
            raise BadRequest(404, _GONE)
        return job

    def page(self, request: Request) -> Response:
        """Send the page where songs are dropped; an open site gives each browser a cookie."""
        answer = FileResponse(_STATIC / "app" / "index.html", headers={"Cache-Control": "no-store"})
        if self.is_open and self.owner(request) is None:
            set_cookie(answer, self.door.name, secrets.token_urlsafe(24), self.door.address)
        return answer

    def about(self, request: Request) -> Response:
        """Send the limits, and what can be chosen."""
        self.known_owner(request)
        limits = self.desk.jobs.limits
        return _json(
            {
                "max_bytes": limits.max_bytes,
                "max_seconds": limits.max_seconds,
                "min_seconds": MIN_SECONDS,
                "keep_hours": limits.keep_hours,
                "max_queue": limits.max_queue,
                "energies": list(ENERGIES),
                "open": self.is_open,
            }
        )

    def own(self, request: Request) -> Response:
        """Send the jobs of a visitor, the latest first."""
        owner = self.known_owner(request)
        jobs = self.desk.jobs.all()
        waiting = [folder for folder, _, state in jobs if state.is_open]
        own = [_shown(*job, waiting) for job in reversed(jobs) if job[1].owner == owner]
        return _json({"jobs": own})

    def one(self, request: Request) -> Response:
        """Send one job with the files that it can be written as."""
        job = self.job(request)
        folder = job[0]
        shown = _shown(*job, self.desk.jobs.unfinished())
        states = self.desk.exports(folder)
        files = [
            {
                "kind": kind,
                "suffix": suffix,
                "state": states.get(kind, ""),
                "missing": "" if kind == FILM else missing_for(kind),
            }
            for kind, suffix in kinds().items()
        ]
        return _json(shown | {"files": files})

    async def send(self, request: Request) -> Response:
        """Take a song, whose file is the body, check it and queue it."""
        owner = self.known_owner(request)
        asked = request.query_params
        name = app_jobs.song_name(asked.get("name", ""))
        try:
            chosen = {
                "dancers": _whole(asked.get("dancers", "1")),
                "seed": _whole(asked.get("seed", "0")),
                "energy": asked.get("energy", "normal"),
            }
            wanted = app_jobs.Request(name, seconds=MIN_SECONDS, owner=owner).changed(chosen)
            path = await run_in_threadpool(self.desk.admit, owner)
        except QueueFullError as error:
            return _busy(error)
        except JobError as error:
            return refuse(422, f"{name}: {error}")
        try:
            await _receive(request, path, self.desk.jobs.limits, name)
            seconds = await run_in_threadpool(self.desk.check, path)
            job = await run_in_threadpool(self.desk.add, path, replace(wanted, seconds=seconds))
        except QueueFullError as error:
            return _busy(error)
        except DiskError:
            raise
        except OpenDanceError as error:
            return refuse(422, f"{name}: {str(error).removeprefix(f'{path}: ')}")
        finally:
            await run_in_threadpool(self.desk.release, path)
        return _json({"id": job}, 201)

    async def again(self, request: Request) -> Response:
        """Queue another dance to the song of a job, with changes."""
        folder, before, _ = await run_in_threadpool(self.job, request)
        asked = await read_json(request, _MAX_CHANGES_BYTES)
        try:
            wanted = before.changed(asked)
            job = await run_in_threadpool(lambda: self.desk.add(folder / "song", wanted, keep_song=True))
        except QueueFullError as error:
            return _busy(error)
        except JobError as error:
            return refuse(422, str(error))
        return _json({"id": job}, 201)

    def delete(self, request: Request) -> Response:
        """Delete a job with its files."""
        self.desk.delete(self.job(request)[0])
        return _json({})

    def stage(self, request: Request) -> Response:
        """Send the stage of a dance; a stranger is sent to the front page, which asks for the link."""
        if self.owner(request) is None:
            return RedirectResponse("/", 303)
        try:
            folder, _, _ = self.job(request)
        except BadRequest:
            return RedirectResponse("/#gone", 303)
        try:
            page = self.desk.page(folder)
        except QueueFullError as error:
            return _busy(error)
        except OpenDanceError as error:
            return refuse(500, f"The page of this dance cannot be made: {reason_of(folder, error)}")
        if page is None:
            return RedirectResponse("/", 303)
        policy = self.door.address.policy(img="blob: data:", media="blob:")
        headers = {"Cache-Control": "no-store", "Content-Security-Policy": policy}
        return FileResponse(page, media_type="text/html", headers=headers, stat_result=page.stat())

    def write(self, request: Request) -> Response:
        """Have a file of a dance written."""
        (folder, _, state), kind = self.job(request), request.path_params["kind"]
        if kind not in kinds():
            return refuse(404, f"Unknown format: expected {', '.join(kinds())}.")
        if state.status != "done":
            return refuse(409, "This song is not danced yet.")
        try:
            self.desk.export(folder, kind)
        except QueueFullError as error:
            return _busy(error)
        return _json({}, 202)

    def file(self, request: Request) -> Response:
        """Send a file of a dance."""
        (folder, asked, _), kind = self.job(request), request.path_params["kind"]
        path = exported(folder, kind) if kind in kinds() else None
        if path is None:
            return refuse(404, "This file was not written yet.")
        name = f"{file_stem(asked.name)}{path.suffix}"
        headers = {"Cache-Control": "no-store"}
        return FileResponse(path, filename=name, headers=headers, stat_result=path.stat())


def make_app(desk: Desk, door: Door) -> ASGIApp:
    """Create the ASGI application, which works on the queue of a desk while it runs."""
    site = _Site(desk, door)

    @contextlib.asynccontextmanager
    async def working(_: Starlette) -> AsyncIterator[None]:
        desk.start()
        yield
        desk.stop()

    async def refused(_: Request, error: Exception) -> Response:
        answer = refuse(error.status if isinstance(error, BadRequest) else 400, str(error))
        if answer.status_code == 413:
            answer.headers["Connection"] = "close"  # the rest is not read
        return answer

    async def broken(_: Request, error: Exception) -> Response:
        if isinstance(error, FileNotFoundError):  # deleted while it was asked for
            return refuse(404, _GONE)
        log.error("%s", error)
        return refuse(507, f"{DISK_FULL[0].upper()}{DISK_FULL[1:]}.")

    app = Starlette(
        lifespan=working,
        routes=[
            Route("/", site.page),
            Route("/api/login", door.login, methods=["POST"]),
            Route("/api/about", site.about),
            Route("/api/jobs", site.own),
            Route("/api/songs", site.send, methods=["POST"]),
            Route("/api/jobs/{job}", site.one),
            Route("/api/jobs/{job}/again", site.again, methods=["POST"]),
            Route("/api/jobs/{job}/delete", site.delete, methods=["POST"]),
            Route("/api/jobs/{job}/files/{kind}", site.write, methods=["POST"]),
            Route("/dance/{job}", site.stage),
            Route("/files/{job}/{kind}", site.file),
            Mount("/static/app", StaticFiles(directory=_STATIC / "app")),
            Mount("/static/view", StaticFiles(directory=_STATIC / "view")),
        ],
        exception_handlers={BadRequest: refused, OSError: broken},
    )
    return Guard(app, door.address)


async def _receive(request: Request, path: Path, limits: app_jobs.Limits, name: str) -> None:
    """Write the body of a request to a file, up to the limit of its size.

    Raises:
        BadRequest: if it is too large, too slow, or breaks off.
        OSError: if the disk is full.
    """
    too_large = BadRequest(
        413,
        f"{name}: larger than {limits.max_mb:g} MB, the limit of this server: send the sound alone, as MP3",
    )
    if int(request.headers.get("content-length", "0") or 0) > limits.max_bytes:
        raise too_large
    size, end_s = 0, time.monotonic() + _SEND_S
    try:
        with await run_in_threadpool(path.open, "xb") as file:
            pieces = aiter(request.stream())
            while True:
                async with asyncio.timeout(min(_PIECE_S, end_s - time.monotonic())):
                    chunk = await anext(pieces, None)
                if chunk is None:
                    break
                size += len(chunk)
                if size > limits.max_bytes:
                    raise too_large
                await run_in_threadpool(file.write, chunk)
            os.fchmod(file.fileno(), 0o600)
    except TimeoutError:
        slow = (
            f"nothing came for {_PIECE_S:g} s"
            if time.monotonic() < end_s
            else f"not complete after {_SEND_S / 60:g} minutes"
        )
        raise BadRequest(408, f"{name}: {slow}: try again") from None
    except ClientDisconnect:
        raise BadRequest(400, f"{name}: the transfer broke off: try again") from None


def _shown(
    folder: Path, request: app_jobs.Request, state: app_jobs.State, waiting: list[Path]
) -> dict[str, Any]:
    """Return a job as a browser sees it."""
    hidden = ("owner", "beats", "created_ns")
    known = {name: value for name, value in asdict(request).items() if name not in hidden}
    return (
        known
        | asdict(state)
        | {
            "id": folder.name,
            "ahead": waiting.index(folder) if folder in waiting else 0,
            "own_beats": request.beats is not None,
        }
    )


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadRequest(400, f"{text[:40]!r} is not a whole number") from None


def _busy(error: QueueFullError) -> Response:
    answer = refuse(503, str(error))
    answer.headers["Retry-After"] = "60"
    return answer


def _json(value: Any, status: int = 200) -> Response:
    return JSONResponse(value, status, headers={"Cache-Control": "no-store"})
