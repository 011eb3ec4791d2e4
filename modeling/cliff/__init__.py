"""CLIFF (Li et al. 2022; paper reference 18): SMPL pose, shape and camera of a person in a crop."""

from opendance_hf.modeling.cliff.configuration_cliff import CLIFFConfig
from opendance_hf.modeling.cliff.feature_extraction_cliff import CLIFFFeatureExtractor
from opendance_hf.modeling.cliff.modeling_cliff import CLIFFModel, CLIFFModelOutput, six_to_rotations

__all__ = ["CLIFFConfig", "CLIFFFeatureExtractor", "CLIFFModel", "CLIFFModelOutput", "six_to_rotations"]
