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
        code_dropout: see :class:`BailandoGPTConfig`.
        music_dropout: likewise.
        relation: True to read and write the codes of the relation of every dancer beside the first to the first, too
            (:class:`BailandoRelationConfig`); they then say where dancers stand, and there is no placement to learn.

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
        code_dropout: float = 0.0,
        music_dropout: float = 0.0,
        relation: bool = False,
        **kwargs: Any,
    ) -> None:
        if max_dancers < 1:
            raise ValueError(f"max_dancers must be at least 1, got {max_dancers}")
        if kwargs.get("music_window") is not None:
            raise ValueError("music_window is an option of the solo model alone")
        self.max_dancers = max_dancers
        self.placement_weight = placement_weight
        self.dancer_spacing_m = dancer_spacing_m
        self.relation = relation
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
            code_dropout=code_dropout,
            music_dropout=music_dropout,
            **kwargs,
        )


class BailandoRelationConfig(BailandoVQVAEConfig):
    """The VQ-VAE of the relation between dancers: places and hands, each with a codebook.

    Args:
        hidden_size: see :class:`BailandoVQVAEConfig`; likewise the following.
        codebook_size: as of the VQ-VAE of the bodies.
        num_downsamples: likewise.
        num_residual_layers: number of residual blocks after each halving.
        dilation_growth: of these blocks.
        codebook_decay: of the running means that the codes are.
        codebook_min_count: a code used less than this is replaced.
        codebook_seed: of these draws.
        commitment_weight: of the commitment loss.
        velocity_weight: of the L1 loss of first differences.
        acceleration_weight: of the L1 loss of second differences.
        scaled_init: start from convolutions that keep the size of what passes through them.
    """

    model_type = "bailando_relation"

    def __init__(
        self,
        hidden_size: int = 512,
        codebook_size: int = 512,
        num_downsamples: int = 3,
        num_residual_layers: int = 3,
        dilation_growth: int = 3,
        codebook_decay: float = 0.99,
        codebook_min_count: float = 1.0,
        codebook_seed: int = 0,
        commitment_weight: float = 0.02,
        velocity_weight: float = 1.0,
        acceleration_weight: float = 1.0,
        scaled_init: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            hidden_size=hidden_size,
            codebook_size=codebook_size,
            num_downsamples=num_downsamples,
            num_residual_layers=num_residual_layers,
            dilation_growth=dilation_growth,
            codebook_decay=codebook_decay,
            codebook_min_count=codebook_min_count,
            codebook_seed=codebook_seed,
            commitment_weight=commitment_weight,
            velocity_weight=velocity_weight,
            acceleration_weight=acceleration_weight,
            scaled_init=scaled_init,
            **kwargs,
        )


class BailandoPPConfig(PretrainedConfig):
    """A whole Bailando++: the configurations of the VQ-VAE, which all dancers share, of the GPT, and of the relation.

    Args:
        vqvae_config: of the VQ-VAE.
        gpt_config: of the GPT.
        relation_config: of the VQ-VAE of relations; it has no part in a model whose GPT has no relation codes.

    Raises:
        ValueError: if the codes of relations and bodies differ in number or length.
    """

    model_type = "bailando_pp"
    sub_configs = {  # noqa: RUF012
        "vqvae_config": BailandoVQVAEConfig,
        "gpt_config": BailandoPPGPTConfig,
        "relation_config": BailandoRelationConfig,
    }

    def __init__(
        self,
        vqvae_config: dict[str, Any] | BailandoVQVAEConfig | None = None,
        gpt_config: dict[str, Any] | BailandoPPGPTConfig | None = None,
        relation_config: dict[str, Any] | BailandoRelationConfig | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(vqvae_config, BailandoVQVAEConfig):
            vqvae_config = BailandoVQVAEConfig(**(vqvae_config or {}))
        if not isinstance(gpt_config, BailandoPPGPTConfig):
            gpt_config = BailandoPPGPTConfig(**(gpt_config or {}))
        if not isinstance(relation_config, BailandoRelationConfig):
            relation_config = BailandoRelationConfig(**(relation_config or {}))
        if gpt_config.relation:
            for name in ("codebook_size", "frames_per_code"):
                bodies, relations = getattr(vqvae_config, name), getattr(relation_config, name)
                if bodies != relations:
                    raise ValueError(
                        f"{name} of the relation is {relations}, expected {bodies}, that of the bodies"
                    )
        self.vqvae_config = vqvae_config
        self.gpt_config = gpt_config
        self.relation_config = relation_config
        super().__init__(**kwargs)

    @property
    def music_input(self) -> tuple[str, int]:
        """Column of music features that the model reads, and their number."""
        return self.gpt_config.music_input
