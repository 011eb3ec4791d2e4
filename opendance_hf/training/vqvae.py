"""Train Bailando's pose VQ-VAE and its root decoder.

    opendance train vqvae --dataset opendance-3d --output-dir runs/vqvae --config debug
    torchrun --nproc_per_node 2 -m opendance_hf.training.vqvae --dataset opendance-3d --output_dir runs/vqvae

The official training has two stages, poses and then the root velocity on frozen codes; here both run at once: the
root decoder reads detached codes, so the losses do not touch each other's weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from opendance_hf.data import MotionWindows, NoWindowsError
from opendance_hf.modeling.bailando import BailandoVQVAE, BailandoVQVAEConfig, split_root
from opendance_hf.training.finish import finish
from opendance_hf.training.loop import train
from opendance_hf.training.recipe import RunArguments, checked, load_recipe, parse, told
from opendance_hf.training.validation import Validation, held_out


def collate(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Windows of joints to the model's inputs."""
    relative, velocity = split_root(torch.stack([item["joints"] for item in items]))
    return {"joints": relative, "root_velocity": velocity}


def held_out_windows(
    dataset: str, data: dict[str, Any], options: Validation
) -> tuple[MotionWindows | None, str | None]:
    """Windows that were not trained on, one after another, and what they are called."""
    other, split = held_out(dataset, data, options.split)
    if other is None:
        return None, None
    try:
        plain = {**other, "stride": data["num_frames"], "mirror": False, "turns": 1, "subset": None}
        return MotionWindows(dataset, **plain), split
    except NoWindowsError:
        return None, None  # all of its sequences are shorter than a window


@torch.no_grad()
def reconstruction(model: BailandoVQVAE, data: MotionWindows, windows: int) -> dict[str, float]:
    """Mean loss, mean distance of joints in millimetres, and how many codes of each half are in use."""
    place, count = model.device, min(windows, len(data))
    picked = Subset(data, [i * len(data) // count for i in range(count)])
    totals = {"loss": 0.0, "reconstruction_mm": 0.0, "root_velocity_mm_per_frame": 0.0}
    used: dict[str, set[int]] = {"upper": set(), "lower": set()}
    for cpu in DataLoader(picked, 16, collate_fn=collate):
        batch = {name: value.to(place) for name, value in cpu.items()}
        output = model(**batch)
        size = len(batch["joints"])
        off = (output.joints - batch["joints"]).norm(dim=-1).mean()
        root_off = (output.root_velocity - batch["root_velocity"]).norm(dim=-1).mean()
        for name, value in zip(totals, (output.loss, 1000 * off, 1000 * root_off), strict=True):
            totals[name] += float(value) * size / count
        used["upper"] |= set(output.upper_codes.unique().tolist())
        used["lower"] |= set(output.lower_codes.unique().tolist())
    return totals | {f"{half}_codes_used": float(len(codes)) for half, codes in used.items()}


def run(arguments: RunArguments) -> BailandoVQVAE:
    """Train as the recipe says, write the model to ``output_dir`` and return it."""
    recipe = load_recipe("vqvae", arguments.config, arguments.overrides)
    options = Validation(**checked(Validation, recipe["validation"], "validation"))
    torch.manual_seed(recipe["trainer"].get("seed", 42))
    model = BailandoVQVAE(BailandoVQVAEConfig(**checked(BailandoVQVAEConfig, recipe["model"])))
    with told():
        data = MotionWindows(arguments.dataset, **checked(MotionWindows, recipe["data"], "data"))
        others, split = held_out_windows(arguments.dataset, recipe["data"], options)
    identity = {"stage": "vqvae", "windows": len(data), "model": recipe["model"], "data": recipe["data"]}
    validate = None if others is None else lambda: reconstruction(model, others, options.windows)
    trainer = train(
        model,
        data,
        collate,
        recipe["trainer"],
        arguments,
        identity,
        validate=validate,
        eval_steps=options.eval_steps,
    )
    model.eval()
    if trainer.is_world_process_zero():
        finish(
            model.cpu(),
            "vqvae",
            recipe,
            arguments,
            trained_on=f"{len(data):,} windows of {data.num_frames} frames of single dancers.",
            steps=trainer.state.global_step,
            metrics=trainer.held_out,
            split=split,
        )
    return model


def main(argv: list[str] | None = None) -> Any:
    """Entry point for launchers."""
    return run(parse(RunArguments, argv))


if __name__ == "__main__":
    main()
