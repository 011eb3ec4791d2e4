"""Push folders of datasets, models and Spaces to the Hub.

A push is one commit: readers find the complete old or the complete new content, and nothing that is there already is
sent again. All requests go through ``huggingface_hub``, so ``HF_ENDPOINT``, ``HF_TOKEN`` and offline mode work as usual.
:func:`pull` is the way back.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jinja2
import yaml
from huggingface_hub import DatasetCard

from opendance_hf.files import HUB_ID
from opendance_hf.hub_client import (
    HubError,
    described_in,
    head_of,
    hub_errors,
    remote_files,
    retried,
    same_content,
)
from opendance_hf.hub_pull import PullReport, pull
from opendance_hf.model_card import model_card_for_hub
from opendance_hf.storage.card import add_version, card_for_hub, keep_changelog, keep_gate
from opendance_hf.storage.contents import Kind, publishable, published_files
from opendance_hf.storage.pack import STATISTICS, check_complete

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.hf_api import RepoFile

__all__ = ["HubError", "PullReport", "PushReport", "pull", "push"]

#: Largest number of files that one commit adds, changes and deletes. The documentation of the Hub recommends 100;
#: ``huggingface_hub`` itself makes commits of up to 1,000. A line of the request is about 200 bytes for a large file.
MAX_CHANGES: Final = 1_000
#: Largest number of commits that are tried while others commit to the same branch.
MAX_COMMITS: Final = 5
#: Folders of a dataset whose remote files are deleted when the local folder does not have them.
MIRRORED: Final = ("data", "webdataset", "figures")
_HEAD_MOVED: Final = frozenset((409, 412))
_GATED_PROMPT: Final = (
    "The rows are motion of people, without video and without sound. By asking for access you agree to the licence and "
    "the terms on this card."
)


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

    Requests are tried again after 429, 408, 5xx and broken connections, :data:`opendance_hf.hub_client.RETRY_WAITS_S`.

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
        IncompleteError: if shards of a dataset are missing, which the push would delete from the repository.
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
    if kind == "dataset":
        check_complete(folder)
    if token is None and get_token() is None:
        raise HubError(
            f"{repo_id}: no access token; run `hf auth login`, or set HF_TOKEN to a token with write access from "
            "https://huggingface.co/settings/tokens"
        )
    with hub_errors(repo_id, "upload"):
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
    local: dict[str, CommitOperationAdd] = field(default_factory=dict)

    def prepare(self, private: bool) -> str:
        """Create the repository or check that it is as asked for; return its URL."""
        sdk = "docker" if self.kind == "space" else None
        url = retried(
            lambda: self.api.create_repo(
                self.repo_id, repo_type=self.kind, private=private, exist_ok=True, space_sdk=sdk
            ),
            first=True,
        )
        if private and not retried(lambda: self.api.repo_info(self.repo_id, repo_type=self.kind)).private:
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
            retried(
                lambda: self.api.update_repo_settings(self.repo_id, repo_type=self.kind, gated=self.gated)  # type: ignore[arg-type]
            )
        return str(url)

    def commit(self) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """Upload and commit what differs; return the commit and the names of added and deleted files.

        If the answer to a commit is lost, the second attempt finds that the head has moved, and then no difference.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete
        from huggingface_hub.errors import HfHubHTTPError

        # Every file is hashed here, once; the card is made when the remote one is known.
        self.local = {
            name: CommitOperationAdd(name, path) for name, path in self.files.items() if name != "README.md"
        }
        added: list[str] = []
        deleted: list[str] = []
        for _ in range(MAX_COMMITS):
            head = head_of(self.api, self.repo_id, self.kind, self.revision)
            remote = remote_files(self.api, self.repo_id, self.kind, head)
            self._make_card(head, remote)
            differ = [name for name, file in self.local.items() if not same_content(file, remote.get(name))]
            stale = self._stale(remote)
            if not differ and not stale:
                return head, tuple(added), tuple(deleted)
            self._check_number(len(differ) + len(stale))
            added, deleted = differ, stale
            changes = [self.local[name] for name in differ]
            # Files that were sent before a fault are not sent again.
            retried(
                partial(
                    self.api.preupload_lfs_files,
                    self.repo_id,
                    changes,
                    repo_type=self.kind,
                    revision=self.revision,
                    free_memory=False,
                )
            )
            operations = [*changes, *(CommitOperationDelete(name, is_folder=False) for name in stale)]
            try:
                made = retried(lambda: self._send(operations, head))  # noqa: B023 (called in this round)
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
        """Make the card to upload, with the changelog and the conditions of access of the remote one."""
        from huggingface_hub import CommitOperationAdd

        earlier = ""
        if self.kind != "space" and "README.md" in remote:
            path = retried(
                lambda: self.api.hf_hub_download(
                    self.repo_id, "README.md", repo_type=self.kind, revision=head
                )
            )
            earlier = Path(path).read_text(encoding="utf-8")
        card = _card(self.folder, self.kind, self.repo_id)
        if self.kind == "dataset":
            prompt = _GATED_PROMPT if self.gated else ""
            card = keep_gate(keep_changelog(card, earlier), earlier, prompt)
        elif self.kind == "model":
            card = keep_gate(card, earlier)
        if self.version:
            described = described_in(self.folder)
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
            if name.partition("/")[0] in MIRRORED and publishable(name, "dataset")
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
        remote = remote_files(self.api, self.repo_id, self.kind, commit)
        for name, file in self.local.items():
            if not same_content(file, remote.get(name)):
                state = "has another size or hash" if name in remote else "is missing"
                raise HubError(
                    f"{self.repo_id}: {name} {state} on the Hub after the upload (commit {commit}); if the folder was changed "
                    "meanwhile, run the command again"
                )

    def tag(self, commit: str) -> str:
        """Tag a commit with the version; return the tag."""
        described = described_in(self.folder)
        tag = f"v{self.version}"
        message = f"Version {self.version}, schema {described['schema_version']}, OpenDance-HF {described['opendance_version']}"
        retried(
            lambda: self.api.create_tag(
                self.repo_id,
                tag=tag,
                tag_message=message,
                revision=commit,
                repo_type=self.kind,
                exist_ok=True,
            )
        )
        if head_of(self.api, self.repo_id, self.kind, tag) != commit:
            raise HubError(
                f"{self.repo_id}: somebody else has made version {self.version} meanwhile; the files are uploaded; push again "
                "with a higher version"
            )
        return tag

    def _tags(self) -> set[str]:
        refs = retried(lambda: self.api.list_repo_refs(self.repo_id, repo_type=self.kind))
        return {tag.name for tag in refs.tags}


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
        described_in(folder)["schema_version"], described_in(folder)["configs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HubError(
            f"{folder / STATISTICS}: cannot be read ({error}), so the version has no schema; build the dataset again"
        ) from None


def _card(folder: Path, kind: Kind, repo_id: str) -> str:
    """Return the card of a folder, renamed for a repository; that of a Space as it is."""
    if kind == "space":
        return (folder / "README.md").read_text(encoding="utf-8")
    return _dataset_card(folder, repo_id) if kind == "dataset" else model_card_for_hub(folder, repo_id)


def _dataset_card(folder: Path, repo_id: str) -> str:
    """Return the card of a dataset folder, renamed for a repository; unchanged if OpenDance-HF did not write it."""
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8")
    try:
        return str(card_for_hub(DatasetCard(text), described_in(folder), repo_id, folder.resolve().name))
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError, jinja2.UndefinedError):
        return text
