"""Bailando++ (paper section 4.2): dancers who are generated together and see each other."""

from opendance_hf.modeling.bailando_pp.configuration_bailando_pp import BailandoPPConfig, BailandoPPGPTConfig
from opendance_hf.modeling.bailando_pp.modeling_bailando_pp import (
    BailandoPPDanceOutput,
    BailandoPPForDanceGeneration,
    BailandoPPGPT,
    BailandoPPGPTOutput,
    facing,
    placement_of,
    turn,
)

__all__ = [
    "BailandoPPConfig",
    "BailandoPPDanceOutput",
    "BailandoPPForDanceGeneration",
    "BailandoPPGPT",
    "BailandoPPGPTConfig",
    "BailandoPPGPTOutput",
    "facing",
    "placement_of",
    "turn",
]
