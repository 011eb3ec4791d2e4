"""The lifter: a temporal network that corrects the depth of estimated landmarks."""

from opendance_hf.modeling.lifter.configuration_lifter import LifterConfig
from opendance_hf.modeling.lifter.modeling_lifter import LifterModel, LifterModelOutput

__all__ = ["LifterConfig", "LifterModel", "LifterModelOutput"]
