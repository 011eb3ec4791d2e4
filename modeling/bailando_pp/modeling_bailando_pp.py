"""Bailando++: dancers who are generated together, each seeing the others (paper section 4.2, figure 4c).

Built on Bailando (paper section 4.1), whose VQ-VAE all dancers share. Notable:

- the GPT has 1 + 2 N streams: the music, and the upper and the lower codes of each of N dancers. Attention is
  cross-conditional and causal: a token of any stream at step i sees every stream up to i. This models
  P(X'_0, X'_1 | X_0, X_1, Y), the paper's problem formulation, for any N;
- dancers share all weights and are told apart by a learned embedding, so one set of weights serves 1 to
  ``max_dancers`` dancers, and those of a solo Bailando are a start: alone, the first dancer dances as it did;
- codes say how a dancer moves, in the world's orientation, and not where it stands. Where dancers start is given, or
  taken from their seed motions, or foretold by a small head: the partner's place and facing as the first dancer sees
  them. Dancers are never all left on the origin.

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

from opendance_hf.modeling.bailando.modeling_bailando import BailandoForDanceGeneration, BailandoGPT
from opendance_hf.modeling.bailando.modeling_bailando_vqvae import (
    BailandoPreTrainedModel,
    BailandoVQVAE,
    join_root,
    split_root,
)
from opendance_hf.modeling.bailando_pp.configuration_bailando_pp import BailandoPPConfig, BailandoPPGPTConfig
from opendance_hf.modeling.layers import (
    CodeStreamer,
    DanceBlock,
    Generators,
    StepCache,
    extend_codes,
    generation_options,
    lengths_of,
    run_blocks,
)
from opendance_hf.modeling.pretrained import DanceGenerationMixin
from opendance_hf.motion.skeleton import JOINT_INDEX

#: Numbers of a placement: x and z in metres, sine and cosine of the facing.
PLACEMENT_DIM = 4
_GREEDY = GenerationConfig(do_sample=False)


@dataclass
class BailandoPPGPTOutput(ModelOutput):
    """Output of :class:`BailandoPPGPT` for N dancers and S steps.

    Attributes:
        loss: sum of the two halves' mean cross-entropies over all dancers, and of the weighted placement loss.
        upper_logits: (B, N, S, codebook_size) of the next upper code after each step.
        lower_logits: (B, N, S, codebook_size) of the next lower code.
        placement: (B, N - 1, S, 4) of the other dancers relative to the first (see :func:`placement_of`).
        metrics: named scalars for logs: the parts of the loss.
    """

    loss: Tensor | None = None
    upper_logits: Tensor | None = None
    lower_logits: Tensor | None = None
    placement: Tensor | None = None
    metrics: dict[str, Tensor] | None = None


@dataclass
class BailandoPPDanceOutput(ModelOutput):
    """A generated dance of N dancers.

    Attributes:
        joints: (B, N, T, 24, 3) metres, all dancers in one world frame.
        upper_codes: (B, N, S) indices.
        lower_codes: (B, N, S) indices.
        start_positions: (B, N, 3) pelvis of the first frame, metres.
        start_facing: (B, N) yaw of the hips in the first frame, radians.
    """

    joints: Tensor | None = None
    upper_codes: Tensor | None = None
    lower_codes: Tensor | None = None
    start_positions: Tensor | None = None
    start_facing: Tensor | None = None


def facing(joints: Tensor) -> Tensor:
    """Return the yaw of the hips (...) of (..., 24, 3) joints, radians."""
    across = joints[..., JOINT_INDEX["left_hip"], :] - joints[..., JOINT_INDEX["right_hip"], :]
    return torch.atan2(-across[..., 2], across[..., 0])


def turn(points: Tensor, yaw: Tensor) -> Tensor:
    """Turn (..., 3) points about the world's y axis by ``yaw`` (...), radians, which is added to a facing."""
    x, y, z = points.unbind(-1)
    sin, cos = yaw.sin(), yaw.cos()
    return torch.stack([cos * x + sin * z, y.expand_as(cos * x), cos * z - sin * x], dim=-1)


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
        new = {name for name in own if name.startswith(("dancer_embedding.", "placement_head."))}
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
        upper_targets: Tensor | None = None,
        lower_targets: Tensor | None = None,
        placement_targets: Tensor | None = None,
        dancers: Tensor | None = None,
        return_loss: bool = True,
    ) -> BailandoPPGPTOutput:
        """Compute the logits of the codes that follow.

        Args:
            upper_codes: (B, N, S) codes, N at most ``max_dancers`` and S at most ``max_codes``.
            lower_codes: (B, N, S) codes.
            music: (B, S, music_dim); entry i is the music of the code that follows code i.
            upper_targets: (B, N, S) the codes that follow, for the loss.
            lower_targets: (B, N, S) likewise.
            placement_targets: (B, N - 1, S, 4) of the codes' first frames (see :func:`placement_of`), for the loss.
            dancers: (B, N) or (N,) which embedding each dancer wears, by default 0 to N - 1.
            return_loss: always true with targets; there for ``transformers.Trainer``.

        Raises:
            ValueError: if a shape is another.
        """
        config = self.config
        self._check(upper_codes, lower_codes, music)
        count, steps = upper_codes.shape[1:]
        if not config.rotary and steps > config.max_codes:
            raise ValueError(f"{steps} codes are more than max_codes {config.max_codes}")
        if music.shape[1] != steps:
            raise ValueError(f"music {tuple(music.shape)} must have one row for each of {steps} codes")
        if (upper_targets is None) != (lower_targets is None):
            raise ValueError("the loss needs both upper_targets and lower_targets, got one of them")
        hidden = self._run(self._tokens(upper_codes, lower_codes, music, dancers), 1 + 2 * count)
        upper, lower = hidden[:, steps:].unflatten(1, (count, 2, steps)).unbind(2)
        upper_logits, lower_logits = self.upper_head(upper), self.lower_head(lower)
        placement = self.placement_head(torch.cat([upper, lower], dim=-1)[:, 1:]) + self._row(count)[:, None]
        parts: dict[str, Tensor] = {}
        for name, logits, targets in (
            ("upper", upper_logits, upper_targets),
            ("lower", lower_logits, lower_targets),
        ):
            if targets is not None:
                parts[name] = F.cross_entropy(logits.flatten(0, 2), targets.flatten())
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
            upper_logits=upper_logits,
            lower_logits=lower_logits,
            placement=placement,
            metrics={name: value.detach() for name, value in parts.items()},
        )

    def _tokens(
        self,
        upper_codes: Tensor,
        lower_codes: Tensor,
        music: Tensor,
        dancers: Tensor | None = None,
        at: Tensor | None = None,
    ) -> Tensor:
        """Codes (B, N, S) and music (B, S, music_dim) to tokens (B, (1 + 2 N) S, C) at positions ``at``, or from 0 on."""
        count, steps = upper_codes.shape[1:]
        if dancers is None:
            dancers = torch.arange(count, device=upper_codes.device)
        who = self.dancer_embedding(dancers)[..., None, :]
        sound = self.music_embedding(music.to(self.music_embedding.weight.dtype))
        upper, lower = self.upper_embedding(upper_codes), self.lower_embedding(lower_codes)
        if not self.config.rotary:
            position = self.position_embedding[:, slice(steps) if at is None else at]
            sound, upper, lower = sound + position[0], upper + position[1], lower + position[2]
        bodies = torch.stack([upper + who, lower + who], dim=2).flatten(1, 2)
        return self.dropout(torch.cat([sound[:, None], bodies], dim=1).flatten(1, 2))

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

    def _check(self, upper_codes: Tensor, lower_codes: Tensor, music: Tensor) -> None:
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
    ) -> tuple[Tensor, Tensor]:
        """Continue the codes of all dancers to music, one step of all of them at a time (see :func:`extend_codes`).

        Args:
            music: (B, M, music_dim), entry i being the music of the code that follows code i; M >= S + steps - 1.
            upper_codes: (B, N, S) codes to start from, S >= 1.
            lower_codes: (B, N, S) likewise.
            steps: codes to add to each dancer.
            generation_config: how codes are chosen, see :func:`choose_codes`; the likeliest by default.
            generator: of the draws, on the CPU.
            streamer: receives the codes of each step.
            options: changes of the generation configuration: ``do_sample``, ``temperature``, ``top_k``, ``top_p``.

        Returns:
            (B, N, S + steps) upper and lower codes.

        Raises:
            ValueError: if the music is too short, a shape is another, or an option is unknown.
        """
        self._check(upper_codes, lower_codes, music)
        start, dancers = upper_codes.shape[2], upper_codes.shape[1]
        if start < 1:
            raise ValueError("each dancer needs at least one code to start from")
        if music.shape[1] < start + steps - 1:
            raise ValueError(
                f"{music.shape[1]} entries of music are too few for {start} + {steps} codes: expected {start + steps - 1}"
            )

        def next_logits(new: Tensor, caches: list[StepCache] | None) -> list[Tensor]:
            at, seen = caches[0].at if caches else None, len(new)
            tokens = self._tokens(codes[0, ..., new], codes[1, ..., new], music[:, new], at=at)
            # Of the last block, only the tokens that the next codes are read from.
            hidden = self._run(tokens, 1 + 2 * dancers, caches, slice(2 * seen - 1, None, seen))
            halves = hidden.unflatten(1, (dancers, 2)).unbind(2)
            return [head(half) for head, half in zip((self.upper_head, self.lower_head), halves, strict=True)]

        config, known = self.config, torch.stack([upper_codes, lower_codes])
        codes = torch.cat([known, known.new_zeros(*known.shape[:3], steps)], dim=-1)
        layers = config.num_base_layers + config.num_head_layers
        extend_codes(
            codes,
            start,
            config,
            next_logits,
            caches=[StepCache(config.context, 1 + 2 * dancers) for _ in range(layers)],
            generation_config=generation_options(generation_config or _GREEDY, options),
            generator=generator,
            streamer=streamer,
        )
        return codes[0], codes[1]


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
    generation_names = (*DanceGenerationMixin.generation_names, "num_dancers")
    generation_defaults = {"num_dancers": None}  # noqa: RUF012

    def __init__(self, config: BailandoPPConfig) -> None:
        super().__init__(config)
        self.vqvae = BailandoVQVAE(config.vqvae_config)
        self.gpt = BailandoPPGPT(config.gpt_config)
        self.generation_config = GenerationConfig(do_sample=True, top_k=20, num_dancers=None)
        self.post_init()

    @classmethod
    def from_solo(
        cls, solo: BailandoForDanceGeneration, gpt_config: BailandoPPGPTConfig | None = None
    ) -> BailandoPPForDanceGeneration:
        """Make a Bailando++ that starts from a Bailando (see :meth:`BailandoPPGPT.from_solo`)."""
        gpt = BailandoPPGPT.from_solo(solo.gpt, gpt_config)
        model = cls(BailandoPPConfig(solo.config.vqvae_config, gpt.config))
        model.vqvae.load_state_dict(solo.vqvae.state_dict())
        model.gpt.load_state_dict(gpt.state_dict())
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
        upper, lower = (part.unflatten(0, shape) for part in codes)
        return self.gpt(
            upper[..., :-1],
            lower[..., :-1],
            music_features[:, 1 : upper.shape[2]],
            upper[..., 1:],
            lower[..., 1:],
            placement_of(joints, per_code)[:, :, :-1],
        )

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
        them the first dancer starts over the origin as decoded, and the placement head places the others. A given facing
        turns the whole dance of that dancer about its start.

        Args:
            music_features: (B, ceil(num_frames / 8), 438) at 7.5 FPS, one row for each code.
            num_frames: length of the dances at 60 FPS, or of each of them; shorter ones are followed by arbitrary frames.
            seed_joints: (B, N, T, 24, 3) seed motion of each dancer, T at least 8, in one world frame; without it, the
                first codes are drawn.
            start_positions: (B, N, 3) pelvis of the first frame, metres.
            start_facing: (B, N) yaw of the hips in the first frame, radians.
            generation_config: how codes are chosen, see :func:`choose_codes`; ``self.generation_config`` by default.
            generator: of all draws, on the CPU; a sequence has one for each piece.
            options: changes of the generation configuration: ``do_sample``, ``temperature``, ``top_k``, ``top_p``, and
                ``num_dancers``: N, by default as many as ``seed_joints``, ``start_positions`` or ``start_facing`` have,
                else 2.

        Raises:
            ValueError: if ``music_features`` do not last ``num_frames``, a seed motion is too short, shapes do not
                agree, or an option is unknown.
        """
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
        upper, lower = self.gpt.generate_codes(
            music_features[:, 1:],
            upper,
            lower,
            steps - upper.shape[2],
            generation_config=chosen,
            generator=generator,
        )
        counts = [math.ceil(length / per_code) for length in lengths for _ in range(count)]
        relative, velocity = self.vqvae.decode_pieces(upper.flatten(0, 1), lower.flatten(0, 1), counts)
        relative[..., 0, :] = 0  # the pelvis relative to itself, which the decoder only approximates
        joints = join_root(relative, velocity)[:, :num_frames].unflatten(0, (batch, count))
        # The music of the code that follows the first, as in training.
        music = music_features[:, 1:2] if steps > 1 else music_features[:, :1]
        placement = self.gpt(upper[..., :1], lower[..., :1], music).placement[:, :, 0].float()
        joints = place_dancers(joints, placement, seed_joints, start_positions, start_facing)
        return BailandoPPDanceOutput(
            joints=joints,
            upper_codes=upper,
            lower_codes=lower,
            start_positions=joints[:, :, 0, 0],
            start_facing=facing(joints[:, :, 0]),
        )


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
    if start_facing is not None:
        joints = turn(joints, (start_facing.to(joints) - yaw)[:, :, None, None])
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
