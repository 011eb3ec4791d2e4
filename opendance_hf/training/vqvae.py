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

from opendance_hf.data import MotionWindows
from opendance_hf.modeling.bailando import BailandoVQVAE, BailandoVQVAEConfig, split_root
from opendance_hf.training.recipe import RecipeError, RunArguments
from opendance_hf.training.stage import Stage


def collate(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Make the inputs of the model from windows of joints."""
    relative, velocity = split_root(torch.stack([item["joints"] for item in items]))
    return {"joints": relative, "root_velocity": velocity}


@torch.no_grad()
def reconstruction(model: BailandoVQVAE, data: MotionWindows, windows: int) -> dict[str, float]:
    """Measure the mean loss, the mean distance of joints in millimetres, and the number of codes of each half in use."""
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


class VQVAEStage(Stage):
    """Learn codes of 8 frames for the upper and the lower body, and the velocity of the root."""

    name = "vqvae"
    model_section = BailandoVQVAEConfig
    data_section = MotionWindows
    dancers = 0
    collate = staticmethod(collate)

    def build_model(self) -> BailandoVQVAE:
        """Make a VQ-VAE with random weights."""
        return BailandoVQVAE(BailandoVQVAEConfig(**self.recipe["model"]))

    def build_data(self, options: dict[str, Any]) -> MotionWindows:
        """Cut windows of joints.

        Raises:
            RecipeError: if a window is not a number of codes.
        """
        windows = MotionWindows(self.arguments.dataset, **options)
        frames = self.model.config.frames_per_code
        if windows.num_frames % frames:
            raise RecipeError(
                f"recipe section 'data': num_frames={windows.num_frames}, expected a multiple of {frames}, the frames of a code "
                "(2 ** model.num_downsamples)"
            )
        return windows

    def held_out_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Cut windows one after another, without copies."""
        options = super().held_out_options(options)
        return {**options, "stride": self.data.num_frames, "mirror": False, "turns": 1}

    def trained_on(self) -> str:
        """Describe the windows."""
        return f"{len(self.data):,} windows of {self.data.num_frames} frames of single dancers."

    def validate(self, model: BailandoVQVAE) -> dict[str, float]:
        """Measure the reconstruction of held-out windows."""
        return reconstruction(model, self.others, self.validation.windows)


def run(arguments: RunArguments) -> BailandoVQVAE:
    """Train as the recipe says, write the VQ-VAE to ``output_dir`` and return it."""
    return VQVAEStage(arguments).run()


if __name__ == "__main__":
    VQVAEStage.main()
