"""Transformer layers, caching and sampling that the dance models share.

Attention is cross-conditional and causal (Siyao et al., "Bailando", CVPR 2022, section 3.2): tokens come in streams of S
steps each (music, upper codes, lower codes, or those of several dancers), and a token at step i attends to all streams up
to step i. Tokens are (B, streams * S, C), stream after stream.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationConfig
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

#: One generator for all rows of a batch, or one for each piece of the batch.
Generators = torch.Generator | Sequence[torch.Generator] | None
#: Cosines and sines of rotary positions, (N, C / heads) each.
Rotary = tuple[Tensor, Tensor]


class AttentionConfig(Protocol):
    """Configuration of the blocks, see :class:`~opendance_hf.modeling.bailando.BailandoGPTConfig`."""

    codebook_size: int
    hidden_size: int
    num_attention_heads: int
    dropout: float
    rotary_base: float

    @property
    def context(self) -> int:
        """Number of steps that a step attends to, its own included."""

    @property
    def rotary(self) -> bool:
        """True if positions are rotary."""


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Compute attention step by step: the reference of the other implementations.

    Args:
        module: the attention layer; dropout applies in its training mode.
        query: (B, H, N, D).
        key: (B, H, M, D).
        value: (B, H, M, D).
        attention_mask: true where attention is allowed, broadcast to (B, H, N, M); None allows all.
        dropout: probability.
        scaling: factor of the logits; 1 / sqrt(D) by default.

    Returns:
        The result (B, N, H, D) and the attention probabilities (B, H, N, M).
    """
    logits = query @ key.mT * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        logits = logits.masked_fill(~attention_mask, -torch.inf)
    weights = logits.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    mixed = F.dropout(weights, dropout, module.training) @ value
    return mixed.transpose(1, 2).contiguous(), weights


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
) -> Tensor:
    """Compute attention by the implementation that ``module.config`` names (``attn_implementation``).

    Args:
        module: the layer, with the configuration as ``config``.
        query: (B, H, N, D).
        key: (B, H, M, D).
        value: (B, H, M, D).
        mask: (N, M), true where attention is allowed; None allows all.
        dropout: probability, in training.
        scaling: factor of the logits; 1 / sqrt(D) by default.

    Returns:
        (B, N, H * D)
    """
    config: Any = module.config
    implementation = ALL_ATTENTION_FUNCTIONS.get_interface(
        config._attn_implementation, eager_attention_forward
    )
    mixed, _ = implementation(
        module,
        query,
        key,
        value,
        None if mask is None else mask[None, None],
        dropout=dropout if module.training else 0.0,
        scaling=scaling,
        is_causal=False,
    )
    return mixed.flatten(2)


class StepCache:
    """Keys and values that one block computed for the last ``window`` steps of all streams.

    They are stored in ``window`` slots in rotation: attention does not depend on the order of keys. All slots are read at
    every step, under a mask, so that all steps after the first have the same shapes and can be compiled or captured.

    Attributes:
        at: (S,) numbers of the steps that are being computed, on the device: all of the first ones, then one at a time.
        places: (at most window,) slots of the last of them.
    """

    def __init__(self, window: int, streams: int) -> None:
        self.window, self.streams = window, streams
        self.at = self.places = torch.zeros(0, dtype=torch.long)
        self.slots: list[Tensor] = []

    @staticmethod
    def start_step(caches: Sequence[StepCache], at: Tensor) -> None:
        """Tell caches, which have the same window, which steps are computed next."""
        window = caches[0].window
        places = at[-window:] % window
        for cache in caches:
            cache.at, cache.places = at, places

    def update(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, H, streams * S, D) keys and values of the steps ``at``; return those that the mask of the steps is for.

        Raises:
            ValueError: for several steps at once that are not the first ones.
        """
        steps = len(self.at)
        if steps > 1 and self.slots:
            raise ValueError(f"expected one step after the first ones, got {steps}")
        if not self.slots:
            count, heads, _, width = key.shape
            self.slots = [key.new_zeros(count, heads, self.window, self.streams, width) for _ in range(2)]
            for slots in self.slots:
                torch._dynamo.mark_static_address(slots)  # CUDA graphs write to them
        for slots, new in zip(self.slots, (key, value), strict=True):
            by_step = new.unflatten(2, (self.streams, steps)).transpose(2, 3)
            slots.index_copy_(2, self.places, by_step[:, :, -self.window :])
        if steps > 1:
            return key, value
        return self.slots[0].flatten(2, 3), self.slots[1].flatten(2, 3)

    def mask(self) -> Tensor:
        """Return the mask (streams, window * streams) of a single step: true for the slots that hold a step."""
        filled = torch.arange(self.window, device=self.at.device) <= self.at
        return filled[:, None].expand(-1, self.streams).flatten().expand(self.streams, -1)


class DanceAttention(nn.Module):
    """Multi-head attention under a given mask; see :class:`DanceBlock`."""

    def __init__(self, config: AttentionConfig, dropout: float) -> None:
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.heads, self.dropout = config.num_attention_heads, dropout
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor | None,
        *,
        rotary: Rotary | None = None,
        cache: StepCache | None = None,
        rows: slice | None = None,
    ) -> Tensor:
        """Attend from (B, N, C) tokens to each other and to those in the cache."""
        asking = hidden if rows is None else hidden[:, rows]
        query, key, value = (
            projection(inputs).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, inputs in ((self.q_proj, asking), (self.k_proj, hidden), (self.v_proj, hidden))
        )
        if rotary is not None:
            query, key = apply_rotary(query, rotary, rows), apply_rotary(key, rotary)
        if cache is not None:
            key, value = cache.update(key, value)
        if mask is not None and rows is not None:
            mask = mask[rows]
        return self.o_proj(attend(self, query, key, value, mask, dropout=self.dropout))


class DanceBlock(GradientCheckpointingLayer):
    """Pre-norm transformer block with exact GELU; ``dropout`` is that of the configuration by default."""

    def __init__(self, config: AttentionConfig, dropout: float | None = None) -> None:
        super().__init__()
        dropout = config.dropout if dropout is None else dropout
        width = config.hidden_size
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = DanceAttention(config, dropout)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor | None,
        *,
        rotary: Rotary | None = None,
        cache: StepCache | None = None,
        rows: slice | None = None,
    ) -> Tensor:
        """Transform (B, N, C) tokens.

        Args:
            hidden: tokens; with a cache, those of the new steps.
            mask: (N, N), true where attention is allowed; None allows all.
            rotary: cosines and sines (N, C / heads) to rotate keys and queries by.
            cache: of earlier steps; the new ones are added.
            rows: the tokens whose output is wanted; the others serve as keys and values only.

        Returns:
            (B, N, C), or (B, rows, C).
        """
        attended = self.attention(self.ln1(hidden), mask, rotary=rotary, cache=cache, rows=rows)
        hidden = (hidden if rows is None else hidden[:, rows]) + self.dropout(attended)
        return hidden + self.dropout(self.fc2(F.gelu(self.fc1(self.ln2(hidden)))))


def init_transformer_weights(module: nn.Module, std: float) -> None:
    """Initialise a linear layer, an embedding or a layer norm: normal weights, zero biases, as Bailando publishes."""
    if isinstance(module, nn.Linear | nn.Embedding):
        init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        init.zeros_(module.bias)
    if isinstance(module, nn.LayerNorm):
        init.ones_(module.weight)
        init.zeros_(module.bias)


def cross_conditional_mask(
    steps: int, streams: int, device: torch.device | None = None, *, window: int | None = None
) -> Tensor:
    """Return a (streams * steps,) squared mask: a token sees every stream up to its own step.

    Args:
        steps: of each stream.
        streams: their number.
        device: of the mask.
        window: a token sees this many steps only, its own included; all if None.
    """
    causal = torch.ones(steps, steps, dtype=torch.bool, device=device).tril()
    if window is not None and steps > window:
        causal = causal.triu(1 - window)
    return causal.repeat(streams, streams)


def rotary_embedding(
    config: AttentionConfig, steps: int, streams: int, like: Tensor, at: Tensor | None = None
) -> Rotary | None:
    """Return cosines and sines (streams * steps, C / heads) of the positions ``at`` (steps,), by default from 0 on.

    They are equal for all streams, and None with absolute positions. Angles are computed in double precision, as they are
    large late in a song.
    """
    if not config.rotary:
        return None
    half = config.hidden_size // config.num_attention_heads // 2
    # On the device, where the computation needs no copy; Apple's has no double precision.
    place = torch.device("cpu") if like.device.type == "mps" else like.device
    speed = config.rotary_base ** (-torch.arange(half, dtype=torch.float64, device=place) / half)
    positions = torch.arange(steps, device=place) if at is None else at.to(place)
    angles = positions.to(torch.float64)[:, None] * speed
    angles = angles.repeat(streams, 2)
    return angles.cos().to(like), angles.sin().to(like)


def apply_rotary(vectors: Tensor, rotary: Rotary, rows: slice | None = None) -> Tensor:
    """Rotate (B, H, N, D) vectors by their positions: channels i and i + D / 2 are the two axes of a plane."""
    cosine, sine = rotary if rows is None else (rotary[0][rows], rotary[1][rows])
    first, second = vectors.chunk(2, dim=-1)
    return vectors * cosine + torch.cat([-second, first], dim=-1) * sine


def run_blocks(
    blocks: Sequence[nn.Module],
    hidden: Tensor,
    config: AttentionConfig,
    *,
    streams: int,
    caches: list[StepCache] | None = None,
    rows: slice | None = None,
) -> Tensor:
    """Run blocks on (B, streams * S, C) tokens under the cross-conditional mask.

    Args:
        blocks: of type :class:`DanceBlock`.
        hidden: tokens of S steps, which follow those in the caches.
        config: of the blocks.
        streams: number of streams.
        caches: one for each block.
        rows: the tokens that are wanted of the last block; all if None.
    """
    steps = hidden.shape[1] // streams
    mask = None
    if steps > 1:
        window = config.context if config.rotary else None
        mask = cross_conditional_mask(steps, streams, hidden.device, window=window)
    elif caches:
        mask = caches[0].mask()
    rotary = rotary_embedding(config, steps, streams, hidden, caches[0].at if caches else None)
    for number, block in enumerate(blocks):
        hidden = block(
            hidden,
            mask,
            rotary=rotary,
            cache=caches[number] if caches else None,
            rows=rows if number == len(blocks) - 1 else None,
        )
    return hidden


class CodeStreamer(Protocol):
    """Receiver of the codes of a generation as they come."""

    def put(self, codes: Tensor) -> None:
        """Take the upper and lower code of one step, (B, 2), or (B, N, 2) of several dancers."""

    def end(self) -> None:
        """Take note that there will be no more."""


#: Random numbers are drawn for so many steps at a time: 2 MB for each piece, of 512 codes.
_STEPS_PER_DRAW = 512


def extend_codes(
    codes: Tensor,
    start: int,
    config: AttentionConfig,
    next_logits: Callable[[Tensor, list[StepCache] | None], Sequence[Tensor]],
    *,
    caches: list[StepCache] | None,
    generation_config: GenerationConfig,
    generator: Generators = None,
    streamer: CodeStreamer | None = None,
) -> Tensor:
    """Fill in codes step by step, each chosen from the logits that a model computes from those before.

    With rotary positions every step computes the keys and values of one step. With absolute positions that holds until
    ``config.context`` steps are seen; then the window slides, all positions change, and everything in it is computed again
    at every step, as published.

    After the first one, a step reads nothing on the host, and all steps have the same shapes: those with caches, and those of
    a window that slides. ``compile_config`` of the generation configuration compiles them, each kind once.

    Args:
        codes: (2, B, ..., S) upper and lower codes, known up to ``start``; changed in place.
        start: number of known steps, at least 1.
        config: of the model.
        next_logits: from the numbers (n,) of the steps to read, which follow those in the caches, to the upper and lower
            logits (B, ..., codebook_size) of the step after them.
        caches: one empty cache for each block; None if nothing that was computed for one step holds for the next.
        generation_config: see :func:`choose_codes`.
        generator: see :func:`draw_noise`.
        streamer: receives the codes of every step.

    Returns:
        ``codes``
    """
    device, total = codes.device, codes.shape[-1]
    torch._dynamo.mark_static_address(codes)

    def step(new: Tensor, noise: Tensor | None, caches: list[StepCache] | None) -> Tensor:
        """Choose the codes (2, B, ...) that follow the steps ``new``, and write them into ``codes``."""
        if caches:
            StepCache.start_step(caches, new)
        logits = next_logits(new, caches)
        noises = [None, None] if noise is None else noise.unbind(0)
        halves = zip(logits, noises, strict=True)
        chosen = torch.stack([choose_codes(half, generation_config, noise) for half, noise in halves])
        codes.index_copy_(-1, new[-1:] + 1, chosen[..., None])
        return chosen

    options = generation_config.compile_config
    fixed_step = step if options is None else torch.compile(step, **options.to_dict())
    last, noise = torch.full((1,), start - 1, device=device), None
    for count in range(start, total):
        if not config.rotary and count > config.context:
            caches = None  # of other positions
        window = count if config.rotary else min(count, config.context)
        is_next = caches is not None and count > start
        new = last if is_next else last + torch.arange(1 - window, 1, device=device)
        if generation_config.do_sample:
            at = (count - start) % _STEPS_PER_DRAW
            if at == 0:
                steps = min(_STEPS_PER_DRAW, total - count)
                noise = draw_noise(steps, (*codes.shape[:-1], config.codebook_size), generator).to(device)
        is_fixed = is_next or (caches is None and window == config.context)
        chosen = (fixed_step if is_fixed else step)(new, None if noise is None else noise[at], caches)
        last = last + 1
        if streamer is not None:
            streamer.put(chosen.movedim(0, -1).clone())
    if streamer is not None:
        streamer.end()
    return codes


#: Options of :func:`choose_codes`.
SAMPLING = ("do_sample", "temperature", "top_k", "top_p")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


#: Checks of the values of generation options, and their words; every value may be None.
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "do_sample": (lambda value: isinstance(value, bool), "True or False"),
    "temperature": (lambda value: _is_number(value) and value > 0, "a number above 0"),
    "top_k": (lambda value: value == 0 or _is_count(value), "a number of codes, 0 or None for all"),
    "top_p": (lambda value: _is_number(value) and 0 < value <= 1, "a share above 0, at most 1"),
    "guidance_scale": (lambda value: _is_number(value) and value >= 0, "a number of 0 or more"),
    "num_dancers": (_is_count, "a number of at least 1"),
}


def generation_options(
    config: GenerationConfig, options: dict[str, Any], known: Sequence[str] = SAMPLING
) -> GenerationConfig:
    """Return a copy of a generation configuration with options changed.

    Raises:
        ValueError: for an option that is not known, or a value outside its range.
    """
    config = copy.deepcopy(config)
    for name, value in options.items():
        if name not in known:
            raise ValueError(f"unknown generation option {name!r}: expected one of {', '.join(known)}")
        setattr(config, name, value)
    for name in known:
        valid, expected = _RANGES.get(name, (None, ""))
        value = getattr(config, name, None)
        if valid is not None and value is not None and not valid(value):
            raise ValueError(f"{name} must be {expected}, got {value!r}")
    return config


def choose_codes(logits: Tensor, config: GenerationConfig, noise: Tensor | None) -> Tensor:
    """Choose a code from each row of logits.

    Args:
        logits: (B, ..., codebook_size).
        config: ``do_sample`` false takes the likeliest code; true draws one, after ``temperature`` (1 by default),
            among the ``top_k`` likeliest, and among the likeliest that together have probability ``top_p``.
        noise: of :func:`draw_noise`, in the shape of the logits, if codes are drawn.

    Returns:
        (B, ...) codes.
    """
    if not config.do_sample:
        return logits.argmax(dim=-1)
    logits = logits.float() / max(1.0 if config.temperature is None else config.temperature, 1e-6)
    if config.top_k:
        least = logits.topk(min(config.top_k, logits.shape[-1]), dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if config.top_p is not None:
        ordered, order = logits.softmax(-1).sort(dim=-1, descending=True)
        # A code stays if those before it have not yet made up the share: the likeliest always does.
        beyond = ordered.cumsum(-1) - ordered >= max(config.top_p, 1e-9)
        logits = logits.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), -torch.inf)
    assert noise is not None
    # Of exponential waiting times with the rates p, the shortest is that of code i with probability p_i.
    return (logits.softmax(-1) / noise).argmax(dim=-1)


def draw_noise(steps: int, shape: Sequence[int], generator: Generators = None) -> Tensor:
    """Draw the exponential random numbers that :func:`choose_codes` draws codes with.

    On the CPU, where the generator is, so that a seed gives the same dance on every device; and for many steps at a time, so
    that a device does not wait. They are those that ``torch.multinomial`` would draw step by step.

    Args:
        steps: number of steps.
        shape: (2, B, ..., codebook_size) of one step: of the logits of both halves.
        generator: a sequence has one for each of the B pieces, so that a piece does not depend on the others.

    Returns:
        (steps, *shape)
    """
    if isinstance(generator, Sequence):
        of_piece = (steps, shape[0], *shape[2:])
        return torch.stack([torch.empty(of_piece).exponential_(generator=one) for one in generator], dim=2)
    return torch.empty(steps, *shape).exponential_(generator=generator)


def lengths_of(num_frames: int | Sequence[int], count: int) -> list[int]:
    """Return the length of each of ``count`` pieces from one length or from that of each.

    Raises:
        ValueError: for another number of lengths.
    """
    lengths = [num_frames] * count if isinstance(num_frames, int) else [int(length) for length in num_frames]
    if len(lengths) != count:
        raise ValueError(f"{len(lengths)} lengths for {count} pieces of music")
    return lengths


def first_codes(size: int, shape: tuple[int, ...], generator: Generators = None) -> Tensor:
    """Draw upper and lower codes to start from: (2, B, ...) for a ``shape`` (B, ...)."""
    if isinstance(generator, Sequence):
        parts = [torch.randint(size, (2, *shape[1:]), generator=one) for one in generator]
        return torch.stack(parts, dim=1)
    return torch.randint(size, (2, *shape), generator=generator)
