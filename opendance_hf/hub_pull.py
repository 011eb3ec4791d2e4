"""Pull datasets and models from the Hub: complete and verified, or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from opendance_hf.disk import check_room
from opendance_hf.files import (
    HUB_ID,
    OutputError,
    new_folder,
    remove_replaced,
    replace_folder,
    restore_replaced,
)
from opendance_hf.hub_client import (
    HubError,
    described_in,
    head_of,
    hub_errors,
    remote_files,
    retried,
    same_content,
)
from opendance_hf.schema import check_schema_version
from opendance_hf.storage.contents import ContentError, Kind, publishable, published_files
from opendance_hf.storage.pack import STATISTICS, check_complete, check_replaceable
from opendance_hf.storage.parquet import IncompleteError

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

_DOWNLOADS: Final = 4


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
        DiskError: if the disk is full.
    """
    from huggingface_hub import HfApi

    if not HUB_ID.fullmatch(repo_id):
        raise HubError(f"{repo_id}: expected user/name or organisation/name")
    out = Path(out if out is not None else repo_id.partition("/")[2]).absolute()
    api = HfApi(token=token)
    restore_replaced(out)
    with hub_errors(repo_id, "download"):
        kind, commit = _resolve(api, repo_id, kind, revision)
        _check_pull_target(out, kind)
        remote = remote_files(api, repo_id, kind, commit)
        wanted, skipped = _wanted(repo_id, kind, remote)
        if kind == "model":
            config = retried(lambda: api.hf_hub_download(repo_id, "config.json", revision=commit))
            if not _is_model(Path(config)):
                raise HubError(
                    f"{repo_id}: is not a model of OpenDance-HF; `hf download` gets any repository"
                )
    partial = out.with_name(f".{out.name}.pull")
    with new_folder(out.parent):
        partial.mkdir(exist_ok=True)
        missing = _reuse(out, partial, wanted)
        check_room(out, sum(wanted[name].size for name in missing))
        with hub_errors(repo_id, "download"):
            _download(api, repo_id, kind, commit, {name: wanted[name] for name in missing}, partial)
            _check_pulled(repo_id, kind, partial, wanted)
        _check_pull_target(out, kind)
        replace_folder(partial, out)
        remove_replaced(out)
    return PullReport(out, kind, commit, tuple(missing), len(wanted) - len(missing), skipped)


def _resolve(api: HfApi, repo_id: str, kind: Kind | None, revision: str | None) -> tuple[Kind, str]:
    """Return the kind of a repository and the commit of a revision."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if kind is not None:
        return kind, head_of(api, repo_id, kind, revision, first=True)
    try:
        return "dataset", head_of(api, repo_id, "dataset", revision, first=True)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return "model", head_of(api, repo_id, "model", revision)


def _check_pull_target(out: Path, kind: Kind) -> None:
    """Check that ``out`` is absent, empty, or a folder of the kind that a pull may replace."""
    if kind == "dataset":
        return check_replaceable(out, pulled=True)
    if not os.path.lexists(out) or (out.is_dir() and not out.is_symlink() and not any(out.iterdir())):
        return None
    if out.is_dir() and not out.is_symlink() and _is_model(out / "config.json"):
        kept = [path for path in out.iterdir() if path.is_dir() or not publishable(path.name, kind)]
        if not kept:
            return None
        raise OutputError(f"{out}: has {kept[0].name}, which a pull would delete; choose another --out")
    raise OutputError(f"{out}: exists and is not a model's folder; choose another --out")


def _is_model(config: Path) -> bool:
    """Return whether a ``config.json`` is that of a model of OpenDance-HF."""
    from opendance_hf.modeling.models import MODELS  # loads torch

    try:
        return json.loads(config.read_text(encoding="utf-8"))["model_type"] in MODELS
    except (OSError, ValueError, KeyError, TypeError):
        return False


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
    wanted = {name: file for name, file in remote.items() if publishable(name, kind)}
    skipped = (name for name in remote.keys() - wanted.keys() if not PurePosixPath(name).name.startswith("."))
    return wanted, tuple(sorted(skipped))


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
        if path.is_file() and same_content(path, file):
            continue
        path.unlink(missing_ok=True)
        if earlier.is_file() and not earlier.is_symlink() and same_content(earlier, file):
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
        retried(
            lambda: api.hf_hub_download(
                repo_id, name, repo_type=kind, revision=commit, local_dir=partial, etag_timeout=60
            )
        )
        if not same_content(partial / name, files[name]):
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
    """Check the content of the files that were pulled, and the schema and the number of rows of a dataset."""
    try:
        found = {path.relative_to(partial).as_posix() for path in published_files(partial, kind)}
    except ContentError as error:
        raise HubError(f"{repo_id}: was not pulled, a file is not what its name says: {error}") from None
    if found != set(wanted):
        raise HubError(f"{repo_id}: another process changes {partial}; run the command again")
    if kind == "dataset":
        check_schema_version(described_in(partial)["schema_version"], repo_id)
        try:
            check_complete(partial)
        except IncompleteError as error:
            raise HubError(
                f"{repo_id}: was not pulled, the repository is incomplete ({error}); ask its owner, or pull an earlier commit with "
                "--revision"
            ) from None
