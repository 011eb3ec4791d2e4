"""Folders to the Hub: datasets that ``load_dataset`` and models that ``from_pretrained`` find by name.

Everything goes through ``huggingface_hub``, so ``HF_ENDPOINT``, ``HF_TOKEN`` and offline mode mean what they always do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: Never published: the paper releases no video and no audio (section 3.2).
MEDIA_SUFFIXES: Final = frozenset(
    [
        ".mp4",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".m4v",
        ".flv",
        ".wmv",
        ".ts",
        ".mp3",
        ".wav",
        ".flac",
        ".m4a",
        ".aac",
        ".ogg",
        ".opus",
        ".wma",
    ]
)


class HubError(ValueError):
    """A folder that cannot be pushed; the message says which file and why."""


def push(
    folder: Path | str,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """Push a dataset or model folder, and return its address.

    Args:
        folder: what ``opendance build`` or ``opendance train`` wrote.
        repo_id: ``user/name``; made if it does not exist.
        private: whether a new repository is.
        revision: branch; the main one by default.
        token: by default ``HF_TOKEN`` or the saved login.

    Raises:
        HubError: if the folder is neither, has no card, holds video or audio, or the Hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    folder = Path(folder)
    kind = _kind(folder)
    api = HfApi(token=token)
    try:
        url = api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            repo_type=kind,
            revision=revision,
            commit_message=f"Upload {kind} with opendance-hf",
            # A model folder keeps the training's checkpoints, which are for resuming only.
            ignore_patterns=[".*", "**/.*", "checkpoint-*/**", "runs/**", "*.partial"],
        )
    except (HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled, ConnectionError) as error:
        raise HubError(
            f"{repo_id}: the Hub refuses or cannot be reached ({error}); check `hf auth whoami`, the name and the network"
        ) from None
    return str(url)


def _kind(folder: Path) -> str:
    if not folder.is_dir():
        raise HubError(f"{folder}: no such folder")
    media = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in MEDIA_SUFFIXES and path.is_file()
    )
    if media:
        raise HubError(f"{media[0]}: video and audio are never published; move it out of {folder}")
    if any(folder.glob("data/*/*.parquet")):
        kind = "dataset"
    elif (folder / "config.json").is_file():
        kind = "model"
    else:
        raise HubError(f"{folder}: neither a dataset (data/CONFIG/*.parquet) nor a model (config.json)")
    if not (folder / "README.md").is_file():
        raise HubError(f"{folder}: has no README.md, the card that tells people what it is")
    return kind
