"""Bailando's pose VQ-VAE: a codebook of dancing units for each half of the body (paper section 4.1).

Siyao et al., "Bailando: 3D Dance Generation by Actor-Critic GPT with Choreographic Memory", CVPR 2022. Notable:

- the body is coded in two halves, upper and lower, each by its own VQ-VAE without normalisation layers; 8 frames a code;
- codes are running means of the encoder outputs they stand for; unused ones are replaced by random encoder outputs.
  Under data parallelism both are computed over all ranks, so that every rank keeps the same, correct codebook;
- poses are relative to the pelvis; a second decoder reads the pelvis' velocity off the lower half's codes;
- optional further decoders read the joints' rotations off the codes, as in the journal version (TPAMI 2023).

Joints are (..., 24, 3) SMPL joints in metres, y up, at 60 FPS.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils.generic import ModelOutput

from opendance_hf.modeling.bailando.configuration_bailando import BailandoVQVAEConfig
from opendance_hf.modeling.layers import Generators, first_codes, init_transformer_weights
from opendance_hf.modeling.pretrained import DancePreTrainedModel

NUM_JOINTS = 24
#: Ankles and toes.
_FEET = (7, 8, 10, 11)

#: More codes than this, four and a half minutes, are decoded in parts.
_WHOLE_CODES = 2048
_CODES_AT_A_TIME = 512


@dataclass
class BailandoVQVAEOutput(ModelOutput):
    """Output of :class:`BailandoVQVAE`. T is a multiple of 8, S = T / 8.

    Attributes:
        loss: what training minimises: the sum of the losses below, or the one that is not frozen.
        pose_loss: mean of the two halves' reconstruction, velocity, acceleration and commitment losses.
        root_loss: L1 of the root's velocity and of its first differences; None without ``root_velocity``.
        rotation_loss: mean of the two halves' L1 of rotation matrices and of their first and second differences; None
            without ``rotations``.
        joints: (B, T, 24, 3) reconstruction relative to the pelvis.
        root_velocity: (B, T, 3) metres per frame.
        rotations: (B, T, 24, 3, 3) as decoded, not yet quite rotations; None without a rotation head.
        upper_codes: (B, S) indices.
        lower_codes: (B, S) indices.
        vectors: (B, C, S) encoder outputs of each half, for :meth:`BailandoVQVAE.update_codebooks`; None if the codebooks have
            learned from them already, or do not learn.
        metrics: named scalars for logs: the parts of the losses, and ``used`` codes of each half.
    """

    loss: Tensor | None = None
    pose_loss: Tensor | None = None
    root_loss: Tensor | None = None
    rotation_loss: Tensor | None = None
    joints: Tensor | None = None
    root_velocity: Tensor | None = None
    rotations: Tensor | None = None
    upper_codes: Tensor | None = None
    lower_codes: Tensor | None = None
    vectors: dict[str, Tensor] | None = None
    metrics: dict[str, Tensor] | None = None


def split_root(joints: Tensor) -> tuple[Tensor, Tensor]:
    """Split (B, T, 24, 3) joints into joints relative to the pelvis and its velocity (B, T, 3) per frame.

    The velocity of frame t leads to frame t + 1; the last repeats the one before it.
    """
    root = joints[..., 0, :]
    velocity = root[:, 1:] - root[:, :-1]
    velocity = torch.cat([velocity, velocity[:, -1:]], dim=1)
    return joints - root[..., None, :], velocity


def join_root(relative: Tensor, root_velocity: Tensor, start: Tensor | None = None) -> Tensor:
    """Invert :func:`split_root`; ``start`` (B, 3) is the pelvis of the first frame, zero by default."""
    root = torch.cumsum(root_velocity, dim=1) - root_velocity
    if start is not None:
        root = root + start[:, None]
    return relative + root[..., None, :]


def take_joints(joints: Tensor, indices: Sequence[int]) -> Tensor:
    """Return some of (B, T, 24, ...) joints. An index list would be copied to the device at every call."""
    every = joints.unbind(2)
    return torch.stack([every[index] for index in indices], dim=2)


def foot_velocity(relative: Tensor, root_velocity: Tensor) -> Tensor:
    """Return the velocities (B, T-1, 4, 3) of ankles and toes in the world, metres a frame; see :func:`split_root`."""
    return take_joints(relative, _FEET).float().diff(dim=1) + root_velocity[:, :-1, None].float()


def nearest_rotations(matrices: Tensor) -> Tensor:
    """Return the rotations nearest to (..., 3, 3) matrices in the least squares, by singular value decomposition."""
    left, _, right = torch.linalg.svd(matrices.double())
    # Never a reflection: where the nearest orthogonal matrix is one, the least certain axis is turned over.
    sign = torch.ones_like(left[..., 0])
    sign[..., 2] = torch.linalg.det(left @ right).sign()
    return ((left * sign[..., None, :]) @ right).to(matrices.dtype)


class ResidualConv(nn.Conv1d):
    """A convolution of a residual block; ``init_gain`` is for ``scaled_init``."""

    init_gain: float = 1.0


class BailandoResidualBlock(GradientCheckpointingLayer):
    """x + conv1(relu(conv3(relu(x)))), the first convolution dilated."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = ResidualConv(width, width, 3, padding=dilation, dilation=dilation)
        self.conv2 = ResidualConv(width, width, 1)
        # After a ReLU half of the power is left; a small second convolution starts the block near the identity.
        self.conv1.init_gain, self.conv2.init_gain = 2**0.5, 0.3 * 2**0.5

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform (B, C, T) hidden states."""
        return hidden + self.conv2(F.relu(self.conv1(F.relu(hidden))))


def _residual_stack(config: BailandoVQVAEConfig, *, reverse: bool) -> nn.Sequential:
    dilations = [config.dilation_growth**depth for depth in range(config.num_residual_layers)]
    if reverse:
        dilations.reverse()
    return nn.Sequential(*(BailandoResidualBlock(config.hidden_size, d) for d in dilations))


class BailandoEncoder(nn.Module):
    """Encoder from (B, channels, T) to (B, hidden_size, T / 8)."""

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
        """Encode poses."""
        hidden = poses.to(self.out.weight.dtype)
        for downsample, residual in zip(self.downsamples, self.residuals, strict=True):
            hidden = residual(downsample(hidden))
        return self.out(hidden)


class BailandoDecoder(nn.Module):
    """Decoder from (B, hidden_size, S) to (B, channels, 8 S)."""

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
        """Decode codewords."""
        hidden = self.inp(codewords.to(self.inp.weight.dtype))
        for residual, upsample in zip(self.residuals, self.upsamples, strict=True):
            hidden = upsample(residual(hidden))
        return self.out(hidden)


class BailandoCodebook(nn.Module):
    """Codes as exponential moving averages of the encoder outputs assigned to them.

    All its state is in buffers, so a resumed training continues exactly. Nothing is read by the host and no branch depends
    on values, so that a training step can be compiled without graph breaks and captured.
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
        """Return the index (N,) of the code nearest to each of (N, C) vectors."""
        codes = self.codes.float()
        distance = codes.square().sum(-1) - 2 * vectors.float() @ codes.T
        return distance.argmin(dim=-1)

    def forward(self, hidden: Tensor, *, update: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Replace encoder outputs by codes.

        Args:
            hidden: (B, C, S) encoder outputs.
            update: learn from this batch. The result uses the codes as they were before.

        Returns:
            (B, C, S) codes with a straight-through gradient, (B, S) indices, and the commitment loss.
        """
        # In single precision: the nearest code and a running mean both depend on small differences.
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.float()
            vectors = code_vectors(hidden)
            if update:
                everything = _gather(vectors.detach())
                drawn = self.draw(everything)
                self.initialise(drawn)
            indices = self.quantize(vectors.detach())
            chosen = F.embedding(indices, self.codes.float()).view(hidden.shape[0], -1, hidden.shape[1])
            chosen = chosen.transpose(1, 2)
            commitment = (chosen.detach() - hidden).square().mean()
            if update:
                self.update(everything, _gather(indices), drawn)
        return hidden + (chosen - hidden).detach(), indices.view(hidden.shape[0], -1), commitment

    @torch.no_grad()
    def start(self, outputs: Sequence[Tensor]) -> None:
        """Draw the first codes from encoder outputs (B, C, S) of several batches, if the codebook has not learned yet."""
        self.initialise(self.draw(torch.cat([_gather(code_vectors(one.float())) for one in outputs])))

    @torch.no_grad()
    def learn(self, outputs: Sequence[Tensor]) -> None:
        """Update once by the encoder outputs (B, C, S) of several batches, as if these had been one."""
        everything = torch.cat([_gather(code_vectors(one)) for one in outputs])
        self.update(everything, self.quantize(everything), self.draw(everything))

    def count_used(self, indices: Tensor) -> Tensor:
        """Count the different codes, without reading them on the host as ``unique`` does."""
        found = indices.new_zeros(len(self.codes)).scatter(0, indices.flatten(), 1)
        return found.sum().float()

    @torch.no_grad()
    def initialise(self, drawn: Tensor) -> None:
        """Before the first update, start with the codes that :meth:`draw` found; later change nothing."""
        first = self.step == 0
        self.codes.copy_(torch.where(first, drawn, self.codes))
        # As if each had been used just often enough: those that are not are replaced from the first update on.
        self.code_sum.copy_(torch.where(first, drawn * self.min_count, self.code_sum))
        self.code_count.copy_(torch.where(first, self.min_count, self.code_count))

    @torch.no_grad()
    def update(self, vectors: Tensor, indices: Tensor, drawn: Tensor) -> None:
        """Move the codes towards the encoder outputs (N, C) assigned to them; ``drawn`` replaces those out of use."""
        # Not F.one_hot, which reads the largest index on the host.
        assigned = (indices[:, None] == torch.arange(len(self.codes), device=indices.device)).float()
        # Not add_ with alpha, which the compiler of torch 2.13 ignores when it joins the sum with the product.
        self.code_sum.lerp_(assigned.T @ vectors, 1 - self.decay)
        self.code_count.lerp_(assigned.sum(0), 1 - self.decay)
        used = self.code_count >= self.min_count
        # A replaced code keeps its sums: it is replaced again until it is used often enough.
        average = self.code_sum / self.code_count.clamp(min=1e-9)[:, None]
        self.codes.copy_(torch.where(used[:, None], average, drawn))
        self.step.add_(1)

    @torch.no_grad()
    def draw(self, vectors: Tensor) -> Tensor:
        """Draw an encoder output for each code, of all (N, C); fewer than codes are repeated with a little noise."""
        size, width = self.codes.shape
        repeats = math.ceil(size / len(vectors))
        drawn = vectors[self._permutation(repeats * len(vectors))[:size] % len(vectors)]
        return drawn if repeats == 1 else drawn + self._noise(drawn) * 0.01 / width**0.5

    def _permutation(self, count: int) -> Tensor:
        """Draw a permutation, which is the same on every rank and after a resume, by sorting random keys."""
        index = torch.arange(count, device=self.step.device)
        # The index in the lower bits makes all keys different.
        return ((random_bits(self.seed, self.step, index) << 31) | index).argsort()

    def _noise(self, like: Tensor) -> Tensor:
        """Draw normal numbers in the shape of a tensor, by Box and Muller's transform."""
        index = torch.arange(like.numel(), device=self.step.device).view_as(like)
        radius, angle = ((random_bits(self.seed + i, self.step, index) + 0.5) / 2**32 for i in (1, 2))
        return (-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()


def random_bits(seed: int, step: Tensor, index: Tensor) -> Tensor:
    """Return 32 random bits for each index, a function of seed, step and index alone.

    A counter-based generator instead of ``torch.Generator``: it needs no state, computes the same on every device, and the
    step is not read by the host. All products stay below 2 ** 63. The constants are those of a 32-bit mixing function of
    Wellons' hash-prospector (public domain).
    """

    def mix(value: Tensor) -> Tensor:
        value = value & 0xFFFFFFFF
        for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
            value = ((value ^ (value >> shift)) * factor) & 0xFFFFFFFF
        return value ^ (value >> 15)

    return mix(mix(step + seed * 1_000_003) ^ index)


def code_vectors(hidden: Tensor) -> Tensor:
    """Return the vectors (B * S, C) that are coded, of (B, C, S) encoder outputs."""
    return hidden.transpose(1, 2).reshape(-1, hidden.shape[1])


def _gather(rows: Tensor) -> Tensor:
    """Gather the rows of all ranks, which have the same number, in order of rank."""
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

    def forward(
        self, poses: Tensor, *, update: bool, encoded: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Reconstruct (B, C, T) poses; return also straight-through codes, indices and the parts of the loss.

        ``encoded`` is the output of the encoder where it has been computed already.
        """
        hidden = self.encoder(poses) if encoded is None else encoded
        quantized, indices, commitment = self.codebook(hidden, update=update)
        output = self.decoder(quantized)
        losses = difference_losses(output, poses)
        losses["commitment"] = commitment
        return output, quantized, indices, losses


def weighted(losses: Mapping[str, Tensor], config: BailandoVQVAEConfig) -> Tensor:
    """Sum the losses of a half with the weights of its configuration."""
    return (
        losses["reconstruction"]
        + config.velocity_weight * losses["velocity"]
        + config.acceleration_weight * losses["acceleration"]
        + config.commitment_weight * losses.get("commitment", 0.0)
    )


def difference_losses(output: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Compute the L1 losses of (..., T) signals and of their first and second differences over frames."""
    output, target = output.float(), target.float()
    losses = {"reconstruction": F.l1_loss(output, target)}
    for name in ("velocity", "acceleration"):
        output, target = output.diff(dim=-1), target.diff(dim=-1)
        losses[name] = F.l1_loss(output, target)
    return losses


def _scaled_init(convolution: nn.Conv1d | nn.ConvTranspose1d, gain: float) -> None:
    weight = convolution.weight
    fan_in = weight[0].numel()
    if isinstance(convolution, nn.ConvTranspose1d):
        # (in, out, kernel): each output sees every input channel, through kernel / stride positions.
        fan_in = weight.shape[0] * weight.shape[2] // convolution.stride[0]
    init.normal_(weight, std=gain / fan_in**0.5)
    if convolution.bias is not None:
        init.zeros_(convolution.bias)


class BailandoPreTrainedModel(DancePreTrainedModel):
    """Base of Bailando's models: the initialisation of all their modules."""

    #: The nearest code and the running means need single precision.
    _keep_in_fp32_modules_strict = {"codebook"}  # noqa: RUF012
    _no_split_modules = ["BailandoEncoder", "BailandoDecoder", "DanceBlock"]  # noqa: RUF012

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        # from_pretrained builds models without memory, so that PyTorch's own initialisation has not run.
        self._built_empty = torch.empty(0).is_meta

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise a module as published; convolutions by PyTorch's rule unless ``scaled_init`` is set."""
        config = getattr(self.config, "gpt_config", self.config)
        init_transformer_weights(module, getattr(config, "initializer_range", 0.02))
        if isinstance(module, BailandoCodebook):
            for buffer in (module.codes, module.code_sum, module.step):
                init.zeros_(buffer)
            init.ones_(module.code_count)
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            if getattr(self.config, "scaled_init", False):
                _scaled_init(module, module.init_gain if isinstance(module, ResidualConv) else 1.0)
            elif self._built_empty:
                module.reset_parameters()
        if isinstance(position := getattr(module, "position_embedding", None), nn.Parameter):
            init.zeros_(position)


class BailandoVQVAE(BailandoPreTrainedModel):
    """Pose VQ-VAE with its root-velocity decoder, and its rotation decoders if configured.

    >>> vqvae = BailandoVQVAE(BailandoVQVAEConfig(hidden_size=8, codebook_size=8)).eval()
    >>> upper, lower = vqvae.encode(torch.zeros(1, 80, 24, 3))  # joints relative to the pelvis, metres
    >>> upper.shape
    torch.Size([1, 10])
    >>> joints, root_velocity = vqvae.decode(upper, lower)
    >>> joints.shape, root_velocity.shape
    (torch.Size([1, 80, 24, 3]), torch.Size([1, 80, 3]))
    """

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
        if config.rotation_head:
            self.upper_rotation_decoder = BailandoDecoder(config, 9 * len(upper))
            self.lower_rotation_decoder = BailandoDecoder(config, 9 * len(lower))
        #: Stage 2 of the official training: only the root decoder learns.
        self.pose_frozen = False
        #: The last stage of the journal version: only the rotation decoders learn.
        self.all_but_rotation_frozen = False
        #: False while several batches make one step: then :meth:`update_codebooks` is called once for all of them.
        self.update_in_forward = True
        self.post_init()

    def freeze_pose(self) -> None:
        """Train the root decoder only: no gradients for, and no codebook updates of, the two halves."""
        self.pose_frozen = True
        for half in (self.upper, self.lower):
            half.requires_grad_(False)

    def freeze_all_but_rotation(self) -> None:
        """Train the rotation decoders only, on codes that no longer change.

        Raises:
            ValueError: if the model has no rotation head.
        """
        if not self.config.rotation_head:
            raise ValueError("this VQ-VAE has no rotation head: set rotation_head in its configuration")
        self.freeze_pose()
        self.root_decoder.requires_grad_(False)
        self.all_but_rotation_frozen = True

    def forward(
        self,
        joints: Tensor,
        root_velocity: Tensor | None = None,
        rotations: Tensor | None = None,
        return_loss: bool = True,
    ) -> BailandoVQVAEOutput:
        """Encode and decode motion.

        Args:
            joints: (B, T, 24, 3) relative to the pelvis (see :func:`split_root`), T a multiple of 8.
            root_velocity: (B, T, 3) the root decoder's target.
            rotations: (B, T, 24, 3, 3) the rotation decoders' target: of every joint in its parent's frame.
            return_loss: always true; there for ``transformers.Trainer``.

        Raises:
            ValueError: if ``rotations`` are given without a rotation head, or missing where only that head learns.
        """
        if rotations is not None and not self.config.rotation_head:
            raise ValueError("this VQ-VAE has no rotation head: set rotation_head in its configuration")
        if rotations is None and self.all_but_rotation_frozen:
            raise ValueError("only the rotation head learns: give rotations")
        learning = self.training and not self.pose_frozen
        later = learning and not self.update_in_forward
        decoded, halves, metrics, indices, vectors = {}, {}, {}, {}, {}
        pose_loss = joints.new_zeros(())
        for name, half in (("upper", self.upper), ("lower", self.lower)):
            target = self._channels(joints, name)
            encoded = half.encoder(target)
            vectors[name] = encoded.detach().float()
            output, halves[name], indices[name], losses = half(
                target, update=learning and not later, encoded=encoded
            )
            decoded[name] = output.transpose(1, 2).unflatten(-1, (-1, 3)).to(joints.dtype)
            pose_loss = pose_loss + 0.5 * weighted(losses, self.config)
            metrics.update({f"{name}_{part}": value.detach() for part, value in losses.items()})
            metrics[f"{name}_used"] = half.codebook.count_used(indices[name])
        outputs = self._merge(decoded)
        words = halves["lower"]
        velocity = self.root_decoder(words if self.config.foot_weight else words.detach())
        root_loss = None
        if root_velocity is not None:
            parts = difference_losses(velocity, root_velocity.transpose(1, 2))
            # The first difference of a velocity is what the official code calls acceleration.
            root_loss = parts["reconstruction"] + self.config.acceleration_weight * parts["velocity"]
            metrics["root_velocity"] = parts["reconstruction"].detach()
            if self.config.foot_weight:
                foot_loss = F.l1_loss(
                    foot_velocity(outputs, velocity.transpose(1, 2)), foot_velocity(joints, root_velocity)
                )
                pose_loss = pose_loss + self.config.foot_weight * foot_loss
                metrics["foot_velocity"] = foot_loss.detach()
        # These read detached codes, like the root decoder: what they learn does not touch the codes.
        matrices = self._rotations({name: words.detach() for name, words in halves.items()})
        rotation_loss = None
        if rotations is not None:
            assert matrices is not None
            rotation_loss = self._rotation_loss(matrices, rotations, metrics)
        parts_of_loss = [None if self.pose_frozen else pose_loss, root_loss, rotation_loss]
        learned = [rotation_loss] if self.all_but_rotation_frozen else parts_of_loss
        losses_learned = [part for part in learned if part is not None]
        return BailandoVQVAEOutput(
            loss=torch.stack(losses_learned).sum() if losses_learned else None,
            pose_loss=pose_loss,
            root_loss=root_loss,
            rotation_loss=rotation_loss,
            joints=outputs,
            root_velocity=velocity.transpose(1, 2),
            rotations=matrices,
            upper_codes=indices["upper"],
            lower_codes=indices["lower"],
            vectors=vectors if later else None,
            metrics=metrics,
        )

    def _rotation_loss(self, matrices: Tensor, rotations: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        """Compute the loss of (B, T, 24, 3, 3) decoded rotations, and add its parts to the metrics."""
        loss = rotations.new_zeros(())
        for name, of_half in self.joints_of.items():
            channels = [
                take_joints(part, of_half).flatten(2).transpose(1, 2) for part in (matrices, rotations)
            ]
            losses = difference_losses(channels[0], channels[1])
            loss = loss + 0.5 * weighted(losses, self.config)
            metrics.update({f"{name}_rotation_{part}": value.detach() for part, value in losses.items()})
        return loss

    @torch.no_grad()
    def initialise_codebooks(self, batches: Sequence[Mapping[str, Tensor]]) -> None:
        """Draw the first codes from all batches of the first step, if the codebooks have not learned yet.

        Args:
            batches: arguments of :meth:`forward`.
        """
        for name, half in self._learning_halves().items():
            half.codebook.start([half.encoder(self._channels(batch["joints"], name)) for batch in batches])

    @torch.no_grad()
    def update_codebooks(self, vectors: Sequence[Mapping[str, Tensor]]) -> None:
        """Update the codebooks once by the outputs ``vectors`` of several batches, as if these had been one."""
        for name, half in self._learning_halves().items():
            half.codebook.learn([one[name] for one in vectors])

    def _learning_halves(self) -> dict[str, BailandoHalf]:
        return {} if self.pose_frozen else {"upper": self.upper, "lower": self.lower}

    def _rotations(self, codewords: dict[str, Tensor]) -> Tensor | None:
        """Decode (B, C, S) codewords of each half to (B, 8 S, 24, 3, 3) matrices."""
        if not self.config.rotation_head:
            return None
        decoders = {"upper": self.upper_rotation_decoder, "lower": self.lower_rotation_decoder}
        decoded = {name: decoders[name](words).transpose(1, 2) for name, words in codewords.items()}
        return self._merge({name: matrices.unflatten(-1, (-1, 3, 3)) for name, matrices in decoded.items()})

    @torch.no_grad()
    def encode(self, joints: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, T, 24, 3) joints relative to the pelvis as upper and lower codes, (B, T / 8) each."""
        codes = []
        for name, half in (("upper", self.upper), ("lower", self.lower)):
            vectors = code_vectors(half.encoder(self._channels(joints, name)))
            codes.append(half.codebook.quantize(vectors).view(len(joints), -1))
        return codes[0], codes[1]

    @torch.no_grad()
    def start_codes(
        self,
        shape: tuple[int, ...],
        steps: int,
        seed_joints: Tensor | None = None,
        *,
        generator: Generators = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the upper and lower codes (*shape, S) that dances of at most ``steps`` codes start from.

        Args:
            shape: (B,), or (B, N) of several dancers.
            steps: maximum of S.
            seed_joints: (*shape, T, 24, 3) seed motion in metres, of which the codes are taken; without one, a first code
                is drawn at random.
            generator: of the draw; a sequence has one for each of the B pieces.

        Raises:
            ValueError: if the seed motion is shorter than a code.
        """
        if seed_joints is None:
            draw = first_codes(self.config.codebook_size, (*shape, 1), generator)
            upper, lower = draw.to(self.device).unbind(0)
            return upper, lower
        per_code = self.config.frames_per_code
        frames = seed_joints.shape[-3] // per_code * per_code
        if frames == 0:
            raise ValueError(f"a seed motion needs at least {per_code} frames, got {seed_joints.shape[-3]}")
        joints = seed_joints[..., :frames, :, :].reshape(-1, frames, NUM_JOINTS, 3)
        upper, lower = self.encode(split_root(joints)[0])
        return upper[:, :steps].unflatten(0, shape), lower[:, :steps].unflatten(0, shape)

    @torch.no_grad()
    def decode(self, upper_codes: Tensor, lower_codes: Tensor) -> tuple[Tensor, Tensor]:
        """Decode (B, S) codes to joints relative to the pelvis (B, 8 S, 24, 3) and root velocity (B, 8 S, 3).

        Hours of codes are decoded in parts, each with the codes around it that its frames depend on.
        """
        count, steps = upper_codes.shape
        if steps <= _WHOLE_CODES:
            return self._decode_at_once(upper_codes, lower_codes)
        per_code, config = self.config.frames_per_code, self.config
        # Each level of the decoder reaches half as many codes as the one before.
        dilations = [config.dilation_growth**depth for depth in range(config.num_residual_layers)]
        reach = 2 * (sum(dilations) + 4)
        joints = torch.zeros(count, steps * per_code, NUM_JOINTS, 3, device=upper_codes.device)
        velocity = torch.zeros(count, steps * per_code, 3, device=upper_codes.device)
        for first in range(0, steps, _CODES_AT_A_TIME):
            last = min(first + _CODES_AT_A_TIME, steps)
            around = slice(max(0, first - reach), last + reach)
            found = self._decode_at_once(upper_codes[:, around], lower_codes[:, around])
            kept = slice((first - around.start) * per_code, (last - around.start) * per_code)
            frames = slice(first * per_code, last * per_code)
            joints[:, frames], velocity[:, frames] = found[0][:, kept], found[1][:, kept]
        return joints, velocity

    def _decode_at_once(self, upper_codes: Tensor, lower_codes: Tensor) -> tuple[Tensor, Tensor]:
        decoded = {}
        for name, half, codes in (("upper", self.upper, upper_codes), ("lower", self.lower, lower_codes)):
            words = F.embedding(codes, half.codebook.codes).transpose(1, 2)
            decoded[name] = half.decoder(words).transpose(1, 2).unflatten(-1, (-1, 3))
        # In single precision: positions are sums of velocities.
        return self._merge(decoded).float(), self.root_decoder(words).transpose(1, 2).float()

    @torch.no_grad()
    def decode_pieces(
        self, upper_codes: Tensor, lower_codes: Tensor, steps: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Decode pieces of different lengths, each as if it were alone: the decoder sees codes around each frame.

        Args:
            upper_codes: (B, S) codes.
            lower_codes: (B, S) codes.
            steps: number of codes of each piece, at most S.

        Returns:
            As :meth:`decode`; zero after the end of a piece.
        """
        if all(count == upper_codes.shape[1] for count in steps):
            return self.decode(upper_codes, lower_codes)
        pieces = [
            self.decode(upper_codes[i : i + 1, :count], lower_codes[i : i + 1, :count])
            for i, count in enumerate(steps)
        ]
        joints, velocity = zip(*pieces, strict=True)
        return (
            nn.utils.rnn.pad_sequence([one[0] for one in joints], batch_first=True),
            nn.utils.rnn.pad_sequence([one[0] for one in velocity], batch_first=True),
        )

    @torch.no_grad()
    def decode_rotations(self, upper_codes: Tensor, lower_codes: Tensor) -> Tensor:
        """Decode (B, S) codes to (B, 8 S, 24, 3, 3) rotations, each joint's in its parent's frame.

        Raises:
            ValueError: if the model has no rotation head.
        """
        codes = {"upper": (self.upper, upper_codes), "lower": (self.lower, lower_codes)}
        words = {
            name: F.embedding(chosen, half.codebook.codes).transpose(1, 2)
            for name, (half, chosen) in codes.items()
        }
        matrices = self._rotations(words)
        if matrices is None:
            raise ValueError("this VQ-VAE has no rotation head: set rotation_head in its configuration")
        return nearest_rotations(matrices.float())

    def _channels(self, joints: Tensor, half: str) -> Tensor:
        return take_joints(joints, self.joints_of[half]).flatten(2).transpose(1, 2)

    def _merge(self, halves: dict[str, Tensor]) -> Tensor:
        """Join the (B, T, J, ...) joints of both halves in their order (B, T, 24, ...)."""
        joints = {
            j: part
            for name, of_half in self.joints_of.items()
            for j, part in zip(of_half, halves[name].unbind(2), strict=True)
        }
        return torch.stack([joints[j] for j in range(NUM_JOINTS)], dim=2)
