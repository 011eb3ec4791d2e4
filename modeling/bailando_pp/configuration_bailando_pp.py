"""Configurations of Bailando++ (paper section 4.2). The defaults are Bailando's published sizes, for two dancers."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

from opendance_hf.modeling.bailando.configuration_bailando import BailandoGPTConfig, BailandoVQVAEConfig


class BailandoPPGPTConfig(BailandoGPTConfig):
    """The motion GPT of several dancers: Bailando's, with a stream of upper and of lower codes for each dancer.

    Args:
        codebook_size: see :class:`BailandoGPTConfig`; likewise the following up to ``rotary_base``.
        music_dim: music features per code.
        hidden_size: width.
        num_base_layers: blocks below the point where actor-critic training sets in.
        num_head_layers: blocks above it.
        num_attention_heads: of every block.
        max_codes: codes of each dancer in training.
        dropout: everywhere.
        initializer_range: standard deviation of linear and embedding weights at the start.
        position_embedding_type: ``"absolute"`` or ``"rotary"``.
        attention_window: rotary only: how many codes back a code sees in every block.
        rotary_base: rotary only.
        frames_per_code: of the VQ-VAE.
        hears: what the dancers hear: ``"features"``, ``"beats"`` or ``"both"``.
        max_dancers: how many dancers have an embedding; any number up to it may dance together.
        placement_weight: of the loss of where dancers stand and face relative to the first.
        dancer_spacing_m: before the placement is learned, dancers stand in a row, this far apart.

    Raises:
        ValueError: if there is no dancer, or a music window, which several dancers do not have.
    """

    model_type = "bailando_pp_gpt"

    def __init__(
        self,
        codebook_size: int = 512,
        music_dim: int = 438,
        hidden_size: int = 768,
        num_base_layers: int = 6,
        num_head_layers: int = 6,
        num_attention_heads: int = 12,
        max_codes: int = 29,
        dropout: float = 0.1,
        initializer_range: float = 0.02,
        position_embedding_type: str = "absolute",
        attention_window: int | None = None,
        rotary_base: float = 10_000.0,
        frames_per_code: int = 8,
        hears: str = "features",
        max_dancers: int = 2,
        placement_weight: float = 1.0,
        dancer_spacing_m: float = 1.0,
        **kwargs: Any,
    ) -> None:
        if max_dancers < 1:
            raise ValueError(f"max_dancers must be at least 1, got {max_dancers}")
        if kwargs.get("music_window") is not None:
            raise ValueError("music_window is an option of the solo model alone")
        self.max_dancers = max_dancers
        self.placement_weight = placement_weight
        self.dancer_spacing_m = dancer_spacing_m
        super().__init__(
            codebook_size=codebook_size,
            music_dim=music_dim,
            hidden_size=hidden_size,
            num_base_layers=num_base_layers,
            num_head_layers=num_head_layers,
            num_attention_heads=num_attention_heads,
            max_codes=max_codes,
            dropout=dropout,
            initializer_range=initializer_range,
            position_embedding_type=position_embedding_type,
            attention_window=attention_window,
            rotary_base=rotary_base,
            frames_per_code=frames_per_code,
            hears=hears,
            **kwargs,
        )


class BailandoPPConfig(PretrainedConfig):
    """A whole Bailando++: the configurations of the VQ-VAE, which all dancers share, and of the GPT."""

    model_type = "bailando_pp"
    sub_configs = {"vqvae_config": BailandoVQVAEConfig, "gpt_config": BailandoPPGPTConfig}  # noqa: RUF012

    def __init__(
        self,
        vqvae_config: dict[str, Any] | BailandoVQVAEConfig | None = None,
        gpt_config: dict[str, Any] | BailandoPPGPTConfig | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(vqvae_config, BailandoVQVAEConfig):
            vqvae_config = BailandoVQVAEConfig(**(vqvae_config or {}))
        if not isinstance(gpt_config, BailandoPPGPTConfig):
            gpt_config = BailandoPPGPTConfig(**(gpt_config or {}))
        self.vqvae_config = vqvae_config
        self.gpt_config = gpt_config
        super().__init__(**kwargs)

    @property
    def music_input(self) -> tuple[str, int]:
        """Column of music features that the model reads, and their number."""
        return self.gpt_config.music_input
