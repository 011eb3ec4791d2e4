"""The last step of the demo: open the dataset as any user would."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from rich.console import Console


def show_loading(dataset: Path, console: Console) -> None:
    """Load a dataset folder with ``datasets`` and print its rows' shapes, for every configuration it has."""
    from datasets import disable_progress_bars, get_dataset_config_names, load_dataset

    disable_progress_bars()
    folder = os.fspath(dataset)
    for config in get_dataset_config_names(folder):
        splits = load_dataset(folder, config)
        for split, rows in splits.items():
            shapes = {
                name: np.asarray(value).shape
                for name, value in rows.with_format("numpy")[0].items()
                if name in ("joints", "smpl_pose", "smpl_transl", "music_features", "music_features_7p5fps")
            }
            console.print(
                f"{config}/{split}: {len(rows)} row(s); the first: {shapes}", markup=False, highlight=False
            )
