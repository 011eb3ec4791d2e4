"""Train Bailando's pose VQ-VAE and its root decoder.

    opendance train vqvae --dataset opendance-3d --output-dir runs/vqvae --config debug
    torchrun --nproc_per_node 2 -m opendance_hf.training.vqvae --dataset opendance-3d --output_dir runs/vqvae

The official training has two stages, poses and then the root velocity on frozen codes; here both run at once: the
root decoder reads detached codes, so the losses do not touch each other's weights.
"""

from __future__ import annotations

from typing import Any

import torch

from opendance_hf.data import MotionWindows
from opendance_hf.modeling.bailando import BailandoVQVAE, BailandoVQVAEConfig, split_root
from opendance_hf.training.recipe import RunArguments, checked, load_recipe, parse, told, train


def collate(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Windows of joints to the model's inputs."""
    relative, velocity = split_root(torch.stack([item["joints"] for item in items]))
    return {"joints": relative, "root_velocity": velocity}


def run(arguments: RunArguments) -> BailandoVQVAE:
    """Train as the recipe says, write the model to ``output_dir`` and return it."""
    recipe = load_recipe("vqvae", arguments.config, arguments.overrides)
    torch.manual_seed(recipe["trainer"].get("seed", 42))
    model = BailandoVQVAE(BailandoVQVAEConfig(**checked(BailandoVQVAEConfig, recipe["model"])))
    with told():
        data = MotionWindows(arguments.dataset, **recipe["data"])
    identity = {"stage": "vqvae", "windows": len(data), "model": recipe["model"], "data": recipe["data"]}
    trainer = train(model, data, collate, recipe["trainer"], arguments, identity)
    trainer.save_model(arguments.output_dir)
    return model


def main(argv: list[str] | None = None) -> Any:
    """Entry point for launchers."""
    return run(parse(argv))


if __name__ == "__main__":
    main()
