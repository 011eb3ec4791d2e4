"""``opendance build``: a folder of videos in, a dataset out, every input accounted for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opendance_hf.assets import asset_files, sha256_of
from opendance_hf.pipeline.ledger import Item, Ledger
from opendance_hf.pipeline.outcome import Rejected
from opendance_hf.pipeline.process import Log, Models, Outcome, Settings, process_video
from opendance_hf.pipeline.runners.local import Processor, Progress, run_local
from opendance_hf.storage import load_sequence, pack
from opendance_hf.storage.pack import check_replaceable

#: Read beside the videos, not as videos.
_NOT_INPUTS = {"thumbs.db", "desktop.ini"}


class BuildError(RuntimeError):
    """A build that cannot start; the message says what to change."""


@dataclass(frozen=True)
class BuildResult:
    """What a build came to.

    Attributes:
        out: the dataset folder; not written when nothing was published.
        build: the folder with the ledger, the previews and the intermediate results.
        items: every input with its status and reason.
    """

    out: Path
    build: Path
    items: list[Item]

    def count(self, status: str) -> int:
        """How many inputs ended with a status."""
        return sum(item.status == status for item in self.items)


def find_inputs(paths: Iterable[Path]) -> list[tuple[Path, str]]:
    """Files to process with the names to show: the files given, and every file below the folders given.

    Hidden files are left out; everything else counts as an input, so that a file that is no video is reported rather
    than overlooked. Links that lead out of their folder are listed, and refused when their turn comes.

    Raises:
        BuildError: if a path does not exist, or there is no input at all.
    """
    found: dict[Path, str] = {}
    for path in paths:
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                name = file.relative_to(path)
                hidden = any(part.startswith(".") for part in name.parts)
                if not hidden and name.name.lower() not in _NOT_INPUTS and not file.is_dir():
                    found[file.absolute()] = str(name)
        elif path.exists():
            found[path.absolute()] = path.name
        else:
            raise BuildError(f"{path}: no such file or folder")
    if not found:
        raise BuildError(f"no files in {', '.join(str(path) for path in paths)}")
    return sorted(found.items())


class _VideoProcessor:
    """What a worker of the local runner does with an item."""

    def __init__(self, build: Path, settings: Settings) -> None:
        import cv2
        import torch

        # One thread: reproducible sums, and workers that do not fight over cores.
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        self.build, self.settings, self.models = build, settings, Models()

    def __call__(self, item: Item, on_stage: Callable[..., None], on_step: Callable[..., None]) -> Outcome:
        path = Path(item.path)
        if not path.is_file():
            raise Rejected("not a regular file" if path.exists() else "a broken link, or the file is gone")
        return process_video(
            path, item.sha256, self.build, self.settings, self.models, Log(on_stage, on_step)
        )


@dataclass(frozen=True)
class _MakeProcessor:
    build: Path
    settings: Settings

    def __call__(self) -> Processor:
        return _VideoProcessor(self.build, self.settings)


def build_dataset(
    paths: Iterable[Path],
    out: Path,
    build: Path,
    settings: Settings,
    *,
    workers: int,
    timeout_s: float,
    progress: Progress,
    tell: Callable[[str], None],
) -> BuildResult:
    """Process all inputs that are not done yet, then pack what was published into a dataset.

    A build that was killed, at any moment, goes on where it was when it is called again with the same folders.

    Args:
        paths: videos and folders of videos.
        out: the dataset folder to write; replaced as a whole when the build is complete.
        build: working folder: ledger, intermediate results, previews; contains media, never published.
        settings: what the results depend on.
        workers: processes to use.
        timeout_s: time limit for one video.
        progress: shows what happens to each input.
        tell: prints a line for people.

    Raises:
        BuildError: if the inputs cannot be found, or another build uses the folder.
        PackError: if ``out`` holds something that is not a dataset of ours.
    """
    inputs = find_inputs(paths)
    check_replaceable(out)
    build.mkdir(parents=True, exist_ok=True)
    with _only_one(build):
        tell("Looking for the model weights (fetched once, then cached) ...")
        for name in ("nanodet", "blazepose"):
            asset_files(name)
        ledger = Ledger(build / "ledger.sqlite")
        try:
            _enter(ledger, inputs, settings)
            make = _MakeProcessor(build.absolute(), settings)
            run_local(ledger, make, workers=workers, timeout_s=timeout_s, progress=progress)
            items = ledger.items()
            rows = ledger.sequences()
            _tidy(build, {row["id"] for row in rows})
            if rows:
                tell(f"Packing {len(rows)} sequence(s) into {out} ...")
                files = (build / "sequences" / f"{row['id']}.npz" for row in rows)
                pack((load_sequence(file) for file in files), out, licence=settings.licence)
        finally:
            ledger.close()
    return BuildResult(out, build, items)


def _enter(ledger: Ledger, inputs: list[tuple[Path, str]], settings: Settings) -> None:
    """Enter all inputs; of those with the same content, the first in order of path counts."""
    ledger.keep_only([os.fspath(path) for path, _ in inputs])
    first: dict[str, str] = {}
    for path, name in inputs:
        key, shown = os.fspath(path), name.encode("utf-8", "backslashreplace").decode()
        digest = sha256_of(path) if path.is_file() else "unreadable"
        ledger.add(key, shown, digest, settings.fingerprint)
        if digest in first and path.is_file() and path.stat().st_size > 0:
            ledger.finish(key, "rejected", f"same content as {first[digest]}", 0.0)
        first.setdefault(digest, shown)


def _tidy(build: Path, ids: set[str]) -> None:
    """Remove sequences and previews of earlier builds that are no longer part of this one."""
    for folder in ("sequences", "previews"):
        for file in (build / folder).glob("*"):
            if file.stem not in ids:
                shutil.rmtree(file) if file.is_dir() else file.unlink()


@contextmanager
def _only_one(build: Path) -> Any:
    """Hold the build folder's lock; the system frees it when the process ends, however it ends."""
    import fcntl

    with (build / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BuildError(f"{build}: another build is using this folder") from None
        yield
