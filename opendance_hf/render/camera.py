"""A virtual camera that keeps the dancers of a whole sequence in the picture."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from opendance_hf.schema import Camera

Array = npt.NDArray[np.floating]

#: What a body reaches beyond its joints: the crown, the fingertips, the soles. Metres.
_REACH_M = 0.18
_MIN_DISTANCE_M = 1.5


def look_at(eye: Array, target: Array, width_px: int, height_px: int, focal_px: float) -> Camera:
    """The upright pinhole camera at ``eye`` (3,) that looks at ``target`` (3,), both world metres.

    Raises:
        ValueError: if the camera would look straight up or down, or at itself.
    """
    forward = np.asarray(target, dtype=np.float64) - np.asarray(eye, dtype=np.float64)
    right = np.cross(forward, (0.0, 1.0, 0.0))
    if np.linalg.norm(right) < 1e-9:
        raise ValueError(f"a camera at {eye} cannot look at {target}: the view must not be vertical")
    forward /= np.linalg.norm(forward)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return Camera(
        width_px=width_px,
        height_px=height_px,
        focal_px=focal_px,
        rotation=tuple(rotation.ravel().tolist()),
        translation=tuple((-rotation @ np.asarray(eye, dtype=np.float64)).tolist()),
    )


def frame_dancers(
    joints: Array,
    width_px: int,
    height_px: int,
    *,
    pitch_deg: float = 10.0,
    field_of_view_deg: float = 35.0,
) -> Camera:
    """The closest static camera that sees every joint of a sequence, from the front and slightly above.

    Args:
        joints: (..., 24, 3) joint positions, world metres (y up); all dancers and frames together.
        width_px: picture width.
        height_px: picture height.
        pitch_deg: how far the camera looks down.
        field_of_view_deg: the angle that the longer side of the picture spans.

    Returns:
        A camera on the +z side, where the filming camera of a sequence stands.

    Raises:
        ValueError: if ``joints`` is empty or not finite.
    """
    points = np.asarray(joints, dtype=np.float64).reshape(-1, 3)
    if not len(points) or not np.isfinite(points).all():
        raise ValueError("joints must hold at least one point, and only finite numbers")
    focal_px = max(width_px, height_px) / (2 * math.tan(math.radians(field_of_view_deg) / 2))
    pitch = math.radians(pitch_deg)
    forward = np.array([0.0, -math.sin(pitch), -math.cos(pitch)])
    rotation = np.stack([np.array([1.0, 0.0, 0.0]), np.cross(forward, (1.0, 0.0, 0.0)), forward])

    # The corners of a box around every joint stand for the body around it.
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * _REACH_M
    low, high = points.min(axis=0), points.max(axis=0)
    keep = points if len(points) < 20_000 else points[:: len(points) // 20_000 + 1]
    extremes = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2],)])
    view = (np.concatenate([keep, extremes])[:, None] + corners).reshape(-1, 3) @ rotation.T

    # With the direction fixed, each point asks for a distance; moving the centre trades one side for the other.
    half = np.array([width_px, height_px]) / (2 * focal_px)
    centre = (view[:, :2].min(axis=0) + view[:, :2].max(axis=0)) / 2
    distance = 0.0
    for _ in range(8):
        offset = view[:, :2] - centre
        needed = np.abs(offset) / half - view[:, 2:]
        distance = max(float(needed.max()), _MIN_DISTANCE_M - float(view[:, 2].min()))
        seen = offset / (view[:, 2:] + distance)
        centre = centre + (seen.min(axis=0) + seen.max(axis=0)) / 2 * (view[:, 2].mean() + distance)
    eye = rotation.T @ np.array([centre[0], centre[1], -distance])
    return look_at(eye, eye + forward, width_px, height_px, focal_px)
