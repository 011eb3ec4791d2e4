"""Find the checkpoint that a run continues from, refuse those of another run, and remove old ones."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any, Final

from opendance_hf.files import atomic_write
from opendance_hf.training.recipe import RecipeError

logger = logging.getLogger(__name__)
#: File with the identity of the run that a folder belongs to.
NOTE: Final = "run.json"


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
        RecipeError: if a run with another identity wrote the checkpoints; the message says what differs.
    """
    checkpoints = checkpoints_in(folder)[::-1]
    note, text = folder / NOTE, json.dumps(identity, indent=2, default=str) + "\n"
    last = None
    if resume:
        if any(_complete(path) for path in checkpoints):
            _check(folder, _read(note), json.loads(text))
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


def _check(folder: Path, other: dict[str, Any], now: dict[str, Any]) -> None:
    if other == now:
        return
    parts = sorted(name for name in {*other, *now} if other.get(name) != now.get(name))
    why = f"other {', '.join(parts)}" if other else f"{NOTE} is missing"
    raise RecipeError(
        f"{folder} has the checkpoints of another run ({why}): choose another folder, or start anew with "
        "--no-resume, which removes them"
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
