"""Fit the 24-joint skeleton to landmarks by gradient descent. Role ``fitter``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from opendance_hf.pipeline.backends.base import Backend
from opendance_hf.pipeline.clip import Bodies, Fit, Landmarks, VideoInfo
from opendance_hf.pipeline.fitting.settings import SkeletonSettings, solver_version


@dataclass(frozen=True)
class Skeleton(SkeletonSettings, Backend):
    """Fit rotations and bone lengths, without a licensed body model. Fields: see :class:`SkeletonSettings`."""

    name: ClassVar[str] = "skeleton"
    slow_imports: ClassVar[tuple[str, ...]] = ("opendance_hf.pipeline.fitting.skeleton",)

    @property
    def version(self) -> str:
        """Versions of this package and of torch."""
        return solver_version()

    @property
    def label(self) -> str:
        """Name with the optimiser."""
        return "skeleton-adam"

    def load(self) -> SkeletonFitter:
        """Import torch and return the fitter."""
        import opendance_hf.pipeline.fitting.skeleton  # noqa: F401

        return SkeletonFitter(self)


class SkeletonFitter:
    """Fit skeletons with the settings of :class:`Skeleton`."""

    def __init__(self, settings: Skeleton) -> None:
        self.settings = settings

    def fit(
        self,
        smoothed: Landmarks,
        bodies: Bodies | None,
        video: VideoInfo,
        pins: npt.NDArray[np.bool_] | None = None,
    ) -> Fit:
        """Fit the landmarks; bodies are not used."""
        from opendance_hf.pipeline.fitting.skeleton import fit_skeleton

        return fit_skeleton(smoothed, video, self.settings, pins)
