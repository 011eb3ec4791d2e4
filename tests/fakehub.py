"""A Hub on loopback: what real ``huggingface_hub``, ``datasets`` and ``transformers`` clients need to push, load and stream.

Contents lie on disk and are sent and received in chunks, so files may be large. :class:`Fault` makes requests fail.
Clients must be started with ``HF_ENDPOINT`` set, since they read it when imported; see :meth:`FakeHub.env`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

#: Files that the real Hub stores as large files.
LARGE = (".safetensors", ".parquet", ".tar", ".bin", ".whl")
TOKEN = "hf_fake"
_CHUNK = 1 << 18


@dataclass
class Fault:
    """Something that goes wrong with the next requests of a method whose path matches.

    Attributes:
        match: regular expression, searched in "METHOD /path".
        times: number of requests that fail.
        status: answer with this status instead; 0 to answer as usual.
        retry_after: value of the header Retry-After; empty for none.
        drop_after: close the connection after this many bytes of the body, received of an upload or sent of a download.
        corrupt: change the first byte of a body that is sent.
        lost: do what is asked, and close the connection without an answer.
        hook: called before the request is handled.
    """

    match: str
    times: int = 1
    status: int = 0
    retry_after: str = ""
    drop_after: int | None = None
    corrupt: bool = False
    lost: bool = False
    hook: Any = None


class _Dropped(Exception):
    """Raised to close a connection."""


@dataclass
class Blob:
    """Content of one file, on disk."""

    store: Store  # its folder stays as long as a content is in use
    path: Path
    size: int
    sha256: str
    blob_id: str


class Store:
    """Contents by SHA-256, in a folder."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fakehub-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.blobs: dict[str, Blob] = {}

    def add(self, source: BinaryIO, size: int, stop_after: int | None = None) -> Blob:
        """Store a stream; raise :class:`_Dropped` after some bytes of it."""
        handle, name = tempfile.mkstemp(dir=self.folder)
        sha256, sha1 = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
        left = size
        with os.fdopen(handle, "wb") as file:
            while left:
                if stop_after is not None and size - left >= stop_after:
                    raise _Dropped
                chunk = source.read(min(left, _CHUNK, stop_after or _CHUNK))
                if not chunk:
                    raise _Dropped  # the client was killed
                file.write(chunk)
                sha256.update(chunk)
                sha1.update(chunk)
                left -= len(chunk)
        blob = Blob(self, self.folder / sha256.hexdigest(), size, sha256.hexdigest(), sha1.hexdigest())
        os.replace(name, blob.path)
        self.blobs[blob.sha256] = blob
        return blob


class Files(Mapping[str, bytes]):
    """The files of one commit, read from disk when they are asked for."""

    def __init__(self, blobs: dict[str, Blob]) -> None:
        self.blobs = blobs

    def __getitem__(self, name: str) -> bytes:
        return self.blobs[name].path.read_bytes()

    def __iter__(self) -> Iterator[str]:
        return iter(self.blobs)

    def __len__(self) -> int:
        return len(self.blobs)


@dataclass
class Repo:
    """Commits of one repository: revision to the files."""

    private: bool = False
    gated: Any = False
    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    tag_messages: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commit("main", {})

    def commit(self, branch: str, blobs: dict[str, Blob]) -> str:
        listing = repr([(name, blob.blob_id) for name, blob in sorted(blobs.items())])
        oid = hashlib.sha1(f"{len(self.commits)} {listing}".encode()).hexdigest()
        self.commits[oid] = Files(blobs)
        self.refs[branch] = oid
        return oid

    @property
    def main(self) -> Files:
        """Files that readers of the main branch see now."""
        return self.commits[self.refs["main"]]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print errors, but not that a client was killed between two requests."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class FakeHub:
    """``with FakeHub() as hub: subprocess.run(..., env=hub.env(home))``."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.store = Store()
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def env(self, home: Path) -> dict[str, str]:
        """Environment of a client with caches of its own."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE"))}
        return inherited | {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": "1",
        }

    def count(self, match: str) -> int:
        """Number of requests so far that match."""
        return sum(re.search(match, request) is not None for request in self.requests)

    def change(self, kind: str, repo: str, files: dict[str, bytes | None], branch: str = "main") -> str:
        """Commit files, None to delete one, as somebody else would."""
        from io import BytesIO

        found = self.repos[kind, repo]
        blobs = dict(found.commits[found.refs[branch]].blobs)
        for name, content in files.items():
            if content is None:
                blobs.pop(name)
            else:
                blobs[name] = self.store.add(BytesIO(content), len(content))
        return found.commit(branch, blobs)

    def fault_of(self, request: str) -> Fault | None:
        """Return the fault of a request, and count it."""
        with self.lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.match, request):
                    fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"
    fault: Fault | None = None

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def _handle(self) -> None:
        try:
            self._answer()
        except (_Dropped, ConnectionError):
            self.close_connection = True

    def _answer(self) -> None:
        split = urlsplit(self.path)
        path, query = unquote(split.path), parse_qs(split.query)
        self.fault = fault = self.hub.fault_of(f"{self.command} {path}")
        if fault is not None and fault.hook is not None:
            fault.hook()
        size = int(self.headers.get("Content-Length") or 0)
        if self.command == "PUT" and path.startswith("/objects/"):
            return self._put_object(path.rpartition("/")[2], size)
        body = self.rfile.read(size)
        if fault is not None and fault.status:
            return self._fail(fault)
        for method, pattern, answer in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method:
                if self.command != "HEAD" and self.command != "GET" and not self._authorised():
                    return self._send({"error": "Invalid credentials"}, 401)
                return answer(self, body, query, **match.groupdict())
        self._send({"error": f"the fake hub knows no {self.command} {path}"}, 404)

    def _authorised(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _fail(self, fault: Fault) -> None:
        headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
        self._send({"error": "injected"}, fault.status, headers)

    def _put_object(self, oid: str, size: int) -> None:
        drop = self.fault.drop_after if self.fault else None
        blob = self.hub.store.add(self.rfile, size, drop)
        if self.fault is not None and self.fault.status:
            del self.hub.store.blobs[blob.sha256]
            return self._fail(self.fault)
        if blob.sha256 != oid:
            return self._send({"error": "the content has another hash"}, 422)
        self._send(b"")

    def _send(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        if self.fault is not None and self.fault.lost:
            raise _Dropped
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        kind = "application/octet-stream" if isinstance(value, bytes) else "application/json"
        self._start(status, {"Content-Type": kind, "Content-Length": str(len(content)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(content)

    def _start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.end_headers()

    def _missing(self, code: str) -> None:
        self._send({"error": code}, 404, {"X-Error-Code": code})

    def _files(self, kind: str, repo: str, revision: str) -> tuple[str, dict[str, Blob]] | None:
        """The commit and the files of a revision; the error is sent if there is none."""
        found = self.hub.repos.get((kind, repo))
        if found is None or (found.private and not self._authorised()):
            return self._missing("RepoNotFound")
        oid = found.refs.get(revision) or found.tags.get(revision, revision)
        if oid not in found.commits:
            return self._missing("RevisionNotFound")
        return oid, found.commits[oid].blobs

    # The routes.

    def whoami(self, body: bytes, query: Any) -> None:
        self._send({"name": "org", "type": "user", "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def create(self, body: bytes, query: Any) -> None:
        asked = json.loads(body)
        name = "/".join(filter(None, (asked.get("organization") or "org", asked["name"].split("/")[-1])))
        if "/" in asked["name"]:
            name = asked["name"]
        if name.startswith("theirs/"):
            return self._send(
                {"error": "You don't have the rights to create a model under this namespace"}, 403
            )
        kind = asked.get("type") or "model"
        exists = (kind, name) in self.hub.repos
        if kind == "space" and asked.get("sdk") not in ("docker", "gradio", "static"):
            return self._send({"error": "Select a sdk for the Space"}, 400)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.repos.setdefault((kind, name), Repo(private=private))
        prefix = "" if kind == "model" else f"{kind}s/"
        self._send(
            {"url": f"{self.hub.url}/{prefix}{name}", "name": name, "id": name}, 409 if exists else 200
        )

    def settings(self, body: bytes, query: Any, kind: str, repo: str) -> None:
        self.hub.repos[kind, repo].gated = json.loads(body)["gated"]
        self._send({})

    def validate(self, body: bytes, query: Any) -> None:
        self._send({"errors": [], "warnings": []})

    def preupload(self, body: bytes, query: Any, kind: str, repo: str, revision: str) -> None:
        found = self._files(kind, repo, revision)
        if found is None:
            return
        answer = []
        for file in json.loads(body)["files"]:
            large = file["path"].endswith(LARGE)
            there = found[1].get(file["path"])
            oid = None if there is None else there.sha256 if large else there.blob_id
            mode = "lfs" if large else "regular"
            answer.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._send({"files": answer})

    def batch(self, body: bytes, query: Any, repo: str, prefix: str | None = None) -> None:
        objects = json.loads(body)["objects"]
        for one in objects:
            if one["oid"] not in self.hub.store.blobs:  # otherwise it need not be sent again
                one["actions"] = {"upload": {"href": f"{self.hub.url}/objects/{one['oid']}"}}
        self._send({"transfer": "basic", "objects": objects})

    def commit(self, body: bytes, query: Any, kind: str, repo: str, revision: str) -> None:
        from io import BytesIO

        with self.hub.lock:
            found = self._files(kind, repo, revision)
            if found is None:
                return
            files = dict(found[1])
            for line in body.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "header" and value.get("parentCommit") not in (None, found[0]):
                    return self._send(
                        {"error": "A commit has happened since. Please refresh and try again."}, 412
                    )
                if entry["key"] == "file":
                    content = base64.b64decode(value["content"])
                    files[value["path"]] = self.hub.store.add(BytesIO(content), len(content))
                elif entry["key"] == "lfsFile":
                    files[value["path"]] = self.hub.store.blobs[value["oid"]]
                elif entry["key"] == "deletedFile" and files.pop(value["path"], None) is None:
                    return self._send({"error": "A file with this name doesn't exist"}, 404)
            oid = self.hub.repos[kind, repo].commit(revision, files)
        self._send(
            {"commitUrl": f"{self.hub.url}/{repo}/commit/{oid}", "commitOid": oid, "pullRequestUrl": None}
        )

    def info(self, body: bytes, query: Any, kind: str, repo: str, revision: str = "main") -> None:
        found = self._files(kind, repo, revision)
        if found is not None:
            siblings = [{"rfilename": name} for name in sorted(found[1])]
            of = self.hub.repos[kind, repo]
            self._send(
                {"id": repo, "modelId": repo, "sha": found[0], "siblings": siblings, "tags": []}
                | {"private": of.private, "gated": of.gated, "downloads": 0, "likes": 0, "disabled": False}
            )

    def refs(self, body: bytes, query: Any, kind: str, repo: str) -> None:
        found = self.hub.repos[kind, repo]
        branches, tags = (
            [{"name": name, "ref": f"refs/{what}/{name}", "targetCommit": oid} for name, oid in refs.items()]
            for what, refs in (("heads", found.refs), ("tags", found.tags))
        )
        self._send({"branches": branches, "converts": [], "tags": tags, "pullRequests": None})

    def tree(
        self, body: bytes, query: Any, kind: str, repo: str, revision: str, under: str | None = None
    ) -> None:
        found = self._files(kind, repo, revision)
        if found is None:
            return
        prefix = f"{under}/" if under else ""
        inside = {name: blob for name, blob in found[1].items() if name.startswith(prefix)}
        if under and not inside:
            return self._missing("EntryNotFound")
        entries = []
        recursive = query.get("recursive", ["false"])[0].lower() in ("1", "true")
        for name, blob in sorted(inside.items()):
            if recursive or "/" not in name[len(prefix) :]:
                entries.append(_entry(name, blob))
        folders = {
            prefix + name[len(prefix) :].rpartition("/")[0] for name in inside if "/" in name[len(prefix) :]
        }
        if not recursive:
            folders = {
                prefix + name[len(prefix) :].split("/")[0] for name in inside if "/" in name[len(prefix) :]
            }
        entries += [
            {"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in sorted(folders)
        ]
        self._send(entries)

    def paths_info(self, body: bytes, query: Any, kind: str, repo: str, revision: str) -> None:
        found = self._files(kind, repo, revision)
        if found is None:
            return
        form = "json" not in (self.headers.get("Content-Type") or "")
        paths = parse_qs(body.decode()).get("paths", []) if form else json.loads(body)["paths"]
        self._send([_entry(name, found[1][name]) for name in paths if name in found[1]])

    def resolve(
        self, body: bytes, query: Any, repo: str, revision: str, name: str, prefix: str | None = None
    ) -> None:
        kind = prefix.removesuffix("s/") if prefix else "model"
        found = self._files(kind, repo, revision)
        if found is None:
            return
        if self.hub.repos[kind, repo].gated and not self._authorised():
            return self._send({"error": "ask"}, 403, {"X-Error-Code": "GatedRepo"})
        if name not in found[1]:
            return self._send(
                {"error": "Entry not found"},
                404,
                {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": found[0]},
            )
        blob = found[1][name]
        first, last = 0, blob.size - 1
        headers = {
            "Content-Type": "application/octet-stream",
            "X-Repo-Commit": found[0],
            "ETag": f'"{blob.sha256 if name.endswith(LARGE) else blob.blob_id}"',
            "X-Linked-Size": str(blob.size),
            "Accept-Ranges": "bytes",
        }
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2] or last), last)
            headers["Content-Range"] = f"bytes {first}-{last}/{blob.size}"
        headers["Content-Length"] = str(last - first + 1)
        self._start(206 if wanted else 200, headers)
        if self.command != "HEAD":
            self._send_file(blob, first, last - first + 1)

    def _send_file(self, blob: Blob, first: int, size: int) -> None:
        """Send a part of a content, with the fault of the request."""
        fault = self.fault or Fault("")
        left = size if fault.drop_after is None else min(size, fault.drop_after)
        with blob.path.open("rb") as file:
            file.seek(first)
            while left:
                chunk = file.read(min(left, _CHUNK))
                if fault.corrupt and left == size:
                    chunk = bytes([chunk[0] ^ 1]) + chunk[1:]
                self.wfile.write(chunk)
                left -= len(chunk)
        if fault.drop_after is not None:
            raise _Dropped

    def branch(self, body: bytes, query: Any, kind: str, repo: str, name: str) -> None:
        found = self.hub.repos[kind, repo]
        start = json.loads(body or b"{}").get("startingPoint") or "main"
        found.refs[name] = found.refs.get(start, start)
        self._send({})

    def tag(self, body: bytes, query: Any, kind: str, repo: str, name: str) -> None:
        found, asked = self.hub.repos[kind, repo], json.loads(body)
        if asked["tag"] in found.tags:
            return self._send({"error": "Tag reference exists already"}, 409)
        found.tags[asked["tag"]] = found.refs.get(name, name)
        found.tag_messages[asked["tag"]] = asked.get("message", "")
        self._send({})


def _entry(name: str, blob: Blob) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": name, "size": blob.size, "oid": blob.blob_id}
    if name.endswith(LARGE):
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{blob.sha256}\nsize {blob.size}\n"
        entry["oid"] = hashlib.sha1(b"blob %d\0" % len(pointer) + pointer.encode()).hexdigest()
        entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": len(pointer)}
    return entry


_API = r"/api/(?P<kind>model|dataset|space)s/(?P<repo>[^/]+/[^/]+)"
_ID = r"(?P<prefix>datasets/|spaces/)?(?P<repo>[^/]+/[^/]+)"
_ROUTES: list[tuple[str, str, Any]] = [
    ("GET", r"/api/whoami-v2", _Handler.whoami),
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", r"/api/validate-yaml", _Handler.validate),
    ("POST", _API + r"/preupload/(?P<revision>[^/]+)", _Handler.preupload),
    ("POST", rf"/{_ID}\.git/info/lfs/objects/batch", _Handler.batch),
    ("POST", _API + r"/commit/(?P<revision>[^/]+)", _Handler.commit),
    ("PUT", _API + r"/settings", _Handler.settings),
    ("GET", _API, _Handler.info),
    ("GET", _API + r"/revision/(?P<revision>[^/]+)", _Handler.info),
    ("GET", _API + r"/refs", _Handler.refs),
    ("GET", _API + r"/tree/(?P<revision>[^/]+)(?:/(?P<under>.+))?", _Handler.tree),
    ("POST", _API + r"/paths-info/(?P<revision>[^/]+)", _Handler.paths_info),
    ("POST", _API + r"/branch/(?P<name>[^/]+)", _Handler.branch),
    ("POST", _API + r"/tag/(?P<name>[^/]+)", _Handler.tag),
    ("GET HEAD", rf"/{_ID}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", _Handler.resolve),
]
