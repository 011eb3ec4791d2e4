"""Configuration of CLIFF (Li et al. 2022). The defaults are the published sizes."""

from __future__ import annotations

from typing import Any, Final

from transformers import PretrainedConfig

#: Channels of the stem (ResNet) and of the finest branch (HRNet), as published.
WIDTHS: Final = {"res50": 64, "hr48": 48}


class CLIFFConfig(PretrainedConfig):
    """A convolutional backbone, and a regressor that starts from the mean body and corrects it in turns.

    Args:
        backbone: ``res50`` (ResNet-50) or ``hr48`` (HRNet-W48, classification head).
        width: channels of the backbone: all others are multiples of it. None for the published one.
        hidden_size: width of the regressor.
        num_iterations: corrections.
        dropout: inside the regressor, in training.

    Raises:
        ValueError: if there is no such backbone.
    """

    model_type = "cliff"

    def __init__(
        self,
        backbone: str = "res50",
        width: int | None = None,
        hidden_size: int = 1024,
        num_iterations: int = 3,
        dropout: float = 0.5,
        **kwargs: Any,
    ) -> None:
        if backbone not in WIDTHS:
            raise ValueError(f"backbone must be one of {', '.join(WIDTHS)}, got {backbone!r}")
        self.backbone = backbone
        self.width = width or WIDTHS[backbone]
        self.hidden_size = hidden_size
        self.num_iterations = num_iterations
        self.dropout = dropout
        super().__init__(**kwargs)
