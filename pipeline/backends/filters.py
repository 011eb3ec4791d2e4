"""Smooth landmarks and bodies with fixed filters: a median, then Savitzky-Golay. Role ``smoother``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import opendance_hf
from opendance_hf.pipeline.backends.base import Backend

if TYPE_CHECKING:
    from opendance_hf.pipeline.smoothing import FilterSmoother


@dataclass(frozen=True)
class Filters(Backend):
    """Smooth with a median and a Savitzky-Golay filter.

    The window is long enough to remove the estimator's noise (75 to 150 mm per squared frame), and short enough to keep
    fast accents of the dance (hits).

    Attributes:
        median_s: window of the median filter, seconds.
        window_s: window of the Savitzky-Golay filter, seconds.
        polynomial_order: order of the Savitzky-Golay filter.
    """

    median_s: float = 0.1
    window_s: float = 0.2
    polynomial_order: int = 2

    name: ClassVar[str] = "filters"

    @property
    def version(self) -> str:
        """Version of this package."""
        return opendance_hf.__version__

    @property
    def label(self) -> str:
        """Names of the two filters."""
        return "median-savgol"

    def load(self) -> FilterSmoother:
        """Return the smoother."""
        from opendance_hf.pipeline.smoothing import FilterSmoother

        return FilterSmoother(self.median_s, self.window_s, self.polynomial_order)
