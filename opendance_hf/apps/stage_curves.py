"""Measure what a stage shows of a dance beside its bodies: feet on the floor, speed, beats and scores."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from opendance_hf.formats.motion import Motion
from opendance_hf.metrics import floor_height, foot_skate_ratio, joint_speed, step_beat
from opendance_hf.metrics.beats import FPS, SPEED_SIGMA
from opendance_hf.metrics.features import MIN_FRAMES
from opendance_hf.metrics.quality import CONTACT_HEIGHT
from opendance_hf.motion.contacts import RestLimits, frames_at_rest
from opendance_hf.motion.skeleton import JOINT_INDEX

#: Rate of curves.
CURVE_HZ: Final = 10.0
_FEET: Final = (JOINT_INDEX["left_foot"], JOINT_INDEX["right_foot"])
#: Standard deviation of the smoothing of foot positions before their speed, seconds.
_FOOT_SIGMA_S: Final = 0.033

Floats = npt.NDArray[np.floating]


def contacts_of(motion: Motion, ground: float) -> npt.NDArray[np.integer]:
    """Return (T,) bits of the feet that stand on the ground: 1 the left, 2 the right."""
    toes = motion.joints[0][:, _FEET].astype(np.float64)
    smooth = gaussian_filter1d(toes, _FOOT_SIGMA_S * motion.fps, axis=0, mode="nearest")
    step = np.gradient(smooth, axis=0) if len(toes) > 1 else np.zeros_like(toes)
    speed = np.linalg.norm(step, axis=-1) * motion.fps
    down = toes[..., 1] < ground + CONTACT_HEIGHT
    for foot in range(len(_FEET)):
        down[:, foot] &= frames_at_rest(speed[:, foot], 1 / motion.fps, RestLimits())
    return down @ np.array([1, 2])


def ground_of(motion: Motion) -> float:
    """Return the height of the ground: that of the file, or else where the feet of the dancers go."""
    if "ground" in motion.meta:
        return float(motion.meta["ground"])
    if motion.num_frames < MIN_FRAMES:
        return float(motion.joints[..., 1].min())
    return float(np.median([floor_height(joints) for joints in motion.joints]))


def beats_of(motion: Motion) -> Floats:
    """Return the beats of the music that a dance knows, seconds."""
    beats = np.asarray(motion.meta.get("music_beats", ()), dtype=np.float64)
    return beats / motion.fps


def speed_curve(motion: Motion) -> Floats:
    """Return the mean speed of the joints of all dancers, m/s, at :data:`CURVE_HZ`."""
    times = np.arange(0, motion.num_frames / motion.fps, 1 / CURVE_HZ)
    if motion.num_frames < 2:
        return np.zeros(len(times))
    sigma = SPEED_SIGMA * motion.fps / FPS
    speed = np.mean([joint_speed(joints, sigma=sigma) for joints in motion.joints], axis=0) * motion.fps
    return np.interp(times, (np.arange(len(speed)) + 0.5) / motion.fps, speed)


def numbers_of(motion: Motion, beats_s: Floats, ground: float) -> list[list[str]]:
    """Return the labels and values that are shown beside the name of a dance; means over its dancers."""
    step, skate = "unknown: no beats", "unknown: too short"
    if motion.num_frames >= MIN_FRAMES:
        found = [step_beat(joints, beats_s * motion.fps, motion.fps) for joints in motion.joints]
        scores = [score.score for score in found if score is not None]
        if scores:
            step = f"{np.mean(scores):.3f}"
        slides = [foot_skate_ratio(joints, fps=motion.fps, floor=ground) for joints in motion.joints]
        skate = f"{100 * np.mean(slides):.1f} %"
    return [["step beat", step], ["skate", skate]]
