"""Find the checkpoint that a run continues from, refuse those of another run, and remove old ones."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from opendance_hf.disk import check_room
from opendance_hf.files import OutputError, atomic_write, same_file
from opendance_hf.training.recipe import RecipeError

logger = logging.getLogger(__name__)
#: File with the identity of the run that a folder belongs to.
NOTE: Final = "run.json"
_MODEL: Final = "model.safetensors"
#: Files of a model that a run writes; without the note they are not of a run. A README or a recipe alone is not a model.
_WRITTEN: Final = ("config.json", _MODEL, "generation_config.json", "preprocessor_config.json")


def check_run_folder(folder: Path, inputs: Iterable[str]) -> None:
    """Check that a run may write into a folder: it is not an input of the run, and its files are those of a run.

    Args:
        folder: of the run.
        inputs: datasets and models that the run reads; names of the Hub and empty ones are ignored.

    Raises:
        OutputError: naming the folder and what is in the way.
        DiskError: if it cannot be written.
    """
    for read in filter(None, inputs):
        if same_file(folder, Path(read)):
            raise OutputError(f"{folder}: this input would be overwritten; choose another --output-dir")
    if os.path.lexists(folder) and not folder.is_dir():
        raise OutputError(f"{folder}: this is a file; give --output-dir a folder")
    foreign = [name for name in _WRITTEN if (folder / name).exists()]
    if foreign and not (folder / NOTE).is_file() and not checkpoints_in(folder):
        raise OutputError(
            f"{folder} has {foreign[0]}, which no training wrote ({NOTE} is missing), and which would be written over; "
            "choose another --output-dir"
        )
    check_room(folder, option="--output-dir")


def remove_incomplete(folder: Path, *, is_new: bool) -> None:
    """Remove checkpoints that an error cut off; of a new run without any complete one the whole folder."""
    for path in checkpoints_in(folder):
        if not _complete(path):
            shutil.rmtree(path, ignore_errors=True)
    if is_new and not checkpoints_in(folder):
        shutil.rmtree(folder, ignore_errors=True)


def open_run(
    folder: Path,
    identity: dict[str, Any],
    *,
    resume: bool,
    needs: tuple[str, ...] = (),
    writes: bool = True,
) -> str | None:
    """Return the checkpoint that a run continues from, and write the identity of the run into its folder.

    Checkpoints that a kill cut off are removed. A run that starts anew removes all checkpoints in its folder: they would
    be taken for its own when it is resumed.

    Args:
        folder: of the run.
        identity: everything that distinguishes this run from others.
        resume: False to start anew.
        needs: files that a complete checkpoint has, besides ``trainer_state.json``.
        writes: True in one of several processes.

    Returns:
        The newest complete checkpoint, or None to start anew.

    Raises:
        RecipeError: if a run with another identity wrote the checkpoints or the model; the message says what differs.
    """
    checkpoints = checkpoints_in(folder)[::-1]
    note, text = folder / NOTE, json.dumps(identity, indent=2, default=str) + "\n"
    last = None
    if resume:
        if any(_complete(path) for path in checkpoints):
            _check(folder, "checkpoints", _read(note), json.loads(text))
        elif note.is_file() and (folder / _MODEL).is_file():
            _check(folder, "model", _read(note), json.loads(text))
        last = next((path for path in checkpoints if _complete(path, needs)), None)
    if last is None and any(_complete(path) for path in checkpoints) and writes:
        logger.info("removing the checkpoints of an earlier run from %s", folder)
    for path in checkpoints:
        if path == last:
            break
        shutil.rmtree(path, ignore_errors=True)
    if writes:
        with atomic_write(note) as partial:  # other processes may be reading it
            partial.write_text(text)
    return None if last is None else os.fspath(last)


def checkpoints_in(folder: Path) -> list[Path]:
    """List the checkpoints of a run, ``checkpoint-STEP``, the oldest first; other folders are not of the run."""
    steps = {path: re.fullmatch(r"checkpoint-([0-9]+)", path.name) for path in folder.glob("checkpoint-*")}
    return [path for _, path in sorted((int(step[1]), path) for path, step in steps.items() if step)]


def remove_old(folder: Path, keep: int) -> None:
    """Remove all checkpoints of a run but the ``keep`` newest."""
    for path in checkpoints_in(folder)[:-keep]:
        shutil.rmtree(path)


def _check(folder: Path, what: str, other: dict[str, Any], now: dict[str, Any]) -> None:
    if other == now:
        return
    parts = sorted(name for name in {*other, *now} if other.get(name) != now.get(name))
    why = f"other {', '.join(parts)}" if other else f"{NOTE} is missing"
    raise RecipeError(
        f"{folder} has the {what} of another run ({why}): choose another folder, or start anew with "
        f"--no-resume, which removes {'them' if what == 'checkpoints' else 'it'}"
    )


def _complete(path: Path, needs: tuple[str, ...] = ()) -> bool:
    try:
        json.loads((path / "trainer_state.json").read_text())
    except (OSError, ValueError):
        return False
    return all((path / name).is_file() for name in needs)


def _read(note: Path) -> dict[str, Any]:
    try:
        known = json.loads(note.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
