"""What tests of training share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from opendance_hf.training import actor_critic, bailando_pp, fact, gpt, rotation, vqvae
from opendance_hf.training.recipe import RunArguments

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
        model = {"vqvae": vqvae, "fact": fact}[stage].run(RunArguments(**common))
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor], atol: float) -> None:
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(
            left[name], right[name], atol=atol, rtol=0, msg=lambda told, name=name: f"{name}: {told}"
        )


def launch(module: str, arguments: list[str], ranks: int = 1) -> subprocess.Popen[str]:
    """Start a module, on several processes if said."""
    command = [sys.executable, "-m", module, *arguments]
    if ranks > 1:
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(ranks),
            "--standalone", *command[1:],
        ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
