"""Bailando++ (paper section 4.2): dancers who are generated together and see each other."""

from opendance_hf.modeling.bailando_pp.configuration_bailando_pp import (
    BailandoPPConfig,
    BailandoPPGPTConfig,
    BailandoRelationConfig,
)
from opendance_hf.modeling.bailando_pp.couple import facing, follow_relation, relation_of, turn
from opendance_hf.modeling.bailando_pp.modeling_bailando_pp import (
    BailandoPPDanceOutput,
    BailandoPPForDanceGeneration,
    BailandoPPGPT,
    BailandoPPGPTOutput,
    placement_of,
)
from opendance_hf.modeling.bailando_pp.modeling_bailando_relation import (
    BailandoRelationOutput,
    BailandoRelationVQVAE,
)

__all__ = [
    "BailandoPPConfig",
    "BailandoPPDanceOutput",
    "BailandoPPForDanceGeneration",
    "BailandoPPGPT",
    "BailandoPPGPTConfig",
    "BailandoPPGPTOutput",
    "BailandoRelationConfig",
    "BailandoRelationOutput",
    "BailandoRelationVQVAE",
    "facing",
    "follow_relation",
    "placement_of",
    "relation_of",
    "turn",
]
