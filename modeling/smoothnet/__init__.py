"""SmoothNet (Zeng et al. 2022; paper section 3.1): a plain network over time against the jitter of estimators."""

from opendance_hf.modeling.smoothnet.configuration_smoothnet import SmoothNetConfig
from opendance_hf.modeling.smoothnet.modeling_smoothnet import (
    SmoothNetModel,
    SmoothNetModelOutput,
    smoothnet_loss,
)

__all__ = ["SmoothNetConfig", "SmoothNetModel", "SmoothNetModelOutput", "smoothnet_loss"]
