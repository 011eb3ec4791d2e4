"""VQ-VAE of the relation between dancers: where a partner stands as the first dancer sees it, and which hands are near.

Built of the parts of Bailando's pose VQ-VAE. As the body there has an upper and a lower half, a relation has two: its place
and its hands, each with a codebook. A code lasts as many frames as one of the bodies, so that Bailando++ reads and writes all
of them step by step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.utils.generic import ModelOutput

from opendance_hf.modeling.bailando.modeling_bailando_vqvae import (
    BailandoHalf,
    BailandoPreTrainedModel,
    code_vectors,
    weighted,
)
from opendance_hf.modeling.bailando_pp.configuration_bailando_pp import BailandoRelationConfig
from opendance_hf.modeling.bailando_pp.couple import PLACE_DIM, RELATION_DIM

#: Channels of the two halves of a relation.
HALVES = {"place": slice(0, PLACE_DIM), "hands": slice(PLACE_DIM, RELATION_DIM)}


@dataclass
class BailandoRelationOutput(ModelOutput):
    """Output of :class:`BailandoRelationVQVAE`. T is a multiple of the F frames of a code, S = T / F.

    Attributes:
        loss: mean of the two halves' reconstruction, velocity, acceleration and commitment losses.
        relation: (B, T, 9) reconstruction.
        place_codes: (B, S) indices.
        hands_codes: (B, S) indices.
        vectors: (B, C, S) encoder outputs of each half, see :class:`BailandoVQVAEOutput`.
        metrics: named scalars for logs: the parts of the losses, and ``used`` codes of each half.
    """

    loss: Tensor | None = None
    relation: Tensor | None = None
    place_codes: Tensor | None = None
    hands_codes: Tensor | None = None
    vectors: dict[str, Tensor] | None = None
    metrics: dict[str, Tensor] | None = None


class BailandoRelationVQVAE(BailandoPreTrainedModel):
    """VQ-VAE of relations (see :func:`~opendance_hf.modeling.bailando_pp.couple.relation_of`).

    >>> vqvae = BailandoRelationVQVAE(BailandoRelationConfig(hidden_size=8, codebook_size=8)).eval()
    >>> place, hands = vqvae.encode(torch.zeros(1, 80, 9))
    >>> place.shape
    torch.Size([1, 10])
    >>> vqvae.decode(place, hands).shape
    torch.Size([1, 80, 9])
    """

    config_class = BailandoRelationConfig
    config: BailandoRelationConfig
    base_model_prefix = "relation"
    main_input_name = "relation"

    def __init__(self, config: BailandoRelationConfig) -> None:
        super().__init__(config)
        self.place = BailandoHalf(config, PLACE_DIM)
        self.hands = BailandoHalf(config, RELATION_DIM - PLACE_DIM)
        #: False while several batches make one step: then :meth:`update_codebooks` is called once for all of them.
        self.update_in_forward = True
        self.post_init()

    def forward(self, relation: Tensor, return_loss: bool = True) -> BailandoRelationOutput:
        """Encode and decode relations.

        Args:
            relation: (B, T, 9), T a multiple of the frames of a code.
            return_loss: always true; there for ``transformers.Trainer``.
        """
        outputs, indices, metrics, vectors = torch.empty_like(relation), {}, {}, {}
        later = self.training and not self.update_in_forward
        loss = relation.new_zeros(())
        for name, channels in HALVES.items():
            half: BailandoHalf = getattr(self, name)
            target = relation[..., channels].transpose(1, 2)
            encoded = half.encoder(target)
            vectors[name] = encoded.detach().float()
            output, _, indices[name], parts = half(
                target, update=self.training and not later, encoded=encoded
            )
            outputs[..., channels] = output.transpose(1, 2).to(relation.dtype)
            loss = loss + 0.5 * weighted(parts, self.config)
            metrics.update({f"{name}_{part}": value.detach() for part, value in parts.items()})
            metrics[f"{name}_used"] = half.codebook.count_used(indices[name])
        return BailandoRelationOutput(
            loss=loss,
            relation=outputs,
            place_codes=indices["place"],
            hands_codes=indices["hands"],
            vectors=vectors if later else None,
            metrics=metrics,
        )

    @torch.no_grad()
    def initialise_codebooks(self, batches: Sequence[Mapping[str, Tensor]]) -> None:
        """Draw the first codes from all batches of the first step, see :meth:`BailandoVQVAE.initialise_codebooks`."""
        for name, channels in HALVES.items():
            half: BailandoHalf = getattr(self, name)
            targets = [batch["relation"][..., channels].transpose(1, 2) for batch in batches]
            half.codebook.start([half.encoder(target) for target in targets])

    @torch.no_grad()
    def update_codebooks(self, vectors: Sequence[Mapping[str, Tensor]]) -> None:
        """Update the codebooks once by the outputs ``vectors`` of several batches, as if these had been one."""
        for name in HALVES:
            getattr(self, name).codebook.learn([one[name] for one in vectors])

    @torch.no_grad()
    def encode(self, relation: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (..., T, 9) relations as codes of places and of hands, (..., T / F) each, F being the frames of a code."""
        codes = []
        for name, channels in HALVES.items():
            half: BailandoHalf = getattr(self, name)
            rows = relation[..., channels].reshape(-1, relation.shape[-2], channels.stop - channels.start)
            found = half.codebook.quantize(code_vectors(half.encoder(rows.transpose(1, 2))))
            codes.append(found.view(*relation.shape[:-2], -1))
        return codes[0], codes[1]

    @torch.no_grad()
    def decode(self, place_codes: Tensor, hands_codes: Tensor) -> Tensor:
        """Decode (..., S) codes to relations (..., F S, 9), F being the frames of a code."""
        decoded = []
        for name, codes in (("place", place_codes), ("hands", hands_codes)):
            half: BailandoHalf = getattr(self, name)
            words = F.embedding(codes.reshape(-1, codes.shape[-1]), half.codebook.codes)
            decoded.append(half.decoder(words.transpose(1, 2)).transpose(1, 2).float())
        return torch.cat(decoded, dim=-1).unflatten(0, place_codes.shape[:-1])
