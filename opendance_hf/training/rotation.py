"""Train the rotation head of a VQ-VAE: joint rotations straight from codes, instead of from joint positions.

    opendance train rotation --dataset opendance-3d --vqvae runs/vqvae --output-dir runs/vqvae_rotation

The last stage of the journal version (Siyao et al., TPAMI 2023). Codes, poses and the root's velocity stay what they
were, so a GPT trained on the codes still fits: given a whole Bailando, a whole Bailando is written, with the feature
extractor and the generation defaults that it had.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from opendance_hf.data import open_reader
from opendance_hf.modeling.bailando import (
    BailandoConfig,
    BailandoForDanceGeneration,
    BailandoVQVAE,
    BailandoVQVAEConfig,
    split_root,
)
from opendance_hf.modeling.loading import load_extractor
from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.motion.skeleton import NUM_JOINTS
from opendance_hf.schema import per_dancer
from opendance_hf.training.codes import WITH_VQVAE, vqvae_of
from opendance_hf.training.recipe import RunArguments
from opendance_hf.training.stage import Stage


@dataclass
class RotationArguments(RunArguments):
    """Adds the VQ-VAE that gets the head."""

    vqvae: str = field(default="", metadata={"help": "Folder or Hub id of a VQ-VAE or of a whole Bailando."})


class PoseWindows(Dataset[dict[str, Tensor]]):
    """Windows of single dancers every ``stride`` frames: joints, and the rotation of each in its parent's frame.

    Args:
        dataset: see :func:`~opendance_hf.data.open_reader`.
        num_frames: length of a window.
        stride: frames between the starts of neighbouring windows.
        selection: ``configs``, ``split``, ``subset``, ``only`` and ``leave_out`` of ``SequenceReader``.

    Raises:
        ValueError: if no sequence is long enough.
    """

    def __init__(self, dataset: str, *, num_frames: int = 240, stride: int = 40, **selection: Any) -> None:
        self.num_frames, self.reader = num_frames, open_reader(dataset, **selection)
        self.windows = self.reader.windows(num_frames, stride)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the motion that the windows are cut from, as hex digits."""
        return self.reader.fingerprint(("joints", "smpl_pose"))

    def __len__(self) -> int:
        return len(self.windows)

    def order(self, seed: int, epoch: int) -> Iterator[list[int]]:
        """Yield the numbers of all windows in the order of an epoch, some at a time."""
        return self.reader.order(self.windows, 1, seed, epoch)

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
    """Make the inputs of the model from windows."""
    relative, velocity = split_root(torch.stack([item["joints"] for item in items]))
    rotations = torch.stack([item["rotations"] for item in items])
    return {"joints": relative, "root_velocity": velocity, "rotations": rotations}


def with_head(vqvae: BailandoVQVAE) -> BailandoVQVAE:
    """Return a copy that has a rotation head, and in which nothing else is trained."""
    known = inspect.signature(BailandoVQVAEConfig).parameters
    config = {name: value for name, value in vqvae.config.to_dict().items() if name in known}
    model = BailandoVQVAE(BailandoVQVAEConfig(**{**config, "rotation_head": True}))
    model.load_state_dict(vqvae.state_dict(), strict=False)
    model.freeze_all_but_rotation()
    return model


class RotationStage(Stage):
    """Learn joint rotations from codes; nothing else changes."""

    name = "rotation"
    arguments_class = RotationArguments
    data_section = PoseWindows
    dancers = 0
    collate = staticmethod(collate)

    def load_base(self) -> None:
        """Load the VQ-VAE, or the model that has one, with its feature extractor."""
        base = self.load_start("vqvae", *WITH_VQVAE)
        self.base_extractor = load_extractor(self.base, base.config)

    def build_model(self) -> BailandoVQVAE:
        """Give the VQ-VAE a rotation head."""
        base: Any = self.base_model
        return with_head(
            base.vqvae if isinstance(base, BailandoForDanceGeneration) else vqvae_of(base, self.base)
        )

    def build_data(self, options: dict[str, Any]) -> PoseWindows:
        """Cut windows of joints and rotations."""
        return PoseWindows(self.arguments.dataset, **options)

    def held_out_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Cut windows one after another."""
        return {**super().held_out_options(options), "stride": self.data.num_frames}

    def trained_on(self) -> str:
        """Describe the windows."""
        return f"{len(self.data):,} windows of {self.data.num_frames} frames of single dancers."

    def finished_model(self) -> BailandoVQVAE | BailandoForDanceGeneration:
        """Return the VQ-VAE, or the whole Bailando with this VQ-VAE if training started from one."""
        model: BailandoVQVAE = self.model.cpu()
        if not isinstance(self.base_model, BailandoForDanceGeneration):
            return model
        whole = BailandoForDanceGeneration(BailandoConfig(model.config, self.base_model.config.gpt_config))
        whole.vqvae.load_state_dict(model.state_dict())
        whole.gpt.load_state_dict(self.base_model.gpt.state_dict())
        whole.generation_config = self.base_model.generation_config
        return whole

    def extractor(self, whole: PreTrainedModel) -> Any:
        """Return the extractor of the Bailando that training started from; a VQ-VAE needs none."""
        return self.base_extractor if isinstance(whole, BailandoForDanceGeneration) else None


def run(arguments: RotationArguments) -> BailandoVQVAE | BailandoForDanceGeneration:
    """Train as the recipe says, write the model to ``output_dir`` and return it."""
    model: BailandoVQVAE | BailandoForDanceGeneration = RotationStage(arguments).run()
    return model


if __name__ == "__main__":
    RotationStage.main()
