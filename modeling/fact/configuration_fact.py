"""Configuration of FACT (Li et al. 2021). The defaults are the published sizes."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

from opendance_hf.music.inputs import input_of


class FACTConfig(PretrainedConfig):
    """Two small transformers read motion and music; a deep one over both predicts the motion.

    Args:
        motion_dim: numbers of a motion frame: 6 zeros, 3 of the translation, 216 of the rotation matrices.
        audio_dim: music features of a frame.
        motion_frames: frames of motion that the model reads, 2 s at 60 FPS.
        audio_frames: frames of music that it reads; they begin with the motion's and go on after it.
        target_frames: frames after the motion that the loss looks at.
        hidden_size: width.
        intermediate_size: width inside the MLPs.
        num_attention_heads: of every block.
        num_motion_layers: blocks over the motion alone.
        num_audio_layers: blocks over the music alone.
        num_cross_layers: blocks over both.
        layer_norm_eps: of every layer norm.
        initializer_range: standard deviation of weights and positions at the start.
        hears: ``"features"``, as published, ``"beats"`` or ``"both"``, see :class:`BailandoGPTConfig`.
    """

    model_type = "fact"

    def __init__(
        self,
        motion_dim: int = 225,
        audio_dim: int = 35,
        motion_frames: int = 120,
        audio_frames: int = 240,
        target_frames: int = 20,
        hidden_size: int = 800,
        intermediate_size: int = 3072,
        num_attention_heads: int = 10,
        num_motion_layers: int = 2,
        num_audio_layers: int = 2,
        num_cross_layers: int = 12,
        layer_norm_eps: float = 1e-5,
        initializer_range: float = 0.02,
        hears: str = "features",
        **kwargs: Any,
    ) -> None:
        if target_frames > motion_frames:
            raise ValueError(
                f"target_frames {target_frames} must not be more than motion_frames {motion_frames}"
            )
        if hidden_size % num_attention_heads:
            raise ValueError(
                f"hidden_size {hidden_size} is not a multiple of num_attention_heads {num_attention_heads}"
            )
        if num_cross_layers < 1:
            raise ValueError("num_cross_layers must be at least 1")
        self.motion_dim = motion_dim
        self.audio_dim = audio_dim
        self.motion_frames = motion_frames
        self.audio_frames = audio_frames
        self.target_frames = target_frames
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_attention_heads = num_attention_heads
        self.num_motion_layers = num_motion_layers
        self.num_audio_layers = num_audio_layers
        self.num_cross_layers = num_cross_layers
        self.layer_norm_eps = layer_norm_eps
        self.initializer_range = initializer_range
        self.hears = hears
        _ = self.music_input  # refuses what cannot be heard
        super().__init__(**kwargs)

    @property
    def music_input(self) -> tuple[str, int]:
        """Column of music features that the model reads, and their number."""
        return input_of("music_features_fact", self.audio_dim, self.hears, 1)
