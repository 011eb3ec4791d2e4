"""Train the rotation head of a VQ-VAE: joint rotations straight from codes, instead of from joint positions.

    opendance train rotation --dataset opendance-3d --vqvae runs/vqvae --output-dir runs/vqvae_rotation

The last stage of the journal version (Siyao et al., TPAMI 2023). Codes, poses and the root's velocity stay what they
were, so a GPT trained on the codes still fits: given a whole Bailando, a whole Bailando is written.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PretrainedConfig

from opendance_hf.data import NoWindowsError, SequenceReader
from opendance_hf.modeling.bailando import (
    BailandoConfig,
    BailandoForDanceGeneration,
    BailandoVQVAE,
    BailandoVQVAEConfig,
    split_root,
)
from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.motion.skeleton import NUM_JOINTS
from opendance_hf.schema import per_dancer
from opendance_hf.training.codes import hash_of, load_vqvae
from opendance_hf.training.finish import finish
from opendance_hf.training.loop import train
from opendance_hf.training.recipe import RecipeError, RunArguments, checked, load_recipe, parse, told
from opendance_hf.training.validation import Validation, held_out, mean_loss


@dataclass
class RotationArguments(RunArguments):
    """Adds the VQ-VAE that gets the head."""

    vqvae: str = field(default="", metadata={"help": "Folder or Hub id of a VQ-VAE or of a whole Bailando."})


class PoseWindows(Dataset[dict[str, Tensor]]):
    """Windows of single dancers every ``stride`` frames: joints, and the rotation of each in its parent's frame.

    Raises:
        ValueError: if no sequence is long enough.
    """

    def __init__(
        self,
        dataset: str,
        num_frames: int = 240,
        stride: int = 40,
        configs: list[str] | None = None,
        split: str = "train",
    ) -> None:
        self.num_frames, self.reader = num_frames, SequenceReader(dataset, configs, split)
        self.windows = self.reader.windows(num_frames, stride)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number, dancer, start = self.windows[index]
        row = self.reader.row(number)
        count = self.reader.scalar(row, "num_dancers")
        joints, poses = (
            per_dancer(self.reader.matrix(row, name, start, self.num_frames), count, NUM_JOINTS, 3)[dancer]
            for name in ("joints", "smpl_pose")
        )
        matrices = axis_angle_to_matrix(poses.astype(np.float64)).astype(np.float32)
        return {"joints": torch.from_numpy(joints.copy()), "rotations": torch.from_numpy(matrices)}


def collate(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Windows to the model's inputs."""
    relative, velocity = split_root(torch.stack([item["joints"] for item in items]))
    rotations = torch.stack([item["rotations"] for item in items])
    return {"joints": relative, "root_velocity": velocity, "rotations": rotations}


def fingerprint(vqvae: BailandoVQVAE) -> str:
    """Of the codes that the head reads."""
    return hash_of([vqvae.upper.codebook.codes, vqvae.lower.codebook.codes])


def with_head(vqvae: BailandoVQVAE) -> BailandoVQVAE:
    """A copy that has a rotation head, and learns nothing else."""
    known = inspect.signature(BailandoVQVAEConfig).parameters
    config = {name: value for name, value in vqvae.config.to_dict().items() if name in known}
    model = BailandoVQVAE(BailandoVQVAEConfig(**{**config, "rotation_head": True}))
    model.load_state_dict(vqvae.state_dict(), strict=False)
    model.freeze_all_but_rotation()
    return model


def run(arguments: RotationArguments) -> BailandoVQVAE | BailandoForDanceGeneration:
    """Train as the recipe says, write the model to ``output_dir`` and return it."""
    recipe = load_recipe("rotation", arguments.config, arguments.overrides)
    options = Validation(**checked(Validation, recipe["validation"], "validation"))
    torch.manual_seed(recipe["trainer"].get("seed", 42))
    windows = checked(PoseWindows, recipe["data"], "data")
    if recipe["model"]:
        raise RecipeError("recipe section 'model': nothing to say here, the VQ-VAE is as it is")
    others = None
    with told():
        before = load_vqvae(arguments.vqvae)
        data = PoseWindows(arguments.dataset, **windows)
        other, split = held_out(arguments.dataset, windows, options.split)
    model = with_head(before)
    if other is not None:
        try:
            others = PoseWindows(arguments.dataset, **other)
        except NoWindowsError:
            split = None  # all of its sequences are shorter than a window
    identity = {
        "stage": "rotation",
        "windows": len(data),
        "vqvae": fingerprint(before),
        "data": recipe["data"],
    }
    validate = None if others is None else lambda: mean_loss(model, others, collate, windows=options.windows)
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
    result: BailandoVQVAE | BailandoForDanceGeneration = model.eval().cpu()
    if PretrainedConfig.get_config_dict(arguments.vqvae)[0].get("model_type") == "bailando":
        whole = BailandoForDanceGeneration.from_pretrained(arguments.vqvae)
        turning = BailandoForDanceGeneration(BailandoConfig(model.config, whole.config.gpt_config)).eval()
        turning.vqvae.load_state_dict(model.state_dict())
        turning.gpt.load_state_dict(whole.gpt.state_dict())
        result = turning
    if trainer.is_world_process_zero():
        finish(
            result,
            "rotation",
            recipe,
            arguments,
            trained_on=f"{len(data):,} windows of {data.num_frames} frames of single dancers.",
            steps=trainer.state.global_step,
            metrics=trainer.held_out,
            split=split,
            base=arguments.vqvae,
        )
    return result


def main(argv: list[str] | None = None) -> Any:
    """Entry point for launchers."""
    return run(parse(RotationArguments, argv))


if __name__ == "__main__":
    main()
