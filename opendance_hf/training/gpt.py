"""Train Bailando's motion GPT on the codes of a trained VQ-VAE.

    opendance train gpt --dataset opendance-3d --vqvae runs/vqvae --output-dir runs/bailando --config debug

Writes a whole Bailando (VQ-VAE and GPT) that ``opendance generate`` and ``from_pretrained`` load.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import HfArgumentParser

from opendance_hf.data import SequenceReader
from opendance_hf.modeling.bailando import (
    BailandoConfig,
    BailandoForDanceGeneration,
    BailandoGPT,
    BailandoGPTConfig,
    BailandoVQVAE,
    split_root,
)
from opendance_hf.motion.skeleton import NUM_JOINTS
from opendance_hf.training.recipe import RunArguments, checked, load_recipe, told, train


@dataclass
class GPTArguments(RunArguments):
    """Adds the VQ-VAE whose codes are learned."""

    vqvae: str = field(default="", metadata={"help": "Folder or Hub id of a trained VQ-VAE."})


class CodeWindows(Dataset[dict[str, torch.Tensor]]):
    """Windows of codes with their music, coded once at the start; one window per ``stride`` codes of every dancer."""

    def __init__(
        self,
        dataset: str | os.PathLike[str],
        vqvae: BailandoVQVAE,
        num_codes: int,
        stride: int = 1,
        configs: list[str] | None = None,
        split: str = "train",
    ) -> None:
        reader = SequenceReader(dataset, configs, split)
        per_code, width = vqvae.config.frames_per_code, NUM_JOINTS * 3
        self.pieces: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self.windows: list[tuple[int, int]] = []
        self.num_codes = num_codes
        for index in range(len(reader)):
            row = reader.row(index)
            joints = reader.matrix(row, "joints")
            music = torch.from_numpy(reader.matrix(row, "music_features_7p5fps").copy())
            frames = len(joints) // per_code * per_code
            for dancer in range(reader.scalar(row, "num_dancers")):
                mine = joints[:frames, dancer * width : (dancer + 1) * width].reshape(1, -1, NUM_JOINTS, 3)
                relative, _ = split_root(torch.from_numpy(mine.copy()))
                upper, lower = (codes[0] for codes in vqvae.encode(relative))
                starts = range(0, len(upper) - num_codes + 1, stride)
                self.windows += [(len(self.pieces), start) for start in starts]
                self.pieces.append((upper, lower, music))
        if not self.windows:
            raise ValueError(f"{dataset}: no sequence has {num_codes * per_code} frames")

    def __len__(self) -> int:
        return len(self.windows)

    def fingerprint(self) -> str:
        """Changes with the VQ-VAE and with the dataset: a hash of all codes."""
        total = hashlib.sha256()
        for upper, lower, _ in self.pieces:
            total.update(upper.numpy().tobytes() + lower.numpy().tobytes())
        return total.hexdigest()

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        piece, start = self.windows[index]
        upper, lower, music = (values[start : start + self.num_codes] for values in self.pieces[piece])
        # The music of a code goes with the code before it: what is heard when the code is to be chosen.
        return {
            "upper_codes": upper[:-1],
            "lower_codes": lower[:-1],
            "music": music[1:],
            "upper_targets": upper[1:],
            "lower_targets": lower[1:],
        }


def collate(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Stack the windows."""
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def run(arguments: GPTArguments) -> BailandoForDanceGeneration:
    """Train as the recipe says, write the whole Bailando to ``output_dir`` and return it."""
    recipe = load_recipe("gpt", arguments.config, arguments.overrides)
    with told():
        vqvae = BailandoVQVAE.from_pretrained(arguments.vqvae).eval()
    torch.manual_seed(recipe["trainer"].get("seed", 42))
    options = checked(BailandoGPTConfig, recipe["model"])
    config = BailandoGPTConfig(codebook_size=vqvae.config.codebook_size, **options)
    gpt = BailandoGPT(config)
    with told():
        data = CodeWindows(arguments.dataset, vqvae, num_codes=config.max_codes + 1, **recipe["data"])
    identity = {
        "stage": "gpt",
        "codes": data.fingerprint(),
        "model": recipe["model"],
        "data": recipe["data"],
    }
    trainer = train(gpt, data, collate, recipe["trainer"], arguments, identity)
    whole = BailandoForDanceGeneration(BailandoConfig(vqvae.config, config))
    whole.vqvae.load_state_dict(vqvae.state_dict())
    whole.gpt.load_state_dict({name: value.cpu() for name, value in gpt.state_dict().items()})
    if trainer.is_world_process_zero():
        whole.save_pretrained(arguments.output_dir)
    return whole.eval()


def main(argv: list[str] | None = None) -> Any:
    """Entry point for launchers."""
    (arguments,) = HfArgumentParser(GPTArguments).parse_args_into_dataclasses(argv)  # type: ignore[arg-type]
    return run(arguments)


if __name__ == "__main__":
    main()
