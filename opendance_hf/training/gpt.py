"""Train Bailando's motion GPT on the codes of a trained VQ-VAE.

    opendance train gpt --dataset opendance-3d --vqvae runs/vqvae --output-dir runs/bailando --config debug

Writes a whole Bailando (VQ-VAE and GPT) that ``opendance generate`` and ``from_pretrained`` load.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from opendance_hf.data import NoWindowsError, is_npz_folder
from opendance_hf.modeling.bailando import (
    BailandoConfig,
    BailandoForDanceGeneration,
    BailandoGPT,
    BailandoGPTConfig,
    BailandoVQVAE,
)
from opendance_hf.training.codes import CodeWindows, collate, load_vqvae
from opendance_hf.training.finish import finish
from opendance_hf.training.loop import move, train, undisturbed
from opendance_hf.training.recipe import RunArguments, checked, load_recipe, parse, told
from opendance_hf.training.validation import Song, Validation, held_out, mean_loss, score_dances, songs_of

__all__ = ["CodeWindows", "GPTArguments", "collate", "dances", "main", "run"]


@dataclass
class GPTArguments(RunArguments):
    """Adds the VQ-VAE whose codes are learned."""

    vqvae: str = field(
        default="", metadata={"help": "Folder or Hub id of a trained VQ-VAE, or of a model that has one."}
    )


def dances(
    model: BailandoForDanceGeneration,
    dataset: str,
    configs: list[str] | None,
    split: str,
    options: Validation,
    folder: str,
) -> dict[str, float]:
    """Dance to held-out songs, each beginning like the real dance, and score that."""
    config = model.config.gpt_config
    move(model)

    def dance(song: Song) -> Tensor:
        heard = config.heard(song.music["music_features"], song.music["music_features_7p5fps"])
        return model.generate_dance(
            heard[None].to(model.device),
            song.num_frames,
            seed_joints=song.joints[:1, : model.config.vqvae_config.frames_per_code].to(model.device),
            do_sample=True,
            top_k=20,
            generator=torch.Generator().manual_seed(0),
        ).joints  # type: ignore[return-value]

    with undisturbed(model):
        found = songs_of(dataset, configs, split, options, dancers=1)
        return score_dances(found, dance, Path(folder), options)


def run(arguments: GPTArguments) -> BailandoForDanceGeneration:
    """Train as the recipe says, write the whole Bailando to ``output_dir`` and return it."""
    recipe = load_recipe("gpt", arguments.config, arguments.overrides)
    options = Validation(**checked(Validation, recipe["validation"], "validation"))
    with told():
        vqvae = load_vqvae(arguments.vqvae)
    torch.manual_seed(recipe["trainer"].get("seed", 42))
    model_options = {
        "frames_per_code": vqvae.config.frames_per_code,
        **checked(BailandoGPTConfig, recipe["model"]),
    }
    config = BailandoGPTConfig(**{**model_options, "codebook_size": vqvae.config.codebook_size})
    gpt = BailandoGPT(config)
    windows = checked(CodeWindows, recipe["data"], "data")
    with told():
        data = _windows(arguments.dataset, vqvae, config, windows)
        other, split = held_out(arguments.dataset, windows, options.split)
    others = None if other is None else _held_out(arguments.dataset, vqvae, config, other)
    identity = {
        "stage": "gpt",
        "codes": data.fingerprint(),
        "model": recipe["model"],
        "data": recipe["data"],
    }
    validate = None if others is None else lambda: mean_loss(gpt, others, collate, windows=options.windows)
    trainer = train(
        gpt,
        data,
        collate,
        recipe["trainer"],
        arguments,
        identity,
        validate=validate,
        eval_steps=options.eval_steps,
    )
    whole = BailandoForDanceGeneration(BailandoConfig(vqvae.config, config)).eval()
    whole.vqvae.load_state_dict(vqvae.state_dict())
    whole.gpt.load_state_dict({name: value.cpu() for name, value in gpt.state_dict().items()})
    if trainer.is_world_process_zero():
        metrics = trainer.held_out
        if split and options.songs and not is_npz_folder(arguments.dataset):
            metrics |= dances(
                whole, arguments.dataset, windows.get("configs"), split, options, arguments.output_dir
            )
        finish(
            whole.cpu(),
            "gpt",
            recipe,
            arguments,
            trained_on=f"{len(data):,} windows of {data.num_codes} codes from {len(data.pieces):,} dances.",
            steps=trainer.state.global_step,
            metrics=metrics,
            split=split,
            base=arguments.vqvae,
        )
    return whole


def _windows(
    dataset: str, vqvae: BailandoVQVAE, config: BailandoGPTConfig, options: dict[str, Any]
) -> CodeWindows:
    # One code more than the model reads: the last is only a target.
    return CodeWindows(dataset, vqvae, **{"num_codes": config.max_codes + 1, **options}, config=config)


def _held_out(
    dataset: str, vqvae: BailandoVQVAE, config: BailandoGPTConfig, options: dict[str, Any]
) -> CodeWindows | None:
    try:
        return _windows(
            dataset, vqvae, config, {**options, "mirror": False, "stride": config.max_codes, "subset": None}
        )
    except NoWindowsError:
        return None  # all of its sequences are shorter than a window


def main(argv: list[str] | None = None) -> Any:
    """Entry point for launchers."""
    return run(parse(GPTArguments, argv))


if __name__ == "__main__":
    main()
