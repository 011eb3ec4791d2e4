"""FACT, the full-attention cross-modal transformer (Li et al. 2021; the baseline of paper table 6)."""

from opendance_hf.modeling.fact.configuration_fact import FACTConfig
from opendance_hf.modeling.fact.modeling_fact import (
    FACTDanceOutput,
    FACTForDanceGeneration,
    FACTForDanceGenerationOutput,
    FACTModel,
    FACTModelOutput,
    motion_to_poses,
    poses_to_motion,
)

__all__ = [
    "FACTConfig",
    "FACTDanceOutput",
    "FACTForDanceGeneration",
    "FACTForDanceGenerationOutput",
    "FACTModel",
    "FACTModelOutput",
    "motion_to_poses",
    "poses_to_motion",
]
