"""Estimate the camera from the dancers: its roll, its pitch and its focal length, and how sure that is.

A roll about the optical axis turns the image about its centre and the view frame about z by the same angle. A fit of the
turned landmarks is therefore the fit of a level camera with the same focal length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.balance import vertical
from opendance_hf.motion.rotations import unit
from opendance_hf.pipeline.clip import Landmarks, VideoInfo
from opendance_hf.pipeline.fitting.initial_pose import landmarks_in_view
from opendance_hf.pipeline.fitting.settings import CameraPriors, FitSettings
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX

Array = npt.NDArray[np.floating]

#: Upper and lower end of the trunk and of the legs.
_PARTS: Final = (("shoulder", "hip"), ("hip", "ankle"))
#: Joints whose landmarks have other names; the middle of two sides for those without a side.
_NAMES: Final = {"neck": "shoulder", "pelvis": "hip", "head": "ear", "hand": "index", "foot": "foot_index"}
#: Relative noise of a depth from the size of a body in the image; without it, dancers on the spot would show a horizon.
_DEPTH_NOISE: Final = 0.03
_SIDED: Final = ("shoulder", "elbow", "wrist", "hand", "hip", "knee", "ankle", "foot")


@dataclass(frozen=True)
class Tilt:
    """Pitch and focal length of a camera.

    Attributes:
        pitch_rad: how far it looks down.
        pitch_sd_rad: standard deviation of that estimate.
        focal_ratio: focal length relative to the assumed one.
        focal_sd: standard deviation of the logarithm of that ratio.
    """

    pitch_rad: float
    pitch_sd_rad: float
    focal_ratio: float
    focal_sd: float


def camera_roll(found: Landmarks, video: VideoInfo, settings: FitSettings) -> float:
    """Estimate the camera's roll in radians: the angle by which the vertical leans to the right in the image.

    It is the direction of :func:`opendance_hf.motion.balance.vertical`. It counts as 0 below ``settings.min_roll_rad``,
    above ``settings.max_roll_rad``, where the dancers are not upright, and where trunk and legs do not lean to the same
    side by ``settings.min_lean_rad``: a rolled camera tilts both, and a bend or a lunge only one of them.
    """
    width_px, height_px = video.width_px, video.height_px
    world = landmarks_in_view(found, width_px, height_px, video.assumed_focal_px)
    points = _points(world)
    up = vertical(points)
    roll_rad = math.atan2(up[0], up[1])
    for upper, lower in _PARTS:
        bone = unit(_middle(world, upper) - _middle(world, lower)).reshape(-1, 3)
        lean = np.median(bone, axis=0)
        if math.copysign(1.0, roll_rad) * math.atan2(lean[0], lean[1]) < settings.min_lean_rad:
            return 0.0
    return roll_rad if settings.min_roll_rad <= abs(roll_rad) <= settings.max_roll_rad else 0.0


def _middle(world: Array, name: str) -> Array:
    return np.asarray(
        (world[:, :, LANDMARK_INDEX[f"left_{name}"]] + world[:, :, LANDMARK_INDEX[f"right_{name}"]]) / 2
    )


def _points(world: Array) -> dict[str, Array]:
    """Return the joints that carry the mass of a body, from (D, T, 33, 3) landmarks."""
    out = {name: _middle(world, _NAMES[name]) for name in ("neck", "pelvis", "head")}
    for side in ("left", "right"):
        for name in _SIDED:
            out[f"{side}_{name}"] = world[:, :, LANDMARK_INDEX[f"{side}_{_NAMES.get(name, name)}"]]
    return out


def level_rotation(roll_rad: float) -> npt.NDArray[np.float64]:
    """Return the (3, 3) rotation of the view frame (x right, y up) after which the vertical of a rolled camera is y."""
    cos, sin = math.cos(roll_rad), math.sin(roll_rad)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def level_landmarks(found: Landmarks, video: VideoInfo, roll_rad: float) -> Landmarks:
    """Return the landmarks that a level camera would see; the same object if the roll is 0."""
    if roll_rad == 0:
        return found
    turn = level_rotation(roll_rad)
    centre = np.array([video.width_px / 2, video.height_px / 2])
    # The image's y points down: the transposed rotation turns it to the same side.
    image = (found.image - centre) @ turn[:2, :2] + centre
    return replace(found, image=image.astype(np.float32), world=(found.world @ turn.T).astype(np.float32))


def horizon(feet: Array, depths: Array, independent: float) -> tuple[float, float]:
    """Estimate where the horizon is in the image, from the lower feet of dancers who walk to and from a level camera.

    A foot on the ground at depth d is seen at horizon - h / d, where h is the camera's height. So the horizon is the
    intercept of a robust line over 1 / d.

    Args:
        feet: (N,) image positions of the lower foot, in focal lengths, up from the centre.
        depths: (N,) depths of the dancers, metres, from their size in the image.
        independent: number of independent observations among the N.

    Returns:
        The horizon in focal lengths above the centre, and its standard deviation, which is infinite if nobody moves.
    """
    near = 1 / depths
    if not np.isfinite([*near, *feet]).all() or np.ptp(near) < 1e-6 * near.mean() or independent <= 2:
        return 0.0, math.inf
    table = np.stack([np.ones_like(near), near], axis=1)
    weight = np.ones(len(near))
    for _ in range(10):
        line = np.linalg.lstsq(table * weight[:, None], feet * weight, rcond=None)[0]
        error = feet - table @ line
        spread = 1.48 * float(np.median(np.abs(error))) + 1e-9
        weight = 1 / np.sqrt(1 + (error / spread) ** 2)
    weighted = table * weight[:, None]
    variance = spread**2 + (line[1] * _DEPTH_NOISE * near.mean()) ** 2
    covariance = np.linalg.inv(weighted.T @ weighted) * variance * len(near) / independent
    return float(line[0]), float(np.sqrt(covariance[0, 0]))


def camera_tilt(pitch_rad: float, seen: tuple[float, float], phrases: float, priors: CameraPriors) -> Tilt:
    """Combine what is known about pitch and focal length: the most likely values, and their spread.

    The horizon is seen at the focal ratio times tan(pitch). Bodies in balance give the pitch alone, and what cameras
    usually do the rest.

    Args:
        pitch_rad: of the bodies' vertical.
        seen: horizon and its standard deviation, as :func:`horizon` returns them.
        phrases: number of independent observations of the bodies' vertical.
        priors: standard deviations.
    """
    pitch = np.linspace(-0.7, 1.2, 381)[:, None]
    ratio = np.linspace(-3, 3, 121)[None] * priors.focal_sd
    body_sd = math.hypot(priors.body_sd_rad, priors.phrase_sd_rad / math.sqrt(max(phrases, 1e-6)))
    horizon_sd = math.hypot(priors.horizon_sd, priors.horizon_factor * seen[1])
    cost = ((pitch - pitch_rad) / body_sd) ** 2 + ((pitch - priors.pitch_rad) / priors.pitch_sd_rad) ** 2
    cost = (
        cost + (ratio / priors.focal_sd) ** 2 + ((seen[0] - np.exp(ratio) * np.tan(pitch)) / horizon_sd) ** 2
    )
    share = np.exp(-(cost - cost.min()) / 2)
    share /= share.sum()

    def moments(value: Array) -> tuple[float, float]:
        mean = float((share * value).sum())
        return mean, math.sqrt(max(0.0, float((share * (value - mean) ** 2).sum())))

    (mean, sd), (log_ratio, log_sd) = moments(pitch), moments(ratio)
    # A small change of the focal length moves everybody far in depth, so weak evidence changes nothing.
    known = log_sd <= priors.max_focal_sd_share * priors.focal_sd
    return Tilt(mean, sd, math.exp(log_ratio) if known else 1.0, log_sd)
