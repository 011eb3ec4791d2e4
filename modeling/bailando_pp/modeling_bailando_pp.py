"""Bailando++: dancers who are generated together, each seeing the others (paper section 4.2, figure 4c).

Built on Bailando (paper section 4.1), whose VQ-VAE all dancers share. Notable:

- the GPT has 1 + 2 N streams: the music, and the upper and the lower codes of each of N dancers. Attention is
  cross-conditional and causal: a token of any stream at step i sees every stream up to i. This models
  P(X'_0, X'_1 | X_0, X_1, Y), the paper's problem formulation, for any N;
- dancers share all weights and are told apart by a learned embedding, so one set of weights serves 1 to
  ``max_dancers`` dancers, and those of a solo Bailando are a start: alone, the first dancer dances as it did;
- codes say how a dancer moves, in the world's orientation, and not where it stands. Where dancers start is given, or
  taken from their seed motions, or foretold by a small head: the partner's place and facing as the first dancer sees
  them. Dancers are never all left on the origin;
- with relation codes there are 2 (N - 1) streams more: where every other dancer stands as the first sees it, and which of
  their hands are near. The decoded dancers follow them (``couple``), so that partners stay together and hold hands.

TPAMI's extension of Bailando (a music transformer and a rotation decoder) has the same name and is something else.

Joints are (..., 24, 3) SMPL joints in metres, y up, at 60 FPS. Facing is the yaw of the hips in radians: 0 towards
+z, positive towards the dancer's left.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationConfig
from transformers import initialization as init
from transformers.utils.generic import ModelOutput

from opendance_hf.modeling.bailando.modeling_bailando import (
    GENERATION_NAMES,
    BailandoForDanceGeneration,
    BailandoGPT,
    obscure,
)
from opendance_hf.modeling.bailando.modeling_bailando_vqvae import (
    BailandoPreTrainedModel,
    BailandoVQVAE,
    join_root,
    split_root,
)
from opendance_hf.modeling.bailando_pp.configuration_bailando_pp import BailandoPPConfig, BailandoPPGPTConfig
from opendance_hf.modeling.bailando_pp.couple import facing, follow_relation, relation_of, turn
from opendance_hf.modeling.bailando_pp.modeling_bailando_relation import BailandoRelationVQVAE
from opendance_hf.modeling.layers import (
    CodeStreamer,
    DanceBlock,
    Generators,
    StepCache,
    extend_codes,
    first_codes,
    generation_options,
    lengths_of,
    run_blocks,
)
from opendance_hf.modeling.pretrained import DanceGenerationMixin

#: Numbers of a placement: x and z in metres, sine and cosine of the facing.
PLACEMENT_DIM = 4
_GREEDY = GenerationConfig(do_sample=False)
#: Weights that a solo GPT lacks.
_OF_SEVERAL = ("dancer_embedding.", "placement_head.", "place_", "hands_", "relation_position_embedding")


@dataclass
class BailandoPPGPTOutput(ModelOutput):
    """Output of :class:`BailandoPPGPT` for N dancers and S steps.

    Attributes:
        loss: sum of the mean cross-entropies of each kind of code over all dancers, and of the weighted placement loss.
        upper_logits: (B, N, S, codebook_size) of the next upper code after each step.
        lower_logits: (B, N, S, codebook_size) of the next lower code.
        placement: (B, N - 1, S, 4) of the other dancers relative to the first (see :func:`placement_of`); None with
            relation codes.
        place_logits: (B, N - 1, S, codebook_size) of the next code of each partner's place; None without relation codes.
        hands_logits: (B, N - 1, S, codebook_size) of the next code of its hands; likewise.
        metrics: named scalars for logs: the parts of the loss.
    """

    loss: Tensor | None = None
    upper_logits: Tensor | None = None
    lower_logits: Tensor | None = None
    placement: Tensor | None = None
    place_logits: Tensor | None = None
    hands_logits: Tensor | None = None
    metrics: dict[str, Tensor] | None = None


@dataclass
class BailandoPPDanceOutput(ModelOutput):
    """A generated dance of N dancers.

    Attributes:
        joints: (B, N, T, 24, 3) metres, all dancers in one world frame.
        upper_codes: (B, N, S) indices.
        lower_codes: (B, N, S) indices.
        place_codes: (B, N - 1, S) indices; None without relation codes.
        hands_codes: (B, N - 1, S) indices; likewise.
        start_positions: (B, N, 3) pelvis of the first frame, metres.
        start_facing: (B, N) yaw of the hips in the first frame, radians.
    """

    joints: Tensor | None = None
    upper_codes: Tensor | None = None
    lower_codes: Tensor | None = None
    place_codes: Tensor | None = None
    hands_codes: Tensor | None = None
    start_positions: Tensor | None = None
    start_facing: Tensor | None = None


def placement_of(joints: Tensor, frames_per_code: int = 8) -> Tensor:
    """Return where dancers stand and face as the first dancer sees them, at the first frame of every code.

    Args:
        joints: (B, N, T, 24, 3) metres, one world frame.
        frames_per_code: of the VQ-VAE.

    Returns:
        (B, N - 1, ceil(T / frames_per_code), 4): x (to the first dancer's left) and z (before it) in metres, sine and
        cosine of the facing.
    """
    joints = joints[:, :, ::frames_per_code]
    root, yaw = joints[..., 0, :], facing(joints)
    seen = turn(root[:, 1:] - root[:, :1], -yaw[:, :1].expand_as(yaw[:, 1:]))
    turned = yaw[:, 1:] - yaw[:, :1]
    return torch.stack([seen[..., 0], seen[..., 2], turned.sin(), turned.cos()], dim=-1)


class BailandoPPPlacementHead(nn.Linear):
    """Linear layer from a dancer's hidden states to its placement."""


class BailandoPPPreTrainedModel(BailandoPreTrainedModel):
    """Base of Bailando++'s models: the initialisation of all their modules."""

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, BailandoPPPlacementHead):
            # With a zero head, dancers stand in a row before anything is learned.
            init.zeros_(module.weight)
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)
        if isinstance(position := getattr(module, "relation_position_embedding", None), nn.Parameter):
            init.zeros_(position)


class BailandoPPGPT(BailandoPPPreTrainedModel):
    """Motion GPT of several dancers: the next upper and lower code of each from music and all dancers' codes so far.

    >>> config = BailandoPPGPTConfig(codebook_size=8, hidden_size=8, num_attention_heads=2, num_base_layers=1, num_head_layers=1)
    >>> gpt = BailandoPPGPT(config).eval()
    >>> codes = torch.zeros(1, 2, 5, dtype=torch.long)
    >>> gpt(codes, codes, torch.zeros(1, 5, 438)).upper_logits.shape
    torch.Size([1, 2, 5, 8])
    """

    config_class = BailandoPPGPTConfig
    config: BailandoPPGPTConfig
    base_model_prefix = "gpt"
    main_input_name = "upper_codes"

    def __init__(self, config: BailandoPPGPTConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.music_embedding = nn.Linear(config.music_input[1], width)
        self.upper_embedding = nn.Embedding(config.codebook_size, width)
        self.lower_embedding = nn.Embedding(config.codebook_size, width)
        #: Tells whose codes they are; the two halves of a dancer share it.
        self.dancer_embedding = nn.Embedding(config.max_dancers, width)
        if not config.rotary:
            #: One learned position for each step of music, upper and lower codes.
            self.position_embedding = nn.Parameter(torch.zeros(3, config.max_codes, width))
        self.dropout = nn.Dropout(config.dropout)
        self.base = nn.ModuleList(DanceBlock(config) for _ in range(config.num_base_layers))
        self.head = nn.ModuleList(DanceBlock(config) for _ in range(config.num_head_layers))
        self.ln_f = nn.LayerNorm(width)
        self.upper_head = nn.Linear(width, config.codebook_size, bias=False)
        self.lower_head = nn.Linear(width, config.codebook_size, bias=False)
        if config.relation:
            self.place_embedding = nn.Embedding(config.codebook_size, width)
            self.hands_embedding = nn.Embedding(config.codebook_size, width)
            self.place_head = nn.Linear(width, config.codebook_size, bias=False)
            self.hands_head = nn.Linear(width, config.codebook_size, bias=False)
            if not config.rotary:
                #: One learned position for each step of places and hands.
                self.relation_position_embedding = nn.Parameter(torch.zeros(2, config.max_codes, width))
        else:
            self.placement_head = BailandoPPPlacementHead(2 * width, PLACEMENT_DIM)
        self.post_init()

    @classmethod
    def from_solo(
        cls, solo: BailandoGPT | Mapping[str, Tensor], config: BailandoPPGPTConfig | None = None
    ) -> BailandoPPGPT:
        """Make a GPT of several dancers that starts from one of a single dancer.

        The first dancer's embedding is zero, so that alone it has exactly the solo model's logits.

        Args:
            solo: a trained model, or its state dictionary.
            config: of the result, by default the solo model's with two dancers; needed with a state dictionary.

        Raises:
            ValueError: if the configuration is missing, or the weights are not those of such a model.
        """
        if config is None:
            if not isinstance(solo, BailandoGPT):
                raise ValueError("a state dictionary does not say its configuration: give config")
            if getattr(solo.config, "music_window", None) is not None:
                raise ValueError("a solo model with a music window cannot become one of several dancers")
            known = inspect.signature(BailandoPPGPTConfig).parameters
            options = {name: value for name, value in solo.config.to_dict().items() if name in known}
            config = BailandoPPGPTConfig(**options)
        state = solo.state_dict() if isinstance(solo, BailandoGPT) else dict(solo)
        model = cls(config)
        own = model.state_dict()
        new = {name for name in own if name.startswith(_OF_SEVERAL)}
        wrong = set(own) - new ^ set(state)
        wrong |= {name for name in set(own) & set(state) if own[name].shape != state[name].shape}
        if wrong:
            raise ValueError(f"not the weights of a solo Bailando GPT of this configuration: {sorted(wrong)}")
        model.load_state_dict(state, strict=False)
        with torch.no_grad():
            model.dancer_embedding.weight[0] = 0
        return model

    def forward(
        self,
        upper_codes: Tensor,
        lower_codes: Tensor,
        music: Tensor,
        dancers: Tensor | None = None,
        place_codes: Tensor | None = None,
        hands_codes: Tensor | None = None,
        return_loss: bool = True,
        **targets: Tensor,
    ) -> BailandoPPGPTOutput:
        """Compute the logits of the codes that follow.

        Args:
            upper_codes: (B, N, S) codes, N at most ``max_dancers`` and S at most ``max_codes``.
            lower_codes: (B, N, S) codes.
            music: (B, S, music_dim); entry i is the music of the code that follows code i.
            dancers: (B, N) or (N,) which embedding each dancer wears, by default 0 to N - 1.
            place_codes: (B, N - 1, S) codes of the places of all dancers but the first; a model with relation codes needs
                them for several dancers.
            hands_codes: (B, N - 1, S) codes of their hands; likewise.
            return_loss: always true with targets; there for ``transformers.Trainer``.
            targets: for the loss, ``upper_targets`` and ``lower_targets`` (B, N, S), the codes that follow; in a model with
                relation codes also ``place_targets`` and ``hands_targets`` (B, N - 1, S); in one without,
                ``placement_targets`` (B, N - 1, S, 4) of the codes' first frames (see :func:`placement_of`).

        Raises:
            TypeError: for an unknown keyword.
            ValueError: if a shape is another, or codes or targets are missing or too many.
        """
        config = self.config
        codes = {"upper": upper_codes, "lower": lower_codes, "place": place_codes, "hands": hands_codes}
        known = self._check(codes, music)
        placement_targets = None if config.relation else targets.pop("placement_targets", None)
        count, steps = upper_codes.shape[1:]
        if not config.rotary and steps > config.max_codes:
            raise ValueError(f"{steps} codes are more than max_codes {config.max_codes}")
        if music.shape[1] != steps:
            raise ValueError(f"music {tuple(music.shape)} must have one row for each of {steps} codes")
        _check_targets(targets, known)
        if self.training:
            music, *seen = obscure(config, music, *known.values())
            known = dict(zip(known, seen, strict=True))
        hidden = self._run(self._tokens(known, music, dancers), 1 + 2 * count + 2 * self._partners(count))
        logits = self._logits(hidden[:, steps:].unflatten(1, (-1, steps)), count)
        parts = {
            name: F.cross_entropy(logits[name].flatten(0, 2), targets[f"{name}_targets"].flatten())
            for name in (known if targets else ())
        }
        placement = None
        if not config.relation:
            upper, lower = hidden[:, steps:].unflatten(1, (count, 2, steps)).unbind(2)
            placement = self.placement_head(torch.cat([upper, lower], dim=-1)[:, 1:])
            placement = placement + self._row(count)[:, None]
            if placement_targets is not None:
                if placement_targets.shape != placement.shape:
                    raise ValueError(
                        f"placement_targets {tuple(placement_targets.shape)} must be {tuple(placement.shape)}"
                    )
                # A sum and not a mean: a dancer alone has no placement.
                error = F.l1_loss(placement, placement_targets, reduction="sum")
                parts["placement"] = config.placement_weight * error / max(1, placement.numel())
        return BailandoPPGPTOutput(
            loss=torch.stack(list(parts.values())).sum() if parts else None,
            placement=placement,
            metrics={name: value.detach() for name, value in parts.items()},
            **{f"{name}_logits": value for name, value in logits.items()},
        )

    def _partners(self, count: int) -> int:
        """Return the number of dancers of ``count`` that have relation codes."""
        return count - 1 if self.config.relation else 0

    def _tokens(
        self,
        codes: Mapping[str, Tensor],
        music: Tensor,
        dancers: Tensor | None = None,
        at: Tensor | None = None,
    ) -> Tensor:
        """Embed codes and music (B, S, music_dim) as tokens (B, streams * S, C) at positions ``at``, or from 0 on.

        The streams are the music, the upper and lower codes of every dancer, the place and the hands of every partner.
        """
        count, steps = codes["upper"].shape[1:]
        if dancers is None:
            dancers = torch.arange(count, device=music.device)
        who = self.dancer_embedding(dancers)[..., None, :]
        streams = [self.music_embedding(music.to(self.music_embedding.weight.dtype))[:, None]]
        span = slice(steps) if at is None else at
        if not self.config.rotary:
            streams[0] = streams[0] + self.position_embedding[0, span]
        for halves in (("upper", "lower"), ("place", "hands")):
            if halves[0] not in codes:
                continue
            pairs = []
            for number, name in enumerate(halves):
                tokens = getattr(self, f"{name}_embedding")(codes[name])
                if not self.config.rotary:
                    relation = name in ("place", "hands")
                    position = self.relation_position_embedding if relation else self.position_embedding[1:]
                    tokens = tokens + position[number, span]
                pairs.append(tokens + who[..., -tokens.shape[1] :, :, :])
            streams.append(torch.stack(pairs, dim=2).flatten(1, 2))
        return self.dropout(torch.cat(streams, dim=1).flatten(1, 2))

    def _logits(self, hidden: Tensor, count: int) -> dict[str, Tensor]:
        """Compute the logits (B, N or N - 1, S, codebook_size) of each kind of code from (B, streams - 1, S, C) states."""
        bodies, relations = hidden.split([2 * count, hidden.shape[1] - 2 * count], dim=1)
        names = (("upper", "lower"), ("place", "hands"))
        return {
            name: getattr(self, f"{name}_head")(states)
            for halves, streams in zip(names, (bodies, relations), strict=True)
            if streams.shape[1]
            for name, states in zip(halves, streams.unflatten(1, (-1, 2)).unbind(2), strict=True)
        }

    def _run(
        self,
        hidden: Tensor,
        streams: int,
        caches: list[StepCache] | None = None,
        rows: slice | None = None,
    ) -> Tensor:
        """Run all blocks and the last norm, see :func:`run_blocks`."""
        blocks = [*self.base, *self.head]
        return self.ln_f(run_blocks(blocks, hidden, self.config, streams=streams, caches=caches, rows=rows))

    def _check(self, codes: Mapping[str, Tensor | None], music: Tensor) -> dict[str, Tensor]:
        """Check shapes, and return the codes that the model reads for this number of dancers."""
        upper_codes, lower_codes = codes["upper"], codes["lower"]
        assert upper_codes is not None
        assert lower_codes is not None
        if upper_codes.ndim != 3 or upper_codes.shape != lower_codes.shape:
            raise ValueError(
                f"upper_codes {tuple(upper_codes.shape)} and lower_codes {tuple(lower_codes.shape)} "
                "must both be (B, N, S)"
            )
        if not 1 <= upper_codes.shape[1] <= self.config.max_dancers:
            raise ValueError(
                f"{upper_codes.shape[1]} dancers: this model has embeddings for 1 to {self.config.max_dancers}"
            )
        if (
            music.ndim != 3
            or music.shape[0] != len(upper_codes)
            or music.shape[2] != self.config.music_input[1]
        ):
            raise ValueError(
                f"music {tuple(music.shape)} must be ({len(upper_codes)}, S, {self.config.music_input[1]})"
            )
        known = {"upper": upper_codes, "lower": lower_codes}
        batch, count, steps = upper_codes.shape
        expected = (batch, self._partners(count), steps)
        for name in ("place", "hands"):
            given = codes[name]
            shape = (batch, 0, steps) if given is None else tuple(given.shape)
            if shape != expected:
                of = "with" if self.config.relation else "without"
                raise ValueError(
                    f"{name}_codes {shape} must be {expected} for {count} dancers, in a model {of} relation codes"
                )
            if given is not None and expected[1]:
                known[name] = given
        return known

    def _row(self, count: int) -> Tensor:
        """Return (count - 1, 4) placements in a row beside the first dancer, alternately to its left and right."""
        out = self.placement_head.bias.new_zeros(count - 1, PLACEMENT_DIM)
        for i in range(count - 1):
            out[i, 0] = self.config.dancer_spacing_m * (i // 2 + 1) * (1 if i % 2 == 0 else -1)
        out[:, 3] = 1
        return out

    @torch.no_grad()
    def generate_codes(
        self,
        music: Tensor,
        upper_codes: Tensor,
        lower_codes: Tensor,
        steps: int,
        *,
        generation_config: GenerationConfig | None = None,
        generator: Generators = None,
        streamer: CodeStreamer | None = None,
        **options: Any,
    ) -> tuple[Tensor, ...]:
        """Continue the codes of all dancers to music, one step of all of them at a time (see :func:`extend_codes`).

        Args:
            music: (B, M, music_dim), entry i being the music of the code that follows code i; M >= S + steps - 1.
            upper_codes: (B, N, S) codes to start from, S >= 1.
            lower_codes: (B, N, S) likewise.
            steps: codes to add to each dancer.
            generation_config: how codes are chosen, see :func:`choose_codes`; the likeliest by default.
            generator: of the draws, on the CPU.
            streamer: receives the codes of each step, those of relations after those of dancers.
            options: changes of the generation configuration: ``do_sample``, ``temperature``, ``top_k``, ``top_p``, and
                ``guidance_scale`` (see :meth:`BailandoGPT.generate_codes`), for the codes of bodies. For several dancers of a
                model with relation codes also ``place_codes`` and ``hands_codes`` (B, N - 1, S) to start from.

        Returns:
            (B, N, S + steps) upper and lower codes; with relation codes also (B, N - 1, S + steps) codes of places and hands.

        Raises:
            ValueError: if the music is too short, a shape is another, or an option is unknown.
        """
        relations = {name: options.pop(f"{name}_codes", None) for name in ("place", "hands")}
        known = self._check({"upper": upper_codes, "lower": lower_codes, **relations}, music)
        start, dancers = upper_codes.shape[2], upper_codes.shape[1]
        if start < 1:
            raise ValueError("each dancer needs at least one code to start from")
        if music.shape[1] < start + steps - 1:
            raise ValueError(
                f"{music.shape[1]} entries of music are too few for {start} + {steps} codes: expected {start + steps - 1}"
            )
        config, partners = self.config, self._partners(dancers)
        chosen = generation_options(generation_config or _GREEDY, options, GENERATION_NAMES)
        scale = getattr(chosen, "guidance_scale", None)
        scale = 1.0 if scale is None else scale
        if scale != 1:
            music = torch.cat([music, torch.zeros_like(music)])
        streams = 1 + 2 * (dancers + partners)
        # Only of bodies: whether hands are held does not depend on the beat.
        scales = torch.cat([music.new_full((dancers, 1), scale), music.new_ones(partners, 1)])

        def next_logits(new: Tensor, caches: list[StepCache] | None) -> list[Tensor]:
            at, seen = caches[0].at if caches else None, len(new)
            read = self._named(codes[..., new], dancers)
            if scale != 1:
                read = {name: value.repeat(2, 1, 1) for name, value in read.items()}
            tokens = self._tokens(read, music[:, new], at=at)
            # Of the last block, only the tokens that the next codes are read from.
            hidden = self._run(tokens, streams, caches, slice(2 * seen - 1, None, seen))
            logits = self._logits(hidden[:, :, None], dancers)
            halves = [
                torch.cat([logits[name] for name in pair if name in logits], dim=1)[:, :, 0]
                for pair in (("upper", "place"), ("lower", "hands"))
            ]
            if scale == 1:
                return halves
            moved = []
            for half in halves:
                heard, silent = half.chunk(2)
                moved.append(silent + scales.to(half) * (heard - silent))
            return moved

        halves = [
            torch.cat([known[name] for name in pair if name in known], dim=1)
            for pair in (("upper", "place"), ("lower", "hands"))
        ]
        codes = torch.stack(halves)
        codes = torch.cat([codes, codes.new_zeros(*codes.shape[:3], steps)], dim=-1)
        layers = config.num_base_layers + config.num_head_layers
        extend_codes(
            codes,
            start,
            config,
            next_logits,
            caches=[StepCache(config.context, streams) for _ in range(layers)],
            generation_config=chosen,
            generator=generator,
            streamer=streamer,
        )
        return tuple(self._named(codes, dancers).values())

    @staticmethod
    def _named(codes: Tensor, dancers: int) -> dict[str, Tensor]:
        """Name the codes (2, B, streams / 2, S) of bodies and, where there are any, of relations."""
        named = dict(zip(("upper", "lower"), codes[:, :, :dancers], strict=True))
        if codes.shape[2] > dancers:
            named |= zip(("place", "hands"), codes[:, :, dancers:], strict=True)
        return named


class BailandoPPForDanceGeneration(DanceGenerationMixin, BailandoPPPreTrainedModel):
    """Whole Bailando++: from music features to a dance of several dancers.

    >>> tiny = {"codebook_size": 8, "hidden_size": 8}
    >>> layers = {"num_attention_heads": 2, "num_base_layers": 1, "num_head_layers": 1}
    >>> model = BailandoPPForDanceGeneration(BailandoPPConfig(tiny, {**tiny, **layers})).eval()
    >>> model.generate_dance(torch.zeros(1, 8, 438), num_frames=60, num_dancers=2).joints.shape
    torch.Size([1, 2, 60, 24, 3])
    """

    config_class = BailandoPPConfig
    config: BailandoPPConfig
    main_input_name = "music_features"
    generation_names = (*GENERATION_NAMES, "num_dancers")
    generation_defaults = {"num_dancers": None}  # noqa: RUF012

    def __init__(self, config: BailandoPPConfig) -> None:
        super().__init__(config)
        self.vqvae = BailandoVQVAE(config.vqvae_config)
        self.gpt = BailandoPPGPT(config.gpt_config)
        if config.gpt_config.relation:
            self.relation = BailandoRelationVQVAE(config.relation_config)
        self.generation_config = GenerationConfig(do_sample=True, top_k=20, num_dancers=None)
        self.post_init()

    @classmethod
    def from_solo(
        cls,
        solo: BailandoForDanceGeneration,
        gpt_config: BailandoPPGPTConfig | None = None,
        relation: BailandoRelationVQVAE | None = None,
    ) -> BailandoPPForDanceGeneration:
        """Make a Bailando++ that starts from a Bailando (see :meth:`BailandoPPGPT.from_solo`).

        Args:
            solo: a trained model.
            gpt_config: of the result.
            relation: the trained VQ-VAE of relations, which a configuration with relation codes needs.
        """
        gpt = BailandoPPGPT.from_solo(solo.gpt, gpt_config)
        model = cls.of_parts(solo.vqvae, gpt.config, relation)
        model.gpt.load_state_dict(gpt.state_dict())
        return model

    @classmethod
    def of_parts(
        cls,
        vqvae: BailandoVQVAE,
        gpt_config: BailandoPPGPTConfig,
        relation: BailandoRelationVQVAE | None = None,
    ) -> BailandoPPForDanceGeneration:
        """Make a Bailando++ with a new GPT and trained VQ-VAEs; those of relations if the GPT has relation codes.

        Raises:
            ValueError: if the VQ-VAE of relations is missing, or one is given to a GPT without relation codes.
        """
        if gpt_config.relation != (relation is not None):
            raise ValueError(
                f"relation={gpt_config.relation} in the configuration of the GPT, but "
                f"{'no' if relation is None else 'a'} VQ-VAE of relations is given"
            )
        relation_config = None if relation is None else relation.config
        model = cls(BailandoPPConfig(vqvae.config, gpt_config, relation_config))
        model.vqvae.load_state_dict(vqvae.state_dict())
        if relation is not None:
            model.relation.load_state_dict(relation.state_dict())
        return model

    @property
    def seed_frames(self) -> int:
        """Number of frames of a seed motion that a dance starts from."""
        return self.config.vqvae_config.frames_per_code

    def seed_inputs(self, seed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the arguments of :meth:`generate_dance` for seed motions of all dancers.

        Args:
            seed: ``joints`` (B, N, T, 24, 3) in metres.
        """
        return {"seed_joints": seed["joints"]}

    def forward(
        self, music_features: Tensor, joints: Tensor, return_loss: bool = True
    ) -> BailandoPPGPTOutput:
        """Predict each code of real dances, and the placement of the dancers, from the music and the codes before it.

        Args:
            music_features: (B, >= T / 8, 438) at 7.5 FPS.
            joints: (B, N, T, 24, 3) metres in one world frame, T a multiple of 8.
            return_loss: always true; required by ``transformers.Trainer``.

        Returns:
            The output of the GPT for all codes but the last.

        Raises:
            ValueError: if the music is too short, or there are more codes than absolute positions.
        """
        shape, per_code = joints.shape[:2], self.config.vqvae_config.frames_per_code
        codes = self.vqvae.encode(split_root(joints.flatten(0, 1))[0])
        named = dict(zip(("upper", "lower"), (part.unflatten(0, shape) for part in codes), strict=True))
        others: dict[str, Tensor] = {}
        if self._related(shape[1]):
            named |= zip(("place", "hands"), self.relation.encode(relation_of(joints)), strict=True)
        elif not self.config.gpt_config.relation:
            others["placement_targets"] = placement_of(joints, per_code)[:, :, :-1]
        for name, found in named.items():
            others |= {f"{name}_codes": found[..., :-1], f"{name}_targets": found[..., 1:]}
        return self.gpt(music=music_features[:, 1 : named["upper"].shape[2]], **others)

    def _related(self, count: int) -> bool:
        """Return True if ``count`` dancers have relation codes."""
        return self.config.gpt_config.relation and count > 1

    @torch.no_grad()
    def generate_dance(
        self,
        music_features: Tensor,
        num_frames: int | Sequence[int],
        *,
        seed_joints: Tensor | None = None,
        start_positions: Tensor | None = None,
        start_facing: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        generator: Generators = None,
        **options: Any,
    ) -> BailandoPPDanceOutput:
        """Generate a dance of N dancers to a piece of music (paper section 4, problem formulation).

        Dancers start at ``start_positions`` and ``start_facing``; what is not given comes from the seed motions; without
        them the first dancer starts over the origin as decoded, and the placement head, or the relation codes, place the
        others. A given facing turns the whole dance of that dancer about its start. With relation codes dancers stay
        together, see :func:`~opendance_hf.modeling.bailando_pp.couple.follow_relation`: from a given start on, they follow the
        changes of the relation.

        Args:
            music_features: (B, ceil(num_frames / 8), 438) at 7.5 FPS, one row for each code.
            num_frames: length of the dances at 60 FPS, or of each of them; shorter ones are followed by arbitrary frames.
            seed_joints: (B, N, T, 24, 3) seed motion of each dancer, T at least 8, in one world frame; without it, the
                first codes are drawn.
            start_positions: (B, N, 3) pelvis of the first frame, metres.
            start_facing: (B, N) yaw of the hips in the first frame, radians.
            generation_config: how codes are chosen, see :func:`choose_codes`; ``self.generation_config`` by default.
            generator: of all draws, on the CPU; a sequence has one for each piece.
            options: changes of the generation configuration: ``do_sample``, ``temperature``, ``top_k``, ``top_p``,
                ``guidance_scale``, and ``num_dancers``: N, by default as many as ``seed_joints``, ``start_positions`` or ``start_facing`` have,
                else 2. And ``streamer``, which receives the codes of each step, those of relations after those of dancers.

        Raises:
            ValueError: if ``music_features`` do not last ``num_frames``, a seed motion is too short, shapes do not
                agree, or an option is unknown.
        """
        streamer: CodeStreamer | None = options.pop("streamer", None)
        chosen: Any = self.generation_options(generation_config, **options)
        per_code = self.config.vqvae_config.frames_per_code
        lengths, batch = lengths_of(num_frames, len(music_features)), len(music_features)
        num_frames, steps = max(lengths), math.ceil(max(lengths) / per_code)
        if num_frames < 1 or music_features.shape[1] < steps:
            raise ValueError(
                f"{music_features.shape[1]} music rows do not last {num_frames} frames: expected {steps}"
            )
        count = _num_dancers(batch, chosen.num_dancers, seed_joints, start_positions, start_facing)
        upper, lower = self.vqvae.start_codes((batch, count), steps, seed_joints, generator=generator)
        relations: dict[str, Any] = {}
        if self._related(count):
            place, hands = self._start_relation((batch, count - 1), upper.shape[2], seed_joints, generator)
            relations = {"place_codes": place, "hands_codes": hands}
        upper, lower, *others = self.gpt.generate_codes(
            music_features[:, 1:],
            upper,
            lower,
            steps - upper.shape[2],
            **relations,
            generation_config=chosen,
            generator=generator,
            streamer=streamer,
        )
        counts = [math.ceil(length / per_code) for length in lengths]
        of_dancers = [number for number in counts for _ in range(count)]
        relative, velocity = self.vqvae.decode_pieces(upper.flatten(0, 1), lower.flatten(0, 1), of_dancers)
        relative[..., 0, :] = 0  # the pelvis relative to itself, which the decoder only approximates
        joints = join_root(relative, velocity).unflatten(0, (batch, count))
        if others:
            joints = turned_to(joints, start_facing)
            given = seed_joints[:, :, 0, 0] if seed_joints is not None else None
            given = given if start_positions is None else start_positions
            joints = self._together(joints, others, counts, given)[:, :, :num_frames]
        else:
            placement = self._start_placement(upper, lower, music_features)
            joints = place_dancers(
                joints[:, :, :num_frames], placement, seed_joints, start_positions, start_facing
            )
        return BailandoPPDanceOutput(
            joints=joints,
            upper_codes=upper,
            lower_codes=lower,
            place_codes=others[0] if others else None,
            hands_codes=others[1] if others else None,
            start_positions=joints[:, :, 0, 0],
            start_facing=facing(joints[:, :, 0]),
        )

    def _start_relation(
        self, shape: tuple[int, int], steps: int, seed_joints: Tensor | None, generator: Generators
    ) -> tuple[Tensor, Tensor]:
        """Return the codes (*shape, steps) of places and hands that a dance starts from: of the seed motion, or drawn."""
        config = self.config.relation_config
        if seed_joints is None:
            draw = first_codes(config.codebook_size, (*shape, 1), generator).to(self.device)
            return draw[0], draw[1]
        return self.relation.encode(relation_of(seed_joints[:, :, : steps * config.frames_per_code]))

    def _start_placement(self, upper: Tensor, lower: Tensor, music_features: Tensor) -> Tensor:
        """Return the placement (B, N - 1, 4) at the start; there is none of a dancer alone."""
        if self.config.gpt_config.relation:
            return torch.zeros(len(upper), 0, PLACEMENT_DIM, device=self.device)
        # The music of the code that follows the first, as in training.
        music = music_features[:, 1:2] if upper.shape[2] > 1 else music_features[:, :1]
        return self.gpt(upper[..., :1], lower[..., :1], music).placement[:, :, 0].float()

    def _together(
        self, joints: Tensor, codes: Sequence[Tensor], counts: Sequence[int], start: Tensor | None
    ) -> Tensor:
        """Let dancers (B, N, T, 24, 3) follow their relation codes (B, N - 1, S) twice, of which pieces have ``counts``.

        Args:
            joints: decoded over the origin.
            codes: of places and of hands.
            counts: of each piece, which is as if it were alone.
            start: (B, N, 3) where dancers start; None to start as the relation says, the first over the origin.
        """
        if start is not None:
            joints = joints - joints[:, :, :1, :1] + start.to(joints)[:, :, None, None]
        out = joints.clone()
        pieces = [slice(None)] if len(set(counts)) == 1 else [slice(i, i + 1) for i in range(len(counts))]
        for piece in pieces:
            number = counts[piece][0]
            relation = self.relation.decode(*(part[piece, :, :number] for part in codes))
            frames = relation.shape[2]
            out[piece, :, :frames] = follow_relation(
                joints[piece, :, :frames], relation, keep_start=start is not None
            )
        return out if start is not None else out - out[:, :1, :1, :1]


def _check_targets(targets: Mapping[str, Tensor], codes: Mapping[str, Tensor]) -> None:
    """Check that there are targets for all kinds of codes or for none.

    Raises:
        TypeError: for targets of no kind of codes, as for any unknown keyword.
        ValueError: if some are missing or too many.
    """
    for name in targets:
        if name not in (
            "upper_targets",
            "lower_targets",
            "place_targets",
            "hands_targets",
            "placement_targets",
        ):
            raise TypeError(f"forward() got an unexpected keyword argument {name!r}")
    if targets and set(targets) != {f"{name}_targets" for name in codes}:
        needed = ", ".join(f"{name}_targets" for name in codes)
        raise ValueError(f"the loss needs {needed}; got {', '.join(targets)}")


def turned_to(joints: Tensor, start_facing: Tensor | None) -> Tensor:
    """Turn whole dances (B, N, T, 24, 3) about the vertical so that they start with a facing (B, N), if one is given."""
    if start_facing is None:
        return joints
    return turn(joints, (start_facing.to(joints) - facing(joints[:, :, 0]))[:, :, None, None])


def place_dancers(
    joints: Tensor,
    placement: Tensor,
    seed_joints: Tensor | None = None,
    start_positions: Tensor | None = None,
    start_facing: Tensor | None = None,
) -> Tensor:
    """Move dancers, each decoded over the origin, to where they start; see ``generate_dance`` for the order of sources.

    Args:
        joints: (B, N, T, 24, 3) metres.
        placement: (B, N - 1, 4) of the other dancers relative to the first (see :func:`placement_of`).
        seed_joints: (B, N, T, 24, 3) metres.
        start_positions: (B, N, 3) metres.
        start_facing: (B, N) radians.
    """
    yaw = facing(joints[:, :, 0])
    if start_facing is None and seed_joints is None:
        partners = yaw[:, :1] + torch.atan2(placement[..., 2], placement[..., 3])
        start_facing = torch.cat([yaw[:, :1], partners], dim=1)
    joints = turned_to(joints, start_facing)
    if start_positions is None and seed_joints is not None:
        start_positions = seed_joints[:, :, 0, 0]
    if start_positions is None:
        seen = torch.stack([placement[..., 0], 0 * placement[..., 0], placement[..., 1]], dim=-1)
        partners = turn(seen, facing(joints[:, :1, 0]))
        start_positions = torch.cat([partners.new_zeros(len(joints), 1, 3), partners], dim=1)
    return joints + start_positions.to(joints)[:, :, None, None]


def _num_dancers(
    batch: int,
    wanted: int | None,
    seed_joints: Tensor | None,
    start_positions: Tensor | None,
    start_facing: Tensor | None,
) -> int:
    """Return the number of dancers that the arguments of ``generate_dance`` agree on.

    Raises:
        ValueError: naming an argument of another shape.
    """
    given = {
        "seed_joints": (seed_joints, (24, 3)),
        "start_positions": (start_positions, (3,)),
        "start_facing": (start_facing, ()),
    }
    sizes = [value.shape[1] for value, _ in given.values() if value is not None and value.ndim > 1]
    count = wanted if wanted is not None else sizes[0] if sizes else 2
    for name, (value, rest) in given.items():
        expected = (batch, count, *rest)
        if value is None:
            continue
        shape = tuple(value.shape)
        if (shape[:2] + shape[3:] if name == "seed_joints" else shape) != expected:
            raise ValueError(f"{name} has shape {shape}; expected batch and dancers {expected[:2]} first")
    return count
