"""Push folders of datasets, models and Spaces to the Hub, and pull datasets and models from it.

A push is one commit, and a pull puts its folder in place at once: readers find the complete old or the complete new
content, and nothing that is there already is sent again. All requests go through ``huggingface_hub``, so
``HF_ENDPOINT``, ``HF_TOKEN`` and offline mode work as usual.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, TypeVar

import jinja2
import yaml
from huggingface_hub import DatasetCard

from opendance_hf.disk import check_room, disk_fault
from opendance_hf.errors import OpenDanceError
from opendance_hf.files import HUB_ID, OutputError, new_folder, replace_folder
from opendance_hf.model_card import model_card_for_hub
from opendance_hf.schema import check_schema_version
from opendance_hf.storage.card import add_version, card_for_hub, keep_changelog
from opendance_hf.storage.contents import PUBLISHED, ContentError, Kind, published_files
from opendance_hf.storage.pack import STATISTICS, check_replaceable

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.hf_api import RepoFile

#: Largest number of files that one commit adds, changes and deletes. The documentation of the Hub recommends 100;
#: ``huggingface_hub`` itself makes commits of up to 1,000. A line of the request is about 200 bytes for a large file.
MAX_CHANGES: Final = 1_000
#: Largest number of commits that are tried while others commit to the same branch.
MAX_COMMITS: Final = 5
#: Seconds before each new attempt after a transient fault; a longer ``Retry-After`` of the Hub counts instead.
RETRY_WAITS_S: Final = (1, 2, 4, 8, 16)
#: Longest ``Retry-After`` that is waited for, seconds; the rate limits of the Hub are windows of five minutes.
MAX_WAIT_S: Final = 330
#: Folders of a dataset whose remote files are deleted when the local folder does not have them.
MIRRORED: Final = ("data", "webdataset", "figures")
_TRANSIENT: Final = frozenset((408, 429, 500, 502, 503, 504))
_HEAD_MOVED: Final = frozenset((409, 412))
_DOWNLOADS: Final = 4
_GATED_PROMPT: Final = (
    "The rows are motion of people, without video and without sound. By asking for access you agree to the licence and "
    "the terms on this card."
)
T = TypeVar("T")


class HubError(OpenDanceError, ValueError):
    """Raised for what cannot be pushed or pulled; the message has the folder or repository, the cause and the remedy."""


@dataclass(frozen=True)
class PushReport:
    """Result of :func:`push`.

    Attributes:
        url: URL of the repository.
        commit: commit that readers of the branch have now.
        uploaded: names of the files that were new or changed; empty if the repository had all of them.
        deleted: names of the files that were deleted from the repository.
        unchanged: number of files that the repository had already.
        tag: tag of the version; empty without one.
    """

    url: str
    commit: str
    uploaded: tuple[str, ...]
    deleted: tuple[str, ...]
    unchanged: int
    tag: str = ""


@dataclass(frozen=True)
class PullReport:
    """Result of :func:`pull`.

    Attributes:
        folder: folder of the dataset or model.
        kind: dataset or model.
        commit: commit that the folder has now.
        downloaded: names of the files that were downloaded.
        kept: number of files that an earlier pull had downloaded.
        skipped: files of the repository that are not of a kind that OpenDance-HF publishes.
    """

    folder: Path
    kind: Kind
    commit: str
    downloaded: tuple[str, ...]
    kept: int
    skipped: tuple[str, ...] = ()


def push(
    folder: Path | str,
    repo_id: str,
    *,
    private: bool = False,
    gated: str = "",
    revision: str | None = None,
    version: str = "",
    notes: str = "",
    token: str | None = None,
) -> PushReport:
    """Push the folder of a dataset, a model or a Space as one commit.

    Only files of :data:`opendance_hf.storage.contents.PUBLISHED` are uploaded. The uploaded card has the name of the
    repository in its title and examples; the folder on disk is not changed.

    1. The hashes of the folder are compared with those of the branch. Only files that differ are uploaded.
    2. Large files are uploaded first, without a commit, so nobody sees them. The Hub keeps them: if the push is killed,
       the next one sends only the others.
    3. One commit adds the changes, and deletes what :data:`MIRRORED` folders of the repository have and the dataset does
       not, so that no shard of an earlier version is loaded. Its parent is the commit of step 1. If somebody else has
       committed since, all steps are repeated, :data:`MAX_COMMITS` times at most.
    4. The branch is listed again, and every hash compared.

    Requests are tried again after 429, 408, 5xx and broken connections, :data:`RETRY_WAITS_S`.

    Args:
        folder: folder that ``opendance build``, ``opendance train`` or ``opendance app --space`` wrote.
        repo_id: ``user/name``; created if it does not exist.
        private: True to create a private repository; one that exists must be private already.
        gated: ``auto`` to have users accept the conditions on the card before they get the files, ``manual`` to decide on
            each of them as well; set before the upload. Empty to leave the repository as it is.
        revision: branch; the main one by default.
        version: version of a dataset, such as ``1.1.0``. The commit gets the tag ``v1.1.0``, the card a line in "Changelog".
        notes: what changed in this version, one line.
        token: access token; ``HF_TOKEN`` or the saved login by default.

    Raises:
        HubError: if the folder is not a dataset, a model or a Space or has no card, the name has no owner, the version exists,
            there is no token, or the upload fails.
        ContentError: if the folder contains a file that must not be published, such as video or audio.
    """
    from huggingface_hub import HfApi, get_token

    folder = Path(folder)
    kind = _kind(folder)
    if not HUB_ID.fullmatch(repo_id):
        raise HubError(
            f"{repo_id}: expected user/name or organisation/name, such as your-name/{folder.resolve().name}; "
            "`hf auth whoami` prints your user name and organisations"
        )
    _check_options(folder, kind, gated, version, notes)
    files = {path.relative_to(folder).as_posix(): path for path in published_files(folder, kind)}
    if token is None and get_token() is None:
        raise HubError(
            f"{repo_id}: no access token; run `hf auth login`, or set HF_TOKEN to a token with write access from "
            "https://huggingface.co/settings/tokens"
        )
    with _hub_errors(repo_id, "upload"):
        pushing = _Push(HfApi(token=token), repo_id, kind, folder, files, revision, gated, version, notes)
        url = pushing.prepare(private)
        commit, uploaded, deleted = pushing.commit()
        pushing.verify(commit)
        tag = pushing.tag(commit) if version else ""
    return PushReport(url, commit, uploaded, deleted, len(files) - len(uploaded), tag)


@dataclass
class _Push:
    """The steps of :func:`push`."""

    api: HfApi
    repo_id: str
    kind: Kind
    folder: Path
    files: Mapping[str, Path]
    revision: str | None
    gated: str
    version: str
    notes: str

    def __post_init__(self) -> None:
        from huggingface_hub import CommitOperationAdd

        # A file is hashed once, on first use; the card is made when the remote one is known.
        self.local: dict[str, CommitOperationAdd] = {
            name: CommitOperationAdd(name, path) for name, path in self.files.items() if name != "README.md"
        }

    def prepare(self, private: bool) -> str:
        """Create the repository or check that it is as asked for; return its URL."""
        sdk = "docker" if self.kind == "space" else None
        url = _retried(
            lambda: self.api.create_repo(
                self.repo_id, repo_type=self.kind, private=private, exist_ok=True, space_sdk=sdk
            ),
            first=True,
        )
        if private and not _retried(lambda: self.api.repo_info(self.repo_id, repo_type=self.kind)).private:
            raise HubError(
                f"{self.repo_id}: exists and is public, so --private would publish; make it private in its settings on the "
                "Hub, or choose another name"
            )
        if self.version and f"v{self.version}" in self._tags():
            raise HubError(
                f"{self.repo_id}: version {self.version} exists (tag v{self.version}); nothing was uploaded; choose a higher "
                "version, or push without --version"
            )
        if self.gated:
            _retried(
                lambda: self.api.update_repo_settings(self.repo_id, repo_type=self.kind, gated=self.gated)  # type: ignore[arg-type]
            )
        return str(url)

    def commit(self) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """Upload and commit what differs; return the commit and the names of added and deleted files.

        If the answer to a commit is lost, the second attempt finds that the head has moved, and then no difference.
        """
        from huggingface_hub import CommitOperationDelete
        from huggingface_hub.errors import HfHubHTTPError

        added: list[str] = []
        deleted: list[str] = []
        for _ in range(MAX_COMMITS):
            head = _head(self.api, self.repo_id, self.kind, self.revision)
            remote = _remote_files(self.api, self.repo_id, self.kind, head)
            self._make_card(head, remote)
            differ = [name for name, file in self.local.items() if not _same(file, remote.get(name))]
            stale = self._stale(remote)
            if not differ and not stale:
                return head, tuple(added), tuple(deleted)
            self._check_number(len(differ) + len(stale))
            added, deleted = differ, stale
            changes = [self.local[name] for name in differ]
            # Retries inside, file by file.
            self.api.preupload_lfs_files(
                self.repo_id, changes, repo_type=self.kind, revision=self.revision, free_memory=False
            )
            operations = [*changes, *(CommitOperationDelete(name, is_folder=False) for name in stale)]
            try:
                made = _retried(lambda: self._send(operations, head))  # noqa: B023 (called in this round)
            except HfHubHTTPError as error:
                if error.response.status_code not in _HEAD_MOVED:
                    raise
                continue
            return made, tuple(added), tuple(deleted)
        raise HubError(
            f"{self.repo_id}: somebody else committed during each of {MAX_COMMITS} attempts; nothing was changed by this push; "
            "run the command again when they are done"
        )

    def _send(self, operations: list[Any], head: str) -> str:
        made = self.api.create_commit(
            self.repo_id,
            operations,
            commit_message=f"Upload {self.kind} with opendance-hf"
            + (f", {self.version}" if self.version else ""),
            repo_type=self.kind,
            revision=self.revision,
            parent_commit=head,
        )
        return str(made.oid)

    def _make_card(self, head: str, remote: Collection[str]) -> None:
        """Make the card to upload, with the changelog of the remote one."""
        from huggingface_hub import CommitOperationAdd

        earlier = ""
        if self.kind == "dataset" and "README.md" in remote:
            path = _retried(
                lambda: self.api.hf_hub_download(
                    self.repo_id, "README.md", repo_type=self.kind, revision=head
                )
            )
            earlier = Path(path).read_text(encoding="utf-8")
        card = _card(self.folder, self.kind, self.repo_id, gated=bool(self.gated))
        if self.kind == "dataset":
            card = keep_changelog(card, earlier)
        if self.version:
            described = _described(self.folder)
            card = add_version(
                card, described, self.repo_id, self.version, str(datetime.now(UTC).date()), self.notes
            )
        self.local["README.md"] = CommitOperationAdd("README.md", card.encode())

    def _stale(self, remote: Mapping[str, RepoFile]) -> list[str]:
        """Return the remote files of a dataset that the folder does not have."""
        if self.kind != "dataset":
            return []
        stale = [
            name
            for name in sorted(remote.keys() - self.local.keys())
            if name.partition("/")[0] in MIRRORED and _publishable(name, "dataset")
        ]
        if stale and STATISTICS not in remote:
            raise HubError(
                f"{self.repo_id}: has data that OpenDance-HF did not write, such as {stale[0]}, which a push would delete; "
                "choose another name, or delete the files on the Hub"
            )
        return stale

    def _check_number(self, changes: int) -> None:
        if changes > MAX_CHANGES:
            raise HubError(
                f"{self.repo_id}: {changes:,} files would change in one commit, at most {MAX_CHANGES:,} can; write larger shards "
                "(opendance_hf.storage.pack(..., shard_bytes=...))"
            )

    def verify(self, commit: str) -> None:
        """Compare the hashes of a commit with those of the folder."""
        remote = _remote_files(self.api, self.repo_id, self.kind, commit)
        for name, file in self.local.items():
            if not _same(file, remote.get(name)):
                state = "has another size or hash" if name in remote else "is missing"
                raise HubError(
                    f"{self.repo_id}: {name} {state} on the Hub after the upload (commit {commit}); if the folder was changed "
                    "meanwhile, run the command again"
                )

    def tag(self, commit: str) -> str:
        """Tag a commit with the version; return the tag."""
        described = _described(self.folder)
        tag = f"v{self.version}"
        message = f"Version {self.version}, schema {described['schema_version']}, OpenDance-HF {described['opendance_version']}"
        _retried(
            lambda: self.api.create_tag(
                self.repo_id,
                tag=tag,
                tag_message=message,
                revision=commit,
                repo_type=self.kind,
                exist_ok=True,
            )
        )
        if _head(self.api, self.repo_id, self.kind, tag) != commit:
            raise HubError(
                f"{self.repo_id}: somebody else has made version {self.version} meanwhile; the files are uploaded; push again "
                "with a higher version"
            )
        return tag

    def _tags(self) -> set[str]:
        refs = _retried(lambda: self.api.list_repo_refs(self.repo_id, repo_type=self.kind))
        return {tag.name for tag in refs.tags}


def pull(
    repo_id: str,
    out: Path | str | None = None,
    *,
    revision: str | None = None,
    kind: Kind | None = None,
    token: str | None = None,
) -> PullReport:
    """Pull a dataset or a model that OpenDance-HF pushed, and put it in place at once.

    Files are downloaded into the hidden folder ``.NAME.pull`` beside ``out``. A pull that was killed continues there, with the
    first file that is not complete, and files that an earlier pull left in ``out`` are taken from it. Every file is compared
    with the size and the hash that the Hub lists, and its content with its suffix; then the folder takes the place of ``out``.
    After an error ``out`` is as before.

    Args:
        repo_id: ``user/name``.
        out: folder to write; the name of the repository by default. A dataset or model that is there is replaced.
        revision: branch, tag or commit; the main branch by default.
        kind: ``dataset`` or ``model``; whichever exists by default, the dataset first.
        token: access token; ``HF_TOKEN`` or the saved login by default.

    Raises:
        HubError: if the repository cannot be read, is not of OpenDance-HF, or a file is not what the Hub lists.
        OutputError, PackError: if ``out`` is something else, which is not replaced.
        DiskError: if there is no room.
    """
    from huggingface_hub import HfApi

    if not HUB_ID.fullmatch(repo_id):
        raise HubError(f"{repo_id}: expected user/name or organisation/name")
    out = Path(out if out is not None else repo_id.partition("/")[2]).absolute()
    api = HfApi(token=token)
    with _hub_errors(repo_id, "download"):
        kind, commit = _resolve(api, repo_id, kind, revision)
        _check_pull_target(out, kind)
        remote = _remote_files(api, repo_id, kind, commit)
        wanted, skipped = _wanted(repo_id, kind, remote)
    partial = out.with_name(f".{out.name}.pull")
    with new_folder(out.parent):
        partial.mkdir(exist_ok=True)
        missing = _reuse(out, partial, wanted)
        check_room(out, sum(wanted[name].size for name in missing))
        with _hub_errors(repo_id, "download"):
            _download(api, repo_id, kind, commit, {name: wanted[name] for name in missing}, partial)
            _check_pulled(repo_id, kind, partial, wanted)
        _check_pull_target(out, kind)
        replace_folder(partial, out)
    return PullReport(out, kind, commit, tuple(missing), len(wanted) - len(missing), skipped)


def _resolve(api: HfApi, repo_id: str, kind: Kind | None, revision: str | None) -> tuple[Kind, str]:
    """Return the kind of a repository and the commit of a revision."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if kind is not None:
        return kind, _head(api, repo_id, kind, revision, first=True)
    try:
        return "dataset", _head(api, repo_id, "dataset", revision, first=True)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return "model", _head(api, repo_id, "model", revision)


def _check_pull_target(out: Path, kind: Kind) -> None:
    """Check that ``out`` is absent, empty, or a folder of the kind that a pull may replace."""
    if kind == "dataset":
        return check_replaceable(out)
    if not os.path.lexists(out) or (out.is_dir() and not out.is_symlink() and not any(out.iterdir())):
        return None
    if out.is_dir() and not out.is_symlink() and (out / "config.json").is_file():
        kept = [path for path in out.iterdir() if path.is_dir() or not _publishable(path.name, kind)]
        if not kept:
            return None
        raise OutputError(f"{out}: has {kept[0].name}, which a pull would delete; choose another --out")
    raise OutputError(f"{out}: exists and is not a model's folder; choose another --out")


def _wanted(
    repo_id: str, kind: Kind, remote: Mapping[str, RepoFile]
) -> tuple[dict[str, RepoFile], tuple[str, ...]]:
    """Return the files of a repository to download, and the names of those of other kinds.

    Raises:
        HubError: if a name leads out of the folder, or the repository is not of OpenDance-HF.
    """
    for name in remote:
        parts = PurePosixPath(name).parts
        if (
            not parts
            or name.startswith("/")
            or re.search(r"[\\:\0]", name)
            or {"..", "."} & set(name.split("/"))
        ):
            raise HubError(
                f"{repo_id}: the file name {name!r} leads out of the folder; nothing was downloaded"
            )
    marker = STATISTICS if kind == "dataset" else "config.json"
    if marker not in remote:
        raise HubError(
            f"{repo_id}: is not a {kind} of OpenDance-HF, {marker} is missing; `hf download` gets any repository"
        )
    wanted = {name: file for name, file in remote.items() if _publishable(name, kind)}
    skipped = (name for name in remote.keys() - wanted.keys() if not PurePosixPath(name).name.startswith("."))
    return wanted, tuple(sorted(skipped))


def _publishable(name: str, kind: Kind) -> bool:
    """Return True if a file of that name may be in a folder of that kind, see :func:`published_files`."""
    path = PurePosixPath(name)
    if any(part.startswith(".") for part in path.parts) or (kind != "dataset" and len(path.parts) > 1):
        return False
    return name in PUBLISHED[kind] or path.suffix.lower() in PUBLISHED[kind]


def _reuse(out: Path, partial: Path, wanted: Mapping[str, RepoFile]) -> list[str]:
    """Take complete files from an earlier pull, remove others from ``partial``, and return the names that are missing."""
    for path in sorted(partial.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):
                path.rmdir()
        elif path.relative_to(partial).as_posix() not in wanted or not path.is_file() or path.is_symlink():
            path.unlink()
    missing = []
    for name, file in wanted.items():
        path, earlier = partial / name, out / name
        if path.is_file() and _same(path, file):
            continue
        path.unlink(missing_ok=True)
        if earlier.is_file() and not earlier.is_symlink() and _same(earlier, file):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(earlier, path)
            except OSError:  # a file system without hard links
                shutil.copy2(earlier, path)
            continue
        missing.append(name)
    return missing


def _download(
    api: HfApi, repo_id: str, kind: Kind, commit: str, files: Mapping[str, RepoFile], partial: Path
) -> None:
    """Download files into a folder, some at a time, and compare their hashes."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        tqdm,
    )

    bar = tqdm(
        desc=f"Pull {repo_id}",
        total=sum(f.size for f in files.values()),
        unit="B",
        unit_scale=True,
        disable=None,
    )

    def download(name: str) -> None:
        _retried(
            lambda: api.hf_hub_download(
                repo_id, name, repo_type=kind, revision=commit, local_dir=partial, etag_timeout=60
            )
        )
        if not _same(partial / name, files[name]):
            (partial / name).unlink()
            raise HubError(
                f"{repo_id}: {name} has another size or hash than the Hub lists (commit {commit}); run the command again to "
                "download this file again"
            )
        bar.update(files[name].size)

    group = "huggingface_hub.http_get"  # a bar for every file
    shown = not are_progress_bars_disabled(group)
    with bar, ThreadPoolExecutor(_DOWNLOADS) as pool:
        if shown:
            disable_progress_bars(group)
        try:
            tasks = [pool.submit(download, name) for name in files]
            for task in tasks:
                task.result()
        finally:
            pool.shutdown(cancel_futures=True)
            if shown:
                enable_progress_bars(group)
    shutil.rmtree(partial / ".cache", ignore_errors=True)  # notes of huggingface_hub


def _check_pulled(repo_id: str, kind: Kind, partial: Path, wanted: Collection[str]) -> None:
    """Check the content of the files that were pulled, and the schema of a dataset."""
    try:
        found = {path.relative_to(partial).as_posix() for path in published_files(partial, kind)}
    except ContentError as error:
        raise HubError(f"{repo_id}: was not pulled, a file is not what its name says: {error}") from None
    if found != set(wanted):
        raise HubError(f"{repo_id}: another process changes {partial}; run the command again")
    if kind == "dataset":
        check_schema_version(_described(partial)["schema_version"], repo_id)


def _head(api: HfApi, repo_id: str, kind: Kind, revision: str | None, *, first: bool = False) -> str:
    """Return the commit of a branch or tag."""
    found = _retried(lambda: api.repo_info(repo_id, repo_type=kind, revision=revision), first=first)
    return str(found.sha)


def _remote_files(api: HfApi, repo_id: str, kind: Kind, commit: str) -> dict[str, RepoFile]:
    """List all files of a commit by name, with their sizes and hashes."""
    from huggingface_hub.hf_api import RepoFile

    entries = _retried(
        lambda: list(api.list_repo_tree(repo_id, repo_type=kind, revision=commit, recursive=True))
    )
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def _same(local: CommitOperationAdd | Path, remote: RepoFile | None) -> bool:
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


def _retried(call: Callable[[], T], *, first: bool = False) -> T:
    """Call until there is no transient fault of the Hub or of the network, once more than there are RETRY_WAITS_S.

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
def _hub_errors(repo_id: str, what: str) -> Iterator[None]:
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


def _kind(folder: Path) -> Kind:
    if not folder.is_dir():
        raise HubError(f"{folder}: no such folder")
    if any(folder.glob("data/*/*.parquet")):
        kind: Kind = "dataset"
    elif (folder / "config.json").is_file():
        kind = "model"
    elif (folder / "Dockerfile").is_file():
        kind = "space"
    else:
        raise HubError(
            f"{folder}: neither a dataset (data/CONFIG/*.parquet) nor a model (config.json) nor a Space (Dockerfile)"
        )
    if not (folder / "README.md").is_file():
        raise HubError(f"{folder}: README.md, the card, is missing")
    return kind


def _check_options(folder: Path, kind: Kind, gated: str, version: str, notes: str) -> None:
    """Check the options of a push that need no network."""
    if gated not in ("", "auto", "manual"):
        raise HubError(f"unknown --gated {gated!r}: expected auto or manual")
    if gated and kind == "space":
        raise HubError(f"{folder}: a Space cannot be gated; --private hides it")
    if notes and not version:
        raise HubError("--notes describes a version: give --version too, such as 1.1.0")
    if not version:
        return
    if kind != "dataset":
        raise HubError(f"{folder}: --version is for datasets, and this is a {kind}")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise HubError(f"unknown version {version!r}: expected three numbers, such as 1.1.0")
    try:
        _described(folder)["schema_version"], _described(folder)["configs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HubError(
            f"{folder / STATISTICS}: cannot be read ({error}), so the version has no schema; build the dataset again"
        ) from None


def _described(folder: Path) -> dict[str, Any]:
    """Read ``statistics.json`` of a dataset folder."""
    described: dict[str, Any] = json.loads((folder / STATISTICS).read_text(encoding="utf-8"))
    return described


def _card(folder: Path, kind: Kind, repo_id: str, *, gated: bool = False) -> str:
    """Return the card of a folder, renamed for a repository; that of a Space as it is."""
    if kind == "space":
        return (folder / "README.md").read_text(encoding="utf-8")
    return _dataset_card(folder, repo_id, gated) if kind == "dataset" else model_card_for_hub(folder, repo_id)


def _dataset_card(folder: Path, repo_id: str, gated: bool) -> str:
    """Return the card of a dataset folder, renamed for a repository; unchanged if OpenDance-HF did not write it."""
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8")
    try:
        card = card_for_hub(DatasetCard(text), _described(folder), repo_id, folder.resolve().name)
        if gated and "extra_gated_prompt" not in card.data:
            card.data["extra_gated_prompt"] = _GATED_PROMPT
        return str(card)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError, jinja2.UndefinedError):
        return text
