"""Run several stages in one launch: ``torchrun -m tests.training.ranks DATA OUT STAGE...``, see test_stages.py."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tests.training.support import QUICK, QUICK_ROUNDS, SMALL_FACT, SMALL_GPT, run_stage

#: No dropout: ranks draw their own. The VQ-VAE's windows never repeat: among copies of one code, the last bit of a sum
#: decides which is the nearest.
CHANGES = {
    "vqvae": [
        *QUICK,
        "model.hidden_size=32",
        "model.codebook_size=32",
        "data.num_frames=64",
        "data.stride=64",
    ],
    "gpt": [*QUICK, *SMALL_GPT, "model.dropout=0"],
    "bailando_pp": [*QUICK, "model.dropout=0"],
    "relation": [
        *QUICK,
        "model.hidden_size=32",
        "model.codebook_size=32",
        "data.num_frames=64",
        "data.stride=64",
    ],
    "fact": [*QUICK, *SMALL_FACT],
    "rotation": [*QUICK, "data.num_frames=64"],
    "actor_critic": QUICK_ROUNDS,
}


def stages(data: Path, out: Path, names: list[str], batch: int) -> None:
    """Train each with that many windows on every process."""
    for stage in names:
        run_stage(stage, data, out / stage, [*CHANGES[stage], f"trainer.per_device_train_batch_size={batch}"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    stages(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:], batch=2)
