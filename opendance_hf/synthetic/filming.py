"""Ways to film a dance that make it harder to see: other cameras than the usual one, motion blur, and little light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.schema import Camera

Array = npt.NDArray[np.floating]
Image = npt.NDArray[np.uint8]

_MIN_EYE_M: Final = 0.15
_MIN_DISTANCE_M: Final = 1.5
#: Share of the height that is below the picture if the legs are.
_CUT: Final = 0.35
_GAMMA: Final = 2.2
#: Variance of a dark sensor, as a share of full scale, and its increase with the light.
_DARK_NOISE, _SHOT_NOISE = 3e-5, 2e-4


@dataclass(frozen=True)
class View:
    """A way to film a dance that differs from that of :func:`random_camera`; angles in degrees.

    Attributes:
        pitch_deg: how far the camera looks down.
        roll_deg: how far the picture leans to its right.
        focal_ratio: focal length relative to the diagonal of the picture.
        yaw_deg: how far the dance is turned, counter-clockwise seen from above: 180 shows the dancers' backs.
        slack: distance relative to the closest from which everything is visible.
        legs: False leaves the legs below the picture.
    """

    pitch_deg: float = 8.0
    roll_deg: float = 0.0
    focal_ratio: float = 1.0
    yaw_deg: float = 0.0
    slack: float = 1.0
    legs: bool = True


def view_camera(view: View, points: Array, width_px: int, height_px: int) -> Camera:
    """Return the camera of a view that sees all points, unless their legs are left out.

    Args:
        view: its angles, focal length and distance.
        points: (..., 3) everything that it has to see, world metres.
        width_px: picture width.
        height_px: picture height.
    """
    points = points.reshape(-1, 3)
    low, high = points.min(axis=0), points.max(axis=0)
    middle = 0.5 * (low + high)
    pitch, roll = np.radians([view.pitch_deg, view.roll_deg])
    forward = np.array([0.0, -np.sin(pitch), -np.cos(pitch)])
    upright = np.stack([np.array([1.0, 0.0, 0.0]), np.cross(forward, (1.0, 0.0, 0.0)), forward])
    cos, sin = np.cos(roll), np.sin(roll)
    rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ upright
    focal_px = float(np.hypot(width_px, height_px)) * view.focal_ratio
    half = np.array([width_px, height_px]) / 2 - 0.01 * height_px
    seen = (points - middle) @ rotation.T
    # A point at offset o and depth d before the target is visible from the distance |o| focal / half - d.
    needed = (np.abs(seen[:, :2]) * focal_px / half).max(axis=1) - seen[:, 2]
    distance = view.slack * max(float(needed.max()), _MIN_DISTANCE_M)
    eye = middle - distance * forward
    eye[1] = max(eye[1], _MIN_EYE_M)
    if not view.legs:
        # Raise the camera until the knees are below the picture.
        knees = rotation @ (np.array([middle[0], low[1] + _CUT * (high[1] - low[1]), middle[2]]) - eye)
        eye -= rotation[1] * (half[1] * knees[2] / focal_px - knees[1])
    return Camera(
        width_px=width_px,
        height_px=height_px,
        focal_px=focal_px,
        rotation=tuple(rotation.ravel().tolist()),
        translation=tuple((-rotation @ eye).tolist()),
    )


def tilt_of(camera: Camera) -> tuple[float, float]:
    """Return how far a camera looks down and how far its picture leans to the right, radians."""
    up = np.asarray(camera.rotation).reshape(3, 3)[:, 1]
    return float(np.arcsin(-up[2])), float(np.arctan2(up[0], -up[1]))


def subframe_times(times_s: Array, exposure_s: float, count: int) -> Array:
    """Return (T * count,) times at which the shutter is open, evenly around each of the (T,) times of the pictures."""
    return (times_s[:, None] + np.linspace(-0.5, 0.5, count) * exposure_s).ravel()


def blurred(pictures: Sequence[Image]) -> Image:
    """Return the mean of pictures, (H, W, 3)."""
    if len(pictures) == 1:
        return pictures[0]
    return np.asarray(np.mean(pictures, axis=0, dtype=np.float32) + 0.5, dtype=np.uint8)


def dimmed(picture: Image, light: float, rng: np.random.Generator) -> Image:
    """Return a picture taken with a share of the light by a sensor with noise."""
    linear = light * (picture.astype(np.float32) / 255) ** _GAMMA
    noise = rng.standard_normal(linear.shape, dtype=np.float32)
    linear += noise * np.sqrt(_DARK_NOISE + _SHOT_NOISE * linear)
    return np.asarray(255 * np.clip(linear, 0, 1) ** (1 / _GAMMA) + 0.5, dtype=np.uint8)
