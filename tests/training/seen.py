"""Train a VQ-VAE and note the windows of every batch: ``torchrun -m tests.training.seen DATASET OUT NOTES CHANGE...``.

Every worker of every process writes a file of its own into NOTES, a line of JSON for a batch: hashes of its windows.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from opendance_hf.training import vqvae
from opendance_hf.training.recipe import RunArguments


class NotingStage(vqvae.VQVAEStage):
    __module__ = vqvae.__name__  # recipes are beside the module of a stage
    notes: ClassVar[Path]

    @staticmethod
    def collate(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        worker = get_worker_info()
        name = f"{os.environ.get('RANK', 0)}-{'main' if worker is None else worker.id}-{os.getpid()}"
        hashes = [hashlib.sha256(item["joints"].numpy().tobytes()).hexdigest() for item in items]
        with (NotingStage.notes / name).open("a") as file:
            file.write(json.dumps(hashes) + "\n")
        return vqvae.collate(items)


def seen(notes: Path) -> list[list[str]]:
    """The batches of all processes, those of a worker in order."""
    return [json.loads(line) for file in sorted(notes.iterdir()) for line in file.read_text().splitlines()]


if __name__ == "__main__":
    torch.set_num_threads(1)
    dataset, out, notes, *changes = sys.argv[1:]
    NotingStage.notes = Path(notes)
    NotingStage.notes.mkdir(exist_ok=True)
    NotingStage(RunArguments(dataset, out, overrides=changes)).run()
