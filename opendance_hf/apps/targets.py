"""Where results go, looked at before hours are spent on results that have nowhere to go."""

from __future__ import annotations

import os
from pathlib import Path

from opendance_hf.errors import OpenDanceError


class TargetError(OpenDanceError, OSError):
    """A file or folder that cannot be written; the message says which and why."""


def check_targets(file: Path | None = None, folder: Path | None = None) -> None:
    """Make the folder of a file to be written, and a folder to be written into.

    Raises:
        TargetError: naming what is in the way.
    """
    for target, parent in ((file, file and file.parent), (folder, folder)):
        if target is None or parent is None:
            continue
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TargetError(f"{target}: cannot be written ({error}); choose another place") from None
        if target == file and file.is_dir():
            raise TargetError(f"{target}: is a folder; give the name of a file")
        if not os.access(parent, os.W_OK):
            raise TargetError(f"{target}: {parent} may not be written to; choose another place")
