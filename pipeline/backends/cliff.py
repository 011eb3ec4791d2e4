"""Estimate SMPL bodies with CLIFF (Li et al. 2022; paper section 3.1). Role ``lifter``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from opendance_hf.pipeline.backends.base import BackendError, FileBackend, check_converted_model

if TYPE_CHECKING:
    from opendance_hf.pipeline.backends.cliff_estimator import CLIFFEstimator

_DEVICES: Final = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class CLIFF(FileBackend):
    """Estimate bodies with a converted CLIFF checkpoint.

    Attributes:
        device: ``auto`` (a GPU if torch finds one), ``cpu`` or ``cuda``. Every worker of a build sees one GPU; choose among
            several with the environment variable ``CUDA_VISIBLE_DEVICES``.
        crop_margin: side of a crop relative to that of the person's box.
        batch_size: number of crops in a batch.
    """

    device: str = "auto"
    crop_margin: float = 1.1
    batch_size: int = 16

    name: ClassVar[str] = "cliff"
    slow_imports: ClassVar[tuple[str, ...]] = ("opendance_hf.modeling.cliff",)
    licence: ClassVar[str] = "ask its authors; its training data are for research"
    shared: ClassVar[bool] = True
    default_file: ClassVar[str] = "cliff"
    how_to_get: ClassVar[str] = (
        "CLIFF: from the links in the readme of the GitHub project huawei-noah/noah-research (folder CLIFF) or "
        "haofanwang/CLIFF, the checkpoint hr48-PA43.0_MJE69.0_MVE81.2_3dpw.pt or "
        "res50-PA45.7_MJE72.0_MVE85.3_3dpw.pt; then run `opendance convert cliff THE.pt --out cliff`"
    )

    @property
    def uses_gpu(self) -> bool:
        """See :class:`Backend`."""
        return self.device != "cpu"

    @property
    def label(self) -> str:
        """Name with the backbone."""
        config = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        return f"cliff-{config['backbone']}"

    def check(self, path: Path) -> None:
        """Check that the folder is a converted CLIFF, see :meth:`FileBackend.check`."""
        check_converted_model(path, "cliff")

    def prepare(self) -> Self:
        """See :meth:`FileBackend.prepare`."""
        if self.device not in _DEVICES:
            raise BackendError(f"cliff: unknown device {self.device!r}: expected {' or '.join(_DEVICES)}")
        return super().prepare()

    def fingerprinted(self) -> dict[str, Any]:
        """Return the values that results depend on, without the device."""
        values = super().fingerprinted()
        del values["device"]
        return values

    def load(self) -> CLIFFEstimator:
        """Load the model onto its device."""
        from opendance_hf.pipeline.backends.cliff_estimator import CLIFFEstimator

        return CLIFFEstimator(self.path, self.device, self.crop_margin, self.batch_size)
