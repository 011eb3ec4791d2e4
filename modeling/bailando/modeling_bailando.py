"""Bailando: a codebook of dancing units, and a GPT that strings them together to music (paper section 4.1).

Siyao et al., "Bailando: 3D Dance Generation by Actor-Critic GPT with Choreographic Memory", CVPR 2022. Notable:

- the body is coded in two halves, upper and lower, each by its own VQ-VAE without normalisation layers; 8 frames a code;
- codes are running means of the encoder outputs they stand for; unused ones are replaced by random encoder outputs.
  Under data parallelism both are computed over all ranks, so that every rank keeps the same, correct codebook;
- poses are relative to the pelvis; a second decoder reads the pelvis' velocity off the lower half's codes;
- the GPT sees three streams at once; a token of any stream at step i attends to all three streams up to i.

Joints are (..., 24, 3) SMPL joints in metres, y up, at 60 FPS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from opendance_hf.modeling.bailando.configuration_bailando import (
    BailandoConfig,
    BailandoGPTConfig,
    BailandoVQVAEConfig,
)

NUM_JOINTS = 24


@dataclass
class BailandoVQVAEOutput(ModelOutput):
    """Output of :class:`BailandoVQVAE`. T is a multiple of 8, S = T / 8.

    Attributes:
        loss: pose loss plus root loss, what training minimises.
        pose_loss: mean of the two halves' reconstruction, velocity, acceleration and commitment losses.
        root_loss: L1 of the root's velocity and of its first differences; None without ``root_velocity``.
        joints: (B, T, 24, 3) reconstruction relative to the pelvis.
        root_velocity: (B, T, 3) metres per frame.
        upper_codes: (B, S) indices.
        lower_codes: (B, S) indices.
        metrics: named scalars for logs: the parts of the losses, and ``used`` codes of each half.
    """

    loss: Tensor | None = None
    pose_loss: Tensor | None = None
    root_loss: Tensor | None = None
    joints: Tensor | None = None
    root_velocity: Tensor | None = None
    upper_codes: Tensor | None = None
    lower_codes: Tensor | None = None
    metrics: dict[str, Tensor] | None = None


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
        upper_codes: (B, S) indices.
        lower_codes: (B, S) indices.
    """

    joints: Tensor | None = None
    upper_codes: Tensor | None = None
    lower_codes: Tensor | None = None


def split_root(joints: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, 24, 3) joints to joints relative to the pelvis, and the pelvis' velocity (B, T, 3) per frame.

    The velocity of frame t leads to frame t + 1; the last repeats the one before it.
    """
    root = joints[..., 0, :]
    velocity = root[:, 1:] - root[:, :-1]
    velocity = torch.cat([velocity, velocity[:, -1:]], dim=1)
    return joints - root[..., None, :], velocity


def join_root(relative: Tensor, root_velocity: Tensor, start: Tensor | None = None) -> Tensor:
    """The inverse of :func:`split_root`; ``start`` (B, 3) is the pelvis of the first frame, zero by default."""
    root = torch.cumsum(root_velocity, dim=1) - root_velocity
    if start is not None:
        root = root + start[:, None]
    return relative + root[..., None, :]


class BailandoResidualBlock(nn.Module):
    """x + conv1(relu(conv3(relu(x)))), the first convolution dilated."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv1d(width, width, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, C, T) to (B, C, T)."""
        return hidden + self.conv2(F.relu(self.conv1(F.relu(hidden))))


def _residual_stack(config: BailandoVQVAEConfig, *, reverse: bool) -> nn.Sequential:
    dilations = [config.dilation_growth**depth for depth in range(config.num_residual_layers)]
    if reverse:
        dilations.reverse()
    return nn.Sequential(*(BailandoResidualBlock(config.hidden_size, d) for d in dilations))


class BailandoEncoder(nn.Module):
    """(B, channels, T) to (B, hidden_size, T / 8)."""

    def __init__(self, config: BailandoVQVAEConfig, channels: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.downsamples = nn.ModuleList(
            nn.Conv1d(channels if i == 0 else width, width, 4, stride=2, padding=1)
            for i in range(config.num_downsamples)
        )
        self.residuals = nn.ModuleList(
            _residual_stack(config, reverse=False) for _ in range(config.num_downsamples)
        )
        self.out = nn.Conv1d(width, width, 3, padding=1)

    def forward(self, poses: Tensor) -> Tensor:
        """See the class."""
        hidden = poses
        for downsample, residual in zip(self.downsamples, self.residuals, strict=True):
            hidden = residual(downsample(hidden))
        return self.out(hidden)


class BailandoDecoder(nn.Module):
    """(B, hidden_size, S) to (B, channels, 8 S)."""

    def __init__(self, config: BailandoVQVAEConfig, channels: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.inp = nn.Conv1d(width, width, 3, padding=1)
        self.residuals = nn.ModuleList(
            _residual_stack(config, reverse=True) for _ in range(config.num_downsamples)
        )
        self.upsamples = nn.ModuleList(
            nn.ConvTranspose1d(width, width, 4, stride=2, padding=1) for _ in range(config.num_downsamples)
        )
        self.out = nn.Conv1d(width, channels, 3, padding=1)

    def forward(self, codewords: Tensor) -> Tensor:
        """See the class."""
        hidden = self.inp(codewords)
        for residual, upsample in zip(self.residuals, self.upsamples, strict=True):
            hidden = upsample(residual(hidden))
        return self.out(hidden)


class BailandoCodebook(nn.Module):
    """Codes as exponential moving averages of the encoder outputs assigned to them.

    All its state is in buffers, so a resumed training goes on exactly.
    """

    codes: Tensor
    code_sum: Tensor
    code_count: Tensor
    step: Tensor

    def __init__(self, config: BailandoVQVAEConfig) -> None:
        super().__init__()
        size, width = config.codebook_size, config.hidden_size
        self.decay, self.min_count, self.seed = (
            config.codebook_decay,
            config.codebook_min_count,
            config.codebook_seed,
        )
        self.register_buffer("codes", torch.zeros(size, width))
        self.register_buffer("code_sum", torch.zeros(size, width))
        self.register_buffer("code_count", torch.ones(size))
        #: Updates so far; 0 means that the codes are still to be drawn from the first batch.
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def quantize(self, vectors: Tensor) -> Tensor:
        """(N, C) to the index of the nearest code, (N,)."""
        distance = self.codes.square().sum(-1) - 2 * vectors @ self.codes.T
        return distance.argmin(dim=-1)

    def forward(self, hidden: Tensor, *, update: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Replace encoder outputs by codes.

        Args:
            hidden: (B, C, S) encoder outputs.
            update: learn from this batch. The result uses the codes as they were before.

        Returns:
            (B, C, S) codes with a straight-through gradient, (B, S) indices, and the commitment loss.
        """
        # Never in half precision: which code is nearest, and a running mean, both hang on small differences.
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.float()
            vectors = hidden.transpose(1, 2).reshape(-1, hidden.shape[1])
            if update and self.step == 0:
                self.initialise(vectors.detach())
            indices = self.quantize(vectors.detach())
            chosen = F.embedding(indices, self.codes).view(hidden.shape[0], -1, hidden.shape[1])
            chosen = chosen.transpose(1, 2)
            commitment = (chosen.detach() - hidden).square().mean()
            if update:
                self.update(vectors.detach(), indices)
        return hidden + (chosen - hidden).detach(), indices.view(hidden.shape[0], -1), commitment

    @torch.no_grad()
    def initialise(self, vectors: Tensor) -> None:
        """Draw the first codes from encoder outputs (N, C), repeated with a little noise if these are too few."""
        vectors = _gather(vectors).float()
        size, width = self.codes.shape
        repeats = math.ceil(size / len(vectors))
        if repeats > 1:
            vectors = vectors.repeat(repeats, 1)
            noise = torch.randn(vectors.shape, generator=self._generator())
            vectors = vectors + noise.to(vectors.device) * 0.01 / width**0.5
        self.codes.copy_(vectors[self._draw(len(vectors))[:size]])
        self.code_sum.copy_(self.codes)
        self.code_count.fill_(1.0)

    @torch.no_grad()
    def update(self, vectors: Tensor, indices: Tensor) -> None:
        """Move the codes towards the encoder outputs (N, C) assigned to them, over all ranks."""
        everything = _gather(vectors).float()
        assigned = F.one_hot(_gather(indices), len(self.codes)).to(everything.dtype)
        self.code_sum.mul_(self.decay).add_(assigned.T @ everything, alpha=1 - self.decay)
        self.code_count.mul_(self.decay).add_(assigned.sum(0), alpha=1 - self.decay)
        used = self.code_count >= self.min_count
        if len(everything) < len(self.codes):
            everything = everything.repeat(math.ceil(len(self.codes) / len(everything)), 1)
        fresh = everything[self._draw(len(everything))[: len(self.codes)]]
        # A replaced code keeps its sums: it is replaced again until it is used often enough.
        average = self.code_sum / self.code_count.clamp(min=1e-9)[:, None]
        self.codes.copy_(torch.where(used[:, None], average, fresh))
        self.step.add_(1)

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 1_000_003 + int(self.step))

    def _draw(self, count: int) -> Tensor:
        """A permutation of ``count``, the same on every rank and after a resume."""
        return torch.randperm(count, generator=self._generator()).to(self.codes.device)


def _gather(rows: Tensor) -> Tensor:
    """The rows of all ranks in order of rank (every rank has as many); just the rows without other ranks."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return rows
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


class BailandoHalf(nn.Module):
    """Encoder, codebook and decoder of one half of the body."""

    def __init__(self, config: BailandoVQVAEConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = BailandoEncoder(config, channels)
        self.codebook = BailandoCodebook(config)
        self.decoder = BailandoDecoder(config, channels)

    def forward(self, poses: Tensor, *, update: bool) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """(B, C, T) to the reconstruction, straight-through codes, indices, and the parts of the loss."""
        quantized, indices, commitment = self.codebook(self.encoder(poses), update=update)
        output = self.decoder(quantized)
        losses = difference_losses(output, poses)
        losses["commitment"] = commitment
        return output, quantized, indices, losses


def difference_losses(output: Tensor, target: Tensor) -> dict[str, Tensor]:
    """L1 of (..., T) signals and of their first and second differences over frames."""
    losses = {"reconstruction": F.l1_loss(output, target)}
    for name in ("velocity", "acceleration"):
        output, target = output.diff(dim=-1), target.diff(dim=-1)
        losses[name] = F.l1_loss(output, target)
    return losses


class BailandoVQVAE(PreTrainedModel):
    """The pose VQ-VAE with its root-velocity decoder."""

    config_class = BailandoVQVAEConfig
    config: BailandoVQVAEConfig
    base_model_prefix = "vqvae"
    main_input_name = "joints"

    def __init__(self, config: BailandoVQVAEConfig) -> None:
        super().__init__(config)
        lower = list(config.lower_joints)
        upper = [joint for joint in range(NUM_JOINTS) if joint not in lower]
        self.joints_of = {"upper": upper, "lower": lower}
        self.upper = BailandoHalf(config, 3 * len(upper))
        self.lower = BailandoHalf(config, 3 * len(lower))
        self.root_decoder = BailandoDecoder(config, 3)
        #: Stage 2 of the official training: only the root decoder learns.
        self.pose_frozen = False
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Convolutions keep PyTorch's initialisation, as published."""

    def freeze_pose(self) -> None:
        """Train the root decoder only: no gradients for, and no codebook updates of, the two halves."""
        self.pose_frozen = True
        for half in (self.upper, self.lower):
            half.requires_grad_(False)

    def forward(
        self, joints: Tensor, root_velocity: Tensor | None = None, return_loss: bool = True, **_: Any
    ) -> BailandoVQVAEOutput:
        """Code and decode motion.

        Args:
            joints: (B, T, 24, 3) relative to the pelvis (see :func:`split_root`), T a multiple of 8.
            root_velocity: (B, T, 3) the root decoder's target.
            return_loss: always true; there for ``transformers.Trainer``.
        """
        update = self.training and not self.pose_frozen
        outputs, halves, metrics, indices = torch.empty_like(joints), {}, {}, {}
        pose_loss = joints.new_zeros(())
        for name, half in (("upper", self.upper), ("lower", self.lower)):
            target = self._channels(joints, name)
            output, halves[name], indices[name], losses = half(target, update=update)
            outputs[:, :, self.joints_of[name]] = self._joints(output)
            pose_loss = pose_loss + 0.5 * self._weigh(losses)
            metrics.update({f"{name}_{part}": value.detach() for part, value in losses.items()})
            metrics[f"{name}_used"] = indices[name].unique().numel() * joints.new_ones(())
        velocity = self.root_decoder(halves["lower"].detach())
        root_loss = None
        if root_velocity is not None:
            parts = difference_losses(velocity, root_velocity.transpose(1, 2))
            # The first difference of a velocity is what the official code calls acceleration.
            root_loss = parts["reconstruction"] + self.config.acceleration_weight * parts["velocity"]
            metrics["root_velocity"] = parts["reconstruction"].detach()
        loss = root_loss if self.pose_frozen else pose_loss if root_loss is None else pose_loss + root_loss
        return BailandoVQVAEOutput(
            loss=loss,
            pose_loss=pose_loss,
            root_loss=root_loss,
            joints=outputs,
            root_velocity=velocity.transpose(1, 2),
            upper_codes=indices["upper"],
            lower_codes=indices["lower"],
            metrics=metrics,
        )

    def _weigh(self, losses: dict[str, Tensor]) -> Tensor:
        config = self.config
        return (
            losses["reconstruction"]
            + config.velocity_weight * losses["velocity"]
            + config.acceleration_weight * losses["acceleration"]
            + config.commitment_weight * losses["commitment"]
        )

    @torch.no_grad()
    def encode(self, joints: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, 24, 3) joints relative to the pelvis to upper and lower codes, (B, T / 8) each."""
        codes = []
        for name, half in (("upper", self.upper), ("lower", self.lower)):
            hidden = half.encoder(self._channels(joints, name))
            vectors = hidden.transpose(1, 2).reshape(-1, hidden.shape[1])
            codes.append(half.codebook.quantize(vectors).view(len(joints), -1))
        return codes[0], codes[1]

    @torch.no_grad()
    def decode(self, upper_codes: Tensor, lower_codes: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S) codes to joints relative to the pelvis (B, 8 S, 24, 3) and root velocity (B, 8 S, 3)."""
        count, steps = upper_codes.shape
        frames = steps * self.config.frames_per_code
        joints = self.upper.codebook.codes.new_zeros(count, frames, NUM_JOINTS, 3)
        for name, half, codes in (("upper", self.upper, upper_codes), ("lower", self.lower, lower_codes)):
            words = F.embedding(codes, half.codebook.codes).transpose(1, 2)
            joints[:, :, self.joints_of[name]] = self._joints(half.decoder(words))
        return joints, self.root_decoder(words).transpose(1, 2)

    def _channels(self, joints: Tensor, half: str) -> Tensor:
        return joints[:, :, self.joints_of[half]].flatten(2).transpose(1, 2)

    @staticmethod
    def _joints(channels: Tensor) -> Tensor:
        return channels.transpose(1, 2).unflatten(-1, (-1, 3))


class BailandoAttention(nn.Module):
    """Multi-head attention under a given mask."""

    def __init__(self, config: BailandoGPTConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads, self.dropout = config.num_attention_heads, config.dropout
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(B, N, C) and a boolean mask (N, N), true where attention is allowed."""
        query, key, value = (
            projection(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
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

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        hidden = hidden + self.dropout(self.attention(self.ln1(hidden), mask))
        return hidden + self.dropout(self.fc2(F.gelu(self.fc1(self.ln2(hidden)))))


class BailandoGPT(PreTrainedModel):
    """Predicts the next upper and lower code from music and the codes so far."""

    config_class = BailandoGPTConfig
    config: BailandoGPTConfig
    base_model_prefix = "gpt"
    main_input_name = "upper_codes"

    def __init__(self, config: BailandoGPTConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.music_embedding = nn.Linear(config.music_dim, width)
        self.upper_embedding = nn.Embedding(config.codebook_size, width)
        self.lower_embedding = nn.Embedding(config.codebook_size, width)
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
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

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
            upper_codes: (B, S) codes, S at most ``max_codes``.
            lower_codes: (B, S) codes.
            music: (B, S, music_dim); entry i is the music of the code that follows code i.
            upper_targets: (B, S) the codes that follow, for the loss.
            lower_targets: (B, S) likewise.
            return_loss: always true with targets; there for ``transformers.Trainer``.
        """
        steps = upper_codes.shape[1]
        streams = torch.stack(
            [
                self.music_embedding(music),
                self.upper_embedding(upper_codes),
                self.lower_embedding(lower_codes),
            ],
            dim=1,
        )
        hidden = self.dropout((streams + self.position_embedding[:, :steps]).flatten(1, 2))
        mask = cross_conditional_mask(steps, 3, hidden.device)
        for block in (*self.base, *self.head):
            hidden = block(hidden, mask)
        _, upper, lower = self.ln_f(hidden).unflatten(1, (3, steps)).unbind(1)
        upper_logits, lower_logits = self.upper_head(upper), self.lower_head(lower)
        loss = None
        if upper_targets is not None and lower_targets is not None:
            loss = F.cross_entropy(upper_logits.flatten(0, 1), upper_targets.flatten()) + F.cross_entropy(
                lower_logits.flatten(0, 1), lower_targets.flatten()
            )
        return BailandoGPTOutput(loss=loss, upper_logits=upper_logits, lower_logits=lower_logits)

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
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Continue codes to music.

        Args:
            music: (B, M, music_dim), entry i being the music of the code that follows code i; M >= S + steps - 1.
            upper_codes: (B, S) codes to start from, S >= 1.
            lower_codes: (B, S) likewise.
            steps: codes to add.
            do_sample: draw from the distribution instead of taking the likeliest code.
            temperature: of the distribution.
            top_k: draw from this many likeliest codes only.
            generator: of the draws.

        Returns:
            (B, S + steps) upper and lower codes.

        Raises:
            ValueError: if the music is too short.
        """
        start = upper_codes.shape[1]
        if music.shape[1] < start + steps - 1:
            raise ValueError(f"{music.shape[1]} music steps cannot carry {start} + {steps} codes")
        context = self.config.max_codes - 1  # one less than in training, as published
        for count in range(start, start + steps):
            window = slice(max(0, count - context), count)
            output = self(upper_codes[:, window], lower_codes[:, window], music[:, window])
            assert output.upper_logits is not None
            assert output.lower_logits is not None
            following = [
                _choose(logits[:, -1], do_sample, temperature, top_k, generator)
                for logits in (output.upper_logits, output.lower_logits)
            ]
            upper_codes = torch.cat([upper_codes, following[0][:, None]], dim=1)
            lower_codes = torch.cat([lower_codes, following[1][:, None]], dim=1)
        return upper_codes, lower_codes


def cross_conditional_mask(steps: int, streams: int, device: torch.device) -> Tensor:
    """(streams * steps,) squared: a token sees every stream up to its own step."""
    causal = torch.ones(steps, steps, dtype=torch.bool, device=device).tril()
    return causal.repeat(streams, streams)


def _choose(
    logits: Tensor,
    do_sample: bool,
    temperature: float,
    top_k: int | None,
    generator: torch.Generator | None,
) -> Tensor:
    if not do_sample:
        return logits.argmax(dim=-1)
    logits = logits / max(temperature, 1e-6)
    if top_k is not None:
        least = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    # On the CPU, where the generator is: the same seed gives the same dance on every device.
    draw = torch.multinomial(logits.float().softmax(-1).cpu(), 1, generator=generator)[:, 0]
    return draw.to(logits.device)


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
        generator: torch.Generator | None = None,
    ) -> BailandoDanceOutput:
        """A dance to a piece of music (paper section 4, problem formulation).

        Args:
            music_features: (B, ceil(num_frames / 8), 438) at 7.5 FPS, one row a code.
            num_frames: length of the dance at 60 FPS.
            seed_joints: (B, T, 24, 3) seed motion, T at least 8; without it, the first code is drawn.
            do_sample: see :meth:`BailandoGPT.generate_codes`; likewise the following.
            temperature: of the distribution.
            top_k: draw from this many likeliest codes only.
            generator: of all draws.

        Raises:
            ValueError: if ``music_features`` do not last ``num_frames``, or the seed motion is too short.
        """
        per_code = self.config.vqvae_config.frames_per_code
        steps = math.ceil(num_frames / per_code)
        if music_features.shape[1] < steps:
            raise ValueError(
                f"{music_features.shape[1]} music rows do not last {num_frames} frames ({steps})"
            )
        start = None
        if seed_joints is not None:
            usable = seed_joints.shape[1] // per_code * per_code
            if usable == 0:
                raise ValueError(
                    f"a seed motion needs at least {per_code} frames, got {seed_joints.shape[1]}"
                )
            relative, _ = split_root(seed_joints[:, :usable])
            upper, lower = (codes[:, :steps] for codes in self.vqvae.encode(relative))
            start = seed_joints[:, 0, 0]
        else:
            size = self.config.vqvae_config.codebook_size
            draw = torch.randint(size, (2, len(music_features), 1), generator=generator)
            upper, lower = draw.to(music_features.device).unbind(0)
        upper, lower = self.gpt.generate_codes(
            music_features[:, 1:],
            upper,
            lower,
            steps - upper.shape[1],
            do_sample=do_sample,
            temperature=temperature,
            top_k=top_k,
            generator=generator,
        )
        relative, velocity = self.vqvae.decode(upper, lower)
        joints = join_root(relative, velocity, start)[:, :num_frames]
        return BailandoDanceOutput(joints=joints, upper_codes=upper, lower_codes=lower)
