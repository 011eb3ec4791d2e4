"""Train Bailando++, dancers who see each other, on duets; best from a Bailando that has learned to dance alone.

    opendance train bailando_pp --dataset opendance-3d --bailando runs/bailando --output-dir runs/bailando_pp

With ``--relation runs/relation`` (stage ``relation``) it also learns how partners stand and hold hands.

Writes a whole Bailando++ (VQ-VAE and GPT) that ``from_pretrained`` loads.
"""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass, field
from typing import Any, Final

from torch import Tensor
from torch.utils.data import Dataset

from opendance_hf.data import NoWindowsError, Windows
from opendance_hf.modeling.bailando_pp import (
    BailandoPPForDanceGeneration,
    BailandoPPGPT,
    BailandoPPGPTConfig,
    BailandoRelationVQVAE,
    placement_of,
    relation_of,
)
from opendance_hf.modeling.loading import load_model
from opendance_hf.training.codes import WITH_VQVAE, Dances, Piece, coded, vqvae_of
from opendance_hf.training.fingerprint import hash_of_model
from opendance_hf.training.loop import move
from opendance_hf.training.recipe import RecipeError, RunArguments
from opendance_hf.training.stage import Stage


@dataclass
class BailandoPPArguments(RunArguments):
    """Adds what training starts from: one of the first two, and the third for couples that hold each other."""

    bailando: str = field(default="", metadata={"help": "Folder or Hub id of a Bailando to start from."})
    vqvae: str = field(
        default="", metadata={"help": "Or of a VQ-VAE alone; the GPT then starts from random weights."}
    )
    relation: str = field(
        default="", metadata={"help": "Of a VQ-VAE of relations, whose codes the GPT then learns, too."}
    )


class DuetWindows(Dataset[dict[str, Tensor]]):
    """Windows of codes of all dancers of a sequence, with music, and with the codes of relations or the dancers' places.

    Args:
        dataset: see :class:`~opendance_hf.training.codes.Dances`.
        whole: encodes the dances, and with relation codes the relations.
        stride: codes between the starts of neighbouring windows.
        dancers: sequences of another number of dancers are left out.
        swap: every window also with the dancers in reverse order, which is as good a dance.
        mirror: see :func:`~opendance_hf.training.codes.coded`.
        turns: likewise.
        selection: see :class:`~opendance_hf.training.codes.Dances`.

    Raises:
        ValueError: if no sequence fits, or one that is named does not exist.
    """

    def __init__(
        self,
        dataset: str | os.PathLike[str],
        whole: BailandoPPForDanceGeneration,
        *,
        stride: int = 1,
        dancers: int = 2,
        swap: bool = True,
        mirror: bool = False,
        turns: int = 1,
        **selection: Any,
    ) -> None:
        vqvae, config = whole.vqvae, whole.config.gpt_config
        relation = whole.relation if config.relation else None
        self.num_codes, self.per_code = config.max_codes + 1, vqvae.config.frames_per_code
        self.swap = swap
        self.dances = Dances(dataset, **selection)
        self.pieces: list[Piece] = []
        #: Of every piece, in both orders of its dancers: the codes of relations, or the placements.
        self.relations: list[list[dict[str, Tensor]]] = []
        for piece in coded(self.dances, vqvae, config, mirror=mirror, turns=turns):
            if len(piece.upper) != dancers:
                continue
            orders = (piece.joints, piece.joints.flip(0))
            self.relations.append([self._relation(joints[None], relation) for joints in orders])
            self.pieces.append(piece._replace(joints=piece.joints[:, :0]))
        self.windows = Windows([piece.upper.shape[1] for piece in self.pieces], self.num_codes, stride)
        if not len(self.windows):
            frames = self.num_codes * self.per_code
            raise NoWindowsError(f"{dataset}: no sequence of {dancers} dancers has {frames} frames")

    def _relation(self, joints: Tensor, relation: BailandoRelationVQVAE | None) -> dict[str, Tensor]:
        """Return what a GPT learns about the places of dancers (1, D, T, 24, 3): (D - 1, S, ...) tensors by name."""
        if relation is None:
            return {"placement": placement_of(joints, self.per_code)[0]}
        place, hands = relation.encode(relation_of(joints).to(move(relation)))
        return {"place": place[0].cpu(), "hands": hands[0].cpu()}

    def __len__(self) -> int:
        return len(self.windows) * (2 if self.swap else 1)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the motion and the music that the windows are made of, as hex digits."""
        return self.dances.fingerprint()

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        swapped, index = divmod(index, len(self.windows))
        number, start = self.windows[index]
        piece, window = self.pieces[number], slice(start, start + self.num_codes)
        upper, lower = piece.upper[:, window], piece.lower[:, window]
        if swapped:
            upper, lower = upper.flip(0), lower.flip(0)
        relations = {name: part[:, window] for name, part in self.relations[number][swapped].items()}
        # The music of a code goes with the code before it: it is known when the code is to be chosen.
        item = {"music": piece.music[window][1:]}
        if (placement := relations.pop("placement", None)) is not None:
            item["placement_targets"] = placement[:, :-1]
        for name, codes in {"upper": upper, "lower": lower, **relations}.items():
            item |= {f"{name}_codes": codes[:, :-1], f"{name}_targets": codes[:, 1:]}
        return item


#: Options of a recipe that apply when training starts from a Bailando; all others are as there. Another ``max_codes`` needs
#: rotary positions.
_OF_THE_DUET: Final = (
    "max_codes",
    "max_dancers",
    "placement_weight",
    "dancer_spacing_m",
    "dropout",
    "code_dropout",
    "music_dropout",
)


class BailandoPPStage(Stage):
    """Learn which codes of all dancers follow, given the music, and where dancers stand."""

    name = "bailando_pp"
    arguments_class = BailandoPPArguments
    model_section = BailandoPPGPTConfig
    data_section = DuetWindows
    given = ("whole",)
    whole: BailandoPPForDanceGeneration
    relation: Any = None

    def load_base(self) -> None:
        """Load the Bailando or the VQ-VAE, and the VQ-VAE of relations.

        Raises:
            RecipeError: if neither or both of them are named, or the VQ-VAE of relations is missing or has other codes.
        """
        arguments = self.arguments
        if self.recipe["model"].get("relation") and not arguments.relation:
            raise RecipeError(
                "recipe section 'model': relation=True needs --relation, a model of the stage 'relation'"
            )
        if bool(arguments.bailando) == bool(arguments.vqvae):
            raise RecipeError(
                "bailando_pp needs --bailando (to start from it) or --vqvae (the GPT starts from random weights)"
            )
        self.dancers = self.recipe["data"].get("dancers", 2)
        if arguments.bailando:
            self.load_start("bailando", "bailando")
        else:
            self.load_start("vqvae", *WITH_VQVAE)
        if arguments.relation:
            self.relation = load_model(arguments.relation, expected=("bailando_relation",))
            whole: Any = self.base_model
            own = getattr(whole.config, "vqvae_config", whole.config)
            other = self.relation.config
            for name in ("frames_per_code", "codebook_size"):
                if getattr(own, name) != getattr(other, name):
                    raise RecipeError(
                        f"{arguments.relation}: {name} is {getattr(other, name)}, that of {self.base} is {getattr(own, name)}; "
                        "train the stage 'relation' with the same model.num_downsamples and model.codebook_size"
                    )

    def identity(self) -> dict[str, Any]:
        """Return what distinguishes this run from others, the VQ-VAE of relations included."""
        identity = super().identity()
        return identity if self.relation is None else {**identity, "relation": hash_of_model(self.relation)}

    def build_model(self) -> BailandoPPGPT:
        """Make a Bailando++, whose GPT learns."""
        base: Any = self.base_model
        options = {**self.recipe["model"], "relation": self.relation is not None}
        if self.arguments.bailando:
            known = inspect.signature(BailandoPPGPTConfig).parameters
            config = {
                name: value for name, value in base.config.gpt_config.to_dict().items() if name in known
            }
            config |= {name: value for name, value in options.items() if name in (*_OF_THE_DUET, "relation")}
            self.whole = BailandoPPForDanceGeneration.from_solo(
                base, BailandoPPGPTConfig(**config), self.relation
            )
        else:
            vqvae = vqvae_of(base, self.base)
            of_vqvae = vqvae.config
            options = {"frames_per_code": of_vqvae.frames_per_code, **options}
            gpt_config = BailandoPPGPTConfig(**{**options, "codebook_size": of_vqvae.codebook_size})
            self.whole = BailandoPPForDanceGeneration.of_parts(vqvae, gpt_config, self.relation)
        self.whole.vqvae.eval()
        if self.relation is not None:
            self.whole.relation.eval()
        return self.whole.gpt

    def build_data(self, options: dict[str, Any]) -> DuetWindows:
        """Encode the duets."""
        return DuetWindows(self.arguments.dataset, self.whole, **options)

    def held_out_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Cut windows one after another, without copies."""
        options, stride = super().held_out_options(options), self.model.config.max_codes
        return {**options, "swap": False, "mirror": False, "turns": 1, "stride": stride}

    def trained_on(self) -> str:
        """Describe the windows."""
        data = self.data
        return f"{len(data):,} windows of {data.num_codes} codes from {len(data.pieces):,} duets."

    def finished_model(self) -> BailandoPPForDanceGeneration:
        """Return the VQ-VAE and the GPT that has learned."""
        return self.whole


def run(arguments: BailandoPPArguments) -> BailandoPPForDanceGeneration:
    """Train as the recipe says, write the whole Bailando++ to ``output_dir`` and return it."""
    return BailandoPPStage(arguments).run()


if __name__ == "__main__":
    BailandoPPStage.main()
