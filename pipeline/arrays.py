"""Intermediate results on disk: named arrays in one npz file, written atomically."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from opendance_hf.files import atomic_write


def save_arrays(path: Path, **arrays: npt.NDArray) -> None:
    """Write arrays to ``path`` atomically: a killed process leaves the old file or no file."""
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_arrays(path: Path) -> dict[str, npt.NDArray]:
    """Read what :func:`save_arrays` wrote; nothing is unpickled."""
    with np.load(path, allow_pickle=False) as data:
        return {name: data[name] for name in data.files}
