"""Smooth landmarks or bodies with SmoothNet (Zeng et al. 2022; paper section 3.1). Role ``smoother``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from opendance_hf.pipeline.backends.base import FileBackend, check_converted_model

if TYPE_CHECKING:
    from opendance_hf.pipeline.smoothing import SmoothNetSmoother


@dataclass(frozen=True)
class SmoothNet(FileBackend):
    """Smooth with a converted SmoothNet checkpoint, and with filters where SmoothNet does not apply.

    Attributes:
        median_s: window of the median filter, seconds, where the filters are used.
        window_s: window of the Savitzky-Golay filter, seconds.
        polynomial_order: order of the Savitzky-Golay filter.
    """

    median_s: float = 0.1
    window_s: float = 0.2
    polynomial_order: int = 2

    name: ClassVar[str] = "smoothnet"
    licence: ClassVar[str] = "Apache-2.0 (MMHuman3D)"
    slow_imports: ClassVar[tuple[str, ...]] = ("opendance_hf.modeling.smoothnet",)
    default_file: ClassVar[str] = "smoothnet"
    how_to_get: ClassVar[str] = (
        "SmoothNet: from MMHuman3D's model zoo (the SmoothNet configuration's page), smoothnet_windowsize32.pth.tar or "
        "one of another window; then run `opendance convert smoothnet THE.pth.tar --out smoothnet`"
    )

    @property
    def label(self) -> str:
        """Name with the number of frames of the window."""
        config = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        return f"smoothnet-w{config['window_size']}"

    def check(self, path: Path) -> None:
        """Check that the folder is a converted SmoothNet, see :meth:`FileBackend.check`."""
        check_converted_model(path, "smoothnet")

    def load(self) -> SmoothNetSmoother:
        """Load the model."""
        from opendance_hf.modeling.smoothnet import SmoothNetModel
        from opendance_hf.pipeline.smoothing import FilterSmoother, SmoothNetSmoother

        filters = FilterSmoother(self.median_s, self.window_s, self.polynomial_order)
        return SmoothNetSmoother(SmoothNetModel.from_pretrained(self.path).eval(), filters)
