"""Train Bailando's motion GPT on the codes of a trained VQ-VAE.

    opendance train gpt --dataset opendance-3d --vqvae runs/vqvae --output-dir runs/bailando --config debug

Writes a whole Bailando (VQ-VAE and GPT) that ``opendance generate`` and ``from_pretrained`` load.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from opendance_hf.modeling.bailando import (
    BailandoConfig,
    BailandoForDanceGeneration,
    BailandoGPT,
    BailandoGPTConfig,
    BailandoVQVAE,
)
from opendance_hf.training.codes import WITH_VQVAE, CodeWindows, vqvae_of
from opendance_hf.training.recipe import RunArguments
from opendance_hf.training.stage import Stage


@dataclass
class GPTArguments(RunArguments):
    """Adds the VQ-VAE whose codes are learned."""

    vqvae: str = field(
        default="", metadata={"help": "Folder or Hub id of a trained VQ-VAE, or of a model that has one."}
    )


class GPTStage(Stage):
    """Learn which code follows, given the music."""

    name = "gpt"
    arguments_class = GPTArguments
    model_section = BailandoGPTConfig
    data_section = CodeWindows
    given = ("vqvae", "config")
    vqvae: BailandoVQVAE

    def load_base(self) -> None:
        """Load the VQ-VAE."""
        self.vqvae = vqvae_of(self.load_start("vqvae", *WITH_VQVAE), self.base)

    def build_model(self) -> BailandoGPT:
        """Make a GPT with random weights for the codes of the VQ-VAE."""
        of_vqvae = self.vqvae.config
        options = {"frames_per_code": of_vqvae.frames_per_code, **self.recipe["model"]}
        return BailandoGPT(BailandoGPTConfig(**{**options, "codebook_size": of_vqvae.codebook_size}))

    def build_data(self, options: dict[str, Any]) -> CodeWindows:
        """Encode the dances of single dancers."""
        return CodeWindows(self.arguments.dataset, self.vqvae, self.model.config, **options)

    def held_out_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Cut windows one after another, without copies."""
        options = super().held_out_options(options)
        return {**options, "mirror": False, "stride": self.model.config.max_codes}

    def trained_on(self) -> str:
        """Describe the windows."""
        data = self.data
        return f"{len(data):,} windows of {data.num_codes} codes from {len(data.pieces):,} dances."

    def finished_model(self) -> BailandoForDanceGeneration:
        """Put the VQ-VAE and the GPT together."""
        whole = BailandoForDanceGeneration(BailandoConfig(self.vqvae.config, self.model.config))
        whole.vqvae.load_state_dict(self.vqvae.state_dict())
        whole.gpt.load_state_dict(self.model.state_dict())
        return whole


def run(arguments: GPTArguments) -> BailandoForDanceGeneration:
    """Train as the recipe says, write the whole Bailando to ``output_dir`` and return it."""
    return GPTStage(arguments).run()


if __name__ == "__main__":
    GPTStage.main()
