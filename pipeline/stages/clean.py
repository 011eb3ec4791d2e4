"""Clean motion: steady joints, feet that stand, limbs outside of bodies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.cleanup.settings import CleanSettings
from opendance_hf.pipeline.clip import Clip, Fit, Floats, Motion, Pins, Times
from opendance_hf.pipeline.stage import Stage
from opendance_hf.schema import FPS

_DEFAULTS: Final = CleanSettings()
#: Least share of the frames in which the image shows a foot of a dancer at rest; in a picture that shakes, none rests.
_MIN_CONTACT: Final = 0.1


@dataclass(frozen=True)
class Clean(Stage):
    """Clean the motion at 60 FPS, see :func:`opendance_hf.cleanup.clean_motion`, with the contacts that the image shows.

    Feet that annotators pinned are held in place after it, and without it.

    Args:
        apply: False to leave the motion as it was fitted.
        settings: thresholds.
    """

    name = "clean"
    version = 3
    reads = ("fit", "motion")
    changes = ("motion",)

    apply: bool = True
    settings: CleanSettings = _DEFAULTS

    def __call__(self, clip: Clip) -> Clip:
        """Process one sequence."""
        motion = self.cleaned(clip) if self.apply else clip.motion
        if clip.pins is not None:
            motion = self.pinned(motion, clip.fit.rest_offsets, clip.pins)
        return clip if motion is clip.motion else replace(clip, motion=motion)

    def cleaned(self, clip: Clip) -> Motion:
        """Return the motion of a clip after the clean-up."""
        from opendance_hf.cleanup import clean_motion  # SciPy's filters, which take a second to import

        motion = clip.motion
        found = clean_motion(
            motion.joints,
            FPS,
            poses=motion.poses,
            transl=motion.transl,
            rest_offsets=clip.fit.rest_offsets,
            floor=0.0,
            seen=contacts_at(clip.fit, motion.times_s),
            settings=self.settings,
        )
        arrays = {name: getattr(found, name).astype(np.float32) for name in ("joints", "poses", "transl")}
        return replace(motion, **arrays)

    def pinned(self, motion: Motion, rest_offsets: Floats, pins: Pins) -> Motion:
        """Return a motion whose pinned feet stand, whatever that does to other measures.

        Args:
            motion: D dancers.
            rest_offsets: (D, 24, 3) of their bodies, metres.
            pins: the feet.
        """
        from opendance_hf.cleanup.bodies import Body
        from opendance_hf.cleanup.feet import plant_feet

        out = {name: getattr(motion, name).copy() for name in ("joints", "poses", "transl")}
        # Toe and ankle of each foot.
        contacts = pins.at(motion.times_s).repeat(2, axis=-1)
        for dancer in np.flatnonzero(contacts.any(axis=(1, 2))).tolist():
            body = Body.of_poses(motion.poses[dancer], motion.transl[dancer], rest_offsets[dancer])
            body = plant_feet(body, contacts[dancer], FPS, self.settings.feet, move_body=True)
            for name, values in out.items():
                values[dancer] = getattr(body, name)
        return replace(motion, **out)


def contacts_at(fit: Fit, times_s: Times) -> npt.NDArray[np.bool_] | None:
    """Return the (D, N, 4) contacts of the nearest frames of a fit at (N,) times; None if it has none, or
    hardly any for one of the dancers."""
    if fit.contacts is None or fit.contacts.any(axis=-1).mean(axis=1).min() < _MIN_CONTACT:
        return None
    after = np.searchsorted(fit.times_s, times_s).clip(1, len(fit.times_s) - 1)
    nearer_before = times_s - fit.times_s[after - 1] < fit.times_s[after] - times_s
    return np.asarray(fit.contacts[:, after - nearer_before])
