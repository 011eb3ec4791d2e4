"""What tests of training share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from opendance_hf.modeling.bailando import (
    BailandoConfig,
    BailandoForDanceGeneration,
    BailandoGPTConfig,
    BailandoVQVAE,
    BailandoVQVAEConfig,
)
from opendance_hf.storage import pack
from opendance_hf.training import actor_critic, bailando_pp, fact, gpt, relation, rotation, vqvae
from opendance_hf.training.recipe import RunArguments
from tests.factories import make_sequence

#: Recipe changes that make every stage run within a second or two.
QUICK = ["trainer.max_steps=4", "trainer.save_steps=2", "trainer.per_device_train_batch_size=4",
         "trainer.disable_tqdm=true", "trainer.logging_steps=2", "trainer.report_to=none",
         "validation.songs=0"]  # fmt: skip
SMALL_GPT = [
    "model.hidden_size=16",
    "model.num_attention_heads=2",
    "model.num_base_layers=1",
    "model.num_head_layers=1",
]
SMALL_FACT = ["model.hidden_size=16", "model.intermediate_size=16", "model.num_attention_heads=2"]
QUICK_ROUNDS = ["trainer.rounds=2", "trainer.batches_per_round=12", "trainer.per_device_train_batch_size=4",
                "trainer.report_to=none", "validation.songs=0"]  # fmt: skip

SMALL_VQVAE = [
    "model.hidden_size=16",
    "model.codebook_size=16",
    "data.num_frames=64",
    "data.stride=64",
]
#: Recipe changes with which each stage runs within a second or two on :func:`make_data`.
SMALL = {
    "vqvae": [*QUICK, *SMALL_VQVAE],
    "gpt": [*QUICK, *SMALL_GPT],
    "bailando_pp": QUICK,
    "relation": [*QUICK, *SMALL_VQVAE],
    "fact": [*QUICK, *SMALL_FACT],
    "rotation": [*QUICK, "data.num_frames=64"],
    "actor_critic": QUICK_ROUNDS,
}


def make_data(folder: Path) -> Path:
    """Write a dataset with all splits, and an untrained VQ-VAE and Bailando beside it."""
    sequences = [make_sequence(i, 1, 300) for i in range(24)]
    pack([*sequences, *(make_sequence(100 + i, 2, 300) for i in range(24))], folder / "opendance-3d")
    torch.manual_seed(0)
    coder = BailandoVQVAE(BailandoVQVAEConfig(hidden_size=16, codebook_size=16))
    for half in (coder.upper, coder.lower):
        half.codebook.codes.normal_(0, 0.1)
    coder.save_pretrained(folder / "vqvae")
    config = BailandoGPTConfig(
        codebook_size=16, hidden_size=16, num_attention_heads=2, num_base_layers=1, num_head_layers=1
    )
    whole = BailandoForDanceGeneration(BailandoConfig(coder.config, config))
    whole.vqvae.load_state_dict(coder.state_dict())
    whole.save_pretrained(folder / "bailando")
    return folder


def run_stage(stage: str, data: Path, out: Path, overrides: list[str]) -> dict[str, torch.Tensor]:
    """Run a stage on ``data / "opendance-3d"``, starting from the models beside it; returns the weights."""
    common = {"dataset": str(data / "opendance-3d"), "output_dir": str(out), "overrides": overrides}
    coder, solo = str(data / "vqvae"), str(data / "bailando")
    if stage == "gpt":
        model = gpt.run(gpt.GPTArguments(**common, vqvae=coder))
    elif stage == "bailando_pp":
        model = bailando_pp.run(bailando_pp.BailandoPPArguments(**common, bailando=solo))
    elif stage == "rotation":
        model = rotation.run(rotation.RotationArguments(**common, vqvae=solo))
    elif stage == "actor_critic":
        model = actor_critic.run(actor_critic.ActorCriticArguments(**common, bailando=solo))
    else:
        model = {"vqvae": vqvae, "fact": fact, "relation": relation}[stage].run(RunArguments(**common))
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor], atol: float) -> None:
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(
            left[name], right[name], atol=atol, rtol=0, msg=lambda told, name=name: f"{name}: {told}"
        )


def launch(
    module: str, arguments: list[str], ranks: int = 1, *, restarts: int = 0, **environment: str
) -> subprocess.Popen[str]:
    """Start a module, on several processes if wanted, which are restarted that many times."""
    command = [sys.executable, "-m", module, *arguments]
    if ranks > 1:
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(ranks),
            "--standalone", "--max-restarts", str(restarts), *command[1:],
        ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a launch to end well, and return its log; one that hangs is ended with all its processes."""
    try:
        log, _ = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        process.terminate()
        log, _ = process.communicate()
    assert process.returncode == 0, log
    return log
