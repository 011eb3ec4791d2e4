"""Run several stages in one launch: ``torchrun -m tests.training.ranks DATA OUT STAGE...``, see test_stages.py.

With ``KILLED`` in the environment, the second process kills itself once, after the second checkpoint of every stage.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
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


def kill_after(checkpoint: Path) -> None:
    """Kill this process when a checkpoint is complete, as soon as it is."""
    while not (checkpoint / "trainer_state.json").is_file():
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
    if "KILLED" in os.environ and os.environ["RANK"] == "1" and restarts < len(sys.argv[3:]):
        first = Path(sys.argv[2], sys.argv[3 + restarts], "checkpoint-2")
        threading.Thread(target=kill_after, args=[first], daemon=True).start()
    torch.set_num_threads(1)
    stages(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:], batch=2)
