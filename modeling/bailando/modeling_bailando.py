"""Bailando: a GPT that continues the VQ-VAE's codes to music, and both as one model (paper section 4.1).

Siyao et al., "Bailando: 3D Dance Generation by Actor-Critic GPT with Choreographic Memory", CVPR 2022. Notable:

- the GPT sees three streams at once, music, upper and lower codes; a token of any stream at step i attends to all three
  streams up to i;
- learned absolute positions, as published, restart with every window; with rotary ones, an option of ours, generation
  keeps the keys and values that it computed;
- the option of a music window is the music transformer of the journal version (Siyao et al., "Bailando++", TPAMI 2023;
  not the Bailando++ of the paper's section 4.2, which is for dancers together).

The VQ-VAE is in ``modeling_bailando_vqvae``, fine-tuning by reward in ``actor_critic``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationConfig
from transformers.utils.generic import ModelOutput

from opendance_hf.modeling.bailando.configuration_bailando import BailandoConfig, BailandoGPTConfig
from opendance_hf.modeling.bailando.modeling_bailando_vqvae import (
    BailandoPreTrainedModel,
    BailandoVQVAE,
    join_root,
    split_root,
)
from opendance_hf.modeling.layers import (
    SAMPLING,
    CodeStreamer,
    DanceBlock,
    Generators,
    Rotary,
    StepCache,
    cross_conditional_mask,
    extend_codes,
    generation_options,
    lengths_of,
    rotary_embedding,
    run_blocks,
)
from opendance_hf.modeling.pretrained import DanceGenerationMixin

#: Music, upper and lower codes.
STREAMS = 3
_GREEDY = GenerationConfig(do_sample=False)
#: Options of the generation.
GENERATION_NAMES = (*SAMPLING, "guidance_scale")


@dataclass
class BailandoGPTOutput(ModelOutput):
    """Output of :class:`BailandoGPT`.

    Attributes:
        loss: sum of the two halves' mean cross-entropies, when targets are given.
        upper_logits: (B, S, codebook_size) of the next upper code after each step.
        lower_logits: (B, S, codebook_size) of the next lower code.
    """

    loss: Tensor | None = None
    upper_logits: Tensor | None = None
    lower_logits: Tensor | None = None


@dataclass
class BailandoDanceOutput(ModelOutput):
    """A generated dance.

    Attributes:
        joints: (B, T, 24, 3) metres, the pelvis starting over the origin's vertical axis.
        rotations: (B, T, 24, 3, 3) of every joint in its parent's frame, the pelvis' in the world's; None without a
            rotation head.
        upper_codes: (B, S) indices.
        lower_codes: (B, S) indices.
    """

    joints: Tensor | None = None
    rotations: Tensor | None = None
    upper_codes: Tensor | None = None
    lower_codes: Tensor | None = None


def obscure(config: BailandoGPTConfig, music: Tensor, *codes: Tensor) -> tuple[Tensor, ...]:
    """Silence the music of some pieces of a batch, and exchange some codes for random ones, as a configuration says.

    Returns:
        The music, and the codes.
    """
    if config.code_dropout:
        codes = tuple(
            torch.where(
                torch.rand(one.shape, device=one.device) < config.code_dropout,
                torch.randint_like(one, config.codebook_size),
                one,
            )
            for one in codes
        )
    if config.music_dropout:
        music = music * (torch.rand(len(music), 1, 1, device=music.device) >= config.music_dropout)
    return music, *codes


class BailandoMusicTransformer(nn.Module):
    """Transformer from music at 60 FPS to one vector for each code, of the music around it (Bailando++, TPAMI 2023)."""

    def __init__(self, config: BailandoGPTConfig) -> None:
        super().__init__()
        assert config.music_window is not None
        width = config.hidden_size
        self.window, self.band, self.per_code = config.music_window, config.music_band, config.frames_per_code
        self.embedding = nn.Linear(config.music_input[1], width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(DanceBlock(config) for _ in range(config.num_music_layers))
        self.fold = nn.Linear(config.frames_per_code * width, width)

    def forward(self, music: Tensor) -> Tensor:
        """Transform (B, per_code * S + 2 * window, music_dim), with margins at both ends, to (B, S, C)."""
        hidden = self.dropout(self.embedding(music))
        frame = torch.arange(music.shape[1], device=music.device)
        mask = (frame[:, None] - frame).abs() <= self.band
        inner = slice(self.window, music.shape[1] - self.window)
        for number, block in enumerate(self.blocks, 1):
            hidden = block(hidden, mask, rows=inner if number == len(self.blocks) else None)
        return self.fold(hidden.unflatten(1, (-1, self.per_code)).flatten(2))


class BailandoGPT(BailandoPreTrainedModel):
    """Motion GPT: predicts the next upper and lower code from music and the codes so far.

    ``music`` has one entry for each code everywhere: entry i is the music of the code that follows code i. Without a music
    window it is (B, S, music_dim); with one, (B, frames_per_code * S + 2 * music_window, music_dim) as :meth:`pad_music`
    returns it, where entry i are the ``frames_per_code`` frames from ``music_window + frames_per_code * i`` on.

    >>> config = BailandoGPTConfig(codebook_size=8, hidden_size=8, num_attention_heads=2, num_base_layers=1, num_head_layers=1)
    >>> gpt = BailandoGPT(config).eval()
    >>> codes = torch.zeros(1, 5, dtype=torch.long)
    >>> gpt(codes, codes, torch.zeros(1, 5, 438)).upper_logits.shape
    torch.Size([1, 5, 8])
    """

    config_class = BailandoGPTConfig
    config: BailandoGPTConfig
    base_model_prefix = "gpt"
    main_input_name = "upper_codes"

    def __init__(self, config: BailandoGPTConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        if config.music_window is not None:
            self.music_transformer = BailandoMusicTransformer(config)
        self.music_embedding = nn.Linear(
            config.music_input[1] if config.music_window is None else width, width
        )
        self.upper_embedding = nn.Embedding(config.codebook_size, width)
        self.lower_embedding = nn.Embedding(config.codebook_size, width)
        if not config.rotary:
            #: One learned position for each step of each stream.
            self.position_embedding = nn.Parameter(torch.zeros(STREAMS, config.max_codes, width))
        self.dropout = nn.Dropout(config.dropout)
        self.base = nn.ModuleList(DanceBlock(config) for _ in range(config.num_base_layers))
        self.head = nn.ModuleList(DanceBlock(config) for _ in range(config.num_head_layers))
        self.ln_f = nn.LayerNorm(width)
        self.upper_head = nn.Linear(width, config.codebook_size, bias=False)
        self.lower_head = nn.Linear(width, config.codebook_size, bias=False)
        self.post_init()

    def forward(
        self,
        upper_codes: Tensor,
        lower_codes: Tensor,
        music: Tensor,
        upper_targets: Tensor | None = None,
        lower_targets: Tensor | None = None,
        return_loss: bool = True,
    ) -> BailandoGPTOutput:
        """Compute the logits of the codes that follow.

        Args:
            upper_codes: (B, S) codes, S at most ``max_codes`` with absolute positions.
            lower_codes: (B, S) codes.
            music: S entries, see the class.
            upper_targets: (B, S) the codes that follow, for the loss.
            lower_targets: (B, S) likewise.
            return_loss: always true with targets; required by ``transformers.Trainer``.

        Raises:
            ValueError: if there are more codes than absolute positions, another number of music entries, or targets of one
                half only.
        """
        if (upper_targets is None) != (lower_targets is None):
            raise ValueError("the loss needs both upper_targets and lower_targets, got one of them")
        if self.training:
            music, upper_codes, lower_codes = obscure(self.config, music, upper_codes, lower_codes)
        upper_logits, lower_logits = self.head_logits(self.base_features(upper_codes, lower_codes, music))
        loss = None
        if upper_targets is not None and lower_targets is not None:
            loss = F.cross_entropy(upper_logits.flatten(0, 1), upper_targets.flatten()) + F.cross_entropy(
                lower_logits.flatten(0, 1), lower_targets.flatten()
            )
        return BailandoGPTOutput(loss=loss, upper_logits=upper_logits, lower_logits=lower_logits)

    def base_features(self, upper_codes: Tensor, lower_codes: Tensor, music: Tensor) -> Tensor:
        """Compute the output (B, 3 S, C) of the base blocks, which the head and the critic of actor-critic training read.

        Raises:
            ValueError: if there are more codes than absolute positions, or another number of music entries.
        """
        hidden = self.dropout(self._tokens(self.embed_music(music), upper_codes, lower_codes))
        return run_blocks(list(self.base), hidden, self.config, streams=STREAMS)

    def head_logits(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Compute upper and lower logits (B, S, codebook_size) from base features (B, 3 S, C)."""
        hidden = run_blocks(list(self.head), features, self.config, streams=STREAMS)
        _, upper, lower = self.ln_f(hidden).unflatten(1, (STREAMS, -1)).unbind(1)
        return self.upper_head(upper), self.lower_head(lower)

    def pad_music(self, music_features: Tensor, num_codes: int) -> Tensor:
        """Shift the music of a whole piece so that each entry follows its code.

        Args:
            music_features: without a music window (B, >= num_codes, music_dim), one row for each code; with one
                (B, T, music_dim) at 60 FPS, T more than ``frames_per_code * (num_codes - 1)``.
            num_codes: of the piece.

        Returns:
            ``num_codes - 1`` entries as defined by the class: the entry of the first code is dropped; beyond the ends of
            the piece there are zeros.

        Raises:
            ValueError: if the music is too short.
        """
        per_code, window = self.config.frames_per_code, self.config.music_window
        rows = num_codes if window is None else per_code * (num_codes - 1) + 1
        if music_features.shape[1] < rows:
            raise ValueError(
                f"{music_features.shape[1]} music rows are too few for {num_codes} codes: expected {rows}"
            )
        if window is None:
            return music_features[:, 1:num_codes]
        after = per_code * num_codes + window - music_features.shape[1]
        return F.pad(music_features, (0, 0, window, after))[:, per_code:]

    def embed_music(self, music: Tensor) -> Tensor:
        """Embed music entries, as defined by the class, as one vector each (B, S, C)."""
        music = music.to(self.music_embedding.weight.dtype)
        return self.music_embedding(
            music if self.config.music_window is None else self.music_transformer(music)
        )

    def attention_mask(self, steps: int, device: torch.device) -> Tensor:
        """Return the (3 * steps,) squared mask of this model, see :func:`cross_conditional_mask`."""
        window = self.config.context if self.config.rotary else None
        return cross_conditional_mask(steps, STREAMS, device, window=window)

    def rotary(self, steps: int, like: Tensor) -> Rotary | None:
        """Return cosines and sines (3 * steps, C / heads) of the positions; None with absolute positions."""
        return rotary_embedding(self.config, steps, STREAMS, like)

    def _tokens(
        self, music: Tensor, upper_codes: Tensor, lower_codes: Tensor, at: Tensor | None = None
    ) -> Tensor:
        """Embed codes (B, S) with embedded music (B, S, C) as tokens (B, 3 S, C) at positions ``at``, or from 0 on."""
        streams = [music, self.upper_embedding(upper_codes), self.lower_embedding(lower_codes)]
        if music.shape[1] != upper_codes.shape[1]:
            raise ValueError(f"{music.shape[1]} entries of music for {upper_codes.shape[1]} codes")
        tokens = torch.stack(streams, dim=1)
        if not self.config.rotary:
            steps = upper_codes.shape[1]
            if steps > self.config.max_codes:
                raise ValueError(f"{steps} codes for a model of {self.config.max_codes} absolute positions")
            tokens = tokens + self.position_embedding[:, slice(steps) if at is None else at]
        return tokens.flatten(1, 2)

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
        """Continue codes to music, of several pieces at once if wanted (see :func:`extend_codes` for the cost of a step).

        With absolute positions and a music window, everything is computed again at every step from the start: each step
        lets the music transformer see 8 frames more.

        Args:
            music: S + steps - 1 entries (see the class) or more.
            upper_codes: (B, S) codes to start from, S >= 1.
            lower_codes: (B, S) likewise.
            steps: codes to add.
            generation_config: how codes are chosen, see :func:`choose_codes`; the likeliest by default.
            generator: of the draws.
            streamer: receives the codes of each step.
            options: changes of the generation configuration: ``do_sample``, ``temperature``, ``top_k``, ``top_p``, and
                ``guidance_scale``: logits are moved that many times as far from those of silence as the music moves them;
                1 moves them no further.

        Returns:
            (B, S + steps) upper and lower codes.

        Raises:
            ValueError: if the music is too short, or an option is unknown.
        """
        start, config = upper_codes.shape[1], self.config
        margin = 0 if config.music_window is None else 2 * config.music_window
        per_entry = 1 if config.music_window is None else config.frames_per_code
        entries = (music.shape[1] - margin) // per_entry
        if entries < start + steps - 1:
            raise ValueError(
                f"{entries} entries of music are too few for {start} + {steps} codes: expected {start + steps - 1}"
            )
        if steps == 0:
            return upper_codes, lower_codes
        chosen = generation_options(generation_config or _GREEDY, options, GENERATION_NAMES)
        scale = getattr(chosen, "guidance_scale", None)
        scale = 1.0 if scale is None else scale
        if scale != 1:
            music = torch.cat([music, torch.zeros_like(music)])
        music_moves = config.music_window is not None and not config.rotary
        vectors = None if music_moves else self._embed_song(music[:, : per_entry * entries + margin])

        def next_logits(new: Tensor, caches: list[StepCache] | None) -> tuple[Tensor, Tensor]:
            if vectors is None:
                rows = torch.arange(per_entry * len(new) + margin, device=new.device)
                embedded = self.embed_music(music[:, per_entry * new[0] + rows])
            else:
                embedded = vectors[:, new]
            at = caches[0].at if caches else None
            upper, lower = codes[:, :, new].unbind(0)
            if scale == 1:
                return self._next_logits(self._tokens(embedded, upper, lower, at), caches)
            tokens = self._tokens(embedded, upper.repeat(2, 1), lower.repeat(2, 1), at)
            heard, silent = zip(
                *(logits.chunk(2) for logits in self._next_logits(tokens, caches)), strict=True
            )
            upper_logits, lower_logits = (
                without + scale * (given - without) for given, without in zip(heard, silent, strict=True)
            )
            return upper_logits, lower_logits

        known = torch.stack([upper_codes, lower_codes])
        codes = torch.cat([known, known.new_zeros(2, len(upper_codes), steps)], dim=-1)
        layers = config.num_base_layers + config.num_head_layers
        extend_codes(
            codes,
            start,
            config,
            next_logits,
            caches=None if music_moves else [StepCache(config.context, STREAMS) for _ in range(layers)],
            generation_config=chosen,
            generator=generator,
            streamer=streamer,
        )
        return codes[0], codes[1]

    def _next_logits(self, tokens: Tensor, caches: list[StepCache] | None) -> tuple[Tensor, Tensor]:
        """Compute the logits (B, codebook_size) after the last of (B, 3 S, C) tokens."""
        steps = tokens.shape[1] // STREAMS
        # Of the last block, only the tokens that the next codes are read from.
        last = slice(2 * steps - 1, 3 * steps, steps)
        blocks = [*self.base, *self.head]
        hidden = run_blocks(blocks, tokens, self.config, streams=STREAMS, caches=caches, rows=last)
        upper, lower = self.ln_f(hidden).unbind(1)
        return self.upper_head(upper), self.lower_head(lower)

    def _embed_song(self, music: Tensor) -> Tensor:
        """Embed music of any length; a music transformer reads it in parts of 64 entries, with their margins."""
        if self.config.music_window is None:
            return self.embed_music(music)
        per_code, margin, stretch = self.config.frames_per_code, 2 * self.config.music_window, 64
        starts = range(0, music.shape[1] - margin, per_code * stretch)
        return torch.cat(
            [self.embed_music(music[:, at : at + per_code * stretch + margin]) for at in starts], dim=1
        )


class BailandoForDanceGeneration(DanceGenerationMixin, BailandoPreTrainedModel):
    """Whole Bailando, VQ-VAE and GPT: from music features to a dance.

    >>> tiny = {"codebook_size": 8, "hidden_size": 8}
    >>> layers = {"num_attention_heads": 2, "num_base_layers": 1, "num_head_layers": 1}
    >>> model = BailandoForDanceGeneration(BailandoConfig(tiny, {**tiny, **layers})).eval()
    >>> generator = torch.Generator().manual_seed(0)
    >>> model.generate_dance(torch.zeros(1, 8, 438), num_frames=60, generator=generator).joints.shape
    torch.Size([1, 60, 24, 3])
    """

    config_class = BailandoConfig
    config: BailandoConfig
    main_input_name = "music_features"
    generation_names = GENERATION_NAMES

    def __init__(self, config: BailandoConfig) -> None:
        super().__init__(config)
        self.vqvae = BailandoVQVAE(config.vqvae_config)
        self.gpt = BailandoGPT(config.gpt_config)
        # Greedy dances tend to freeze or to repeat.
        self.generation_config = GenerationConfig(do_sample=True, top_k=20)
        self.post_init()

    @property
    def seed_frames(self) -> int:
        """Number of frames of a seed motion that a dance starts from."""
        return self.config.vqvae_config.frames_per_code

    def seed_inputs(self, seed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the arguments of :meth:`generate_dance` for seed motions: their first dancer.

        Args:
            seed: ``joints`` (B, N, T, 24, 3) in metres.
        """
        return {"seed_joints": seed["joints"][:, 0]}

    def forward(self, music_features: Tensor, joints: Tensor, return_loss: bool = True) -> BailandoGPTOutput:
        """Predict each code of real dances from the music and the codes before it.

        Args:
            music_features: (B, >= T / 8, 438) at 7.5 FPS; with a music window (B, >= T - 7, 55) at 60 FPS.
            joints: (B, T, 24, 3) metres, T a multiple of 8.
            return_loss: always true; required by ``transformers.Trainer``.

        Returns:
            The output of the GPT for all codes but the last.

        Raises:
            ValueError: if the music is too short, or there are more codes than absolute positions.
        """
        upper, lower = self.vqvae.encode(split_root(joints)[0])
        music = self.gpt.pad_music(music_features, upper.shape[1])
        return self.gpt(upper[:, :-1], lower[:, :-1], music, upper[:, 1:], lower[:, 1:])

    @torch.no_grad()
    def generate_dance(
        self,
        music_features: Tensor,
        num_frames: int | Sequence[int],
        *,
        seed_joints: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        generator: Generators = None,
        streamer: CodeStreamer | None = None,
        **options: Any,
    ) -> BailandoDanceOutput:
        """Generate a dance to a piece of music, or to several at once (paper section 4, problem formulation).

        Args:
            music_features: (B, ceil(num_frames / 8), 438) at 7.5 FPS, one row for each code; with a music window
                (B, num_frames, 55) at 60 FPS. Longer music is cut; with a window, the model looks ahead into it.
            num_frames: length of the dances at 60 FPS, or of each of them; shorter ones are followed by arbitrary frames.
            seed_joints: (B, T, 24, 3) seed motion, T at least 8; without it, the first code is drawn.
            generation_config: how codes are chosen, see :func:`choose_codes`; ``self.generation_config`` by default.
            generator: of all draws; a sequence has one for each piece, whose dance then does not depend on the others.
            streamer: receives the codes of each step.
            options: changes of the generation configuration: ``do_sample``, ``temperature``, ``top_k``, ``top_p``.

        Raises:
            ValueError: if ``music_features`` do not last ``num_frames``, the seed motion is too short, or an option is
                unknown.
        """
        chosen = self.generation_options(generation_config, **options)
        per_code = self.config.vqvae_config.frames_per_code
        lengths = lengths_of(num_frames, len(music_features))
        num_frames, steps = max(lengths), math.ceil(max(lengths) / per_code)
        rows = steps if self.config.gpt_config.music_window is None else num_frames
        if music_features.shape[1] < rows:
            raise ValueError(
                f"{music_features.shape[1]} music rows do not last {num_frames} frames: expected {rows}"
            )
        start = None if seed_joints is None else seed_joints[:, 0, 0]
        upper, lower = self.vqvae.start_codes((len(music_features),), steps, seed_joints, generator=generator)
        upper, lower = self.gpt.generate_codes(
            self.gpt.pad_music(music_features, steps),
            upper,
            lower,
            steps - upper.shape[1],
            generation_config=chosen,
            generator=generator,
            streamer=streamer,
        )
        counts = [math.ceil(length / per_code) for length in lengths]
        relative, velocity = self.vqvae.decode_pieces(upper, lower, counts)
        # In place: hours of joints do not fit in memory twice.
        joints = relative.add_(join_root(torch.zeros_like(relative[:, :, :1]), velocity, start))[
            :, :num_frames
        ]
        rotations = None
        if self.config.vqvae_config.rotation_head:
            rotations = self.vqvae.decode_rotations(upper, lower)[:, :num_frames]
        return BailandoDanceOutput(joints=joints, rotations=rotations, upper_codes=upper, lower_codes=lower)
