"""Clean motion: steady joints, feet that stand, limbs outside of bodies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from opendance_hf.cleanup.settings import CleanSettings
from opendance_hf.pipeline.clip import Clip
from opendance_hf.pipeline.stage import Stage
from opendance_hf.schema import FPS

_DEFAULTS: Final = CleanSettings()


@dataclass(frozen=True)
class Clean(Stage):
    """Clean the motion at 60 FPS, see :func:`opendance_hf.cleanup.clean_motion`.

    Args:
        apply: False to leave the motion as it was fitted.
        settings: thresholds.
    """

    name = "clean"
    reads = ("fit", "motion")
    changes = ("motion",)

    apply: bool = True
    settings: CleanSettings = _DEFAULTS

    def __call__(self, clip: Clip) -> Clip:
        """Process one sequence."""
        if not self.apply:
            return clip
        from opendance_hf.cleanup import clean_motion  # SciPy's filters, which take a second to import

        motion = clip.motion
        cleaned = clean_motion(
            motion.joints,
            FPS,
            poses=motion.poses,
            transl=motion.transl,
            rest_offsets=clip.fit.rest_offsets,
            floor=0.0,
            settings=self.settings,
        )
        arrays = {name: getattr(cleaned, name).astype(np.float32) for name in ("joints", "poses", "transl")}
        return replace(clip, motion=replace(motion, **arrays))
