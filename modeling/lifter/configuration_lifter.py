"""Configuration of the lifter."""

from __future__ import annotations

from typing import Any, Final

from transformers import PretrainedConfig

_SIDES: Final = ("left", "right")
_LIMBS: Final = [
    f"{side}_{name}"
    for name in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
    for side in _SIDES
]  # fmt: skip


class LifterConfig(PretrainedConfig):
    """Residual dilated convolutions over time.

    Args:
        hidden_size: width.
        dilations: dilation, in frames, of the convolution of each residual block; its kernel has three frames.
        dropout: inside the blocks, in training.
        frame_rate_hz: rate of the frames that it reads.
        depth_frames: window of the median over the depth of the person, an odd number of frames.
        velocity_weight: weight of the error of differences between frames in the loss.
        scale_weight: weight of the likelihood of the errors in the loss, from which the scales are learnt.
        landmarks: names of the landmarks that it reads.
        joints: names of the joints that it writes; those that are not landmarks are ``neck`` and ``head``.

    Raises:
        ValueError: if ``depth_frames`` is even.
    """

    model_type = "lifter"

    def __init__(
        self,
        hidden_size: int = 256,
        dilations: tuple[int, ...] | list[int] = (1, 2, 4, 1, 2, 4),
        dropout: float = 0.1,
        frame_rate_hz: float = 12.0,
        depth_frames: int = 41,
        velocity_weight: float = 0.5,
        scale_weight: float = 0.02,
        landmarks: list[str] | None = None,
        joints: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        if depth_frames % 2 == 0:
            raise ValueError(f"depth_frames={depth_frames}, expected an odd number")
        self.hidden_size = hidden_size
        self.dilations = list(dilations)
        self.dropout = dropout
        self.frame_rate_hz = frame_rate_hz
        self.depth_frames = depth_frames
        self.velocity_weight = velocity_weight
        self.scale_weight = scale_weight
        more = [f"{side}_{name}" for name in ("foot_index", "ear") for side in _SIDES]
        self.landmarks = list(landmarks or (*_LIMBS, *more))
        self.joints = list(joints or (*_LIMBS, "neck", "head"))
        super().__init__(**kwargs)
