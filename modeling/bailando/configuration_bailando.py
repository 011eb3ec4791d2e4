"""Configurations of Bailando (Siyao et al. 2022; paper section 4.1). The defaults are the published sizes."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

from opendance_hf.music.inputs import input_of

#: Pelvis, hips, knees, ankles and feet.
LOWER_JOINTS = (0, 1, 2, 4, 5, 7, 8, 10, 11)


class BailandoVQVAEConfig(PretrainedConfig):
    """The pose VQ-VAE: two halves of the body, each with a codebook of "dancing units" of 8 frames.

    Args:
        hidden_size: width of the convolutions, and of a code.
        codebook_size: number of codes of each half.
        num_downsamples: halvings of the frame rate; 3 makes a code last 8 frames.
        num_residual_layers: residual blocks after each halving, with dilation ``dilation_growth ** depth``.
        dilation_growth: see above.
        codebook_decay: of the running means that the codes are.
        codebook_min_count: a code used less than this (running count) is replaced by a random encoder output.
        codebook_seed: of these draws; with the step count it makes them the same on every rank and after a resume.
        commitment_weight: of the commitment loss.
        velocity_weight: of the L1 loss of first differences.
        acceleration_weight: of the L1 loss of second differences.
        lower_joints: joints of the lower half; all others are the upper half's.
        scaled_init: start from convolutions that keep the size of what passes through them. PyTorch's own
            initialisation, the published start, lets it fade, and the first hundreds of steps go into undoing that.
        rotation_head: also decode codes to rotation matrices of the joints, as in Bailando++ (Siyao et al., TPAMI 2023).
        foot_weight: of the L1 loss of the world velocities of ankles and toes, metres a frame. It reaches the codes of the
            lower half through its decoder and the root decoder, so that steps land where and when they did; 0, as
            published, leaves the root decoder on codes that know nothing of it.

    Raises:
        ValueError: if ``codebook_min_count`` is not positive, or ``lower_joints`` are none, all or not joints.
    """

    model_type = "bailando_vqvae"

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
        lower_joints: tuple[int, ...] | list[int] = LOWER_JOINTS,
        scaled_init: bool = False,
        rotation_head: bool = False,
        foot_weight: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if codebook_min_count <= 0:
            raise ValueError(f"codebook_min_count must be positive, got {codebook_min_count}")
        if not set(lower_joints) < set(range(24)) or not lower_joints:
            raise ValueError(
                f"lower_joints must be some of the joints 0 to 23, and not all, got {lower_joints}"
            )
        self.hidden_size = hidden_size
        self.codebook_size = codebook_size
        self.num_downsamples = num_downsamples
        self.num_residual_layers = num_residual_layers
        self.dilation_growth = dilation_growth
        self.codebook_decay = codebook_decay
        self.codebook_min_count = codebook_min_count
        self.codebook_seed = codebook_seed
        self.commitment_weight = commitment_weight
        self.velocity_weight = velocity_weight
        self.acceleration_weight = acceleration_weight
        self.lower_joints = list(lower_joints)
        self.scaled_init = scaled_init
        self.rotation_head = rotation_head
        self.foot_weight = foot_weight
        super().__init__(**kwargs)

    @property
    def frames_per_code(self) -> int:
        """Number of frames of a code."""
        return 2**self.num_downsamples


class BailandoGPTConfig(PretrainedConfig):
    """The motion GPT: cross-conditional causal attention over music, upper and lower codes.

    Args:
        codebook_size: of each half of the VQ-VAE.
        music_dim: music features per code.
        hidden_size: width.
        num_base_layers: blocks below the point where actor-critic training sets in.
        num_head_layers: blocks above it.
        num_attention_heads: of every block.
        max_codes: codes in training. With absolute positions also the most the model can read; generation then looks
            back one code less, as published.
        dropout: everywhere.
        initializer_range: standard deviation of linear and embedding weights at the start.
        position_embedding_type: ``"absolute"``, a learned vector for each step, as published; or ``"rotary"``, keys and
            queries turned by their step. Rotary positions do not change when old codes fall out of sight, so that
            generation keeps what it computed, for a song of any length.
        attention_window: rotary only: how many codes back a code sees in every block, its own included; ``max_codes`` by
            default. Training on more codes than that shows the model what generation will: blocks that read older
            codes through the codes between.
        rotary_base: rotary only: the slowest pair of channels turns once in 2 pi times about this many codes.
        music_window: frames that the music transformer of Bailando++ (Siyao et al., TPAMI 2023) sees ahead and back of
            a code, 40 as published; ``None`` is the model without one. The music then comes at 60 FPS, and
            ``music_dim`` is the number of its columns (55 as published).
        num_music_layers: blocks of the music transformer.
        frames_per_code: of the VQ-VAE, for the music transformer and the columns of the beat.
        hears: ``"features"``, as published; ``"beats"``, five columns of where in the beat and in four beats a code is, and
            of the tempo (:func:`opendance_hf.music.inputs.phase_columns`); or ``"both"`` side by side.
        code_dropout: share of the codes read in training that are exchanged for random ones, so that the dance before does
            not tell all that the music says; 0 as published.
        music_dropout: share of the pieces in training whose music is silenced (zeros), which ``guidance_scale`` of the
            generation needs; 0 as published.

    Raises:
        ValueError: if ``position_embedding_type`` or ``hears`` is unknown, if ``music_window`` is not a multiple of
            ``frames_per_code``, or ``hidden_size`` of ``num_attention_heads``.
    """

    model_type = "bailando_gpt"

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
        music_window: int | None = None,
        num_music_layers: int = 3,
        frames_per_code: int = 8,
        hears: str = "features",
        code_dropout: float = 0.0,
        music_dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if position_embedding_type not in ("absolute", "rotary"):
            raise ValueError(f"position_embedding_type {position_embedding_type!r}: give absolute or rotary")
        if music_window is not None and (music_window <= 0 or music_window % frames_per_code):
            raise ValueError(
                f"music_window {music_window}: give a multiple of {frames_per_code} frames, or None"
            )
        if hidden_size % num_attention_heads:
            raise ValueError(
                f"hidden_size {hidden_size} is not a multiple of num_attention_heads {num_attention_heads}"
            )
        self.codebook_size = codebook_size
        self.music_dim = music_dim
        self.hidden_size = hidden_size
        self.num_base_layers = num_base_layers
        self.num_head_layers = num_head_layers
        self.num_attention_heads = num_attention_heads
        self.max_codes = max_codes
        self.dropout = dropout
        self.initializer_range = initializer_range
        self.position_embedding_type = position_embedding_type
        self.attention_window = attention_window
        self.rotary_base = rotary_base
        self.music_window = music_window
        self.num_music_layers = num_music_layers
        self.frames_per_code = frames_per_code
        self.hears = hears
        self.code_dropout = code_dropout
        self.music_dropout = music_dropout
        _ = self.music_input  # refuses what cannot be heard
        super().__init__(**kwargs)

    @property
    def music_input(self) -> tuple[str, int]:
        """Column of music features that the model reads, and their number."""
        if self.music_window is None:
            return input_of("music_features_7p5fps", self.music_dim, self.hears, self.frames_per_code)
        return input_of("music_features", self.music_dim, self.hears, 1)

    @property
    def rotary(self) -> bool:
        """True if positions are rotary."""
        return self.position_embedding_type == "rotary"

    @property
    def context(self) -> int:
        """Number of codes that a code attends to, its own included."""
        return (self.attention_window or self.max_codes) if self.rotary else self.max_codes - 1

    @property
    def music_band(self) -> int:
        """Number of frames that each block of the music transformer attends to, ahead and back.

        As published every block sees ``music_window`` frames, so that three see three times as far where there is music
        to see, which in generation there is not. With rotary positions all blocks together see no further than
        ``music_window``: the same in training and generation, and once for a whole song.
        """
        window = self.music_window or 0
        return window // self.num_music_layers if self.rotary else window


class BailandoActorCriticConfig(PretrainedConfig):
    """Bailando's actor-critic fine-tuning: a GPT and the network that judges its states.

    Args:
        gpt_config: of the GPT.
        num_critic_layers: blocks of the critic, above the GPT's base.
        discount: of the value of the state that follows; 1 as published.
    """

    model_type = "bailando_actor_critic"
    sub_configs = {"gpt_config": BailandoGPTConfig}  # noqa: RUF012

    def __init__(
        self,
        gpt_config: dict[str, Any] | BailandoGPTConfig | None = None,
        num_critic_layers: int = 3,
        discount: float = 1.0,
        **kwargs: Any,
    ) -> None:
        if not isinstance(gpt_config, BailandoGPTConfig):
            gpt_config = BailandoGPTConfig(**(gpt_config or {}))
        self.gpt_config = gpt_config
        self.num_critic_layers = num_critic_layers
        self.discount = discount
        super().__init__(**kwargs)


class BailandoConfig(PretrainedConfig):
    """Configuration of a whole Bailando: those of the VQ-VAE and of the GPT."""

    model_type = "bailando"
    sub_configs = {"vqvae_config": BailandoVQVAEConfig, "gpt_config": BailandoGPTConfig}  # noqa: RUF012

    def __init__(
        self,
        vqvae_config: dict[str, Any] | BailandoVQVAEConfig | None = None,
        gpt_config: dict[str, Any] | BailandoGPTConfig | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(vqvae_config, BailandoVQVAEConfig):
            vqvae_config = BailandoVQVAEConfig(**(vqvae_config or {}))
        if not isinstance(gpt_config, BailandoGPTConfig):
            gpt_config = BailandoGPTConfig(**(gpt_config or {}))
        self.vqvae_config = vqvae_config
        self.gpt_config = gpt_config
        super().__init__(**kwargs)

    @property
    def music_input(self) -> tuple[str, int]:
        """Column of music features that the model reads, and their number."""
        return self.gpt_config.music_input
