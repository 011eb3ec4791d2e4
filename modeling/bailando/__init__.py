"""Bailando (paper section 4.1): pose VQ-VAE, motion GPT, and both together."""

from opendance_hf.modeling.bailando.configuration_bailando import (
    BailandoConfig,
    BailandoGPTConfig,
    BailandoVQVAEConfig,
)
from opendance_hf.modeling.bailando.modeling_bailando import (
    BailandoDanceOutput,
    BailandoForDanceGeneration,
    BailandoGPT,
    BailandoGPTOutput,
    BailandoVQVAE,
    BailandoVQVAEOutput,
    join_root,
    split_root,
)

__all__ = [
    "BailandoConfig",
    "BailandoDanceOutput",
    "BailandoForDanceGeneration",
    "BailandoGPT",
    "BailandoGPTConfig",
    "BailandoGPTOutput",
    "BailandoVQVAE",
    "BailandoVQVAEConfig",
    "BailandoVQVAEOutput",
    "join_root",
    "split_root",
]
