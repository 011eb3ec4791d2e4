"""Keep the jobs of ``opendance app`` as folders on disk: a song, what was asked, how far it is, and the dance.

``jobs/ID`` has ``song`` (as it was sent), ``request.json``, ``state.json``, and once it is danced ``dance.npz``,
the page of the stage (:func:`stage_file`) and ``exports/``. A job appears and changes by one rename each, so a server that was killed finds whole files when it
starts again. Names of users are texts in ``request.json``, never paths.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self

import opendance_hf
from opendance_hf.apps.generate import PACKAGED_DANCERS
from opendance_hf.errors import OpenDanceError
from opendance_hf.files import atomic_write

#: Number of takes that are danced, by the name of the energy, and which of them is kept, sorted by their mean joint speed.
ENERGIES: Final[dict[str, tuple[int, int]]] = {"calm": (4, 0), "normal": (1, 0), "lively": (4, -1)}
#: Shortest song or part of one, seconds.
MIN_SECONDS: Final = 2.0
_ID: Final = re.compile(r"[A-Za-z0-9_-]{22}")
_MAX_NAME: Final = 120
_MAX_SEED: Final = 2**31 - 1
_BEATS: Final = (4, 8000)
_GIB: Final = 1024**3
#: Shortest time between two beats, seconds: three frames of a dance.
_MIN_BEAT_S: Final = 0.05
#: Limits of one visitor of an open site: songs being sent, dances that wait, and the share of the space of all.
_OWN_SENT: Final = 2
_OWN_WAITING: Final = 5
_OWN_SPACE: Final = 0.2
#: A job may be made or deleted for so long.
_NEW_S: Final = 600.0


log = logging.getLogger(__name__)


class JobError(OpenDanceError, ValueError):
    """Raised for a request that cannot be fulfilled; the message has the cause and the remedy."""


class QueueFullError(JobError):
    """Raised if too many jobs wait."""


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        max_seconds: longest song.
        max_mb: largest file, MB.
        max_queue: jobs that may wait, songs that are being sent included.
        keep_hours: how long a job is kept after it has finished.
        max_gb: size of all jobs together, GiB; beyond it, the oldest finished ones of the owner with most are deleted.
    """

    max_seconds: float = 600.0
    max_mb: float = 100.0
    max_queue: int = 20
    keep_hours: float = 24.0
    max_gb: float = 5.0

    @property
    def max_bytes(self) -> int:
        """Size of the largest file."""
        return round(self.max_mb * 1e6)


@dataclass(frozen=True)
class Request:
    """A dance that somebody asked for: the song and the options.

    Attributes:
        name: of the song, as shown.
        dancers: 1 or 2.
        seed: of all draws; the next one is another take.
        energy: one of :data:`ENERGIES`.
        start_s: where the dance begins in the song.
        end_s: where it ends; None for the end of the song.
        beats: times of the beats in the song, seconds; None for those that are tracked.
        seconds: length of the song.
        owner: who may see it; empty for everyone who is let in.
        created_ns: time of the request, for the order of the queue.
    """

    name: str
    dancers: int = 1
    seed: int = 0
    energy: str = "normal"
    start_s: float = 0.0
    end_s: float | None = None
    beats: tuple[float, ...] | None = None
    seconds: float = 0.0
    owner: str = ""
    created_ns: int = 0

    def changed(self, asked: Mapping[str, Any]) -> Self:
        """Return a copy with what a browser asks for: ``dancers``, ``seed``, ``energy``, ``start_s``, ``end_s``, ``beats``.

        Raises:
            JobError: naming the field, what was found and what was expected.
        """
        allowed = ("dancers", "seed", "energy", "start_s", "end_s", "beats")
        if unknown := sorted(set(asked) - set(allowed)):
            raise JobError(f"unknown field {unknown[0][:40]!r}: expected {', '.join(allowed)}")
        new = replace(self, **asked)
        if type(new.dancers) is not int or new.dancers not in PACKAGED_DANCERS:
            raise JobError(f"{new.dancers!r:.40} dancers: expected {' or '.join(map(str, PACKAGED_DANCERS))}")
        if type(new.seed) is not int or not 0 <= new.seed <= _MAX_SEED:
            raise JobError(f"seed {new.seed!r:.40}: expected a number from 0 to {_MAX_SEED}")
        if not isinstance(new.energy, str) or new.energy not in ENERGIES:
            raise JobError(f"energy {new.energy!r:.40}: expected {', '.join(ENERGIES)}")
        end_s = self.seconds if new.end_s is None else new.end_s
        if not all(_is_time(time_s) for time_s in (new.start_s, end_s)):
            raise JobError(f"start {new.start_s!r:.40} and end {end_s!r:.40}: expected seconds")
        if new.start_s < 0 or end_s > self.seconds + 0.05 or end_s - new.start_s < MIN_SECONDS:
            raise JobError(
                f"the part from {new.start_s:g} to {end_s:g} s: expected at least {MIN_SECONDS:g} s within the "
                f"{self.seconds:.1f} s of the song"
            )
        return replace(new, beats=_checked_beats(new.beats, new.start_s, end_s))


@dataclass(frozen=True)
class State:
    """How far a job is.

    Attributes:
        status: ``queued``, ``working``, ``done`` or ``failed``.
        step: what is being done, or the cause and the remedy of the failure.
        share: done of it, 0 to 1.
        bpm: tempo of the beats, once it is done.
    """

    status: str = "queued"
    step: str = ""
    share: float = 0.0
    bpm: float = 0.0

    @property
    def is_open(self) -> bool:
        """True while the job waits or is danced."""
        return self.status in ("queued", "working")


#: Folder, request and state of a job; and the inode and the time of change of its ``state.json``.
Job = tuple[Path, Request, State]
Version = tuple[int, int]


@dataclass
class Jobs:
    """The jobs of a folder, which belongs to one server at a time.

    Raises:
        OSError: if the folder cannot be written.
    """

    folder: Path
    limits: Limits = field(default_factory=Limits)
    _known: dict[Path, tuple[Version, Job]] = field(default_factory=dict)
    _unwritten: dict[Path, State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self._jobs, self.uploads):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o700)
        for left in self.uploads.iterdir():
            left.unlink()

    @property
    def _jobs(self) -> Path:
        return self.folder / "jobs"

    @property
    def uploads(self) -> Path:
        """Folder of songs that are being sent."""
        return self.folder / "uploads"

    def add(self, song: Path, request: Request, *, keep_song: bool = False) -> str:
        """Make a job of a song, which moves into it, or is linked with ``keep_song``; return its id.

        Raises:
            QueueFullError: if too many wait.
        """
        self.check_queue(request.owner)
        name = secrets.token_urlsafe(16)
        partial = self._jobs / f".{name}"
        partial.mkdir(mode=0o700)
        try:
            if keep_song:
                os.link(song, partial / "song")
            else:
                os.replace(song, partial / "song")
            _write_json(partial / "request.json", asdict(replace(request, created_ns=time.time_ns())))
            _write_json(partial / "state.json", asdict(State()))
            os.replace(partial, self._jobs / name)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return name

    def check_queue(self, owner: str, sent: Collection[str] = ()) -> None:
        """Refuse another job if too many wait, of all or of one visitor of an open site.

        Args:
            owner: of the job; empty if the site is not open.
            sent: owners of the songs that are being sent.

        Raises:
            QueueFullError: saying how many.
        """
        owners = [request.owner for _, request, state in self.all() if state.is_open]
        waiting = len(owners) + len(sent)
        if waiting >= self.limits.max_queue:
            coming = f", of which {len(sent)} songs are being sent" if sent else ""
            raise QueueFullError(
                f"{waiting} dances wait{coming}, which is all that this server takes: try again in a few minutes"
            )
        own_sent = list(sent).count(owner)
        if owner and own_sent >= _OWN_SENT:
            raise QueueFullError(f"{own_sent} songs of yours are being sent: wait until one is complete")
        own = owners.count(owner) + own_sent
        if owner and own >= _OWN_WAITING:
            raise QueueFullError(f"{own} dances of yours wait: try again when one is finished")

    def find(self, name: str, owner: str) -> Job | None:
        """Return a job, or None if there is none of this owner."""
        job = self._read(self._jobs / name) if _ID.fullmatch(name) else None
        return None if job is None or job[1].owner != owner else job

    def all(self) -> list[Job]:
        """Return all jobs in the order in which they came."""
        found = (
            self._read(Path(entry.path)) for entry in os.scandir(self._jobs) if _ID.fullmatch(entry.name)
        )
        return sorted(filter(None, found), key=lambda job: job[1].created_ns)

    def unfinished(self) -> list[Path]:
        """Return the jobs that wait or are danced, the next first."""
        return [folder for folder, _, state in self.all() if state.is_open]

    def fail(self, folder: Path, reason: str) -> None:
        """Write that a job has failed. On a full disk this is kept in memory, and the job begins anew at the next start."""
        state = State("failed", reason)
        try:
            write_state(folder, state)
        except OSError as error:
            log.error("%s", error)
            self._unwritten[folder] = state

    def _read(self, folder: Path) -> Job | None:
        """Read a job, unless it is known and has not changed; None if it was deleted, or the disk has lost a part of it."""
        try:
            found = os.stat(folder / "state.json")
            version = found.st_ino, found.st_mtime_ns
            known = self._known.get(folder)
            if known is None or known[0] != version:
                request = read_request(folder) if known is None else known[1][1]
                known = self._known[folder] = version, (folder, request, read_state(folder))
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
            self._known.pop(folder, None)
            return None
        _, request, state = known[1]
        return folder, request, self._unwritten.get(folder, state)

    def delete(self, folder: Path) -> None:
        """Delete a job, all at once for everyone who looks."""
        self._known.pop(folder, None)
        self._unwritten.pop(folder, None)
        gone = folder.with_name(f".{folder.name}")
        with contextlib.suppress(FileNotFoundError):
            os.replace(folder, gone)
        shutil.rmtree(gone, ignore_errors=True)

    def tidy(self) -> None:
        """Delete what is left of broken jobs, finished jobs that are too old, and those beyond the limits of size.

        Beyond the size of all, the oldest of the owner with most bytes goes first, so one visitor cannot push out the others'.
        A visitor of an open site has a fifth of that size at most.
        """
        folders = list(self._jobs.iterdir())
        jobs = self.all()
        known = {folder for folder, _, _ in jobs}
        for folder in folders:
            if folder not in known and not (folder.name.startswith(".") and _age_s(folder) < _NEW_S):
                shutil.rmtree(folder, ignore_errors=True)
        sizes = {folder: _size(folder) for folder, _, _ in jobs}
        owned: dict[str, int] = defaultdict(int)
        finished: dict[str, list[Path]] = defaultdict(list)
        for folder, request, state in jobs:
            if not state.is_open and _age_s(folder / "state.json") > 3600 * self.limits.keep_hours:
                self.delete(folder)
                continue
            owned[request.owner] += sizes[folder]
            if not state.is_open:
                finished[request.owner].append(folder)
        most = self.limits.max_gb * _GIB
        while finished:
            owner = max(finished, key=lambda one: owned[one])
            if sum(owned.values()) <= most and not (owner and owned[owner] > _OWN_SPACE * most):
                break
            folder = finished[owner].pop(0)
            self.delete(folder)
            owned[owner] -= sizes[folder]
            if not finished[owner]:
                del finished[owner]


def _age_s(path: Path) -> float:
    """Return the time since a file or folder changed, seconds; 0 if it was deleted meanwhile."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def read_request(folder: Path) -> Request:
    """Read what a job was asked."""
    found = _read_json(folder / "request.json")
    return Request(**found | {"beats": None if found["beats"] is None else tuple(found["beats"])})


def read_state(folder: Path) -> State:
    """Read how far a job is."""
    return State(**_read_json(folder / "state.json"))


def write_state(folder: Path, state: State) -> None:
    """Write how far a job is; a job that was deleted stays deleted."""
    if folder.is_dir():
        _write_json(folder / "state.json", asdict(state))


def stage_file(folder: Path) -> Path:
    """Return the page of the stage of a job, whose name tells the version of its scripts: other versions need another page."""
    return folder / f"stage-{_stage_version()}.html"


@cache
def _stage_version() -> str:
    """Return a hash of the version of the package, the templates and the scripts that the page works with."""
    digest = hashlib.sha256(opendance_hf.__version__.encode())
    apps = Path(__file__).parent
    for file in sorted([*apps.glob("static/app/*"), *apps.glob("static/view/*"), *apps.glob("templates/*")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def song_name(text: str) -> str:
    """Return the name of a song to show, of the name of its file: one line of printable text."""
    name = re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in text)).strip()
    return name[:_MAX_NAME] or "song"


def _checked_beats(beats: Any, start_s: float, end_s: float) -> tuple[float, ...] | None:
    if beats is None:
        return None
    least, most = _BEATS
    if not isinstance(beats, list | tuple) or not all(_is_time(time_s) for time_s in beats):
        raise JobError(f"beats {beats!r:.40}: expected a list of seconds, or none for the tracked ones")
    if not least <= len(beats) <= most:
        raise JobError(f"{len(beats)} beats: expected {least} to {most}; tap a few more")
    if any(later <= earlier for earlier, later in pairwise(beats)):
        raise JobError("the beats are not in order: expected increasing seconds")
    if (step_s := min(later - earlier for earlier, later in pairwise(beats))) < _MIN_BEAT_S:
        raise JobError(f"beats {step_s:.3f} s apart: expected at least {_MIN_BEAT_S:g} s; halve them")
    if (inside := sum(start_s <= time_s <= end_s for time_s in beats)) < least:
        raise JobError(
            f"{inside} beats from {start_s:g} to {end_s:g} s: expected at least {least}; tap a few in this part"
        )
    return tuple(map(float, beats))


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e6 < value < 1e6


def _size(folder: Path) -> int:
    """Return the bytes of a folder; a song that several jobs share by links counts for its share."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            found = path.lstat()
            total += found.st_size // max(1, found.st_nlink)
    return total


def _read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(value), encoding="utf-8")
