"""FACT: a full-attention cross-modal transformer from seed motion and music to motion (baseline of paper table 6).

Li et al., "AI Choreographer: Music Conditioned 3D Dance Generation with AIST++", ICCV 2021. Notable:

- it reads 2 s of motion and 4 s of music, which begin at the same frame: it hears what is to come;
- attention is full, not causal, and its scores are scaled by the whole width, not by that of a head;
- it predicts the 20 frames after the motion at once. Generation keeps the first of them, moves on by one frame and
  starts again: a dance of T frames costs T - 120 forwards;
- positions are learned, and relative to the window, so nothing computed for one window holds for the next.

A motion frame is 225 numbers: 6 zeros, the translation in metres, and 24 row-major rotation matrices, each joint
relative to its parent. y is up; 60 FPS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationConfig
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils.generic import ModelOutput

from opendance_hf.modeling.bailando.modeling_bailando_vqvae import nearest_rotations
from opendance_hf.modeling.fact.configuration_fact import FACTConfig
from opendance_hf.modeling.layers import Generators, attend, init_transformer_weights, lengths_of
from opendance_hf.modeling.pretrained import DanceGenerationMixin, DancePreTrainedModel
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from opendance_hf.motion.skeleton import MEAN_OFFSETS, NUM_JOINTS

#: Numbers of a frame that are always zero, and where its translation ends.
PADDING = 6
TRANSL_END = PADDING + 3
MOTION_DIM = TRANSL_END + NUM_JOINTS * 9


@dataclass
class FACTModelOutput(ModelOutput):
    """Output of :class:`FACTModel`.

    Attributes:
        last_hidden_state: (B, R, hidden_size) of the first R tokens of motion and music together, 360 unless asked.
    """

    last_hidden_state: Tensor | None = None


@dataclass
class FACTForDanceGenerationOutput(ModelOutput):
    """Output of :class:`FACTForDanceGeneration`.

    Attributes:
        loss: mean squared error of ``motion``, when targets are given.
        motion: (B, target_frames, 225), the frames that follow.
        metrics: named scalars for logs: the mean squared errors of translation and rotation.
    """

    loss: Tensor | None = None
    motion: Tensor | None = None
    metrics: dict[str, Tensor] | None = None


@dataclass
class FACTDanceOutput(ModelOutput):
    """A generated dance of T frames, the seed motion included.

    Attributes:
        joints: (B, T, 24, 3) metres, world frame.
        smpl_pose: (B, T, 24, 3) axis-angle, radians, each joint relative to its parent.
        smpl_transl: (B, T, 3) SMPL's transl, metres.
        motion: (B, T, 225) as the model wrote it, rotations not yet made orthogonal.
    """

    joints: Tensor | None = None
    smpl_pose: Tensor | None = None
    smpl_transl: Tensor | None = None
    motion: Tensor | None = None


def poses_to_motion(poses: Tensor, transl: Tensor) -> Tensor:
    """Motion frames of poses.

    Args:
        poses: (..., 24, 3) axis-angle or (..., 24, 3, 3) rotation matrices.
        transl: (..., 3) metres.

    Returns:
        (..., 225)

    Raises:
        ValueError: if the shapes do not fit.
    """
    frames = transl.shape[:-1]
    if poses.shape == (*frames, NUM_JOINTS, 3):
        matrices = axis_angle_to_matrix(poses.detach().cpu().double().numpy())
        poses = torch.from_numpy(matrices).to(transl)
    if poses.shape != (*frames, NUM_JOINTS, 3, 3) or transl.shape[-1] != 3:
        raise ValueError(
            f"poses {tuple(poses.shape)} must be (..., 24, 3) or (..., 24, 3, 3) with transl (..., 3), "
            f"got transl {tuple(transl.shape)}"
        )
    return torch.cat([transl.new_zeros(*frames, PADDING), transl, poses.to(transl).flatten(-3)], dim=-1)


def motion_to_poses(motion: Tensor) -> tuple[Tensor, Tensor]:
    """Convert (..., 225) motion frames to (..., 24, 3, 3) rotations, made orthogonal, and (..., 3) transl in metres."""
    if motion.shape[-1] != MOTION_DIM:
        raise ValueError(f"motion {tuple(motion.shape)} must end in {MOTION_DIM}")
    matrices = motion[..., TRANSL_END:].unflatten(-1, (NUM_JOINTS, 3, 3))
    return nearest_rotations(matrices), motion[..., PADDING:TRANSL_END]


def floor_point(transl: Tensor) -> Tensor:
    """Return (..., 1, 3), the point of the floor under the first frame of (..., T, 3) translations."""
    return transl[..., :1, :] * transl.new_tensor([1.0, 0.0, 1.0])


class FACTAttention(nn.Module):
    """Full multi-head attention, scaled by the whole width."""

    def __init__(self, config: FACTConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.heads, self.scale = config.num_attention_heads, width**-0.5
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.o_proj = nn.Linear(width, width)

    def forward(self, hidden: Tensor, rows: int | None = None) -> Tensor:
        """Attend from the first ``rows`` of (B, N, C) tokens, by default all, to all N."""
        query, key, value = (
            projection(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, tokens in (
                (self.q_proj, hidden[:, :rows]),
                (self.k_proj, hidden),
                (self.v_proj, hidden),
            )
        )
        return self.o_proj(attend(self, query, key, value, scaling=self.scale))


class FACTBlock(GradientCheckpointingLayer):
    """Pre-norm transformer block with the tanh approximation of GELU."""

    def __init__(self, config: FACTConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.ln1, self.ln2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.attention = FACTAttention(config)
        self.fc1, self.fc2 = (
            nn.Linear(width, config.intermediate_size),
            nn.Linear(config.intermediate_size, width),
        )

    def forward(self, hidden: Tensor, rows: int | None = None) -> Tensor:
        """Transform the first ``rows`` of (B, N, C) tokens, by default all."""
        hidden = hidden[:, :rows] + self.attention(self.ln1(hidden), rows)
        return hidden + self.fc2(F.gelu(self.fc1(self.ln2(hidden)), approximate="tanh"))


class FACTPreTrainedModel(DancePreTrainedModel):
    """Initialisation and names that FACT's models share."""

    config_class = FACTConfig
    config: FACTConfig
    base_model_prefix = "fact"
    main_input_name = "motion"
    _no_split_modules = ["FACTBlock"]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        init_transformer_weights(module, self.config.initializer_range)
        if isinstance(module, FACTModel):
            init.normal_(module.motion_position, std=self.config.initializer_range)
            init.normal_(module.audio_position, std=self.config.initializer_range)


class FACTModel(FACTPreTrainedModel):
    """Motion and music, each by its own transformer, then both by one."""

    def __init__(self, config: FACTConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.motion_embedding = nn.Linear(config.motion_dim, width)
        self.audio_embedding = nn.Linear(config.music_input[1], width)
        self.motion_position = nn.Parameter(torch.zeros(config.motion_frames, width))
        self.audio_position = nn.Parameter(torch.zeros(config.audio_frames, width))
        self.motion_layers = nn.ModuleList(FACTBlock(config) for _ in range(config.num_motion_layers))
        self.audio_layers = nn.ModuleList(FACTBlock(config) for _ in range(config.num_audio_layers))
        self.cross_layers = nn.ModuleList(FACTBlock(config) for _ in range(config.num_cross_layers))
        self.post_init()

    def forward(self, motion: Tensor, audio: Tensor, rows: int | None = None) -> FACTModelOutput:
        """Compute the hidden states of the tokens of motion, then of music.

        Args:
            motion: (B, 120, 225) motion frames (see :func:`poses_to_motion`).
            audio: (B, 240, 35) music features that begin with the motion.
            rows: how many tokens are asked for; the last block skips the others, which changes nothing else.

        Raises:
            ValueError: if the window has other lengths or widths.
        """
        config = self.config
        for name, value, shape in (
            ("motion", motion, (config.motion_frames, config.motion_dim)),
            ("audio", audio, (config.audio_frames, config.music_input[1])),
        ):
            if value.ndim != 3 or value.shape[1:] != shape:
                raise ValueError(f"{name} {tuple(value.shape)} must be (B, {shape[0]}, {shape[1]})")
        motion, audio = (value.to(self.motion_position.dtype) for value in (motion, audio))
        body = self.motion_embedding(motion) + self.motion_position
        for block in self.motion_layers:
            body = block(body)
        sound = self.audio_embedding(audio) + self.audio_position
        for block in self.audio_layers:
            sound = block(sound)
        hidden = torch.cat([body, sound], dim=1)
        for block in self.cross_layers[:-1]:
            hidden = block(hidden)
        return FACTModelOutput(last_hidden_state=self.cross_layers[-1](hidden, rows))


class FACTForDanceGeneration(DanceGenerationMixin, FACTPreTrainedModel):
    """FACT with its output layer: the frames that follow, their loss, and whole dances.

    >>> config = FACTConfig(hidden_size=8, intermediate_size=8, num_attention_heads=2, num_cross_layers=1)
    >>> model = FACTForDanceGeneration(config).eval()
    >>> seed = {"seed_poses": torch.zeros(1, 120, 24, 3), "seed_transl": torch.zeros(1, 120, 3)}
    >>> model.generate_dance(torch.zeros(1, 124, 35), num_frames=124, **seed).joints.shape
    torch.Size([1, 124, 24, 3])
    """

    generation_names = ("keep",)
    generation_defaults = {"keep": 1}  # noqa: RUF012
    music_padding = "edge"

    def __init__(self, config: FACTConfig) -> None:
        super().__init__(config)
        self.fact = FACTModel(config)
        self.head = nn.Linear(config.hidden_size, config.motion_dim)
        self.generation_config = GenerationConfig(do_sample=False, keep=1)
        self.post_init()

    @property
    def seed_frames(self) -> int:
        """Number of frames of a seed motion that a dance starts from."""
        return self.config.motion_frames

    def seed_inputs(self, seed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the arguments of :meth:`generate_dance` for seed motions: their first dancer, over the origin.

        Args:
            seed: ``poses`` (B, N, T, 24, 3), ``transl`` (B, N, T, 3) and ``rest_offsets`` (B, N, 24, 3).
        """
        transl = seed["transl"][:, 0]
        return {
            "seed_poses": seed["poses"][:, 0],
            "seed_transl": transl - floor_point(transl),
            "rest_offsets": seed["rest_offsets"][:, 0],
        }

    def forward(
        self,
        motion: Tensor,
        audio: Tensor,
        targets: Tensor | None = None,
        return_loss: bool = True,
    ) -> FACTForDanceGenerationOutput:
        """Predict the frames after the motion.

        Args:
            motion: (B, 120, 225) frames 0 to 119 of a window.
            audio: (B, 240, 35) music of its frames 0 to 239.
            targets: (B, 20, 225) its frames 120 to 139, for the loss.
            return_loss: always true with targets; there for ``transformers.Trainer``.

        Raises:
            ValueError: if a shape is another.
        """
        config = self.config
        frames = config.target_frames
        predicted = self.head(self.fact(motion, audio, rows=frames).last_hidden_state)
        loss, metrics = None, None
        if targets is not None:
            if targets.shape != predicted.shape:
                raise ValueError(f"targets {tuple(targets.shape)} must be {tuple(predicted.shape)}")
            error = (predicted.float() - targets.float()).square()
            loss = error.mean()
            metrics = {
                "translation": error[..., PADDING:TRANSL_END].detach().mean(),
                "rotation": error[..., TRANSL_END:].detach().mean(),
            }
        return FACTForDanceGenerationOutput(loss=loss, motion=predicted, metrics=metrics)

    @torch.no_grad()
    def generate_motion(self, motion: Tensor, audio: Tensor, num_frames: int, *, keep: int = 1) -> Tensor:
        """Continue motion to music, feeding the model its own frames.

        Args:
            motion: (B, T, 225) seed motion, T at least 120; the model reads its last 120 frames.
            audio: (B, M, 35) music from the seed's first frame, M at least ``num_frames``. The model listens 120
                frames ahead; beyond the end it hears the last frame held.
            num_frames: length of the result, the seed included.
            keep: frames kept of each forward. 1, as published, is the slowest and drifts least; at most
                ``target_frames``.

        Returns:
            (B, num_frames, 225), the seed first.

        Raises:
            ValueError: if the seed or the music is too short, or ``keep`` out of range.
        """
        config = self.config
        if motion.ndim != 3 or motion.shape[1] < config.motion_frames:
            raise ValueError(
                f"a seed motion needs at least {config.motion_frames} frames, got {tuple(motion.shape)}"
            )
        if audio.ndim != 3 or audio.shape[1] < num_frames:
            raise ValueError(f"audio {tuple(audio.shape)} does not last {num_frames} frames")
        if not 1 <= keep <= config.target_frames:
            raise ValueError(f"keep must be from 1 to {config.target_frames}, got {keep}")
        ahead = audio[:, -1:].expand(-1, config.audio_frames, -1)
        audio = torch.cat([audio, ahead], dim=1)
        start = motion.shape[1]
        out = motion.new_empty(len(motion), max(num_frames, start), motion.shape[-1])
        out[:, :start] = motion
        for count in range(start, num_frames, keep):
            first = count - config.motion_frames
            window = audio[:, first : first + config.audio_frames]
            following = self(out[:, first:count], window).motion
            assert following is not None
            out[:, count : count + keep] = following[:, : min(keep, num_frames - count)]
        return out[:, :num_frames]

    @torch.no_grad()
    def generate_dance(
        self,
        music_features: Tensor,
        num_frames: int | Sequence[int],
        *,
        seed_poses: Tensor | None = None,
        seed_transl: Tensor | None = None,
        rest_offsets: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        generator: Generators = None,
        **options: Any,
    ) -> FACTDanceOutput:
        """Generate a dance to a piece of music from a seed motion (paper section 4, problem formulation).

        Args:
            music_features: (B, M, 35) at 60 FPS from the seed's first frame, M at least ``num_frames``.
            num_frames: length of the dances, the seed included, or of each of them; the longest counts.
            seed_poses: (B, T, 24, 3) axis-angle or (B, T, 24, 3, 3) matrices of the seed motion, T at least 120. Needed.
            seed_transl: (B, T, 3) SMPL's transl, metres. Needed.
            rest_offsets: (24, 3) or (B, 24, 3) skeleton, metres; by default the mean skeleton.
            generation_config: ``self.generation_config`` by default.
            generator: not used: nothing is drawn.
            options: changes of the generation configuration: ``keep``, see :meth:`generate_motion`.

        Raises:
            ValueError: without a seed motion; for an unknown option; see :func:`poses_to_motion` and
                :meth:`generate_motion`.
        """
        chosen: Any = self.generation_options(generation_config, **options)
        if seed_poses is None or seed_transl is None:
            raise ValueError(
                f"FACT continues a motion: give a seed motion of {self.config.motion_frames} frames or more "
                "(seed_motions in Python, --seed-motion of the command)"
            )
        seed = poses_to_motion(seed_poses, seed_transl)
        longest = max(lengths_of(num_frames, len(music_features)))
        motion = self.generate_motion(seed, music_features, longest, keep=chosen.keep)
        matrices, transl = motion_to_poses(motion)
        offsets = MEAN_OFFSETS if rest_offsets is None else rest_offsets.cpu().numpy()
        if offsets.ndim == 3:
            offsets = offsets[:, None]
        poses = matrix_to_axis_angle(matrices.cpu().double().numpy())
        joints = forward_kinematics(poses, transl.cpu().double().numpy(), offsets.astype(np.float64))
        return FACTDanceOutput(
            joints=torch.from_numpy(joints).to(motion),
            smpl_pose=torch.from_numpy(poses).to(motion),
            smpl_transl=transl,
            motion=motion,
        )
