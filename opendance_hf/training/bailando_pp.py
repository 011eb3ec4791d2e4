"""Train Bailando++, dancers who see each other, on duets; best from a Bailando that has learned to dance alone.

    opendance train bailando_pp --dataset opendance-3d --bailando runs/bailando --output-dir runs/bailando_pp

Writes a whole Bailando++ (VQ-VAE and GPT) that ``from_pretrained`` loads.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from opendance_hf.data import NoWindowsError, is_npz_folder
from opendance_hf.modeling.bailando import BailandoForDanceGeneration, BailandoVQVAE
from opendance_hf.modeling.bailando_pp import (
    BailandoPPConfig,
    BailandoPPForDanceGeneration,
    BailandoPPGPT,
    BailandoPPGPTConfig,
    placement_of,
)
from opendance_hf.training.codes import Piece, coded, collate, hash_of, load_vqvae
from opendance_hf.training.finish import finish
from opendance_hf.training.loop import move, train, undisturbed
from opendance_hf.training.recipe import RecipeError, RunArguments, checked, load_recipe, parse, told
from opendance_hf.training.validation import Song, Validation, held_out, mean_loss, score_dances, songs_of


@dataclass
class BailandoPPArguments(RunArguments):
    """Adds what training starts from: one of the two."""

    bailando: str = field(default="", metadata={"help": "Folder or Hub id of a Bailando to start from."})
    vqvae: str = field(
        default="", metadata={"help": "Or of a VQ-VAE alone; the GPT then starts from nothing."}
    )


class DuetWindows(Dataset[dict[str, Tensor]]):
    """Windows of codes of all dancers of a sequence, with music and with where they stand.

    Args:
        dataset: see :class:`~opendance_hf.data.SequenceReader`; likewise ``configs`` and ``split``.
        vqvae: codes the dances; all dancers share it.
        config: of the GPT.
        stride: codes between the starts of neighbouring windows.
        dancers: sequences of another number of dancers are left out.
        swap: every window also with the dancers in reverse order, which is as good a dance.
        configs: see above.
        split: see above.
        only: see :func:`~opendance_hf.training.codes.coded`.
        leave_out: likewise.
        mirror: likewise.

    Raises:
        ValueError: if no sequence fits, or one that is named does not exist.
    """

    def __init__(
        self,
        dataset: str | os.PathLike[str],
        vqvae: BailandoVQVAE,
        config: BailandoPPGPTConfig,
        stride: int = 1,
        dancers: int = 2,
        swap: bool = True,
        configs: list[str] | None = None,
        split: str = "train",
        only: list[str] | None = None,
        leave_out: list[str] | None = None,
        mirror: bool = False,
    ) -> None:
        self.num_codes, self.per_code = config.max_codes + 1, vqvae.config.frames_per_code
        self.swap = swap
        self.pieces: list[Piece] = []
        self.placements: list[tuple[Tensor, Tensor]] = []
        self.windows: list[tuple[int, int]] = []
        for piece in coded(dataset, vqvae, config, configs, split, only, leave_out, mirror):
            if len(piece.upper) != dancers:
                continue
            starts = range(0, piece.upper.shape[1] - self.num_codes + 1, stride)
            self.windows += [(len(self.pieces), start) for start in starts]
            both = (piece.joints, piece.joints.flip(0))
            found = [placement_of(joints[None], self.per_code)[0] for joints in both]
            self.placements.append((found[0], found[1]))
            self.pieces.append(piece._replace(joints=piece.joints[:, :0]))
        if not self.windows:
            frames = self.num_codes * self.per_code
            raise NoWindowsError(f"{dataset}: no sequence of {dancers} dancers has {frames} frames")

    def __len__(self) -> int:
        return len(self.windows) * (2 if self.swap else 1)

    def fingerprint(self) -> str:
        """Changes with the VQ-VAE and with the dataset: a hash of all codes."""
        return hash_of([codes for piece in self.pieces for codes in (piece.upper, piece.lower)])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        swapped, index = divmod(index, len(self.windows))
        number, start = self.windows[index]
        piece, window = self.pieces[number], slice(start, start + self.num_codes)
        upper, lower = piece.upper[:, window], piece.lower[:, window]
        if swapped:
            upper, lower = upper.flip(0), lower.flip(0)
        return {
            "upper_codes": upper[:, :-1],
            "lower_codes": lower[:, :-1],
            # The music of a code goes with the code before it: what is heard when the code is to be chosen.
            "music": piece.music[window][1:],
            "upper_targets": upper[:, 1:],
            "lower_targets": lower[:, 1:],
            "placement_targets": self.placements[number][swapped][:, window][:, :-1],
        }


#: What a recipe decides when training starts from a Bailando; all else is as there.
_OF_THE_DUET = ("max_dancers", "placement_weight", "dancer_spacing_m", "dropout")


def start(arguments: BailandoPPArguments, options: dict[str, Any]) -> BailandoPPForDanceGeneration:
    """The model before training.

    Raises:
        RecipeError: if neither or both of a Bailando and a VQ-VAE are named.
        ValueError: if it is another model.
    """
    options = checked(BailandoPPGPTConfig, options)
    if bool(arguments.bailando) == bool(arguments.vqvae):
        raise RecipeError(
            "bailando_pp needs --bailando (to start from it) or --vqvae (to start from nothing)"
        )
    if arguments.bailando:
        solo: Any = BailandoForDanceGeneration.from_pretrained(arguments.bailando, output_loading_info=True)
        if solo[1]["missing_keys"]:
            raise ValueError(
                f"{arguments.bailando}: not a whole Bailando; give what `opendance train gpt` wrote"
            )
        known = inspect.signature(BailandoPPGPTConfig).parameters
        config = {name: value for name, value in solo[0].config.gpt_config.to_dict().items() if name in known}
        config |= {name: value for name, value in options.items() if name in _OF_THE_DUET}
        return BailandoPPForDanceGeneration.from_solo(solo[0], BailandoPPGPTConfig(**config))
    vqvae = load_vqvae(arguments.vqvae)
    gpt_config = BailandoPPGPTConfig(**{**options, "codebook_size": vqvae.config.codebook_size})
    model = BailandoPPForDanceGeneration(BailandoPPConfig(vqvae.config, gpt_config))
    model.vqvae.load_state_dict(vqvae.state_dict())
    return model


def dances(
    model: BailandoPPForDanceGeneration,
    dataset: str,
    dancers: int,
    configs: list[str] | None,
    split: str,
    options: Validation,
    folder: str,
) -> dict[str, float]:
    """Dance to held-out songs, all dancers beginning like the real ones, and score that."""
    move(model)

    def dance(song: Song) -> Tensor:
        return model.generate_dance(
            song.music["music_features_7p5fps"][None].to(model.device),
            song.num_frames,
            seed_joints=song.joints[None, :, : model.config.vqvae_config.frames_per_code].to(model.device),
            do_sample=True,
            top_k=20,
            generator=torch.Generator().manual_seed(0),
        ).joints[0]  # type: ignore[index]

    with undisturbed(model):
        found = songs_of(dataset, configs, split, options, dancers=dancers)
        return score_dances(found, dance, Path(folder), options)


def run(arguments: BailandoPPArguments) -> BailandoPPForDanceGeneration:
    """Train as the recipe says, write the whole Bailando++ to ``output_dir`` and return it."""
    recipe = load_recipe("bailando_pp", arguments.config, arguments.overrides)
    options = Validation(**checked(Validation, recipe["validation"], "validation"))
    torch.manual_seed(recipe["trainer"].get("seed", 42))
    windows = checked(DuetWindows, recipe["data"], "data")
    others = None
    with told():
        whole = start(arguments, recipe["model"])
        gpt: BailandoPPGPT = whole.gpt
        data = DuetWindows(arguments.dataset, whole.vqvae.eval(), gpt.config, **windows)
        other, split = held_out(arguments.dataset, windows, options.split)
    if other is not None:
        plain = {**other, "swap": False, "mirror": False, "stride": gpt.config.max_codes}
        with contextlib.suppress(NoWindowsError):  # no duet in it, or none that is long enough
            others = DuetWindows(arguments.dataset, whole.vqvae, gpt.config, **plain)
    identity = {
        "stage": "bailando_pp",
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
    whole.eval()
    if trainer.is_world_process_zero():
        metrics = trainer.held_out
        if split and options.songs and not is_npz_folder(arguments.dataset):
            dancers, configs = windows.get("dancers", 2), windows.get("configs")
            metrics |= dances(
                whole, arguments.dataset, dancers, configs, split, options, arguments.output_dir
            )
        finish(
            whole.cpu(),
            "bailando_pp",
            recipe,
            arguments,
            trained_on=f"{len(data):,} windows of {data.num_codes} codes from {len(data.pieces):,} duets.",
            steps=trainer.state.global_step,
            metrics=metrics,
            split=split,
            base=arguments.bailando or arguments.vqvae,
        )
    return whole.cpu()


def main(argv: list[str] | None = None) -> Any:
    """Entry point for launchers."""
    return run(parse(BailandoPPArguments, argv))


if __name__ == "__main__":
    main()
