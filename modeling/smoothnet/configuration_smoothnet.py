"""Configuration of SmoothNet (Zeng et al. 2022)."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class SmoothNetConfig(PretrainedConfig):
    """Linear layers and residual blocks over the frames of a window, the same for every coordinate.

    The defaults are the authors' class; published weights differ: MMHuman3D's have ``res_hidden_size`` 512,
    ``num_blocks`` 5 and windows of 8, 16, 32 or 64 frames. A converted checkpoint carries its own sizes.

    Args:
        window_size: frames that the network reads.
        output_size: frames that it writes: all of the window's.
        hidden_size: width.
        res_hidden_size: width inside the residual blocks.
        num_blocks: residual blocks.
        dropout: inside them, in training.

    Raises:
        ValueError: if ``output_size`` is not ``window_size``.
    """

    model_type = "smoothnet"

    def __init__(
        self,
        window_size: int = 32,
        output_size: int | None = None,
        hidden_size: int = 512,
        res_hidden_size: int = 256,
        num_blocks: int = 3,
        dropout: float = 0.5,
        **kwargs: Any,
    ) -> None:
        output_size = output_size or window_size
        if output_size != window_size:
            raise ValueError(f"output_size {output_size} must be window_size {window_size}")
        self.window_size = window_size
        self.output_size = output_size
        self.hidden_size = hidden_size
        self.res_hidden_size = res_hidden_size
        self.num_blocks = num_blocks
        self.dropout = dropout
        super().__init__(**kwargs)
