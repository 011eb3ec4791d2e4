"""Requests to a server of the package, byte for byte as given."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from typing import Any


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
