"""Bailando (paper section 4.1): pose VQ-VAE, motion GPT, both together, and actor-critic fine-tuning."""

from opendance_hf.modeling.bailando.actor_critic import (
    BailandoActorCritic,
    BailandoActorCriticOutput,
    beat_rewards,
    reward_joints,
    window_mask,
)
from opendance_hf.modeling.bailando.configuration_bailando import (
    BailandoActorCriticConfig,
    BailandoConfig,
    BailandoGPTConfig,
    BailandoVQVAEConfig,
)
from opendance_hf.modeling.bailando.modeling_bailando import (
    BailandoDanceOutput,
    BailandoForDanceGeneration,
    BailandoGPT,
    BailandoGPTOutput,
)
from opendance_hf.modeling.bailando.modeling_bailando_vqvae import (
    BailandoPreTrainedModel,
    BailandoVQVAE,
    BailandoVQVAEOutput,
    join_root,
    nearest_rotations,
    split_root,
)
from opendance_hf.modeling.layers import CodeStreamer

__all__ = [
    "BailandoActorCritic",
    "BailandoActorCriticConfig",
    "BailandoActorCriticOutput",
    "BailandoConfig",
    "BailandoDanceOutput",
    "BailandoForDanceGeneration",
    "BailandoGPT",
    "BailandoGPTConfig",
    "BailandoGPTOutput",
    "BailandoPreTrainedModel",
    "BailandoVQVAE",
    "BailandoVQVAEConfig",
    "BailandoVQVAEOutput",
    "CodeStreamer",
    "beat_rewards",
    "join_root",
    "nearest_rotations",
    "reward_joints",
    "split_root",
    "window_mask",
]
