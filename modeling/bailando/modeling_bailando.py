"""Bailando: a GPT that strings the VQ-VAE's dancing units together to music, and both as one model (paper section 4.1).

Siyao et al., "Bailando: 3D Dance Generation by Actor-Critic GPT with Choreographic Memory", CVPR 2022. Notable:

- the GPT sees three streams at once, music, upper and lower codes; a token of any stream at step i attends to all three
  streams up to i;
- learned absolute positions, as published, restart with every window; the option of rotary ones, ours, lets generation
  keep what it computed;
- the option of a music window is the music transformer of the journal version (Siyao et al., "Bailando++", TPAMI 2023;
  not the Bailando++ of the paper's section 4.2, which is for dancers together).

The VQ-VAE is in ``modeling_bailando_vqvae``, fine-tuning by reward in ``actor_critic``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from .configuration_bailando import BailandoConfig, BailandoGPTConfig
from .modeling_bailando_vqvae import (
    BailandoCodebook,
    BailandoVQVAE,
    BailandoVQVAEOutput,
    join_root,
    split_root,
)

__all__ = [
    "BailandoAttention",
    "BailandoBlock",
    "BailandoCodebook",
    "BailandoDanceOutput",
    "BailandoForDanceGeneration",
    "BailandoGPT",
    "BailandoGPTOutput",
    "BailandoLayerCache",
    "BailandoMusicTransformer",
    "BailandoVQVAE",
    "BailandoVQVAEOutput",
    "CodeStreamer",
    "cross_conditional_mask",
    "init_gpt_weights",
    "join_root",
    "split_root",
]


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


class BailandoLayerCache:
    """Keys and values that one block computed for the last steps, for blocks of rotary or not yet slid positions.

    Steps take turns in ``window`` slots; in which order keys lie does not matter to attention.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.steps = 0
        self.slots: list[Tensor] = []

    def update(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, H, 3 S, D) of S new steps; returns what the new steps may see.

        Several steps at once are only possible at the start; a mask must then keep them apart.
        """
        steps = key.shape[2] // 3
        assert steps == 1 or self.steps == 0
        if not self.slots:
            count, heads, _, width = key.shape
            self.slots = [key.new_empty(count, heads, self.window, 3, width) for _ in range(2)]
        kept = min(steps, self.window)
        first = self.steps + steps - kept
        self.steps += steps
        if steps > 1:
            places = [(first + step) % self.window for step in range(kept)]
            for slots, new in zip(self.slots, (key, value), strict=True):
                slots[:, :, places] = new.unflatten(2, (3, steps)).transpose(2, 3)[:, :, steps - kept :]
            return key, value
        for slots, new in zip(self.slots, (key, value), strict=True):
            slots[:, :, first % self.window] = new
        filled = min(self.steps, self.window)
        return self.slots[0][:, :, :filled].flatten(2, 3), self.slots[1][:, :, :filled].flatten(2, 3)


class BailandoAttention(nn.Module):
    """Multi-head attention under a given mask."""

    def __init__(self, config: BailandoGPTConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads, self.dropout = config.num_attention_heads, config.dropout
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor | None,
        *,
        rotary: tuple[Tensor, Tensor] | None = None,
        cache: BailandoLayerCache | None = None,
        rows: slice | None = None,
    ) -> Tensor:
        """See :class:`BailandoBlock`."""
        asking = hidden if rows is None else hidden[:, rows]
        query, key, value = (
            projection(inputs).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, inputs in ((self.q_proj, asking), (self.k_proj, hidden), (self.v_proj, hidden))
        )
        if rotary is not None:
            query, key = _turn(query, rotary, rows), _turn(key, rotary)
        if cache is not None:
            key, value = cache.update(key, value)
        if mask is not None and rows is not None:
            mask = mask[rows]
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


class BailandoBlock(nn.Module):
    """Pre-norm transformer block with exact GELU."""

    def __init__(self, config: BailandoGPTConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = BailandoAttention(config)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor | None,
        *,
        rotary: tuple[Tensor, Tensor] | None = None,
        cache: BailandoLayerCache | None = None,
        rows: slice | None = None,
    ) -> Tensor:
        """(B, N, C) to (B, N, C).

        Args:
            hidden: tokens; with a cache, those of the new steps.
            mask: (N, N), true where attention is allowed (or added to its logits); None allows all.
            rotary: cosines and sines (N, C / heads) to turn keys and queries by.
            cache: of earlier steps; the new ones are added.
            rows: the tokens whose output is wanted; the others are only looked at.
        """
        attended = self.attention(self.ln1(hidden), mask, rotary=rotary, cache=cache, rows=rows)
        hidden = (hidden if rows is None else hidden[:, rows]) + self.dropout(attended)
        return hidden + self.dropout(self.fc2(F.gelu(self.fc1(self.ln2(hidden)))))


def _turn(vectors: Tensor, rotary: tuple[Tensor, Tensor], rows: slice | None = None) -> Tensor:
    """Rotary position embedding of (B, H, N, D): channels i and i + D / 2 are the two axes of a plane."""
    cosine, sine = rotary if rows is None else (rotary[0][rows], rotary[1][rows])
    first, second = vectors.chunk(2, dim=-1)
    return vectors * cosine + torch.cat([-second, first], dim=-1) * sine


class BailandoMusicTransformer(nn.Module):
    """Music at 60 FPS to one vector a code, which knows the music around the code (Bailando++, TPAMI 2023)."""

    def __init__(self, config: BailandoGPTConfig) -> None:
        super().__init__()
        assert config.music_window is not None
        width = config.hidden_size
        self.window, self.band, self.per_code = config.music_window, config.music_band, config.frames_per_code
        self.embedding = nn.Linear(config.music_dim, width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(BailandoBlock(config) for _ in range(config.num_music_layers))
        self.fold = nn.Linear(config.frames_per_code * width, width)

    def forward(self, music: Tensor) -> Tensor:
        """(B, per_code * S + 2 * window, music_dim) to (B, S, C): ``window`` frames of margin at both ends."""
        hidden = self.dropout(self.embedding(music))
        frame = torch.arange(music.shape[1], device=music.device)
        mask = (frame[:, None] - frame).abs() <= self.band
        inner = slice(self.window, music.shape[1] - self.window)
        for number, block in enumerate(self.blocks, 1):
            hidden = block(hidden, mask, rows=inner if number == len(self.blocks) else None)
        return self.fold(hidden.unflatten(1, (-1, self.per_code)).flatten(2))


class CodeStreamer(Protocol):
    """What :meth:`BailandoGPT.generate_codes` tells of its progress."""

    def put(self, codes: Tensor) -> None:
        """Take the upper and lower code of one step, (B, 2)."""

    def end(self) -> None:
        """Take note that there will be no more."""


class BailandoGPT(PreTrainedModel):
    """Predicts the next upper and lower code from music and the codes so far.

    ``music`` is an entry a code everywhere: entry i is the music of the code that follows code i. Without a music window
    that is (B, S, music_dim); with one, (B, frames_per_code * S + 2 * music_window, music_dim) as :meth:`pad_music`
    makes it, where entry i are the ``frames_per_code`` frames from ``music_window + frames_per_code * i`` on.
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
        self.music_embedding = nn.Linear(config.music_dim if config.music_window is None else width, width)
        self.upper_embedding = nn.Embedding(config.codebook_size, width)
        self.lower_embedding = nn.Embedding(config.codebook_size, width)
        if not config.rotary:
            #: One learned position for each step of each stream.
            self.position_embedding = nn.Parameter(torch.zeros(3, config.max_codes, width))
        self.dropout = nn.Dropout(config.dropout)
        self.base = nn.ModuleList(BailandoBlock(config) for _ in range(config.num_base_layers))
        self.head = nn.ModuleList(BailandoBlock(config) for _ in range(config.num_head_layers))
        self.ln_f = nn.LayerNorm(width)
        self.upper_head = nn.Linear(width, config.codebook_size, bias=False)
        self.lower_head = nn.Linear(width, config.codebook_size, bias=False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        init_gpt_weights(module, self.config.initializer_range)

    def forward(
        self,
        upper_codes: Tensor,
        lower_codes: Tensor,
        music: Tensor,
        upper_targets: Tensor | None = None,
        lower_targets: Tensor | None = None,
        return_loss: bool = True,
        **_: Any,
    ) -> BailandoGPTOutput:
        """Logits of the codes that follow.

        Args:
            upper_codes: (B, S) codes, S at most ``max_codes`` with absolute positions.
            lower_codes: (B, S) codes.
            music: S entries, see the class.
            upper_targets: (B, S) the codes that follow, for the loss.
            lower_targets: (B, S) likewise.
            return_loss: always true with targets; there for ``transformers.Trainer``.
        """
        upper_logits, lower_logits = self.head_logits(self.base_features(upper_codes, lower_codes, music))
        loss = None
        if upper_targets is not None and lower_targets is not None:
            loss = F.cross_entropy(upper_logits.flatten(0, 1), upper_targets.flatten()) + F.cross_entropy(
                lower_logits.flatten(0, 1), lower_targets.flatten()
            )
        return BailandoGPTOutput(loss=loss, upper_logits=upper_logits, lower_logits=lower_logits)

    def base_features(self, upper_codes: Tensor, lower_codes: Tensor, music: Tensor) -> Tensor:
        """The base blocks' output (B, 3 S, C), which the head reads, and the critic of actor-critic training too.

        Raises:
            ValueError: if there are more codes than absolute positions, or another number of music entries.
        """
        hidden = self.dropout(self._tokens(self.embed_music(music), upper_codes, lower_codes))
        steps = upper_codes.shape[1]
        mask, rotary = self.attention_mask(steps, hidden.device), self.rotary(steps, hidden)
        for block in self.base:
            hidden = block(hidden, mask, rotary=rotary)
        return hidden

    def head_logits(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Base features (B, 3 S, C) to upper and lower logits (B, S, codebook_size)."""
        steps = features.shape[1] // 3
        mask, rotary = self.attention_mask(steps, features.device), self.rotary(steps, features)
        for block in self.head:
            features = block(features, mask, rotary=rotary)
        _, upper, lower = self.ln_f(features).unflatten(1, (3, steps)).unbind(1)
        return self.upper_head(upper), self.lower_head(lower)

    def pad_music(self, music_features: Tensor, num_codes: int) -> Tensor:
        """Music of a whole piece from its first code on, made to follow that code.

        Args:
            music_features: without a music window (B, >= num_codes, music_dim), a row a code; with one
                (B, T, music_dim) at 60 FPS, T more than ``frames_per_code * (num_codes - 1)``.
            num_codes: of the piece.

        Returns:
            ``num_codes - 1`` entries as the class says: the first code's own is dropped, and beyond the ends of the
            piece there are zeros.

        Raises:
            ValueError: if the music is too short.
        """
        per_code, window = self.config.frames_per_code, self.config.music_window
        rows = num_codes if window is None else per_code * (num_codes - 1) + 1
        if music_features.shape[1] < rows:
            raise ValueError(f"{music_features.shape[1]} music rows cannot carry {num_codes} codes ({rows})")
        if window is None:
            return music_features[:, 1:num_codes]
        after = per_code * num_codes + window - music_features.shape[1]
        return F.pad(music_features, (0, 0, window, after))[:, per_code:]

    def embed_music(self, music: Tensor) -> Tensor:
        """Music entries as the class says to one vector each, (B, S, C)."""
        music = music.to(self.music_embedding.weight.dtype)
        return self.music_embedding(
            music if self.config.music_window is None else self.music_transformer(music)
        )

    def attention_mask(self, steps: int, device: torch.device) -> Tensor:
        """(3 * steps,) squared, see :func:`cross_conditional_mask`; with rotary positions over the last codes only."""
        mask = cross_conditional_mask(steps, 3, device)
        if self.config.rotary and steps > self.config.context:
            near = torch.ones(steps, steps, dtype=torch.bool, device=device).triu(1 - self.config.context)
            mask = mask & near.repeat(3, 3)
        return mask

    def _tokens(self, music: Tensor, upper_codes: Tensor, lower_codes: Tensor, first: int = 0) -> Tensor:
        """Embedded music (B, S, C) and codes (B, S) to tokens (B, 3 S, C), the first at position ``first``."""
        streams = [music, self.upper_embedding(upper_codes), self.lower_embedding(lower_codes)]
        if music.shape[1] != upper_codes.shape[1]:
            raise ValueError(f"{music.shape[1]} entries of music for {upper_codes.shape[1]} codes")
        tokens = torch.stack(streams, dim=1)
        if not self.config.rotary:
            last = first + upper_codes.shape[1]
            if last > self.config.max_codes:
                raise ValueError(f"{last} codes for a model of {self.config.max_codes} absolute positions")
            tokens = tokens + self.position_embedding[:, first:last]
        return tokens.flatten(1, 2)

    def rotary(self, steps: int, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines (3 * steps, C / heads), the same for all three streams; None with absolute positions."""
        if not self.config.rotary:
            return None
        half = self.config.hidden_size // self.config.num_attention_heads // 2
        # In double precision: late in a song angles are large.
        pace = self.config.rotary_base ** (-torch.arange(half, dtype=torch.float64) / half)
        angles = (torch.arange(steps, dtype=torch.float64)[:, None] * pace).repeat(3, 2)
        return angles.cos().to(like), angles.sin().to(like)

    @torch.no_grad()
    def generate_codes(
        self,
        music: Tensor,
        upper_codes: Tensor,
        lower_codes: Tensor,
        steps: int,
        *,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
        streamer: CodeStreamer | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Continue codes to music, several pieces at once if wanted.

        With rotary positions every step computes one code only, whatever the length, as the forward pass over the
        whole piece would have it. With absolute positions that holds until ``max_codes - 1`` codes are seen; from then
        on all positions change with every step, and so do all keys and values: as published, they are computed anew.
        With absolute positions and a music window they are from the start, as each step lets the music transformer see
        8 frames more.

        Args:
            music: S + steps - 1 entries (see the class) or more.
            upper_codes: (B, S) codes to start from, S >= 1.
            lower_codes: (B, S) likewise.
            steps: codes to add.
            do_sample: draw from the distribution instead of taking the likeliest code.
            temperature: of the distribution.
            top_k: draw from this many likeliest codes only.
            top_p: draw from the likeliest codes that together have this probability only.
            generator: of the draws.
            streamer: is given each step's codes as they come.

        Returns:
            (B, S + steps) upper and lower codes.

        Raises:
            ValueError: if the music is too short.
        """
        start, config = upper_codes.shape[1], self.config
        margin = 0 if config.music_window is None else 2 * config.music_window
        per_entry = 1 if config.music_window is None else config.frames_per_code
        entries = (music.shape[1] - margin) // per_entry
        if entries < start + steps - 1:
            raise ValueError(f"{entries} music steps cannot carry {start} + {steps} codes")
        if steps == 0:
            return upper_codes, lower_codes
        codes = torch.cat(
            [torch.stack([upper_codes, lower_codes]), upper_codes.new_zeros(2, len(upper_codes), steps)], -1
        )
        blocks = [*self.base, *self.head]
        caches: list[BailandoLayerCache | None] = [BailandoLayerCache(config.context) for _ in blocks]
        music_moves = config.music_window is not None and not config.rotary
        vectors = (
            music.new_empty(0) if music_moves else self._embed_song(music[:, : per_entry * entries + margin])
        )
        turns = self.rotary(start + steps, vectors)
        full_mask = None
        for count in range(start, start + steps):
            first = 0 if config.rotary else max(0, count - config.context)
            if music_moves or first > 0:
                caches = [None] * len(blocks)
            cached = caches[0].steps if caches[0] is not None else 0
            new = slice(first + cached, count)
            seen = count - first - cached
            heard = (
                self.embed_music(music[:, per_entry * first : per_entry * count + margin])
                if music_moves
                else vectors[:, new]
            )
            hidden = self._tokens(heard, codes[0, :, new], codes[1, :, new], cached)
            if seen == 1:
                mask = None
            elif full_mask is not None and len(full_mask) == 3 * seen:
                mask = full_mask
            else:
                mask = full_mask = self.attention_mask(seen, hidden.device)
            rotary = None
            if turns is not None:
                cosine, sine = (turn.unflatten(0, (3, -1))[:, new].flatten(0, 1) for turn in turns)
                rotary = cosine, sine
            for block, cache in zip(blocks[:-1], caches, strict=False):
                hidden = block(hidden, mask, rotary=rotary, cache=cache)
            # Of the last block, only what the next codes are read from.
            last = slice(2 * seen - 1, 3 * seen, seen)
            hidden = self.ln_f(blocks[-1](hidden, mask, rotary=rotary, cache=caches[-1], rows=last))
            for half, head in enumerate((self.upper_head, self.lower_head)):
                logits = head(hidden[:, half])
                codes[half, :, count] = choose_codes(logits, do_sample, temperature, top_k, top_p, generator)
            if streamer is not None:
                streamer.put(codes[:, :, count].T.clone())
        if streamer is not None:
            streamer.end()
        return codes[0], codes[1]

    def _embed_song(self, music: Tensor) -> Tensor:
        """:meth:`embed_music` of any length; a music transformer hears a stretch at a time, with its margins."""
        if self.config.music_window is None:
            return self.embed_music(music)
        per_code, margin, stretch = self.config.frames_per_code, 2 * self.config.music_window, 64
        starts = range(0, music.shape[1] - margin, per_code * stretch)
        return torch.cat(
            [self.embed_music(music[:, at : at + per_code * stretch + margin]) for at in starts], dim=1
        )


def init_gpt_weights(module: nn.Module, std: float) -> None:
    """Normal weights and zero biases, as published."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def cross_conditional_mask(steps: int, streams: int, device: torch.device) -> Tensor:
    """(streams * steps,) squared: a token sees every stream up to its own step."""
    causal = torch.ones(steps, steps, dtype=torch.bool, device=device).tril()
    return causal.repeat(streams, streams)


def choose_codes(
    logits: Tensor,
    do_sample: bool,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    generator: torch.Generator | None,
) -> Tensor:
    """(..., codebook_size) logits to one code each, (...); see :meth:`BailandoGPT.generate_codes`."""
    if not do_sample:
        return logits.argmax(dim=-1)
    logits = logits.float() / max(temperature, 1e-6)
    if top_k is not None:
        least = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p is not None:
        ordered, order = logits.softmax(-1).sort(dim=-1, descending=True)
        # A code stays if those before it have not yet made up the share: the likeliest always does.
        beyond = ordered.cumsum(-1) - ordered >= max(top_p, 1e-9)
        logits = logits.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), -torch.inf)
    # On the CPU, where the generator is: the same seed gives the same dance on every device.
    flat = logits.softmax(-1).cpu().flatten(0, -2)
    draw = torch.multinomial(flat, 1, generator=generator)[:, 0]
    return draw.view(logits.shape[:-1]).to(logits.device)


class BailandoForDanceGeneration(PreTrainedModel):
    """A whole Bailando: from music features to a dance."""

    config_class = BailandoConfig
    config: BailandoConfig
    main_input_name = "music_features"

    def __init__(self, config: BailandoConfig) -> None:
        super().__init__(config)
        self.vqvae = BailandoVQVAE(config.vqvae_config)
        self.gpt = BailandoGPT(config.gpt_config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """The two parts have initialised themselves."""

    @torch.no_grad()
    def generate_dance(
        self,
        music_features: Tensor,
        num_frames: int,
        *,
        seed_joints: Tensor | None = None,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
        streamer: CodeStreamer | None = None,
    ) -> BailandoDanceOutput:
        """A dance to a piece of music (paper section 4, problem formulation), or to several at once.

        Args:
            music_features: (B, ceil(num_frames / 8), 438) at 7.5 FPS, one row a code; with a music window
                (B, num_frames, 55) at 60 FPS. Longer music is cut, or, with a window, looked ahead into.
            num_frames: length of the dance at 60 FPS.
            seed_joints: (B, T, 24, 3) seed motion, T at least 8; without it, the first code is drawn.
            do_sample: see :meth:`BailandoGPT.generate_codes`; likewise the following.
            temperature: of the distribution.
            top_k: likewise.
            top_p: likewise.
            generator: of all draws.
            streamer: see :meth:`BailandoGPT.generate_codes`.

        Raises:
            ValueError: if ``music_features`` do not last ``num_frames``, or the seed motion is too short.
        """
        per_code = self.config.vqvae_config.frames_per_code
        steps = math.ceil(num_frames / per_code)
        rows = steps if self.config.gpt_config.music_window is None else num_frames
        if music_features.shape[1] < rows:
            raise ValueError(f"{music_features.shape[1]} music rows do not last {num_frames} frames ({rows})")
        start = None if seed_joints is None else seed_joints[:, 0, 0]
        upper, lower = self.vqvae.start_codes(
            len(music_features), steps, seed_joints, generator=generator, device=music_features.device
        )
        upper, lower = self.gpt.generate_codes(
            self.gpt.pad_music(music_features, steps),
            upper,
            lower,
            steps - upper.shape[1],
            do_sample=do_sample,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            generator=generator,
            streamer=streamer,
        )
        relative, velocity = self.vqvae.decode(upper, lower)
        joints = join_root(relative, velocity, start)[:, :num_frames]
        rotations = None
        if self.config.vqvae_config.rotation_head:
            rotations = self.vqvae.decode_rotations(upper, lower)[:, :num_frames]
        return BailandoDanceOutput(joints=joints, rotations=rotations, upper_codes=upper, lower_codes=lower)
