"""A Hub in memory, on loopback: what real ``huggingface_hub``, ``datasets`` and ``transformers`` clients need to push,
load and stream. Clients must be started with ``HF_ENDPOINT`` set, since they read it when imported; see :meth:`FakeHub.env`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

#: Files that the real Hub stores as large files.
LARGE = (".safetensors", ".parquet", ".tar", ".bin", ".whl")
TOKEN = "hf_fake"


class Repo:
    """Commits of one repository: revision to {path: content}."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, bytes]] = {}
        self.refs: dict[str, str] = {}
        self.commit("main", {})

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        digest = hashlib.sha1(
            repr([(n, hashlib.sha1(c).digest()) for n, c in sorted(files.items())]).encode()
        )
        digest.update(str(len(self.commits)).encode())
        oid = digest.hexdigest()
        self.commits[oid] = files
        self.refs[branch] = oid
        return oid


class FakeHub:
    """``with FakeHub() as hub: subprocess.run(..., env=hub.env(home))``."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def env(self, home: Path) -> dict[str, str]:
        """Environment of a client with caches of its own."""
        import os

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


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        split = urlsplit(self.path)
        path, query = unquote(split.path), parse_qs(split.query)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"{self.command} {path}")
        for method, pattern, answer in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method:
                if self.command != "HEAD" and self.command != "GET" and not self._authorised():
                    return self._send({"error": "Invalid credentials"}, 401)
                return answer(self, body, query, **match.groupdict())
        self._send({"error": f"the fake hub knows no {self.command} {path}"}, 404)

    def _authorised(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}" or self.path.startswith("/objects/")

    def _send(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(value, bytes) else "application/json"
        for name, text in {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            **(headers or {}),
        }.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _missing(self, code: str) -> None:
        self._send({"error": code}, 404, {"X-Error-Code": code})

    def _files(self, kind: str, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit and the files of a revision; the error is sent if there is none."""
        found = self.hub.repos.get((kind, repo))
        if found is None:
            return self._missing("RepoNotFound")
        oid = found.refs.get(revision, revision)
        if oid not in found.commits:
            return self._missing("RevisionNotFound")
        return oid, found.commits[oid]

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
        self.hub.repos.setdefault((kind, name), Repo())
        prefix = "" if kind == "model" else f"{kind}s/"
        self._send(
            {"url": f"{self.hub.url}/{prefix}{name}", "name": name, "id": name}, 409 if exists else 200
        )

    def validate(self, body: bytes, query: Any) -> None:
        self._send({"errors": [], "warnings": []})

    def preupload(self, body: bytes, query: Any, kind: str, repo: str, revision: str) -> None:
        files = json.loads(body)["files"]
        modes = ["lfs" if file["path"].endswith(LARGE) else "regular" for file in files]
        self._send(
            {
                "files": [
                    {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}
                    for file, mode in zip(files, modes, strict=True)
                ]
            }
        )

    def batch(self, body: bytes, query: Any, repo: str, prefix: str | None = None) -> None:
        objects = json.loads(body)["objects"]
        for one in objects:
            one["actions"] = {"upload": {"href": f"{self.hub.url}/objects/{one['oid']}"}}
        self._send({"transfer": "basic", "objects": objects})

    def put_object(self, body: bytes, query: Any, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self._send({"error": "the content has another hash"}, 422)
        self.hub.objects[oid] = body
        self._send(b"")

    def commit(self, body: bytes, query: Any, kind: str, repo: str, revision: str) -> None:
        found = self._files(kind, repo, revision)
        if found is None:
            return
        files = dict(found[1])
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif entry["key"] == "deletedFile":
                files.pop(value["path"], None)
        oid = self.hub.repos[kind, repo].commit(revision, files)
        self._send(
            {"commitUrl": f"{self.hub.url}/{repo}/commit/{oid}", "commitOid": oid, "pullRequestUrl": None}
        )

    def info(self, body: bytes, query: Any, kind: str, repo: str, revision: str = "main") -> None:
        found = self._files(kind, repo, revision)
        if found is not None:
            siblings = [{"rfilename": name} for name in sorted(found[1])]
            self._send(
                {
                    "id": repo,
                    "modelId": repo,
                    "sha": found[0],
                    "siblings": siblings,
                    "tags": [],
                    "private": False,
                }
                | {"downloads": 0, "likes": 0, "gated": False, "disabled": False}
            )

    def refs(self, body: bytes, query: Any, kind: str, repo: str) -> None:
        refs = self.hub.repos[kind, repo].refs
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": oid} for name, oid in refs.items()
        ]
        self._send({"branches": branches, "converts": [], "tags": [], "pullRequests": None})

    def tree(
        self, body: bytes, query: Any, kind: str, repo: str, revision: str, under: str | None = None
    ) -> None:
        found = self._files(kind, repo, revision)
        if found is None:
            return
        prefix = f"{under}/" if under else ""
        inside = {name: content for name, content in found[1].items() if name.startswith(prefix)}
        if under and not inside:
            return self._missing("EntryNotFound")
        entries = []
        recursive = query.get("recursive", ["false"])[0].lower() in ("1", "true")
        for name, content in sorted(inside.items()):
            if recursive or "/" not in name[len(prefix) :]:
                entries.append(_entry(name, content))
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
        if name not in found[1]:
            return self._send(
                {"error": "Entry not found"},
                404,
                {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": found[0]},
            )
        content = found[1][name]
        headers = {
            "X-Repo-Commit": found[0],
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Linked-Size": str(len(content)),
            "Accept-Ranges": "bytes",
        }
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            return self._send(content[first : last + 1], 206, headers)
        self._send(content, 200, headers)

    def branch(self, body: bytes, query: Any, kind: str, repo: str, name: str) -> None:
        found = self.hub.repos[kind, repo]
        asked = json.loads(body or b"{}")
        start = asked.get("startingPoint") or asked.get("revision") or "main"
        found.refs[asked.get("tag") or name] = found.refs.get(start, start)
        self._send({})


def _entry(name: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content)}
    entry["oid"] = hashlib.sha1(content).hexdigest()
    if name.endswith(LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry


_API = r"/api/(?P<kind>model|dataset|space)s/(?P<repo>[^/]+/[^/]+)"
_ID = r"(?P<prefix>datasets/|spaces/)?(?P<repo>[^/]+/[^/]+)"
_ROUTES: list[tuple[str, str, Any]] = [
    ("GET", r"/api/whoami-v2", _Handler.whoami),
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", r"/api/validate-yaml", _Handler.validate),
    ("POST", _API + r"/preupload/(?P<revision>[^/]+)", _Handler.preupload),
    ("POST", rf"/{_ID}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", r"/objects/(?P<oid>\w+)", _Handler.put_object),
    ("POST", _API + r"/commit/(?P<revision>[^/]+)", _Handler.commit),
    ("GET", _API, _Handler.info),
    ("GET", _API + r"/revision/(?P<revision>[^/]+)", _Handler.info),
    ("GET", _API + r"/refs", _Handler.refs),
    ("GET", _API + r"/tree/(?P<revision>[^/]+)(?:/(?P<under>.+))?", _Handler.tree),
    ("POST", _API + r"/paths-info/(?P<revision>[^/]+)", _Handler.paths_info),
    ("POST", _API + r"/(?:branch|tag)/(?P<name>[^/]+)", _Handler.branch),
    ("GET HEAD", rf"/{_ID}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", _Handler.resolve),
]
