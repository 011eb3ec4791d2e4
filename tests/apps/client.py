"""Requests to our servers over real HTTP, byte for byte, and a server in a thread to send them to."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from opendance_hf.apps.serving import Address, listen


@contextmanager
def serving(app: Any, address: Address) -> Iterator[int]:
    """Run an ASGI application in a thread; yields its port."""
    uvicorn = pytest.importorskip("uvicorn")
    sock = listen(address, 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield sock.getsockname()[1]
    server.should_exit = True
    thread.join(10)


@dataclass
class Client:
    """A browser's requests, byte for byte as given."""

    port: int
    cookie: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        sent = {"Host": f"127.0.0.1:{self.port}", **self.headers}
        if self.cookie:
            sent["Cookie"] = self.cookie
        if body is not None:
            sent["Content-Type"] = "application/json"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        for name, value in (sent | {"Content-Length": str(len(data))}).items():
            connection.putheader(name, value)
        connection.endheaders(data)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content

    def post(self, path: str, body: dict[str, Any], **headers: str) -> tuple[int, Any]:
        status, _, content = self.ask("POST", path, body, **headers)
        return status, json.loads(content)

    def login(self, token: str) -> Client:
        status, headers, _ = self.ask("POST", "/api/login", {"token": token})
        assert status == 200
        return Client(self.port, headers["set-cookie"].partition(";")[0])
