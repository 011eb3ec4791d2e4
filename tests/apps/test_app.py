"""The app over real HTTP and in a real browser: songs come in, wait, are danced to, and are kept from strangers."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import av
import numpy as np
import psutil
import pytest
import soundfile
import yaml
from rich.console import Console

pytest.importorskip("starlette")
uvicorn = pytest.importorskip("uvicorn")

from opendance_hf.apps import app_desk, app_jobs, app_server, app_space, app_worker  # noqa: E402
from opendance_hf.apps.app import AppError, AppOptions, run_app  # noqa: E402
from opendance_hf.apps.app_desk import Desk, exported, kinds  # noqa: E402
from opendance_hf.apps.app_jobs import (  # noqa: E402
    JobError,
    Jobs,
    Limits,
    QueueFullError,
    Request,
    State,
    song_name,
    stage_file,
    write_state,
)
from opendance_hf.apps.app_server import make_app  # noqa: E402
from opendance_hf.apps.app_space import PORT, write_space  # noqa: E402
from opendance_hf.apps.app_worker import Worker, WorkerError, dance_to, file_stem  # noqa: E402
from opendance_hf.apps.export import writable  # noqa: E402
from opendance_hf.apps.serving import Address, Door, ServerError, listen  # noqa: E402
from opendance_hf.assets import packaged_weights  # noqa: E402
from opendance_hf.dance import Dancer  # noqa: E402
from opendance_hf.formats import opendance  # noqa: E402
from opendance_hf.formats.glb import read as read_glb  # noqa: E402
from opendance_hf.metrics import joint_speed  # noqa: E402
from opendance_hf.motion.body import forward_kinematics  # noqa: E402
from tests.apps.chromium import DESKTOP, PHONE, SOFTWARE_WEBGL, Chromium, Page, axe, find_chromium  # noqa: E402
from tests.apps.client import Client  # noqa: E402
from tests.training.media import write_song  # noqa: E402

BYTES = "application/octet-stream"


def send(client: Client, file: Path | bytes, name: str = "song.wav", **asked: Any) -> tuple[int, Any]:
    """Send a song; return the status and the answer."""
    data = file if isinstance(file, bytes) else file.read_bytes()
    path = f"/api/songs?{urlencode({'name': name, **asked})}"
    status, _, content = client.ask("POST", path, data, Content_Type=BYTES)
    return status, json.loads(content)


def get(client: Client, path: str) -> Any:
    status, _, content = client.ask("GET", path)
    assert status == 200, content
    return json.loads(content)


def wait_for(client: Client, job: str, seconds: float = 90) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while (found := get(client, f"/api/jobs/{job}"))["status"] not in ("done", "failed"):
        assert time.monotonic() < end, found
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_song(tmp_path_factory.mktemp("song") / "song.wav", 4.0)


# The server without a dancer: what comes in, and who.


class Blocked:
    """A worker that waits for a signal instead of dancing."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.killed = False
        self.done: list[str] = []

    def run(self, work: Callable[..., Any], *arguments: Any) -> None:
        if work is not app_worker.dance:
            return
        (folder,) = arguments
        write_state(folder, State("working"))
        self.go.wait()
        if self.killed:
            self.killed = False
            self.go.clear()
            raise WorkerError("killed")
        self.done.append(folder.name)
        write_state(folder, State("done"))

    def kill(self) -> None:
        self.killed = True
        self.go.set()


class Here(Worker):
    """A worker without a process of its own, which need not start."""

    def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)


@dataclass
class Running:
    desk: Desk
    door: Door
    port: int
    dancer: Blocked
    folder: Path

    @property
    def stranger(self) -> Client:
        return Client(self.port)

    @property
    def guest(self) -> Client:
        return self.stranger.login(self.door.token or "")

    def left(self) -> list[str]:
        """Return what lies in the folder."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[tuple[Any, threading.Thread]] = []

    def begin(
        limits: Limits | None = None,
        address: Address | None = None,
        open_: bool = False,
        checker: Worker | None = None,
    ) -> Running:
        dancer, folder, address = Blocked(), tmp_path / "app", address or Address()
        jobs = Jobs(folder, limits or Limits())
        desk = Desk(jobs, dancer=dancer, checker=checker or Here(1), exporter=Here(1))  # type: ignore[arg-type]
        door = Door(address, "app", None) if open_ else Door(address, "app")
        sock = listen(address, 0)
        server = uvicorn.Server(uvicorn.Config(make_app(desk, door), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        running.append((server, thread))
        return Running(desk, door, sock.getsockname()[1], dancer, folder)

    yield begin
    for server, thread in running:
        server.should_exit = True
        thread.join(10)


def test_ten_songs_at_once_wait_in_order_and_the_eleventh_is_refused(start: Start, song: Path) -> None:
    app = start(Limits(max_queue=10))
    guest, answers = app.guest, list[tuple[int, Any]]()
    threads = [
        threading.Thread(target=lambda n=n: answers.append(send(guest, song, f"{n}.wav"))) for n in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [status for status, _ in answers] == [201] * 10
    jobs = get(guest, "/api/jobs")["jobs"]
    assert sorted(job["ahead"] for job in jobs) == list(range(10))
    assert {job["name"] for job in jobs} == {f"{n}.wav" for n in range(10)}
    status, headers, content = guest.ask("POST", "/api/songs?name=late.wav", b"x", Content_Type=BYTES)
    assert (status, headers["retry-after"]) == (503, "60")
    assert "10 dances wait, which is all" in json.loads(content)["error"]
    one = jobs[0]["id"]
    assert guest.post(f"/api/jobs/{one}/again", {"seed": 1})[0] == 503
    app.dancer.go.set()
    for job in jobs:
        assert wait_for(guest, job["id"])["status"] == "done"
    assert app.dancer.done == [job["id"] for job in reversed(jobs)], "first come, first danced"
    app.desk.stop()
    again = start()
    assert len(get(again.guest, "/api/jobs")["jobs"]) == 10
    assert again.desk.jobs.unfinished() == [], "their pages are made when somebody asks for them"


def test_a_dance_that_is_deleted_makes_room_and_one_that_fails_says_why(start: Start, song: Path) -> None:
    app = start()
    guest = app.guest
    first, second, third = (send(guest, song, f"{n}.wav")[1]["id"] for n in range(3))
    while get(guest, f"/api/jobs/{first}")["status"] != "working":
        time.sleep(0.01)
    assert guest.post(f"/api/jobs/{first}/delete", {})[0] == 200
    while get(guest, f"/api/jobs/{second}")["status"] != "working":
        time.sleep(0.01)
    assert guest.ask("GET", f"/api/jobs/{first}")[0] == 404
    app.dancer.kill()  # as if it had crashed
    assert (wait_for(guest, second)["status"], wait_for(guest, second)["step"]) == ("failed", "killed")
    app.dancer.go.set()
    assert wait_for(guest, third)["status"] == "done"
    # There is no dance to write: the reason has no path of this machine.
    assert guest.post(f"/api/jobs/{second}/files/glb", {})[0] == 409
    assert guest.post(f"/api/jobs/{third}/files/wav", {})[0] == 404
    assert guest.post(f"/api/jobs/{third}/files/glb", {})[0] == 202
    for _ in range(200):
        states = {file["kind"]: file["state"] for file in get(guest, f"/api/jobs/{third}")["files"]}
        if states["glb"] != "working":
            break
        time.sleep(0.02)
    assert states["glb"] == "dance.npz: no such file, folder or dataset"
    assert guest.ask("GET", f"/files/{third}/glb")[0] == 404


def bad_files(folder: Path) -> dict[str, bytes]:
    """Files that are not songs."""
    soundfile.write(folder / "silent.wav", np.zeros(5 * 22_050), 22_050)
    write_song(folder / "short.wav", 0.8)
    write_song(folder / "long.wav", 21.0, rate=8000)
    with av.open(str(folder / "mute.mp4"), "w") as video:
        stream = video.add_stream("mpeg4", 25)
        stream.width = stream.height = 32  # type: ignore[attr-defined]
        for _ in range(60):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            video.mux(stream.encode(frame))  # type: ignore[attr-defined]
        video.mux(stream.encode())  # type: ignore[attr-defined]
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return files | {"notes.mp3": b"These are my notes.\n" * 99, "empty.mp3": b""}


def test_what_is_not_a_song_is_refused_by_name_and_leaves_nothing(start: Start, tmp_path: Path) -> None:
    app = start(Limits(max_seconds=20, max_mb=1), checker=Worker(60))
    guest = app.guest
    (tmp_path / "bad").mkdir()
    expected = {
        "silent.wav": ("silent", "choose a file with music"),
        "short.wav": ("0.80 s", "at least 2 s"),
        "long.wav": ("longer than 20 s", "cut it"),
        "mute.mp4": ("no audio track", "use a file with sound"),
        "notes.mp3": ("cannot be decoded as audio", "check that it plays"),
        "empty.mp3": ("empty", "choose it again"),
    }
    files = bad_files(tmp_path / "bad")
    assert files.keys() == expected.keys()
    for name, content in files.items():
        status, answer = send(guest, content, name)
        assert status == 422, (name, answer)
        assert answer["error"].startswith(f"{name}: ")
        for words in expected[name]:
            assert words in answer["error"]
        assert str(tmp_path) not in answer["error"]
        assert app.left() == []


def test_large_files_are_refused_before_and_while_they_come(start: Start) -> None:
    app = start(Limits(max_mb=1))
    guest = app.guest
    # 500 MB are announced: refused before they are sent.
    connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=20)
    head = {"Cookie": guest.cookie, "Content-Type": BYTES}
    connection.putrequest("POST", "/api/songs?name=long+film.mp4")
    for name, value in (head | {"Content-Length": str(500_000_000)}).items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    said = json.loads(answer.read())["error"]
    assert answer.status == 413
    assert "long film.mp4: larger than 1 MB" in said
    assert "send the sound alone" in said
    connection.close()
    # Nobody says how many come: refused at the limit.
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 500_000_000:
            sent += 100_000
            yield bytes(100_000)

    connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=20)
    connection.putrequest("POST", "/api/songs?name=x.mp3")
    for name, value in (head | {"Transfer-Encoding": "chunked"}).items():
        connection.putheader(name, value)
    connection.endheaders()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the server has closed its end
        for piece in endless():
            connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            if select.select([connection.sock], [], [], 0)[0]:
                break
    assert sent < 100_000_000
    answer = connection.getresponse()
    assert answer.status == 413
    assert "larger than 1 MB" in json.loads(answer.read())["error"]
    connection.close()
    for _ in range(100):
        if not list((app.folder / "uploads").iterdir()):
            break
        time.sleep(0.05)
    assert app.left() == []
    assert app.desk.uploads == {}


def test_a_transfer_that_breaks_off_leaves_nothing(start: Start, song: Path) -> None:
    app = start()
    head = f"POST /api/songs?name=a HTTP/1.1\r\nHost: 127.0.0.1:{app.port}\r\nCookie: {app.guest.cookie}\r\n"
    with socket.create_connection(("127.0.0.1", app.port)) as line:
        line.sendall(f"{head}Content-Type: {BYTES}\r\nContent-Length: 99999\r\n\r\n".encode() + bytes(999))
        while not list((app.folder / "uploads").iterdir()):
            time.sleep(0.01)
    for _ in range(100):
        if not app.left():
            break
        time.sleep(0.05)
    assert app.left() == []
    assert send(app.guest, song)[0] == 201


EVERYTHING = [
    ("GET", "/api/about"), ("GET", "/api/jobs"), ("GET", "/api/jobs/{id}"), ("POST", "/api/songs?name=a"),
    ("POST", "/api/jobs/{id}/again"), ("POST", "/api/jobs/{id}/delete"), ("POST", "/api/jobs/{id}/files/glb"),
    ("GET", "/files/{id}/glb"), ("GET", "/dance/{id}"),
]  # fmt: skip


def test_strangers_get_nothing_and_no_path_leads_out(start: Start, song: Path) -> None:
    app = start()
    status, answer = send(app.guest, song, "../../../etc/passwd")
    assert status == 201
    job = answer["id"]
    (app.folder / "secret").write_text("not for you")
    stage_file(app.folder / "jobs" / job).write_text("the stage")
    for method, path in EVERYTHING:
        for cookie in ("", "app=", "app=wrong", f"app={app.door.token}x", f"other={app.door.token}"):
            client = Client(app.port, cookie)
            status, _, content = client.ask(method, path.format(id=job), {} if method == "POST" else None)
            assert status == (303 if path.startswith("/dance") else 401), (path, content)
            assert b"stage" not in content
            assert b"passwd" not in content
    for token in ("", "wrong", 5, None, "x" * 9999):
        assert app.stranger.post("/api/login", {"token": token})[0] == 401
    guest = app.guest
    assert get(guest, f"/api/jobs/{job}")["name"] == "../../../etc/passwd", "a name is a text"
    assert app.left() == [f"jobs/{job}/{name}" for name in ("request.json", "song", stage_file(Path()).name, "state.json")] + ["secret"]  # fmt: skip
    up = (
        "..",
        "%2e%2e",
        "..%2f..",
        "..%2f..%2fsecret",
        "../secret",
        ".",
        job[:-1],
        f".{job}",
        "a" * 22,
        f"{job}%00",
    )
    for name in up:
        for method, path in EVERYTHING:
            if "{id}" in path:
                body = {} if method == "POST" else None
                status, headers, content = guest.ask(method, path.format(id=name), body)
                # A path without a name is that of another page.
                assert status in (303, 404, 405) or (name == "." and status == 200), (path, name, status)
                assert headers.get("location", "/").startswith("/")
                assert b"not for you" not in content
    for path in ("/static/app/../../app.py", "/static/view/%2e%2e/%2e%2e/app.py", "/static/app/..%2f..%2fapp.py", f"/files/{job}/..%2fsong", f"/files/{job}/song"):  # fmt: skip
        assert guest.ask("GET", path)[0] == 404, path
    other = {"Origin": "https://evil.example"}
    assert guest.post(f"/api/jobs/{job}/delete", {}, **other)[0] == 403
    assert guest.ask("GET", "/api/jobs", Host="evil.example")[0] == 400
    status, headers, _ = guest.ask("GET", f"/dance/{job}")
    assert status == 200
    assert "connect-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert guest.post(f"/api/jobs/{job}/delete", {})[0] == 200
    assert app.left() == ["secret"]


def test_on_an_open_site_each_browser_has_its_own_dances(start: Start, song: Path) -> None:
    address = Address("127.0.0.1", "https://me-app.hf.space", "https://huggingface.co")
    app = start(address=address, open_=True)
    visitors = []
    for _ in range(2):
        _, headers, _ = app.stranger.ask("GET", "/")
        attributes = {part.strip().lower() for part in headers["set-cookie"].split(";")[1:]}
        assert {"httponly", "secure", "samesite=none", "partitioned"} <= attributes, (
            "sent in that site's frame"
        )
        assert "frame-ancestors https://huggingface.co" in headers["content-security-policy"]
        visitors.append(Client(app.port, headers["set-cookie"].partition(";")[0]))
    one, two = visitors
    assert "set-cookie" not in one.ask("GET", "/")[1]
    assert app.stranger.ask("GET", "/api/jobs")[0] == 401
    _, answer = send(one, song)
    assert [job["id"] for job in get(one, "/api/jobs")["jobs"]] == [answer["id"]]
    assert get(two, "/api/jobs")["jobs"] == []
    assert two.ask("GET", f"/api/jobs/{answer['id']}")[0] == 404
    assert two.post(f"/api/jobs/{answer['id']}/delete", {})[0] == 404
    kept = (app.folder / "jobs" / answer["id"] / "request.json").read_text()
    assert one.cookie.partition("=")[2] not in kept, "the disk has hashes"


# Jobs on disk.


def test_what_is_asked_is_checked_and_named() -> None:
    request = Request("song.mp3", seconds=60.0)
    for asked, words in (
        ({"dancers": 3}, ("3 dancers", "1 or 2")),
        ({"dancers": True}, ("True dancers",)),
        ({"dancers": []}, ("[] dancers",)),
        ({"dancers": 1.0}, ("1.0 dancers",)),
        ({"seed": -1}, ("seed -1", "from 0")),
        ({"seed": 0.5}, ("seed 0.5",)),
        ({"energy": "wild"}, ("energy 'wild'", "calm, normal, lively")),
        ({"energy": []}, ("energy []",)),
        ({"start_s": 59}, ("from 59 to 60 s", "at least 2 s", "60.0 s of the song")),
        ({"start_s": -1}, ("from -1",)),
        ({"end_s": 61}, ("to 61 s",)),
        ({"end_s": float("nan")}, ("end nan", "expected seconds")),
        ({"start_s": "0"}, ("start '0'",)),
        ({"start_s": 10**400}, ("expected seconds",)),
        ({"end_s": -(10**400)}, ("expected seconds",)),
        ({"beats": [1, 2, 3, 10**400]}, ("list of seconds",)),
        ({"beats": [1, 2, 3, 3.01]}, ("0.010 s apart", "at least 0.05 s")),
        ({"beats": [1, 2, 3, 4, 5], "start_s": 3}, ("3 beats from 3 to 60 s", "at least 4", "tap a few")),
        ({"beats": [1, 2, 3]}, ("3 beats", "expected 4 to 8000", "tap")),
        ({"beats": [1, 2, 4, 3]}, ("not in order",)),
        ({"beats": [1, 2, 3, float("inf")]}, ("list of seconds",)),
        ({"beats": "1234"}, ("list of seconds",)),
        ({"owner": "me"}, ("unknown field 'owner'", "dancers")),
    ):
        with pytest.raises(JobError) as caught:
            request.changed(asked)
        for word in words:
            assert word in str(caught.value)
    beats = (-0.2, 10.3, 10.8, 11.3, 11.8)
    changed = request.changed({"beats": list(beats), "start_s": 10, "end_s": 20.5, "dancers": 2})
    assert (changed.beats, changed.start_s, changed.end_s) == (beats, 10, 20.5)
    assert changed.changed({"beats": None}).beats is None
    assert song_name("  a\n\x00b\u202e.mp3 ") == "a b .mp3"
    assert file_stem("../../Ünder / ground.mp3") == "ground"
    assert file_stem("...") == "___"


def test_jobs_outlive_the_server_and_are_deleted_by_age_and_size(tmp_path: Path, song: Path) -> None:
    folder = tmp_path / "app"
    jobs = Jobs(folder, Limits(max_queue=4, keep_hours=1, max_gb=1))
    names = []
    for number in range(4):
        (jobs.uploads / "x").write_bytes(bytes(1000))
        names.append(jobs.add(jobs.uploads / "x", Request(f"{number}", seconds=5.0)))
    with pytest.raises(QueueFullError, match="4 dances wait"):
        jobs.check_queue("")
    at = {name: folder / "jobs" / name for name in names}
    write_state(at[names[0]], State("done"))
    write_state(at[names[1]], State("working"))
    (jobs.uploads / "half").write_bytes(b"half a song")
    again = Jobs(folder, jobs.limits)
    assert not list(again.uploads.iterdir())
    assert [folder.name for folder in again.unfinished()] == names[1:]
    write_state(at[names[2]], State("failed", "why"))
    (folder / "jobs" / ("b" * 22)).mkdir()
    (folder / "jobs" / ("b" * 22) / "request.json").write_text("")
    again.tidy()
    assert [job[0].name for job in again.all()] == names, "young and small"
    assert not (folder / "jobs" / ("b" * 22)).exists(), "a broken one"
    Jobs(folder, replace(jobs.limits, max_gb=4500 / 1024**3)).tidy()
    assert [job[0].name for job in again.all()] == names[1:], "the oldest that is finished"
    finished_s = time.time() - 3700
    os.utime(at[names[2]] / "state.json", (finished_s, finished_s))
    again.tidy()
    assert [job[0].name for job in again.all()] == [names[1], names[3]], "finished more than an hour ago"
    Jobs(folder, replace(jobs.limits, keep_hours=0.0)).tidy()
    assert [job[0].name for job in again.all()] == [names[1], names[3]], "all that are finished"
    assert again.find(names[1], "me") is None
    write_state(at[names[0]], State("done"))
    assert not at[names[0]].exists(), "what was deleted stays deleted"


def test_a_visitor_cannot_fill_the_queue_or_push_out_the_dances_of_others(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "app", Limits(max_gb=50_000 / 1024**3))

    def finish(owner: str, size: int) -> str:
        (jobs.uploads / "x").write_bytes(bytes(size))
        name = jobs.add(jobs.uploads / "x", Request(owner, seconds=5.0, owner=owner))
        write_state(tmp_path / "app" / "jobs" / name, State("done"))
        return name

    mine = finish("me", 9000)
    theirs = [finish("them", 4000) for _ in range(5)]
    jobs.tidy()
    assert [job[0].name for job in jobs.all()] == [mine, *theirs[-2:]], "a fifth of all, the oldest go"
    both = [finish("", 4000) for _ in range(10)]
    jobs.tidy()
    assert [job[0].name for job in jobs.all()][:3] == [mine, *theirs[-2:]]
    assert len(jobs.all()) == 3 + 7, "the oldest of the owner with most"
    assert both[-1] in {job[0].name for job in jobs.all()}
    with pytest.raises(QueueFullError, match="2 songs of yours are being sent"):
        jobs.check_queue("me", ["me", "them", "me"])
    jobs.check_queue("", [""] * 9)
    for _ in range(5):
        (jobs.uploads / "x").write_bytes(b"x")
        jobs.add(jobs.uploads / "x", Request("w", seconds=5.0, owner="me"))
    with pytest.raises(QueueFullError, match="5 dances of yours wait"):
        jobs.check_queue("me")
    jobs.check_queue("them")


def test_faults_and_full_disks_end_one_job_and_not_the_queue(
    start: Start, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = start()
    guest, dancer = app.guest, app.dancer
    full = OSError(errno.ENOSPC, "No space left on device", "/secret/place")

    def fail(*_: Any, error: Exception = full, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(dancer, "run", lambda *_: fail(error=ZeroDivisionError("b")))
        first = send(guest, song)[1]["id"]
        assert "unexpected fault (ZeroDivisionError)" in wait_for(guest, first)["step"]
        # Not even the failure can be written.
        patch.setattr(dancer, "run", fail)
        patch.setattr(app_jobs, "write_state", fail)
        second = send(guest, song)[1]["id"]
        assert "its disk is full" in wait_for(guest, second)["step"]
        patch.setattr(app_jobs, "_write_json", fail)
        status, answer = send(guest, song)
        assert status == 507
        assert "disk is full" in answer["error"]
        assert "secret" not in answer["error"]
        patch.setattr(app_desk, "check_room", fail)
        assert send(guest, song) == (status, answer)
    dancer.go.set()
    third = send(guest, song)[1]["id"]
    assert wait_for(guest, third)["status"] == "done"
    # A page that cannot be made leaves the dance as it is, and a failed export leaves the next one possible.
    (app.folder / "jobs" / third / "dance.npz").write_bytes(b"no dance")
    assert guest.ask("GET", f"/dance/{third}")[0] == 500
    assert get(guest, f"/api/jobs/{third}")["status"] == "done"
    monkeypatch.setattr(app_server, "exported", lambda folder, kind: folder / kind)
    assert guest.ask("GET", f"/files/{third}/glb")[0] == 404, "deleted between two looks"
    for error in (RuntimeError("a"), full):
        monkeypatch.setattr(app.desk.exporter, "run", lambda *_, error=error: fail(error=error))
        assert guest.post(f"/api/jobs/{third}/files/glb", {})[0] == 202
        end = time.monotonic() + 10
        while app.desk.exports(app.folder / "jobs" / third)["glb"] == "working":
            assert time.monotonic() < end
            time.sleep(0.01)


def test_wrong_choices_and_slow_or_many_transfers_are_refused(
    start: Start, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_server, "_PIECE_S", 0.5)
    app = start(open_=True)
    visitor = Client(app.port, app.stranger.ask("GET", "/")[1]["set-cookie"].partition(";")[0])
    for asked in ({"dancers": 3}, {"seed": -1}, {"energy": "wild"}):
        assert send(visitor, b"", **asked)[0] == 422
    head = f"POST /api/songs?name=a HTTP/1.1\r\nHost: 127.0.0.1:{app.port}\r\nCookie: {visitor.cookie}\r\n"
    with contextlib.ExitStack() as lines:
        slow = [lines.enter_context(socket.create_connection(("127.0.0.1", app.port))) for _ in range(2)]
        for line in slow:
            line.sendall(f"{head}Content-Type: {BYTES}\r\nContent-Length: 99999\r\n\r\n".encode() + bytes(9))
        while len(app.desk.uploads) < 2:
            time.sleep(0.01)
        status, answer = send(visitor, song)
        assert (status, "2 songs of yours are being sent" in answer["error"]) == (503, True)
        for line in slow:
            line.settimeout(10)
            said = b""
            while b"nothing came for 0.5 s" not in said:
                more = line.recv(9999)
                assert more, said
                said += more
            assert said.startswith(b"HTTP/1.1 408")
    assert send(visitor, song)[0] == 201


def with_pictures(path: Path, stated: int, count: int = 1) -> Path:
    """Write a song with PNG videos that state another size of their picture, 8,192 x 8,192, than they have."""
    coder = av.CodecContext.create("png", "w")
    coder.width = coder.height = 8192  # type: ignore[attr-defined]
    coder.pix_fmt, coder.time_base = "gray", Fraction(1, 25)  # type: ignore[attr-defined]
    frame = av.VideoFrame(8192, 8192, "gray")
    frame.planes[0].update(bytes(frame.planes[0].buffer_size))
    frame.pts = 0
    data = bytes(coder.encode(frame)[0])  # type: ignore[attr-defined]
    with av.open(str(path), "w") as file:
        sound = file.add_stream("pcm_s16le", 8000)
        videos = [file.add_stream("png", 25) for _ in range(count)]
        for video in videos:
            video.width = video.height = stated  # type: ignore[attr-defined]
            video.pix_fmt = "gray"  # type: ignore[attr-defined]
        for video in videos:
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.time_base = video, 0, 0, Fraction(1, 25)
            file.mux(packet)
        wave = (9000 * np.sin(np.arange(24_000) / 6)).astype(np.int16)[None]
        block = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
        block.rate = 8000
        file.mux(sound.encode(block))  # type: ignore[attr-defined]
    return path


def test_songs_that_would_use_up_the_machine_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    tone = np.sin(np.arange(8000 * 3) / 6)
    soundfile.write(tmp_path / "channels.flac", np.stack([tone] * 8, axis=1), 384_000)
    soundfile.write(tmp_path / "samples.flac", np.stack([tone] * 8, axis=1), 48_000)
    soundfile.write(
        tmp_path / "nan.wav", np.where(np.arange(24_000) == 9, np.nan, tone), 8000, subtype="FLOAT"
    )
    for path, seconds, words in (
        (tmp_path / "channels.flac", 600, "8 channels at 384000 Hz: expected at most 8 and 192000 Hz"),
        (tmp_path / "samples.flac", 0.6, "too many samples"),
        (tmp_path / "nan.wav", 600, "not numbers"),
        (with_pictures(tmp_path / "many.mov", 8192, 5), 600, "5 pictures and videos"),
        (with_pictures(tmp_path / "large.mov", 8192), 600, "8192 x 8192"),
        (with_pictures(tmp_path / "lie.mov", 64), 600, "8192 x 8192"),
    ):
        with pytest.raises(JobError, match=words):
            app_worker.check_song(path, seconds)


def test_a_worker_that_hangs_or_dies_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(8.0, address_bytes=2_000_000_000)

    def no_process(_: Any) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr("multiprocessing.context.SpawnProcess.start", no_process)
        with pytest.raises(WorkerError, match="ended without a result"):
            worker.run(os.path.basename, "a/b")
    assert worker.run(os.path.basename, "a/b") == "b"
    with pytest.raises(WorkerError, match="ended without a result"):
        worker.run(os._exit, 1)
    with pytest.raises(JobError, match=r"unexpected fault \(TypeError\)"):
        worker.run(os.path.basename, 5)
    with pytest.raises(JobError, match="more memory than the server gives"):
        worker.run(bytes, 3_000_000_000)
    worker.memory_bytes = 10_000_000
    with pytest.raises(WorkerError, match=r"more than 0\.01 GB of memory"):
        worker.run(time.sleep, 60)
    worker.memory_bytes, worker.limit_s = None, 0.2
    with pytest.raises(WorkerError, match=r"longer than 0\.2 s"):
        worker.run(time.sleep, 60)
    worker.kill()


# Dances.


def test_energy_is_the_speed_of_the_take_and_normal_is_the_dance_of_every_door(song: Path) -> None:
    request = Request("song.wav", seconds=4.0, seed=3)
    shares: list[float] = []
    speed = {
        energy: float(
            joint_speed(dance_to(replace(request, energy=energy), song, shares.append).joints[0]).mean()
        )
        for energy in ("calm", "lively")
    }
    normal = dance_to(request, song, shares.append)
    assert speed["calm"] < speed["lively"]
    assert speed["calm"] <= float(joint_speed(normal.joints[0]).mean()) <= speed["lively"]
    (same,) = Dancer.from_pretrained(packaged_weights("bailando-cmu"))([song], seed=3)
    assert np.array_equal(normal.joints, same.joints)
    assert shares
    assert max(shares) <= 1
    beats = tuple(np.arange(-1, 12) * 0.4 + 1.1)
    part = dance_to(replace(request, start_s=1.0, end_s=3.5, beats=beats), song, shares.append)
    assert part.num_frames == 150
    assert part.meta["song_start_s"] == 1.0
    assert list(part.meta["music_beats"])[:2] == [6, 30], "0.1 and 0.5 s after its start"


COMMAND = (sys.executable, "-c", "from opendance_hf.cli import main; main()", "app")


class Served:
    """The command in a process of its own, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.start()

    def start(self) -> None:
        options = ("--port", "0", "--folder", str(self.folder), "--max-mb", "2")
        self.process = subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)/#token=(\S+)", self.process.stdout.readline())
        assert found
        self.link, self.port, self.token = found[0], int(found[1]), found[2]
        for _ in range(200):
            with socket.socket() as line:
                if line.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            time.sleep(0.05)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    @property
    def client(self) -> Client:
        return Client(self.port).login(self.token)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    running = Served(tmp_path_factory.mktemp("app"))
    yield running
    running.process.terminate()
    running.process.wait(20)


def choose(page: Page, file: Path) -> None:
    """Choose a file, as the dialogue of the browser does."""
    root = page.send("DOM.getDocument")["root"]["nodeId"]
    node = page.send("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    page.send("DOM.setFileInputFiles", nodeId=node, files=[str(file)])


def looked_at(page: Page, name: str) -> None:
    """Check a page for people who see little or use no mouse, at both sizes; keep pictures for those who look."""
    folder = os.environ.get("OPENDANCE_SCREENSHOTS")
    for suffix, size in (("phone", PHONE), ("desktop", DESKTOP)):
        page.resize(*size)
        assert axe(page) == []
        assert page.run("document.documentElement.scrollWidth <= innerWidth"), "nothing is cut off"
        if folder:
            time.sleep(0.5)
            page.screenshot(Path(folder, f"{name}-{suffix}.png"))


def test_a_song_is_dropped_danced_seen_and_saved_in_the_browser(
    served: Served, song: Path, tmp_path: Path
) -> None:
    find_chromium()
    browser = Chromium(tmp_path / "profile", SOFTWARE_WEBGL)
    try:
        page = browser.page("about:blank", *DESKTOP)
        page.send("Network.enable")
        page.open(served.link)
        page.wait("!$('ask').hidden")
        assert page.run("location.hash") == "", "the token is not left in the address"
        assert "up to 10 minutes and 2 MB" in page.text()
        page.run(
            "(() => { const dataTransfer = new DataTransfer(); dataTransfer.items.add(new File(['not a song'], 'notes.txt'));"
            " document.dispatchEvent(new DragEvent('drop', { dataTransfer, cancelable: true })); })()"
        )
        page.wait("$('trouble').textContent.includes('notes.txt: cannot be decoded as audio')")
        (tmp_path / "large.mp3").write_bytes(bytes(2_000_001))
        choose(page, tmp_path / "large.mp3")
        page.wait("$('trouble').textContent.includes('large.mp3: larger than 2 MB')")
        choose(page, song)
        page.wait(
            "Boolean(document.querySelector('#jobs li.working progress')) || location.pathname !== '/'", 60
        )
        page.wait("location.pathname.startsWith('/dance/')", 90)
        page.wait("drawn > 0 && $('files').children.length", 60)
        first = page.run("job.id")
        looked_at(page, "app-stage")
        page.resize(840, 400)  # quickly drawn without a graphics processor
        check_stage(page)
        page.run(
            "fileSaved = new Promise((done) => { HTMLAnchorElement.prototype.click = function () { done(this.href); }; }), 0"
        )
        page.run("$('save-glb').focus()")
        page.press("Enter")
        path = page.run("fileSaved").partition(str(served.port))[2]
        status, headers, content = served.client.ask("GET", path)
        assert status == 200
        assert "song.glb" in headers["content-disposition"]
        (tmp_path / "song.glb").write_bytes(content)
        dance = opendance.read(served.folder / "jobs" / first / "dance.npz")
        assert dance.poses is not None
        assert dance.transl is not None
        assert dance.rest_offsets is not None
        joints = forward_kinematics(dance.poses[0], dance.transl[0], dance.rest_offsets[0])
        assert np.abs(read_glb(tmp_path / "song.glb").joints[0] - joints).max() < 0.005

        move_beats(page)
        page.run("$('again').click()")
        page.wait(f"job.id !== '{first}' && drawn > 0", 60)
        assert page.run("job.beats.length") > 8
        assert page.run("60 / median(intervals(motion.beats))") == pytest.approx(240, abs=3), "doubled"
        page.wait("$('takes').children.length === 2")
        page.run("document.querySelector('.back').click()")
        page.wait("$('jobs').children.length === 2")
        looked_at(page, "app-front")
        page.run("document.querySelector('[id^=delete]').focus()")
        page.press("Enter")
        page.wait("$('jobs').children.length === 1")
        urls = [
            e["params"]["request"]["url"]
            for e in browser.events
            if e["method"] == "Network.requestWillBeSent"
        ]
        assert {url.partition(":")[0] for url in urls} <= {"about", "http", "blob", "data"}
        assert {url.split("/")[2] for url in urls if url.startswith("http:")} == {f"127.0.0.1:{served.port}"}
        assert not page.complaints()
    finally:
        browser.close()


def check_stage(page: Page) -> None:
    """Play, stop and seek by keys."""
    page.press(" ")
    page.wait("playing && now() > 0.2")
    page.press(" ")
    page.wait("!playing && song.paused")
    page.press("Home")
    page.press("ArrowRight")
    page.wait("Math.abs(now() - 1) < 0.02 && !changed && !song.seeking")
    page.run("$('seed').focus()")
    page.press("ArrowRight")
    assert page.run("now()") == pytest.approx(1.0, abs=0.02), "keys in a field are the field's"
    page.run("$('view').focus()")


def move_beats(page: Page) -> None:
    """Tap the beat of the song, 120 beats a minute, and double it."""
    # Taps at known times, one twice and one left out, late by 3 ms and early by 3 ms.
    found = page.run("steadyBeat([0.253, 0.747, 0.76, 1.25, 2.253, 2.747, 3.25])")
    assert (found["period"], found["phase"]) == (
        pytest.approx(0.5, abs=0.002),
        pytest.approx(0.25, abs=0.006),
    )
    assert page.run("grid({ period: 0.5, phase: 0.25 })[0]") == pytest.approx(-0.25)
    assert page.run("$('again').disabled") is True
    page.press("t")
    page.wait("playing && now() > 0.1")
    for number in range(5):
        page.wait(f"now() >= {0.5 * (number + 1)}")
        page.press("t")
    assert page.run("motion.beats.length") >= 6
    assert "5 taps: not danced to yet" in page.text()
    page.press(" ")
    # A busy machine taps unevenly: the exact beat from here on.
    page.run("setBeats(grid({ period: 0.5, phase: 0 }), 'yours')")
    page.run("$('double').click()")
    assert page.run("$('again').disabled") is False


def test_a_killed_server_loses_no_finished_dance(served: Served, song: Path) -> None:
    client = served.client
    job = send(client, song, "first.wav", seed=5)[1]["id"]
    assert wait_for(client, job)["status"] == "done"
    kept = {
        path.name: path.read_bytes() for path in (served.folder / "jobs" / job).iterdir() if path.is_file()
    }
    assert {"dance.npz", stage_file(Path()).name, "song", "request.json", "state.json"} <= kept.keys()
    others = [send(client, song, f"{name}.wav", energy=name)[1]["id"] for name in ("lively", "normal")]
    while get(client, f"/api/jobs/{others[0]}")["status"] != "working":
        time.sleep(0.01)
    processes = psutil.Process(served.process.pid).children(recursive=True)
    assert processes
    served.kill()
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive, "they end in the middle of their work"
    served.start()
    client.port = served.port
    assert client.ask("GET", "/api/jobs")[0] == 401, "the token was that of the server before"
    client = served.client
    assert get(client, f"/api/jobs/{job}")["status"] == "done"
    now = {
        path.name: path.read_bytes() for path in (served.folder / "jobs" / job).iterdir() if path.is_file()
    }
    assert now == kept
    for other in others:
        assert wait_for(client, other)["status"] == "done", "begun again"
    page = stage_file(served.folder / "jobs" / job)
    page.rename(page.with_name("stage-old.html"))
    status, _, content = client.ask("GET", f"/dance/{job}")
    assert (status, content) == (200, kept[page.name]), "a page of another version is made again"
    assert [one.name for one in page.parent.glob("stage-*")] == [page.name]


def test_a_folder_has_one_server(served: Served) -> None:
    with pytest.raises(AppError, match="another opendance app uses this folder; stop it, or give --folder"):
        run_app(AppOptions(folder=served.folder, port=0), Console())


def test_a_dance_is_written_in_every_format(tmp_path: Path, song: Path) -> None:
    assert list(kinds()) == ["film", *writable()]
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "song").write_bytes(song.read_bytes())
    request = Request("a/b \u00fc.wav", seconds=4.0, dancers=2, start_s=1.0, end_s=3.0)
    (folder / "request.json").write_text(json.dumps(asdict(request)))
    opendance.write(dance_to(request, song, lambda _: None), folder / "dance.npz")
    for kind, names in (
        ("film", None), ("glb", None), ("opendance", None), ("bvh", {"b ü_0.bvh", "b ü_1.bvh"}),
    ):  # fmt: skip
        app_worker.export(folder, kind)
        path = exported(folder, kind)
        assert path is not None
        if names is None:
            assert path.suffix == kinds()[kind]
        else:
            assert set(zipfile.ZipFile(path).namelist()) == names
    with av.open(str(folder / "exports" / "film.mp4")) as film:
        assert film.duration is not None
        assert film.duration / 1e6 == pytest.approx(2.0, abs=0.1)
    assert len(list((folder / "exports").iterdir())) == 4, "nothing temporary"


# The Space.


def test_a_space_needs_its_packages_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = app_space.distribution

    def without_usd(name: str) -> Any:
        if name == "usd-core":
            raise PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(app_space, "distribution", without_usd)
    with pytest.raises(
        ServerError, match=r'usd-core is not installed.* pip install "opendance-hf\[inspect,usd\]"'
    ):
        write_space(tmp_path / "space")
    assert not (tmp_path / "space").exists()


def test_a_space_starts_the_app_that_its_wheel_has(tmp_path: Path) -> None:
    space = tmp_path / "space"
    write_space(space)
    front = yaml.safe_load((space / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert (front["sdk"], front["app_port"]) == ("docker", PORT)
    assert len(front["short_description"]) <= 60
    docker = (space / "Dockerfile").read_text(encoding="utf-8")
    (wheel,) = space.glob("*.whl")
    assert f"COPY --chown=user requirements.txt {wheel.name} ./" in docker
    assert "--uid 1000" in docker
    assert "\nUSER user\n" in docker
    pins = dict(line.split("==") for line in (space / "requirements.txt").read_text().splitlines())
    assert {"torch", "numpy", "starlette", "uvicorn", "usd-core"} <= pins.keys()
    assert "opendance-hf" not in pins
    installed = tmp_path / "installed"
    install = ("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile", "--target")
    subprocess.run([sys.executable, *install, installed, wheel], check=True)
    for name in (
        "apps/static/app/index.html", "modeling/__init__.py", "weights/bailando-cmu/model.safetensors",
    ):  # fmt: skip
        assert (installed / "opendance_hf" / name).is_file()
    assert next(installed.glob("*.dist-info/licenses/LICENSE")).read_text().strip()
    # The command of the file, with the package of the wheel and no other.
    with socket.socket() as free:
        if free.connect_ex(("127.0.0.1", PORT)) == 0:
            pytest.skip(f"port {PORT} is in use")
    environment = os.environ | {
        "PATH": f"{installed}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(installed),
        "OPENDANCE_CACHE": str(tmp_path / "cache"),
        "SPACE_HOST": "me-app.hf.space",
    }
    command = docker.rpartition("\nCMD ")[2].strip()
    process = subprocess.Popen(["/bin/sh", "-c", command], env=environment, cwd=tmp_path)
    try:
        for _ in range(300):
            with socket.socket() as line:
                if line.connect_ex(("127.0.0.1", PORT)) == 0:
                    break
            assert process.poll() is None
            time.sleep(0.1)
        client = Client(PORT, headers={"Host": "me-app.hf.space"})
        status, headers, content = client.ask("GET", "/")
        assert status == 200
        assert b"Drop a song" in content
        assert "Partitioned" in headers["set-cookie"]
        assert "frame-ancestors https://huggingface.co" in headers["content-security-policy"]
        client.cookie = headers["set-cookie"].partition(";")[0]
        assert get(client, "/api/about")["max_seconds"] == 300
    finally:
        process.terminate()
        process.wait(20)
