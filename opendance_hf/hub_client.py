"""Requests to the Hub that survive transient faults, listings with hashes, and errors with a remedy; for pushes and pulls."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from opendance_hf.disk import disk_fault
from opendance_hf.errors import OpenDanceError
from opendance_hf.storage.contents import Kind
from opendance_hf.storage.pack import STATISTICS

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.hf_api import RepoFile

#: Seconds before each new attempt after a transient fault; a longer ``Retry-After`` of the Hub counts instead.
RETRY_WAITS_S: Final = (1, 2, 4, 8, 16)
#: Longest ``Retry-After`` that is waited for, seconds; the rate limits of the Hub are windows of five minutes.
MAX_WAIT_S: Final = 330
_TRANSIENT: Final = frozenset((408, 429, 500, 502, 503, 504))
T = TypeVar("T")


class HubError(OpenDanceError, ValueError):
    """Raised for what cannot be pushed or pulled; the message has the folder or repository, the cause and the remedy."""


def head_of(api: HfApi, repo_id: str, kind: Kind, revision: str | None, *, first: bool = False) -> str:
    """Return the commit of a branch or tag."""
    found = retried(lambda: api.repo_info(repo_id, repo_type=kind, revision=revision), first=first)
    return str(found.sha)


def remote_files(api: HfApi, repo_id: str, kind: Kind, commit: str) -> dict[str, RepoFile]:
    """List all files of a commit by name, with their sizes and hashes."""
    from huggingface_hub.hf_api import RepoFile

    entries = retried(
        lambda: list(api.list_repo_tree(repo_id, repo_type=kind, revision=commit, recursive=True))
    )
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def same_content(local: CommitOperationAdd | Path, remote: RepoFile | None) -> bool:
    """Compare a file with what the Hub lists: size, and SHA-256 of a large file or git's SHA-1 of another one."""
    if remote is None:
        return False
    if isinstance(local, Path):
        if local.stat().st_size != remote.size:
            return False
        with local.open("rb") as file:
            if remote.lfs is not None:
                return hashlib.file_digest(file, "sha256").hexdigest() == remote.lfs.sha256
            return _blob_id(file.read()) == remote.blob_id
    if local.upload_info.size != remote.size:
        return False
    if remote.lfs is not None:
        return local.upload_info.sha256.hex() == remote.lfs.sha256
    with local.as_file() as content:
        return _blob_id(content.read()) == remote.blob_id


def _blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def retried(call: Callable[[], T], *, first: bool = False) -> T:
    """Repeat a call after transient faults of the Hub or the network, after each of RETRY_WAITS_S at most.

    Args:
        call: a request that may be repeated.
        first: True for the first request of a command: if no connection can be made at all, that is an error at once.
    """
    for wait in RETRY_WAITS_S:
        try:
            return call()
        except Exception as error:
            asked = _asked_wait(error, first=first)
            if asked is None or asked > MAX_WAIT_S:
                raise
        time.sleep(max(asked, wait))
    return call()


def _asked_wait(error: BaseException, *, first: bool) -> float | None:
    """Return how long the Hub asks to wait after a transient fault, in seconds, 0 if it does not; None for other errors."""
    from huggingface_hub.errors import HfHubHTTPError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, HfHubHTTPError):
            if cause.response.status_code not in _TRANSIENT:
                return None
            asked = cause.response.headers.get("Retry-After", "")
            return float(asked) if asked.isdigit() else 0.0
        if _of_the_network(cause):
            return None if first and type(cause).__name__ == "ConnectError" else 0.0
        cause = cause.__cause__
    return None


def _of_the_network(error: BaseException) -> bool:
    # huggingface_hub does not re-export the errors of its HTTP client, which is httpx or a successor.
    return type(error).__module__.startswith("httpx")


@contextmanager
def hub_errors(repo_id: str, what: str) -> Iterator[None]:
    """Raise errors of the Hub, of HTTP and of ``huggingface_hub`` as a HubError with the cause and the remedy."""
    try:
        yield
    except Exception as error:  # they have no common base class
        if isinstance(error, OpenDanceError):
            raise
        if disk_fault(error) is not None:
            raise
        raise HubError(f"{repo_id}: {_failure(error, what)}") from None


def _failure(error: Exception, what: str) -> str:
    """Return the cause of a failed upload or download and its remedy, on one line."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    root: BaseException = error
    while root.__cause__ is not None and not (
        isinstance(root, HfHubHTTPError | OfflineModeIsEnabled) or _of_the_network(root)
    ):
        root = root.__cause__
    cause = " ".join(str(root).split())
    status = root.response.status_code if isinstance(root, HfHubHTTPError) else None
    if isinstance(root, OfflineModeIsEnabled):
        return f"the {what} failed in offline mode; unset HF_HUB_OFFLINE"
    if isinstance(root, GatedRepoError):
        return f"is gated ({cause}); ask for access on its page on the Hub, then run `hf auth login` and this command again"
    if isinstance(root, RevisionNotFoundError):
        return "has no such branch, tag or commit; its page on the Hub lists them; main is the default"
    if isinstance(root, RepositoryNotFoundError) and what == "download":
        return "does not exist or is private; check the name, and `hf auth whoami` for a private one"
    if status == 401:
        return f"the Hub refused the access token (401: {cause}); run `hf auth login` with a new one, or correct HF_TOKEN"
    if status == 403:
        return (
            f"this access token may not write there (403: {cause}); check the owner with `hf auth whoami`, and that the "
            "token has write access"
        )
    if status is None and _of_the_network(root):
        return f"the Hub cannot be reached ({cause}); check the network, and HF_ENDPOINT if it is set"
    return f"the {what} failed ({cause}); once that is corrected, run the command again, which continues it"


def described_in(folder: Path) -> dict[str, Any]:
    """Read ``statistics.json`` of a dataset folder."""
    described: dict[str, Any] = json.loads((folder / STATISTICS).read_text(encoding="utf-8"))
    return described
