"""Lifter: a temporal convolutional network that corrects the depth of landmarks which an estimator found frame by frame.

An estimator of single frames is accurate to two or three centimetres in the picture, and to ten at best in depth. What it
gets wrong is systematic, so a network over a second or two, trained on its own errors, removes a part of it. Networks of
this kind are due to Pavllo et al., "3D human pose estimation in video with temporal convolutions and semi-supervised
training", CVPR 2019. Here it does not lift 2D points alone: it adds a correction to the 3D landmarks of the estimator.

The frame of a person is that of the estimator's crop: x right, y up, z towards the camera, turned so that the camera's ray
through the middle of the hips is -z; the origin is that middle. It does not depend on where in the picture the person is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils.generic import ModelOutput

from opendance_hf.modeling.lifter.configuration_lifter import LifterConfig
from opendance_hf.modeling.pretrained import DancePreTrainedModel


@dataclass
class LifterModelOutput(ModelOutput):
    """Output of :class:`LifterModel`.

    Attributes:
        loss: if the true joints were given.
        joints: (B, T, J, 3) metres, in the frame of the person.
        log_scale: (B, T, J, 2) logarithm of the expected error in metres, across the picture and in depth.
        metrics: scalars of the loss: the mean error in millimetres.
    """

    loss: Tensor | None = None
    joints: Tensor | None = None
    log_scale: Tensor | None = None
    metrics: dict[str, Tensor] | None = None


def rotation_to_axis(rays: Tensor) -> Tensor:
    """Return the (..., 3, 3) smallest rotations that turn (..., 3) rays with negative z to the direction -z."""
    x, y, z = F.normalize(rays, dim=-1).unbind(-1)
    a = 1 / (1 - z)
    return torch.stack(
        [
            torch.stack([1 - a * x * x, -a * x * y, x], dim=-1),
            torch.stack([-a * x * y, 1 - a * y * y, y], dim=-1),
            torch.stack([-x, -y, -z], dim=-1),
        ],
        dim=-2,
    )


class LifterBlock(GradientCheckpointingLayer):
    """x + W(conv(norm(x))): (B, T, hidden_size) to the same, over three frames that are ``dilation`` apart."""

    def __init__(self, config: LifterConfig, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.norm = nn.LayerNorm(config.hidden_size)
        self.conv = nn.Linear(3 * config.hidden_size, config.hidden_size)
        self.out = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform hidden states; beyond the ends they are 0."""
        padded = F.pad(self.norm(hidden), (0, 0, self.dilation, self.dilation))
        frames = hidden.shape[1]
        shifted = [padded[:, k * self.dilation : k * self.dilation + frames] for k in range(3)]
        inner = F.gelu(self.conv(torch.cat(shifted, dim=-1)))
        # Whole channels, over all frames: a tenth of the random numbers.
        kept = self.dropout(inner.new_ones(len(inner), 1, inner.shape[-1]))
        return hidden + self.out(inner * kept)


class LifterPreTrainedModel(DancePreTrainedModel):
    """Base of the lifter: its initialisation, that of PyTorch's linear layers."""

    config_class = LifterConfig
    base_model_prefix = "lifter"
    main_input_name = "rays"
    _no_split_modules = ["LifterBlock"]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.LayerNorm):
            module.reset_parameters()


class LifterModel(LifterPreTrainedModel):
    """A temporal network that corrects the depth of estimated landmarks.

    >>> model = LifterModel(LifterConfig(hidden_size=32)).eval()
    >>> model(torch.rand(1, 20, 16, 2), torch.rand(1, 20, 16, 3), torch.ones(1, 20, 16)).joints.shape
    torch.Size([1, 20, 14, 3])
    """

    def __init__(self, config: LifterConfig) -> None:
        super().__init__(config)
        inputs = 6 * len(config.landmarks) + 3
        self.encoder = nn.Linear(inputs, config.hidden_size)
        self.blocks = nn.ModuleList(LifterBlock(config, dilation) for dilation in config.dilations)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.decoder = nn.Linear(config.hidden_size, 5 * len(config.joints))
        made_of = {
            "neck": ("left_shoulder", "right_shoulder"),
            "head": ("left_ear", "right_ear"),
        }
        index = {name: i for i, name in enumerate(config.landmarks)}
        #: Two landmarks whose middle is the estimator's position of each joint.
        self._pairs = [[index[mark] for mark in made_of.get(name, (name, name))] for name in config.joints]
        self._hips = [index["left_hip"], index["right_hip"]]
        self.post_init()

    def features(self, rays: Tensor, world: Tensor, visibility: Tensor) -> Tensor:
        """Return the (B, T, 6 K + 3) inputs of the network; see :meth:`forward` for the arguments."""
        hips = rays[:, :, self._hips].mean(dim=2)
        padded = torch.cat([hips[:, :1], hips, hips[:, -1:]], dim=1)
        hips = padded[:, :-2] / 4 + hips / 2 + padded[:, 2:] / 4
        axis = F.pad(hips, (0, 1), value=-1.0)
        turn = rotation_to_axis(axis)
        turned = F.pad(rays, (0, 1), value=-1.0) @ turn.transpose(-1, -2)
        flat = turned[..., :2] / (-turned[..., 2:]).clamp(min=0.2)
        depth = self.person_depth(flat, world, visibility)
        parts = [flat * depth[..., None, None], world, visibility[..., None]]
        inputs = [part.flatten(2) for part in parts]
        return torch.cat([*inputs, axis[..., :2], 1 / depth[..., None]], dim=-1)

    def person_depth(self, flat: Tensor, world: Tensor, visibility: Tensor) -> Tensor:
        """Return the (B, T) distance, metres, at which the (B, T, K, 3) landmarks look as large as in the picture.

        It is the least-squares solution of each frame, then a median over time.
        """
        weight = (visibility + 1e-3)[..., None]
        total = weight.sum(dim=2, keepdim=True)
        spread = world[..., :2] - (weight * world[..., :2]).sum(dim=2, keepdim=True) / total
        seen = flat - (weight * flat).sum(dim=2, keepdim=True) / total
        size = (weight * spread * spread).sum(dim=(2, 3))
        depth = (size / (weight * spread * seen).sum(dim=(2, 3)).clamp(min=1e-6)).clamp(0.5, 50.0)
        half = self.config.depth_frames // 2
        padded = F.pad(depth[:, None], (half, half), mode="replicate")[:, 0]
        return padded.unfold(1, self.config.depth_frames, 1).median(dim=-1).values

    def estimated(self, world: Tensor) -> Tensor:
        """Return the estimator's (B, T, J, 3) joints, relative to the middle of the hips."""
        first, second = zip(*self._pairs, strict=True)
        joints = (world[:, :, list(first)] + world[:, :, list(second)]) / 2
        return joints - world[:, :, self._hips].mean(dim=2, keepdim=True)

    def forward(
        self, rays: Tensor, world: Tensor, visibility: Tensor, joints: Tensor | None = None
    ) -> LifterModelOutput:
        """Correct landmarks.

        Args:
            rays: (B, T, K, 2) points in the picture relative to its centre, in focal lengths, y up.
            world: (B, T, K, 3) landmarks in metres, in the frame of the person.
            visibility: (B, T, K) from 0 to 1.
            joints: (B, T, J, 3) true joints in the frame of the person, metres, for the loss.
        """
        hidden = self.encoder(self.features(rays, world, visibility).to(self.encoder.weight.dtype))
        for block in self.blocks:
            hidden = block(hidden)
        change = self.decoder(self.norm(hidden)).float().unflatten(-1, (len(self._pairs), 5))
        found = self.estimated(world) + change[..., :3]
        log_scale = change[..., 3:].clamp(-3.0, 3.0) - 3.0
        if joints is None:
            return LifterModelOutput(joints=found, log_scale=log_scale)
        error = found - joints
        distance = error.norm(dim=-1).mean()
        velocity = error.diff(dim=1).norm(dim=-1).mean()
        apart = torch.stack([error[..., :2].norm(dim=-1), error[..., 2].abs()], dim=-1).detach()
        likelihood = (apart * (-log_scale).exp() + log_scale).mean()
        config = self.config
        loss = distance + config.velocity_weight * velocity + config.scale_weight * likelihood
        return LifterModelOutput(loss, found, log_scale, {"mpjpe_mm": 1000 * distance})

    @torch.no_grad()
    def lift(self, rays: Tensor, world: Tensor, visibility: Tensor) -> Tensor:
        """Return the (B, T, J, 3) mean of the joints of the given landmarks and of their mirror image, mirrored back."""
        marks, back = (mirrored(names, rays.device) for names in (self.config.landmarks, self.config.joints))
        flip = rays.new_tensor([-1.0, 1.0, 1.0])
        plain = self(rays, world, visibility).joints
        other = self(rays[:, :, marks] * flip[:2], world[:, :, marks] * flip, visibility[:, :, marks]).joints
        return (plain + other[:, :, back] * flip) / 2


def mirrored(names: list[str], device: torch.device | None = None) -> Tensor:
    """Return the index of the other side's point for each name."""
    other = {"left": "right", "right": "left"}
    swapped = [
        "_".join([other.get(side, side), *rest]) for side, *rest in (name.split("_") for name in names)
    ]
    return torch.tensor([names.index(name) for name in swapped], device=device)
