"""The inspection server over real HTTP: who is let in, who is not, and what is answered."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
uvicorn = pytest.importorskip("uvicorn")

from opendance_hf.apps.inspect import open_inspection  # noqa: E402
from opendance_hf.apps.inspect_server import Site, make_app  # noqa: E402
from opendance_hf.apps.serving import Address  # noqa: E402
from opendance_hf.apps.view import content_policy  # noqa: E402
from opendance_hf.pipeline.inspection.store import Inspection  # noqa: E402
from tests.apps.client import Client, serving  # noqa: E402
from tests.apps.test_view import data_of  # noqa: E402
from tests.pipeline.builds import make_build  # noqa: E402


@dataclass
class Running:
    build: Path
    ids: list[str]
    port: int
    tokens: dict[str, str]

    @property
    def stranger(self) -> Client:
        return Client(self.port)

    def person(self, name: str) -> Client:
        return self.stranger.login(self.tokens[name])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("inspect")
    ids = make_build(folder / "build", (1, 2), videos=True)
    (folder / "build" / "secret.mp4").write_bytes(b"not for you")
    (folder / "secret.mp4").write_bytes(b"not for you")
    (folder / "build" / "previews" / "stray.mp4").write_bytes(b"not for you")
    site = Site(folder / "build")
    with open_inspection(site.build) as inspection:
        tokens = {name: inspection.add_person(name, adjudicates=name == "bo") for name in ("ana", "bo")}
    with serving(make_app(site), site.address) as port:
        yield Running(site.build, ids, port, {name: token or "" for name, token in tokens.items()})


EVERYTHING = [
    ("GET", "/api/me", None),
    ("GET", "/api/progress", None),
    ("POST", "/api/next", {"desk": "round1"}),
    ("POST", "/api/decide", {"desk": "round1"}),
    ("POST", "/api/undo", {"desk": "round1", "number": 1}),
    ("POST", "/api/renew", {}),
    ("GET", "/api/repairs", None),
    ("POST", "/api/repair", {"subject": "a", "kind": "cut", "first": 0, "last": 29}),
    ("POST", "/api/withdraw", {"number": 1}),
    ("GET", "/decisions.csv", None),
    ("GET", "/video/previews/{id}.mp4", None),
    ("GET", "/video/clips/{id}.mp4", None),
    ("GET", "/stage/{id}", None),
]


@pytest.mark.parametrize(("method", "path", "body"), EVERYTHING)
@pytest.mark.parametrize("cookie", ["", "{name}=", "{name}=wrong", "{name}=" + "x" * 5000, "other={token}"])
def test_strangers_get_nothing(
    running: Running, method: str, path: str, body: dict[str, Any] | None, cookie: str
) -> None:
    name = Site(running.build).cookie
    client = Client(running.port, cookie.format(name=name, token=running.tokens["ana"]))
    status, _, content = client.ask(method, path.format(id=running.ids[0]), body)
    assert status == 401
    assert json.loads(content) == {"error": "Log in first."}


@pytest.mark.parametrize("token", ["", "wrong", 5, None, ["a"], "\ud800", "x" * 10_000])
def test_wrong_tokens_are_refused(running: Running, token: Any) -> None:
    status, headers, _ = running.stranger.ask("POST", "/api/login", {"token": token})
    assert status == 401
    assert "set-cookie" not in headers
    assert running.stranger.ask("GET", f"/?token={running.tokens['ana']}")[1].get("set-cookie") is None


def test_the_cookie_is_out_of_reach(running: Running) -> None:
    status, headers, _ = running.stranger.ask("POST", "/api/login", {"token": running.tokens["ana"]})
    assert status == 200
    parts = {part.strip().lower() for part in headers["set-cookie"].split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= parts
    out = running.person("ana").ask("POST", "/api/logout", {})[1]["set-cookie"]
    assert "max-age=0" in out.lower()


@pytest.mark.parametrize(
    "path",
    [
        "/video/previews/../secret.mp4",
        "/video/previews/..%2fsecret.mp4",
        "/video/previews/%2e%2e%2f%2e%2e%2fsecret.mp4",
        "/video/previews/..\\secret.mp4",
        "/video/../secret.mp4",
        "/video/%2e%2e/secret.mp4",
        "/video/./secret.mp4",
        "/video/previews/stray.mp4",
        "/video/sequences/{id}.mp4",
        "/video/previews/{id}.npz",
        "/video/previews/{id}.mp4%00",
        "/video/previews//etc/passwd",
        "/video/previews/nobody_00.mp4",
        "/static/../inspect_server.py",
        "/static/%2e%2e/%2e%2e/inspect_server.py",
        "/static/..%2f..%2finspect_server.py",
        "/static//etc/passwd",
        "/ledger.sqlite",
        "//etc/passwd",
    ],
)
def test_no_path_leads_out_of_the_videos(running: Running, path: str) -> None:
    status, _, content = running.person("ana").ask("GET", path.format(id=running.ids[0]))
    assert status == 404
    assert b"not for you" not in content
    assert b"import" not in content


def test_a_link_among_the_videos_is_not_followed(running: Running) -> None:
    link = running.build / "clips" / f"{running.ids[2]}.mp4"
    link.unlink()
    link.symlink_to(running.build / "secret.mp4")
    assert running.person("ana").ask("GET", f"/video/clips/{running.ids[2]}.mp4")[0] == 404


def test_a_stage_has_the_clip_of_its_sequence(running: Running) -> None:
    status, headers, content = running.person("ana").ask("GET", f"/stage/{running.ids[0]}")
    assert status == 200
    assert headers["content-security-policy"] == f"{content_policy()}; frame-ancestors 'none'"
    data = data_of(content.decode())
    assert data["motions"][0]["name"] == running.ids[0]
    clip = running.build / "clips" / f"{running.ids[0]}.mp4"
    assert base64.b64decode(data["video"]) == clip.read_bytes()


@pytest.mark.parametrize(
    "path", ["/stage/..%2fledger", "/stage/%2e%2e%2f%2e%2e%2fsecret", "/stage/gone", "/stage/"]
)
def test_no_stage_of_what_is_not_a_sequence(running: Running, path: str) -> None:
    assert running.person("ana").ask("GET", path)[0] == 404


def test_videos_are_answered_in_pieces(running: Running) -> None:
    ana, path = running.person("ana"), f"/video/previews/{running.ids[0]}.mp4"
    whole = (running.build / "previews" / f"{running.ids[0]}.mp4").read_bytes()
    status, headers, content = ana.ask("GET", path)
    assert (status, headers["content-type"], headers["accept-ranges"]) == (200, "video/mp4", "bytes")
    assert content == whole
    status, headers, content = ana.ask("GET", path, Range="bytes=100-199")
    assert (status, headers["content-range"]) == (206, f"bytes 100-199/{len(whole)}")
    assert content == whole[100:200]
    assert ana.ask("GET", path, Range=f"bytes={len(whole) + 5}-")[0] == 416
    assert ana.ask("HEAD", path)[2] == b""


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Host": "evil.example"}, 400),
        ({"Host": "127.0.0.1.evil.example"}, 400),
        ({"Host": ""}, 400),
        ({"Host": "["}, 400),
        ({"Origin": "http://["}, 403),
    ],
)
def test_other_sites_cannot_act(running: Running, headers: dict[str, str], status: int) -> None:
    ana = running.person("ana")
    assert ana.ask("POST", "/api/next", {"desk": "round1"}, **headers)[0] == status
    if "Host" in headers:
        assert ana.ask("GET", "/", None, **headers)[0] == status


def test_our_own_page_can_act(running: Running) -> None:
    ana, here = running.person("ana"), f"127.0.0.1:{running.port}"
    for host in (here, f"localhost:{running.port}"):
        status, _ = ana.post(
            "/api/next", {"desk": "round1"}, Host=host, Origin=f"http://{host}", Sec_Fetch_Site="same-origin"
        )
        assert status == 200


def test_a_proxy_is_named() -> None:
    site = Address(public_url="https://inspect.example.org")
    assert site.answers("inspect.example.org")
    assert site.answers("localhost:8765")
    assert not site.answers("inspect.example.com")
    assert Address("0.0.0.0").answers("studio.local:8765")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_a_loopback_address_answers_to_its_own_name(host: str) -> None:
    site = Address(host)
    for name in (host, "localhost", "127.0.0.1", "127.255.0.9", "::1"):
        shown = f"[{name}]" if ":" in name else name
        assert site.answers(f"{shown}:8765")
    for name in (
        "",
        "evil.example",
        "127.0.0.2.evil.example",
        "127.evil.example",
        "10.0.0.1",
        "[::2]",
        "0.0.0.0",
    ):
        assert not site.answers(f"{name}:8765")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/next", {"desk": "kitchen"}, 400),
        ("/api/next", {}, 400),
        ("/api/next", {"desk": "adjudicate"}, 400),
        ("/api/next", [1], 400),
        ("/api/next", b"{", 400),
        ("/api/next", b"\xff\xfe", 400),
        ("/api/next", b"[" * 10_000, 400),
        ("/api/next", b" " * 20_000, 413),
        ("/api/decide", {"desk": "round1", "round": "1", "subject": "x", "verdict": "keep"}, 400),
        ("/api/decide", {"desk": "round1", "round": True, "subject": "x", "verdict": "keep"}, 400),
        ("/api/decide", {"desk": "round1", "round": 1, "subject": "x", "verdict": "keep", "reasons": 1}, 400),
        (
            "/api/decide",
            {"desk": "round1", "round": 1, "subject": "x", "verdict": "reject", "reasons": [[]]},
            400,
        ),
        ("/api/decide", {"desk": "round1", "round": 1, "subject": "x", "verdict": "keep"}, 409),
        ("/api/none", {}, 404),
    ],
)
def test_senseless_requests_do_no_harm(running: Running, path: str, body: Any, status: int) -> None:
    assert running.person("ana").ask("POST", path, body)[0] == status


def test_every_answer_is_guarded(running: Running) -> None:
    ana = running.person("ana")
    for path in ("/", "/static/app.js", "/api/me", "/decisions.csv", "/nothing"):
        headers = ana.ask("GET", path)[1]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers


def test_the_page_loads_nothing_from_elsewhere(running: Running) -> None:
    for path in ("/", "/static/app.js", "/static/app.css"):
        text = running.stranger.ask("GET", path)[2].decode()
        assert not re.findall(r"(?:https?:|['\"(])//|@import|url\(", text), path
        assert running.ids[0] not in text


def test_two_people_through_the_server(running: Running) -> None:
    ana, bo = running.person("ana"), running.person("bo")
    me = json.loads(bo.ask("GET", "/api/me")[2])
    assert (me["name"], me["adjudicates"], me["build"]) == ("bo", True, "build")
    first = ana.post("/api/next", {"desk": "round1"})[1]["item"]
    other = bo.post("/api/next", {"desk": "round1"})[1]["item"]
    assert first["sequence"] != other["sequence"]
    assert first["video"].startswith(f"/video/clips/{first['sequence']}.mp4?v=")
    assert not first["cut"]
    assert ana.ask("GET", first["video"])[0] == 200
    decision = {"desk": "round1", "round": 1, "subject": first["subject"]}
    status, answer = ana.post("/api/decide", {**decision, "verdict": "reject", "reasons": ["tools"]})
    assert (status, answer["rounds"]["1"]["reject"]) == (200, 1)
    assert ana.post("/api/undo", {"desk": "round1"})[0] == 400
    status, answer = ana.post("/api/undo", {"desk": "round1", "number": answer["last"]})
    assert (answer["undone"]["reasons"], answer["item"]["subject"]) == (["tools"], first["subject"])
    # Without a clip, the source is cut out of the preview.
    (running.build / "clips" / f"{running.ids[1]}.mp4").unlink()
    status, answer = ana.post("/api/decide", {**decision, "verdict": "keep"})
    assert status == 200
    assert answer["item"]["sequence"] == running.ids[1]
    assert answer["item"]["cut"]
    assert "/previews/" in answer["item"]["video"]
    status, answer = bo.post("/api/decide", {**decision, "subject": other["subject"], "verdict": "keep"})
    assert (status, answer["item"]) == (200, None), "ana has the last one"
    second = ana.post("/api/next", {"desk": "round2"})[1]["item"]
    assert "/previews/" in second["video"]
    rows = ana.ask("GET", "/decisions.csv")[2].decode().splitlines()
    assert len(rows) == 1 + 3
    assert json.loads(ana.ask("GET", "/api/progress")[2])["rounds"][0]["keep"] == 2


def test_a_decision_on_a_full_disk_is_told_and_not_lost_in_silence(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorname = "SQLITE_FULL"
        raise error

    person = running.person(next(iter(running.tokens)))
    monkeypatch.setattr("opendance_hf.apps.inspect_server.renew", full)
    status, answer = person.post("/api/renew", {})
    assert status == 507
    assert answer["error"].startswith("Not saved: ")
    assert "no space left on this disk" in answer["error"]


def test_repairs_over_http(running: Running) -> None:
    ana, bo = running.person("ana"), running.person("bo")
    with Inspection(running.build / "ledger.sqlite") as inspection:
        inspection.refresh(running.build)
        # Of the sequences only the third has two dancers.
        subject = inspection.db.execute(
            "SELECT subject FROM inspection_items WHERE round = 2 AND sequence = ?", (running.ids[2],)
        ).fetchone()[0]
    body = {"subject": subject, "sequence": running.ids[2], "kind": "exchange_dancers",
            "first": 3, "last": 11, "dancer": 1, "other": 2, "foot": None}  # fmt: skip
    status, answer = ana.post("/api/repair", body)
    assert status == 200
    (repair,) = answer["repairs"]
    assert (repair["annotator"], repair["text"], repair["state"]) == (
        "ana",
        "exchange dancers 1 and 2",
        "waiting",
    )
    assert (repair["start_s"], repair["end_s"]) == pytest.approx((5 + 2.5 / 30, 5 + 11.5 / 30))
    assert ana.post("/api/repair", body)[1] == answer, "sent twice, recorded once"
    for change, said in (
        ({"last": 20}, "frames 3 to 20: the preview has frames 0 to 19"),
        ({"last": 10**400}, "the preview has frames 0 to 19"),
        ({"dancer": 10**400}, "the sequence has no dancer 1000"),
        ({"first": -1}, "the preview has frames 0 to 19"),
        ({"first": 12}, "the last frame must not lie before the first"),
        ({"dancer": 3}, "no dancer 3"),
        ({"kind": "polish"}, "unknown repair 'polish'"),
        ({"first": "5"}, "first '5', expected int"),
        ({"dancer": True}, "dancer True, expected int or null"),
        ({"kind": "cut", "dancer": None, "other": None}, "leaves 0.3 s, at least 4 s are needed"),
    ):
        status, answer = bo.post("/api/repair", {**body, **change})
        assert (status, said in answer["error"]) == (400, True), answer
    assert bo.post("/api/repair", {**body, "subject": "gone"})[0] == 409
    for wrong in (True, 2**70, 10**400):
        assert ana.post("/api/withdraw", {"number": wrong})[0] == 400
    assert ana.post("/api/undo", {"desk": "round1", "number": 2**70})[0] == 409
    number = repair["number"]
    assert bo.post("/api/withdraw", {"number": number, "sequence": running.ids[2]})[1] == {"repairs": []}, (
        "adjudicates"
    )
    status, _, content = ana.ask("GET", "/api/repairs")
    assert [one["state"] for one in json.loads(content)["repairs"]] == ["withdrawn"]
    assert ana.ask("GET", "/decisions.csv")[2].count(b",repair,") == 2, "the header and the repair"
    status, answer = bo.post("/api/repair", body)
    assert (status, ana.post("/api/withdraw", {"number": answer["repairs"][0]["number"]})[0]) == (200, 400)
