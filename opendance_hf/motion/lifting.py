"""The network of the lifter without ``transformers``, which takes three seconds to import: for programs that only run it.

:class:`opendance_hf.modeling.lifter.LifterModel` is the same network as a model of ``transformers``, for training.

The frame of a person is that of the estimator's crop: x right, y up, z towards the camera, turned so that the camera's ray
through the middle of the hips is -z; the origin is that middle. It does not depend on where in the picture the person is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn


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


class LiftingBlock(nn.Module):
    """x + W(conv(norm(x))): (B, T, hidden_size) to the same, over three frames that are ``dilation`` apart."""

    def __init__(self, config: Any, dilation: int) -> None:
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


class Lifting(nn.Module):
    """Layers and methods of the lifter. ``config`` is a :class:`~opendance_hf.modeling.lifter.LifterConfig` or has its fields."""

    config: Any

    def add_layers(self, config: Any, make_block: Callable[[Any, int], nn.Module]) -> None:
        """Create the layers; ``make_block`` makes a block of a configuration and a dilation."""
        inputs = 6 * len(config.landmarks) + 3
        self.encoder = nn.Linear(inputs, config.hidden_size)
        self.blocks = nn.ModuleList(make_block(config, dilation) for dilation in config.dilations)
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

    def corrected(self, rays: Tensor, world: Tensor, visibility: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B, T, J, 3) joints and their (B, T, J, 2) logarithmic scales.

        Args:
            rays: (B, T, K, 2) points in the picture relative to its centre, in focal lengths, y up.
            world: (B, T, K, 3) landmarks in metres, in the frame of the person.
            visibility: (B, T, K) from 0 to 1.
        """
        hidden = self.encoder(self.features(rays, world, visibility).to(self.encoder.weight.dtype))
        for block in self.blocks:
            hidden = block(hidden)
        change = self.decoder(self.norm(hidden)).float().unflatten(-1, (len(self._pairs), 5))
        return self.estimated(world) + change[..., :3], change[..., 3:].clamp(-3.0, 3.0) - 3.0

    @torch.no_grad()
    def lift(self, rays: Tensor, world: Tensor, visibility: Tensor) -> Tensor:
        """Return the (B, T, J, 3) joints of :meth:`lift_with_errors`."""
        return self.lift_with_errors(rays, world, visibility)[0]

    @torch.no_grad()
    def lift_with_errors(self, rays: Tensor, world: Tensor, visibility: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of the joints of the given landmarks and of their mirror image, mirrored back, and their errors.

        Returns:
            The (B, T, J, 3) joints, and the (B, T, J) expected errors in metres.
        """
        marks, back = (mirrored(names, rays.device) for names in (self.config.landmarks, self.config.joints))
        flip = rays.new_tensor([-1.0, 1.0, 1.0])
        plain, scale = self.corrected(rays, world, visibility)
        other, other_scale = self.corrected(
            rays[:, :, marks] * flip[:2], world[:, :, marks] * flip, visibility[:, :, marks]
        )
        scale = (scale + other_scale[:, :, back]) / 2
        return (plain + other[:, :, back] * flip) / 2, scale.exp().norm(dim=-1)


class LiftingNetwork(Lifting):
    """The network alone."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.add_layers(config, LiftingBlock)

    @classmethod
    def load(cls, folder: Path) -> list[Self]:
        """Load the networks of a folder that :meth:`LifterModel.save_pretrained` wrote, in single precision.

        Beside its model there may be ``member-*.safetensors``: weights of the same recipe and other seeds.
        """
        config = SimpleNamespace(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
        networks = []
        for weights in (folder / "model.safetensors", *sorted(folder.glob("member-*.safetensors"))):
            network = cls(config)
            network.load_state_dict(load_file(weights))
            networks.append(network.float().eval())
        return networks


def mirrored(names: list[str], device: torch.device | None = None) -> Tensor:
    """Return the index of the other side's point for each name."""
    other = {"left": "right", "right": "left"}
    swapped = [
        "_".join([other.get(side, side), *rest]) for side, *rest in (name.split("_") for name in names)
    ]
    return torch.tensor([names.index(name) for name in swapped], device=device)
