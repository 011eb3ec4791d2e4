"""The queue of ``opendance app``: songs are checked, danced to, and written in other formats, one at a time each.

The work is done in the processes of :mod:`opendance_hf.apps.app_worker`; what is to be done, and what was, lies on disk
(:mod:`opendance_hf.apps.app_jobs`).
"""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from opendance_hf.apps import app_jobs, app_worker
from opendance_hf.apps.app_jobs import Jobs, QueueFullError
from opendance_hf.apps.app_worker import DISK_FULL, FILM, Worker
from opendance_hf.apps.export import suffix_of, writable
from opendance_hf.disk import check_room
from opendance_hf.errors import OpenDanceError

#: Time limits, seconds: to check a song (for each second that it may have, too), to dance to it, to write a file of it.
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
                self.jobs.fail(folder, reason_of(folder, error))
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
                    self._exporting[folder.name, kind] = reason_of(folder, error)


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


def reason_of(folder: Path, error: Exception) -> str:
    """Return the message of an error for users, without the paths of this machine; faults of ours go to the log."""
    if isinstance(error, OSError):
        log.error("%s", error)
        return DISK_FULL
    if not isinstance(error, OpenDanceError):
        log.error("unexpected", exc_info=error)
        return f"an unexpected fault ({type(error).__name__}), which the log of the server has: try again"
    message = str(error)
    return re.sub(rf"{re.escape(str(folder))}(?:/[\w.-]+)*/", "", message).replace(str(folder), "the dance")
