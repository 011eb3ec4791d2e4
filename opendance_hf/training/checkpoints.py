"""Find the checkpoint that a run continues from, and refuse those of another run."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any, Final

from opendance_hf.files import atomic_write
from opendance_hf.training.recipe import RecipeError

logger = logging.getLogger(__name__)
#: File with the identity of the run that a folder belongs to.
NOTE: Final = "run.json"


def last_checkpoint(folder: Path, needs: tuple[str, ...] = ("trainer_state.json",)) -> str | None:
    """Return the newest complete checkpoint, and remove those that a kill cut off.

    Args:
        folder: of the run.
        needs: files that are written last.
    """
    for path in sorted(folder.glob("checkpoint-*"), key=_number, reverse=True):
        with contextlib.suppress(OSError, ValueError):
            json.loads((path / "trainer_state.json").read_text())
            if all((path / name).is_file() for name in needs):
                return os.fspath(path)
        shutil.rmtree(path, ignore_errors=True)
    return None


def _number(path: Path) -> int:
    digits = path.name.removeprefix("checkpoint-")
    return int(digits) if digits.isdecimal() else -1


def open_run(folder: Path, identity: dict[str, Any], *, last: str | None, writes: bool = True) -> None:
    """Check that a checkpoint belongs to this run, and write the identity of this run into its folder.

    A run that does not continue from a checkpoint removes the checkpoints in its folder: they would otherwise be taken
    for its own when it is resumed.

    Args:
        folder: of the run.
        identity: everything that distinguishes this run from others.
        last: the checkpoint to continue from; None to start anew.
        writes: True in one of several processes.

    Raises:
        RecipeError: if the checkpoint was written by a run with another identity; the message says what differs.
    """
    note, text = folder / NOTE, json.dumps(identity, indent=2, default=str) + "\n"
    if last is not None:
        other = _read(note)
        now = json.loads(text)
        if other != now:
            parts = sorted(name for name in {*other, *now} if other.get(name) != now.get(name))
            why = f"other {', '.join(parts)}" if other else f"its {NOTE} is missing"
            raise RecipeError(
                f"{folder} has the checkpoints of another run ({why}): choose another folder, or start anew with "
                "--no-resume, which removes them"
            )
    if not writes:
        return
    if last is None and (old := list(folder.glob("checkpoint-*"))):
        logger.info("removing %d checkpoint(s) of an earlier run from %s", len(old), folder)
        for path in old:
            shutil.rmtree(path, ignore_errors=True)
    with atomic_write(note) as partial:  # other processes may be reading it
        partial.write_text(text)


def _read(note: Path) -> dict[str, Any]:
    try:
        known = json.loads(note.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
