"""Estimate the roll of the camera from the dancers, and turn landmarks so that the camera is level.

A roll about the optical axis turns the image about its centre and the view frame about z by the same angle. A fit of the
turned landmarks is therefore the fit of a level camera with the same focal length.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.rotations import unit
from opendance_hf.pipeline.clip import Landmarks, VideoInfo
from opendance_hf.pipeline.fitting.initial_pose import landmarks_in_view
from opendance_hf.pipeline.fitting.settings import FitSettings
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX

Array = npt.NDArray[np.floating]

#: Upper and lower end of the trunk and of the legs.
_PARTS: Final = (("shoulder", "hip"), ("hip", "ankle"))


def camera_roll(found: Landmarks, video: VideoInfo, settings: FitSettings) -> float:
    """Estimate the camera's roll in radians: the angle by which the vertical leans to the right in the image.

    Dancers are upright on average. A rolled camera tilts trunk and legs alike, and a lean or a lunge only one of them, so
    the roll is the smaller of their two median angles if both lean to the same side. It is 0 below
    ``settings.min_roll_rad``, where it is not distinguishable from a lean, and above ``settings.max_roll_rad``, where the
    dancers are not upright.
    """
    focal_px = float(np.hypot(video.width_px, video.height_px))
    world = landmarks_in_view(found, video.width_px, video.height_px, focal_px)

    def middle(name: str) -> Array:
        return (
            world[:, :, LANDMARK_INDEX[f"left_{name}"]] + world[:, :, LANDMARK_INDEX[f"right_{name}"]]
        ) / 2

    angles = []
    for upper, lower in _PARTS:
        up = np.median(unit(middle(upper) - middle(lower)).reshape(-1, 3), axis=0)
        angles.append(math.atan2(up[0], up[1]))
    if angles[0] * angles[1] <= 0:
        return 0.0
    roll_rad = min(angles, key=abs)
    return roll_rad if settings.min_roll_rad <= abs(roll_rad) <= settings.max_roll_rad else 0.0


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
