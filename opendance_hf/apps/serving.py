"""What the servers of the package share: where they listen, whose requests they answer, and what they refuse.

Everything except an empty page and its style requires a cookie, which a server sets for a valid token. Scripts and other
sites cannot read or send the cookie (HttpOnly, SameSite=Strict). Requests that change state must be of a type that forms of
other sites cannot send, and come from this site. On a loopback address only loopback host names are accepted, against DNS
rebinding.
"""

from __future__ import annotations

import json
import secrets
import socket
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opendance_hf.errors import OpenDanceError

_MAX_BODY_BYTES: Final = 16_384
_COOKIE_S: Final = 30 * 24 * 3600
_MAX_TOKEN: Final = 200
#: Connections at once; more are answered with 503, before the process has no file descriptors left (often 1,024).
_MAX_CONNECTIONS: Final = 200
#: Forms of other sites cannot send these without a CORS preflight request, which is refused.
_TYPES: Final = ("application/json", "application/octet-stream")
#: Of every response that does not set them itself.
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class ServerError(OpenDanceError, ValueError):
    """Raised if a server cannot start; the message has the cause and the remedy."""


class BadRequest(Exception):
    """Raised for an invalid request, which the site's own pages do not send."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Address:
    """Where a server is reached.

    Attributes:
        host: address to listen on.
        public_url: URL of the proxy before the server; empty without one.
        framed_by: origin of the one site that may show the pages in a frame; empty for none.
    """

    host: str = "127.0.0.1"
    public_url: str = ""
    framed_by: str = ""

    @property
    def is_secure(self) -> bool:
        """True if browsers reach the server by TLS."""
        return urlsplit(self.public_url).scheme == "https"

    def answers(self, host: str) -> bool:
        """Return whether the Host header of a request names this server."""
        name = (_split(f"//{host}").hostname or "").rstrip(".")
        if self.public_url and name == urlsplit(self.public_url).hostname:
            return True
        return not _is_loopback(self.host) or _is_loopback(name)

    def link(self, sock: socket.socket) -> str:
        """Return the URL of the server that listens on a socket."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{shown}:{sock.getsockname()[1]}"

    def policy(self, **sources: str) -> str:
        """Return the content security policy of a page, which requests nothing from elsewhere.

        Args:
            sources: further sources by directive, such as ``media="blob:"``.
        """
        own = [
            f"{name}-src 'self' {sources.get(name, '')}".rstrip()
            for name in ("script", "style", "img", "media", "connect")
        ]
        framed = self.framed_by or "'none'"
        return "; ".join(
            ["default-src 'none'", *own, "base-uri 'none'", "form-action 'none'", f"frame-ancestors {framed}"]
        )


@dataclass(frozen=True)
class Door:
    """Admission by one token, new for every start of a server.

    Attributes:
        address: of the server.
        name: of the cookie; cookies are shared by all ports of a host, so it should be unique for what is served.
        token: None to let everyone in.
    """

    address: Address
    name: str
    token: str | None = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    def admits(self, request: Request) -> bool:
        """Return whether a request has the cookie, or none is required."""
        return self.token is None or self._is_token(request.cookies.get(self.name))

    async def login(self, request: Request) -> Response:
        """Set the cookie for a valid token: {"token": text}."""
        token = (await read_json(request)).get("token")
        if self.token is not None and not self._is_token(token):
            return refuse(401, "Unknown token: use the link that the command printed.")
        answer = JSONResponse({})
        if self.token is not None:
            set_cookie(answer, self.name, self.token, self.address)
        return answer

    def link(self, sock: socket.socket) -> str:
        """Return the link that lets a person in."""
        address = self.address.link(sock)
        return address if self.token is None else f"{address}/#token={self.token}"

    def _is_token(self, token: Any) -> bool:
        if not isinstance(token, str) or len(token) > _MAX_TOKEN or self.token is None:
            return False
        return secrets.compare_digest(token.encode(errors="surrogatepass"), self.token.encode())


class Guard:
    """Middleware that refuses requests to or from other sites, and adds security headers to all responses."""

    def __init__(self, app: ASGIApp, address: Address) -> None:
        self.app, self.address = app, address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", self.address.policy())
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(Headers(scope=scope), scope["method"])
        await (refusal or self.app)(scope, receive, send_guarded)

    def _refusal(self, headers: Headers, method: str) -> Response | None:
        host = headers.get("host", "")
        if not self.address.answers(host):
            return refuse(400, "This host name is not accepted; see --public-url.")
        if method in ("GET", "HEAD"):
            return None
        origin = headers.get("origin")
        # The origin of a sandboxed page is "null", which has no host.
        origin_host = None if origin is None else _split(origin).netloc or "unknown"
        if origin_host not in (None, host, urlsplit(self.address.public_url).netloc):
            return refuse(403, "This request comes from another site.")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return refuse(403, "This request comes from another site.")
        if headers.get("content-type", "").partition(";")[0].strip() not in _TYPES:
            return refuse(415, "Send JSON.")
        return None


def refuse(status: int, message: str) -> JSONResponse:
    """Return the answer to a request that is not fulfilled."""
    return JSONResponse({"error": message}, status, headers={"Cache-Control": "no-store"})


def set_cookie(answer: Response, name: str, token: str, address: Address) -> None:
    """Let a browser in for 30 days.

    In the frame of another site browsers send only cookies that say so; such a cookie belongs to that site's frames alone
    (``Partitioned``), and :class:`Guard` refuses what other sites send with it.
    """
    framed = bool(address.framed_by and address.is_secure)
    answer.set_cookie(
        name,
        token,
        max_age=_COOKIE_S,
        httponly=True,
        samesite="none" if framed else "strict",
        secure=address.is_secure,
    )
    if framed:  # Starlette sets it only in Python 3.14 and newer
        answer.headers["set-cookie"] += "; Partitioned"


async def read_json(request: Request, max_bytes: int = _MAX_BODY_BYTES) -> dict[str, Any]:
    """Return the JSON object that a request has sent.

    Raises:
        BadRequest: if it is longer than ``max_bytes`` or no JSON object.
    """
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > max_bytes:
            raise BadRequest(413, "The request is too long.")
    try:
        body = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise BadRequest(400, "Send a JSON object.")
    return body


def public_url(url: str, option: str = "--public-url") -> str:
    """Return a URL without a trailing slash. It must not have a path, since pages request ``/api``.

    Args:
        url: what the user gave; empty for none.
        option: that it was given with, for messages.

    Raises:
        ServerError: if the URL is invalid or has a path.
    """
    if not url:
        return ""
    try:
        parts = urlsplit(url.removesuffix("/"))
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or f"{parts.scheme}://{parts.netloc}" != url.removesuffix("/") or "@" in url:
        raise ServerError(
            f"{option} {url}: expected scheme and host without a path, such as https://dance.example.org; "
            "configure the proxy to use a separate host name for the server"
        )
    return f"{parts.scheme}://{parts.netloc}"


def listen(address: Address, port: int) -> socket.socket:
    """Open a socket at an address; port 0 selects a free port.

    Raises:
        ServerError: if the address is not available.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address.host, port))
    except OSError as error:
        sock.close()
        raise ServerError(
            f"cannot listen on {address.host}, port {port} ({error.strerror}); try another --port"
        ) from None
    return sock


def serve(app: ASGIApp, sock: socket.socket) -> None:
    """Answer requests until Ctrl-C."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        limit_concurrency=_MAX_CONNECTIONS,
    )
    uvicorn.Server(config).run(sockets=[sock])


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # for example an unterminated IPv6 address
        return urlsplit("")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
