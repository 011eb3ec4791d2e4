"""Serve the web site of ``opendance app``: a song comes in, waits, is danced to, and is seen on a stage.

All state is in the folders of :mod:`opendance_hf.apps.app_jobs`, so the server can be killed at any time; what reads them runs in
threads, never in the event loop. The work is done one at a time in the processes of :mod:`opendance_hf.apps.app_worker`. Access is controlled as :mod:`opendance_hf.apps.serving` says: by the token
of the link, with which all share all dances; or, if the site is open, by a random cookie, with which each browser has its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import queue
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from opendance_hf.apps import app_jobs, app_worker
from opendance_hf.apps.app_jobs import (
    ENERGIES,
    MIN_SECONDS,
    Job,
    JobError,
    Jobs,
    QueueFullError,
)
from opendance_hf.apps.app_worker import DISK_FULL, FILM, Worker, file_stem
from opendance_hf.apps.export import missing_for, suffix_of, writable
from opendance_hf.apps.serving import BadRequest, Door, Guard, read_json, refuse, set_cookie
from opendance_hf.disk import DiskError, check_room
from opendance_hf.errors import OpenDanceError

_STATIC: Final = Path(__file__).with_name("static")
#: Of a song with 8,000 beats.
_MAX_CHANGES_BYTES: Final = 256_000
#: Time limits, seconds: to send a song and each piece of it, to check it (for each second that it may have, too), to dance to it, to
#: write a file of it.
_SEND_S: Final = 900.0
_PIECE_S: Final = 30.0
_CHECK_S: Final = 30.0
_CHECK_SHARE: Final = 0.05
_DANCE_S: Final = 1800.0
_EXPORT_S: Final = 1800.0
#: Memory of a process, bytes. Measured: 0.2 GB (0.7 GB of address space) for a check, 1.1 GB for a dance.
_CHECK_BYTES: Final = 2_000_000_000
_WORK_BYTES: Final = 4_000_000_000
#: Between two looks for jobs to delete.
_TIDY_S: Final = 60.0
#: Files that wait to be written, and pages that are made.
_MAX_EXPORTS: Final = 20
_MAX_PAGES: Final = 8
_GONE: Final = "This dance does not exist, or was deleted."

log = logging.getLogger(__name__)


@dataclass
class Desk:
    """The queue: a thread that has jobs danced, and one that has their files written.

    Attributes:
        jobs: on disk.
        uploads: owner of each song that is being sent, by its file.
        dancer: process that dances.
        checker: process that checks songs, and makes pages of dances that a version before has made.
        exporter: process that writes files.
    """

    jobs: Jobs
    uploads: dict[Path, str] = field(default_factory=dict)
    dancer: Worker = field(default_factory=lambda: Worker(_DANCE_S, _WORK_BYTES))
    checker: Worker = field(default_factory=lambda: Worker(_CHECK_S, _CHECK_BYTES, _CHECK_BYTES))
    exporter: Worker = field(default_factory=lambda: Worker(_EXPORT_S, _WORK_BYTES))
    _come: threading.Event = field(default_factory=threading.Event)
    _stopped: bool = False
    _tidy_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _queue: threading.Lock = field(default_factory=threading.Lock)
    _pages: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_MAX_PAGES))
    _at_work: Path | None = None
    _exports: queue.Queue[tuple[Path, str] | None] = field(default_factory=queue.Queue)
    _exporting: dict[tuple[str, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.checker.limit_s = max(self.checker.limit_s, _CHECK_SHARE * self.jobs.limits.max_seconds)

    def start(self) -> None:
        """Start to work, with what a server before left unfinished."""
        for work in (self._dance_all, self._export_all):
            threading.Thread(target=work, daemon=True).start()

    def stop(self) -> None:
        """Stop; what is unfinished stays queued."""
        self._stopped = True
        self._come.set()
        self._exports.put(None)
        for worker in (self.dancer, self.checker, self.exporter):
            worker.kill()

    def check(self, song: Path) -> float:
        """Return the length of a song; see :func:`opendance_hf.apps.app_worker.check_song`."""
        seconds: float = self.checker.run(app_worker.check_song, song, self.jobs.limits.max_seconds)
        return seconds

    def admit(self, owner: str) -> Path:
        """Return the path of a song to send, which has a place in the queue until :meth:`release`.

        Raises:
            QueueFullError: if there is none.
            DiskError: if the disk has no room for it beside those that are being sent.
        """
        with self._queue:
            self.jobs.check_queue(owner, self.uploads.values())
            need = (len(self.uploads) + 2) * self.jobs.limits.max_bytes
            check_room(self.jobs.uploads, need, option="--folder")
            path = self.jobs.uploads / secrets.token_hex(16)
            self.uploads[path] = owner
        return path

    def release(self, path: Path) -> None:
        """Delete a song that was sent, unless it has become a job, and give up its place in the queue."""
        with self._queue:
            self.uploads.pop(path, None)
        path.unlink(missing_ok=True)

    def add(self, song: Path, request: app_jobs.Request, *, keep_song: bool = False) -> str:
        """Add a job to the queue, in the place of its upload; see :meth:`opendance_hf.apps.app_jobs.Jobs.add`."""
        with self._queue:
            name = self.jobs.add(song, request, keep_song=keep_song)
            self.uploads.pop(song, None)
        self._come.set()
        return name

    def page(self, folder: Path) -> Path | None:
        """Return the page of the stage of a dance, None if there is no dance; one of another version is made again.

        Raises:
            QueueFullError: if too many pages are being made.
            OpenDanceError: if the dance cannot be shown.
        """
        page = app_jobs.stage_file(folder)
        if page.is_file():
            return page
        if not (folder / "dance.npz").is_file():
            return None
        if not self._pages.acquire(blocking=False):  # each keeps a thread of the server waiting
            raise QueueFullError("many dances are being opened: try again in a minute")
        try:
            self.checker.run(app_worker.make_page, folder)
        finally:
            self._pages.release()
        return page

    def delete(self, folder: Path) -> None:
        """Delete a job, and stop the work on it."""
        with self._lock:
            if folder == self._at_work:
                self.dancer.kill()
        self.jobs.delete(folder)
        for key in [key for key in list(self._exporting) if key[0] == folder.name]:
            self._exporting.pop(key, None)

    def export(self, folder: Path, kind: str) -> None:
        """Have a file of a dance written, unless it is there or waits.

        Raises:
            QueueFullError: if too many wait.
        """
        key = (folder.name, kind)
        if exported(folder, kind) is not None or self._exporting.get(key) == "":
            return
        if self._exports.qsize() >= _MAX_EXPORTS:
            raise QueueFullError(f"{_MAX_EXPORTS} files wait to be written: try again in a few minutes")
        self._exporting[key] = ""
        self._exports.put((folder, kind))

    def exports(self, folder: Path) -> dict[str, str]:
        """Return the state of the files of a job by format: ``ready``, ``working``, or why there is none."""
        ready = {kind: "ready" for kind in kinds() if exported(folder, kind)}
        others = {
            kind: said or "working"
            for (name, kind), said in list(self._exporting.items())
            if name == folder.name
        }
        return others | ready

    def _dance_all(self) -> None:
        _prepare(self.dancer, app_worker.load_dancer)
        while not self._stopped:
            self._come.clear()
            try:
                waiting = self._tidied()
                if waiting:
                    self._dance(waiting[0])
                else:
                    self._come.wait(_TIDY_S)
            except Exception as error:  # a broken disk, for example; the queue goes on when it can be read
                log.error("the queue", exc_info=error)
                self._come.wait(_TIDY_S)

    def _tidied(self) -> list[Path]:
        """Return the jobs that wait; from time to time, delete those that are too old or too many before."""
        if time.monotonic() - self._tidy_s > _TIDY_S:
            self._tidy_s = time.monotonic()
            self.jobs.tidy()
        return self.jobs.unfinished()

    def _dance(self, folder: Path) -> None:
        with self._lock:
            self._at_work = folder
        try:
            self.dancer.run(app_worker.dance, folder)
        except Exception as error:
            if not self._stopped:
                self.jobs.fail(folder, _reason(folder, error))
        finally:
            with self._lock:
                self._at_work = None

    def _export_all(self) -> None:
        _prepare(self.checker, app_worker.load_decoder)
        while (task := self._exports.get()) is not None:
            folder, kind = task
            try:
                self.exporter.run(app_worker.export, folder, kind)
                self._exporting.pop((folder.name, kind), None)
            except Exception as error:
                if (folder.name, kind) in self._exporting:  # else the job was deleted
                    self._exporting[folder.name, kind] = _reason(folder, error)


def _prepare(worker: Worker, load: Callable[[], None]) -> None:
    """Start a process before its first work, which then need not wait; a failure is that of the first work, too."""
    with contextlib.suppress(Exception):
        worker.run(load)


def kinds() -> dict[str, str]:
    """Return the files that a dance can be written as, by format: their suffix."""
    return {FILM: ".mp4", **{name: suffix_of(name) for name in writable()}}


def exported(folder: Path, kind: str) -> Path | None:
    """Return the file of a format that was written for a job."""
    return next((folder / "exports").glob(f"{kind}.*"), None)


def _reason(folder: Path, error: Exception) -> str:
    """Return the message of an error for users, without the paths of this machine; faults of ours go to the log."""
    if isinstance(error, OSError):
        log.error("%s", error)
        return DISK_FULL
    if not isinstance(error, OpenDanceError):
        log.error("unexpected", exc_info=error)
        return f"an unexpected fault ({type(error).__name__}), which the log of the server has: try again"
    message = str(error)
    return re.sub(rf"{re.escape(str(folder))}(?:/[\w.-]+)*/", "", message).replace(str(folder), "the dance")


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
            return refuse(500, f"The page of this dance cannot be made: {_reason(folder, error)}")
        if page is None:
            return RedirectResponse("/", 303)
        policy = self.door.address.policy(img="blob: data:", media="blob:")
        headers = {"Cache-Control": "no-store", "Content-Security-Policy": policy}
        return FileResponse(page, media_type="text/html", headers=headers)

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
        return FileResponse(path, filename=name, headers={"Cache-Control": "no-store"})


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
