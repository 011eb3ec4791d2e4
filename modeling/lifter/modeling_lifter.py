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
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils.generic import ModelOutput

from opendance_hf.modeling.lifter.configuration_lifter import LifterConfig
from opendance_hf.modeling.pretrained import DancePreTrainedModel
from opendance_hf.motion.lifting import Lifting, LiftingBlock


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


class LifterBlock(LiftingBlock, GradientCheckpointingLayer):
    """A block whose activations may be computed again in the backward pass."""


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


class LifterModel(LifterPreTrainedModel, Lifting):
    """A temporal network that corrects the depth of estimated landmarks.

    >>> model = LifterModel(LifterConfig(hidden_size=32)).eval()
    >>> model(torch.rand(1, 20, 16, 2), torch.rand(1, 20, 16, 3), torch.ones(1, 20, 16)).joints.shape
    torch.Size([1, 20, 14, 3])
    """

    def __init__(self, config: LifterConfig) -> None:
        super().__init__(config)
        self.add_layers(config, LifterBlock)
        self.post_init()

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
        found, log_scale = self.corrected(rays, world, visibility)
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
