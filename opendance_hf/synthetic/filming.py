"""Ways to film a dance that make it harder to see: other or moving cameras, motion blur, and little light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.rotations import axis_angle_to_matrix
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
#: Sines of which the shake of a hand is made, for each axis, and their range of frequencies, Hz.
_TREMORS: Final = 6
_TREMOR_HZ: Final = (1.0, 5.0)
#: Largest shake that the picture leaves room for, relative to its root mean square.
_PEAK: Final = 2.5
#: Direction in which a camera travels: to its right and forwards.
_TRAVEL: Final = (0.8, 0.0, 0.6)


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
        pan_deg: how far the camera turns to the right over the clip.
        zoom: focal length at the end of the clip relative to its start.
        shake_deg: root mean square of the shake of the hand that holds the camera, around each of its axes.
        travel_m: how far the camera moves to the right and forwards over the clip.
    """

    pitch_deg: float = 8.0
    roll_deg: float = 0.0
    focal_ratio: float = 1.0
    yaw_deg: float = 0.0
    slack: float = 1.0
    legs: bool = True
    pan_deg: float = 0.0
    zoom: float = 1.0
    shake_deg: float = 0.0
    travel_m: float = 0.0

    @property
    def moves(self) -> bool:
        """True if the camera does not stand still."""
        return (self.pan_deg, self.zoom, self.shake_deg, self.travel_m) != (0.0, 1.0, 0.0, 0.0)


def view_camera(view: View, points: Array, width_px: int, height_px: int) -> Camera:
    """Return the camera of a view that sees all points, unless their legs are left out; if it moves, its mean direction.

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
    longest_px = focal_px * view.zoom
    turns = np.radians([view.pan_deg / 2 + _PEAK * view.shake_deg, _PEAK * view.shake_deg])
    half = np.array([width_px, height_px]) / 2 - 0.01 * height_px - longest_px * np.tan(turns)
    seen = (points - middle) @ rotation.T
    # A point at offset o and depth d before the target is visible from the distance |o| focal / half - d.
    needed = (np.abs(seen[:, :2]) * longest_px / half).max(axis=1) - seen[:, 2]
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


def moving_cameras(view: View, camera: Camera, times_s: Array, seed: int) -> list[Camera]:
    """Return the camera of a moving view at (T,) times, from the first to the last.

    Args:
        view: how it moves.
        camera: its mean direction and position, and its focal length at the start.
        times_s: when pictures are taken, in order.
        seed: of the shake.
    """
    passed = (times_s - times_s[0]) / max(float(times_s[-1] - times_s[0]), 1e-9)
    share = 0.5 - 0.5 * np.cos(np.pi * passed)
    rng = np.random.default_rng([seed, 13])
    hz, phase = rng.uniform(*_TREMOR_HZ, (3, _TREMORS)), rng.uniform(0, 2 * np.pi, (3, _TREMORS))
    tremor = np.sin(2 * np.pi * hz * times_s[:, None, None] + phase).sum(axis=-1) * np.sqrt(2 / _TREMORS)
    turns = np.radians(view.shake_deg) * tremor
    turns[:, 1] += np.radians(view.pan_deg) * (share - 0.5)
    rotation = np.asarray(camera.rotation).reshape(3, 3)
    moved = (share - 0.5)[:, None] * view.travel_m * np.array(_TRAVEL)
    out = []
    for turn, shift, zoomed in zip(turns, moved, view.zoom**share, strict=True):
        # The scene moves against the camera.
        against = axis_angle_to_matrix(-turn)
        out.append(
            replace(
                camera,
                focal_px=camera.focal_px * float(zoomed),
                rotation=tuple((against @ rotation).ravel().tolist()),
                translation=tuple((against @ (np.asarray(camera.translation) - shift)).tolist()),
            )
        )
    return out


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
