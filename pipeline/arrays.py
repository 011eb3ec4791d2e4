"""Intermediate results on disk: named arrays in one npz file, written atomically."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt


def save_arrays(path: Path, **arrays: npt.NDArray) -> None:
    """Write arrays to ``path``; a killed process leaves the old file or none, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def load_arrays(path: Path) -> dict[str, npt.NDArray]:
    """Read what :func:`save_arrays` wrote; nothing is unpickled."""
    with np.load(path, allow_pickle=False) as data:
        return {name: data[name] for name in data.files}
