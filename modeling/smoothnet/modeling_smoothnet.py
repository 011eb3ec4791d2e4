"""SmoothNet: takes the jitter out of estimated motion, window by window (paper section 3.1).

Zeng et al., "SmoothNet: A Plug-and-Play Network for Refining Human Poses in Videos", ECCV 2022. Notable:

- it sees time only: a window of frames of one coordinate goes in, the same window comes out. Every coordinate of every
  joint is a batch entry of its own, so one network serves positions, rotations and any skeleton;
- windows overlap, and a frame becomes the mean of all windows that hold it;
- the last layer has no activation; a residual block's second activation comes before its input is added.

Module names are those of the official checkpoints, the authors' and MMHuman3D's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils.generic import ModelOutput

from opendance_hf.modeling.pretrained import DancePreTrainedModel
from opendance_hf.modeling.smoothnet.configuration_smoothnet import SmoothNetConfig

_WINDOWS_AT_ONCE: Final = 128


@dataclass
class SmoothNetModelOutput(ModelOutput):
    """Output of :class:`SmoothNetModel`.

    Attributes:
        smoothed: what was given, smoothed; same shape.
    """

    smoothed: Tensor | None = None


def smoothnet_loss(
    found: Tensor, truth: Tensor, position_weight: float = 1.0, acceleration_weight: float = 0.1
) -> Tensor:
    """Compute the L1 of positions and of second differences along dimension -2 of (..., T, C) sequences."""
    position = F.l1_loss(found, truth)
    if found.shape[-2] < 3:
        return position_weight * position
    bend = F.l1_loss(found.diff(n=2, dim=-2), truth.diff(n=2, dim=-2))
    return position_weight * position + acceleration_weight * bend


class SmoothNetBlock(GradientCheckpointingLayer):
    """x + act(linear(act(linear(x)))): (..., hidden_size) to the same."""

    def __init__(self, config: SmoothNetConfig) -> None:
        super().__init__()
        self.linear1 = nn.Linear(config.hidden_size, config.res_hidden_size)
        self.linear2 = nn.Linear(config.res_hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform hidden states."""
        out = F.leaky_relu(self.dropout(self.linear1(hidden)), 0.2)
        out = F.leaky_relu(self.dropout(self.linear2(out)), 0.2)
        return hidden + out


class SmoothNetPreTrainedModel(DancePreTrainedModel):
    """Base of SmoothNet: its initialisation, that of PyTorch's linear layers."""

    config_class = SmoothNetConfig
    base_model_prefix = "smoothnet"
    main_input_name = "motion"
    _no_split_modules = ["SmoothNetBlock"]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            module.reset_parameters()


class SmoothNetModel(SmoothNetPreTrainedModel):
    """SmoothNet over sequences of any length.

    >>> model = SmoothNetModel(SmoothNetConfig(window_size=8)).eval()
    >>> model(torch.zeros(20, 72)).smoothed.shape
    torch.Size([20, 72])
    """

    def __init__(self, config: SmoothNetConfig) -> None:
        super().__init__(config)
        self.encoder = nn.Sequential(nn.Linear(config.window_size, config.hidden_size), nn.LeakyReLU(0.1))
        self.res_blocks = nn.ModuleList(SmoothNetBlock(config) for _ in range(config.num_blocks))
        self.decoder = nn.Linear(config.hidden_size, config.output_size)
        self.post_init()

    def windows(self, windows: Tensor) -> Tensor:
        """Smooth (..., window_size) frames of one coordinate."""
        hidden = self.encoder(windows)
        for block in self.res_blocks:
            hidden = block(hidden)
        return self.decoder(hidden)

    def forward(self, motion: Tensor, step: int = 1) -> SmoothNetModelOutput:
        """Smooth a sequence with overlapping windows.

        Args:
            motion: (..., T, C) coordinates over time. One shorter than a window is returned as it is.
            step: frames from a window to the next; the last one ends with the sequence.

        Raises:
            ValueError: if ``step`` is not positive.
        """
        size, frames = self.config.window_size, motion.shape[-2]
        if step < 1:
            raise ValueError(f"step must be at least 1, got {step}")
        if frames < size:
            return SmoothNetModelOutput(motion)
        motion = motion.to(self.decoder.weight.dtype)
        starts = list(range(0, frames - size + 1, step))
        if starts[-1] != frames - size:
            starts.append(frames - size)
        paths = motion.transpose(-1, -2)
        total, count = torch.zeros_like(paths), paths.new_zeros(frames)
        for some in torch.tensor(starts, device=motion.device).split(_WINDOWS_AT_ONCE):
            index = some[:, None] + torch.arange(size, device=motion.device)
            smoothed = self.windows(paths[..., index])
            total = total.index_add(-1, index.flatten(), smoothed.flatten(-2))
            count = count.index_add(0, index.flatten(), count.new_ones(index.numel()))
        return SmoothNetModelOutput((total / count).transpose(-1, -2))
