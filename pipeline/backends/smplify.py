"""Refine SMPL bodies against 2D keypoints, after SMPLify (paper section 3.1). Role ``fitter``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.smpl import HOW_TO_GET, SMPLData, SMPLFileError, load_smpl
from opendance_hf.pipeline.backends.base import BackendError, FileBackend
from opendance_hf.pipeline.clip import Bodies, Fit, Landmarks, VideoInfo
from opendance_hf.pipeline.fitting.settings import SMPLifySettings, solver_version


@dataclass(frozen=True)
class SMPLify(SMPLifySettings, FileBackend):
    """Refine a lifter's bodies on the user's converted SMPL body. Fields: see :class:`SMPLifySettings`."""

    name: ClassVar[str] = "smplify"
    slow_imports: ClassVar[tuple[str, ...]] = ("opendance_hf.pipeline.fitting.smplify",)
    licence: ClassVar[str] = "SMPL Body Model License (research only)"
    default_file: ClassVar[str] = "SMPL_NEUTRAL.npz"
    how_to_get: ClassVar[str] = f"SMPL: {HOW_TO_GET}"
    reads: ClassVar[tuple[str, ...]] = ("bodies",)

    @property
    def version(self) -> str:
        """Versions of this package and of torch; the body has its own row in the provenance."""
        return solver_version()

    @property
    def label(self) -> str:
        """Name with the optimiser."""
        return "smplify-adam"

    def provenance(self, stage: str) -> tuple[tuple[str, str, str], ...]:
        """Return the rows of the fitter and of the body, see :meth:`Backend.provenance`."""
        return (*super().provenance(stage), ("body", "smpl", self.sha256[:12]))

    def check(self, path: Path) -> None:
        """Check that the file is a converted SMPL body, see :meth:`FileBackend.check`."""
        try:
            load_smpl(path)
        except SMPLFileError as error:
            # Remove the path and the instructions from the message: the caller adds both.
            raise ValueError(str(error).split(". To get one")[0].removeprefix(f"{path}: ")) from None

    def load(self) -> SMPLifyFitter:
        """Load the body."""
        import opendance_hf.pipeline.fitting.smplify  # noqa: F401

        return SMPLifyFitter(self, load_smpl(self.path))

    def _from_hub(self, name: str) -> Path | None:
        """Return None: SMPL's licence forbids copies on the Hub."""
        return None


class SMPLifyFitter:
    """Refine bodies with the settings of :class:`SMPLify`."""

    def __init__(self, settings: SMPLify, body: SMPLData) -> None:
        self.settings = settings
        self.body = body

    def fit(
        self,
        smoothed: Landmarks,
        bodies: Bodies | None,
        video: VideoInfo,
        pins: npt.NDArray[np.bool_] | None = None,
    ) -> Fit:
        """Refine the bodies against the landmarks in the image.

        Raises:
            BackendError: if there are no bodies.
        """
        if bodies is None:
            raise BackendError(
                "smplify refines SMPL bodies, but no stage before 'fit' estimates them: add the stage 'lift' (lifter "
                "cliff), or use the fitter 'skeleton'"
            )
        from opendance_hf.pipeline.fitting.smplify import refine_bodies

        return refine_bodies(bodies, smoothed, self.body, video, self.settings, pins)
