"""Posed dancers as solid, softly lit people on a studio floor. Runs on one CPU core, without OpenGL."""

from __future__ import annotations

from copy import copy
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.body import MATERIALS, load_mesh, shape_body, skin
from opendance_hf.body.mesh import Detail
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import NUM_JOINTS, PARENTS
from opendance_hf.render.camera import frame_dancers
from opendance_hf.render.raster import NEAR_M, cast_shadows, draw_triangles, resolve, shade
from opendance_hf.schema import Camera, DanceSequence, per_dancer

Array = npt.NDArray[np.floating]
Image = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

#: One colour per dancer, told apart by colour-blind viewers too; further dancers start over.
DANCER_COLOURS: Final[tuple[Colour, ...]] = (
    (240, 122, 52), (46, 134, 222), (38, 166, 118), (196, 92, 168), (222, 196, 60), (118, 86, 214),
)  # fmt: skip

#: Colour of a material, and the share of the dancer's own colour in it.
_PAINT: Final[dict[str, tuple[Colour, float]]] = {
    "skin": ((244, 208, 184), 0.05),
    "hair": ((52, 46, 44), 0.12),
    "top": ((0, 0, 0), 1.0),
    "trousers": ((60, 62, 72), 0.62),
    "shoes": ((52, 54, 62), 0.25),
    "lips": ((206, 136, 124), 0.1),
    "brow": ((140, 108, 92), 0.1),
    "lid": ((222, 184, 162), 0.1),
    "eye": ((238, 236, 232), 0.0),
    "iris": ((60, 50, 48), 0.0),
}
_LIGHT: Final = np.array([-0.45, 0.72, 0.53], dtype=np.float32)  # from the upper left front
_SUPERSAMPLE: Final = 2
_FLOOR: Final = np.array([218, 221, 226])
_WALL_LOW: Final = np.array([232, 235, 239])
_WALL_HIGH: Final = np.array([246, 247, 249])
_SHADOW_REACH_M: Final = 0.9


def dancer_colour(dancer: int) -> Colour:
    """The (red, green, blue) of a dancer, 0 to 255, in figures and overlays alike."""
    return DANCER_COLOURS[dancer % len(DANCER_COLOURS)]


class AvatarRenderer:
    """Draws D dancers of constant proportions before one static camera.

    The bodies are shaped to the dancers' own rest skeletons, so they match ``joints`` for any bone lengths. The ground
    is y = 0. A picture of 480x854 with two dancers takes about 8 ms ("full": 16 ms); the first picture on a machine
    takes some seconds to compile.

    Args:
        camera: where to look from; its size is the size of the pictures. See :func:`frame_dancers`.
        rest_offsets: (D, 24, 3) rest skeletons, metres.
        detail: resolution of the bodies, see :func:`opendance_hf.body.load_mesh`.

    Raises:
        ValueError: if ``rest_offsets`` does not describe 24-joint skeletons.
    """

    def __init__(self, camera: Camera, rest_offsets: Array, detail: Detail = "low") -> None:
        if rest_offsets.ndim != 3 or rest_offsets.shape[1:] != (NUM_JOINTS, 3):
            raise ValueError(f"rest_offsets must be (dancers, 24, 3), got {rest_offsets.shape}")
        self.camera = camera
        mesh = load_mesh(detail)
        self._bodies = [shape_body(mesh, offsets) for offsets in rest_offsets]
        self._base = [material_colours(dancer)[mesh.material] for dancer in range(len(self._bodies))]
        self._rotation = np.asarray(camera.rotation, dtype=np.float64).reshape(3, 3)
        self._eye = (-self._rotation.T @ np.asarray(camera.translation)).astype(np.float32)
        self._ground = _ground_points(camera, self._eye, 1)
        self._background = _studio(camera, self._eye)
        self._make_buffers()

    def _make_buffers(self) -> None:
        fine = (self.camera.height_px * _SUPERSAMPLE, self.camera.width_px * _SUPERSAMPLE)
        self._depth = np.zeros(fine, dtype=np.float32)
        self._fine = np.zeros((*fine, 3), dtype=np.uint8)
        self._labels = np.zeros(fine, dtype=np.int8)

    def twin(self) -> AvatarRenderer:
        """One that draws the same, for another thread: each draws one picture at a time."""
        other = copy(self)
        other._make_buffers()
        return other

    @classmethod
    def for_sequence(cls, seq: DanceSequence, width_px: int, height_px: int) -> AvatarRenderer:
        """A renderer whose camera sees the whole of a sequence from the front."""
        camera = frame_dancers(per_dancer(seq.joints, seq.num_dancers, NUM_JOINTS, 3), width_px, height_px)
        return cls(camera, per_dancer(seq.rest_offsets, seq.num_dancers, NUM_JOINTS, 3))

    @property
    def background(self) -> Image:
        """(H, W, 3) the empty stage."""
        return self._background.copy()

    def draw(self, poses: Array, transl: Array) -> Image:
        """One picture.

        Args:
            poses: (D, 24, 3) axis-angle, radians.
            transl: (D, 3) SMPL's transl, metres.

        Returns:
            (H, W, 3) RGB.

        Raises:
            ValueError: if the number of dancers is not the renderer's.
        """
        image = self._background.copy()
        box = self._rasterise(poses, transl)
        offsets = np.stack([body.rest_offsets for body in self._bodies])
        blobs = _shadow_blobs(forward_kinematics(poses, transl, offsets))
        cast_shadows(image, self._ground, blobs, self._blob_boxes(blobs))
        resolve(image, self._depth, self._fine, _SUPERSAMPLE, *box)
        return image

    def silhouettes(self, poses: Array, transl: Array) -> npt.NDArray[np.int8]:
        """(H, W) the dancer seen at every pixel centre, -1 where there is none. Arguments as in :meth:`draw`."""
        self._rasterise(poses, transl)
        seen = np.where(self._depth > 0, self._labels, np.int8(-1))
        return np.ascontiguousarray(
            seen[_SUPERSAMPLE // 2 :: _SUPERSAMPLE, _SUPERSAMPLE // 2 :: _SUPERSAMPLE]
        )

    def _rasterise(self, poses: Array, transl: Array) -> tuple[int, int, int, int]:
        """Fill the fine buffers and return the pixel columns and rows that were touched."""
        expected = (len(self._bodies), NUM_JOINTS, 3)
        if poses.shape != expected or transl.shape != (expected[0], 3):
            raise ValueError(
                f"poses {poses.shape} and transl {transl.shape} must be {expected} and ({expected[0]}, 3)"
            )
        self._depth.fill(0)
        height, width = self.camera.height_px, self.camera.width_px
        low, high = np.array([width, height]), np.array([0, 0])
        for dancer, (body, base) in enumerate(zip(self._bodies, self._base, strict=True)):
            vertices = skin(body, poses[dancer], transl[dancer])
            colour = shade(vertices, body.faces, base, self._eye, _LIGHT)
            screen = self._to_screen(vertices)
            if not np.isfinite(screen).all():
                raise ValueError(f"the pose of dancer {dancer} holds NaN or infinity")
            draw_triangles(screen, body.faces, colour, dancer, self._depth, self._fine, self._labels)
            low = np.minimum(low, np.floor(screen[:, :2].min(axis=0) / _SUPERSAMPLE) - 1)
            high = np.maximum(high, np.ceil(screen[:, :2].max(axis=0) / _SUPERSAMPLE) + 1)
        left, top = np.clip(low, 0, [width, height]).astype(int)
        right, bottom = np.clip(high, 0, [width, height]).astype(int)
        return int(left), int(right), int(top), int(bottom)

    def _to_screen(self, points: Array) -> Array:
        """(N, 3) world points to fine pixel x, y and depth in metres."""
        view = points @ self._rotation.T + np.asarray(self.camera.translation)
        depth = np.where(np.abs(view[:, 2:]) < 1e-6, 1e-6, view[:, 2:])
        centre = np.array([self.camera.width_px, self.camera.height_px]) / 2
        pixels = (view[:, :2] / depth * self.camera.focal_px + centre) * _SUPERSAMPLE
        return np.concatenate([pixels, view[:, 2:]], axis=1)

    def _blob_boxes(self, blobs: Array) -> npt.NDArray[np.int32]:
        """(N, 4) first and last pixel column and row of every blob; empty for one that reaches behind the camera."""
        around = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]) * blobs[:, None, 2:3]
        corners = np.zeros((len(blobs), 4, 3))
        corners[..., [0, 2]] = blobs[:, None, :2] + around
        screen = self._to_screen(corners.reshape(-1, 3)).reshape(-1, 4, 3)
        pixels = np.clip(screen[..., :2] / _SUPERSAMPLE, -1e6, 1e6)
        low, high = np.floor(pixels.min(axis=1)), np.ceil(pixels.max(axis=1)) + 1
        boxes = np.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], axis=1)
        boxes[screen[..., 2].min(axis=1) < NEAR_M] = 0
        return boxes.astype(np.int32)


def material_colours(dancer: int) -> npt.NDArray[np.float32]:
    """Return the (M, 3) sRGB colour, 0 to 255, of every material of :data:`opendance_hf.body.MATERIALS`."""
    own = np.array(dancer_colour(dancer))
    colours = [
        (1 - share) * np.array(paint) + share * own for paint, share in map(_PAINT.__getitem__, MATERIALS)
    ]
    return np.array(colours, dtype=np.float32)


def _shadow_blobs(joints: Array) -> npt.NDArray[np.float32]:
    """(N, 4) soft shadows below joints and bone middles: small and dark near the floor, wide and faint above."""
    middles = (joints[:, 1:] + joints[:, PARENTS[1:]]) / 2
    points = np.concatenate([joints, middles], axis=1).reshape(-1, 3)
    points = points[points[:, 1] < _SHADOW_REACH_M]
    height = np.maximum(points[:, 1], 0)
    radius = 0.11 + 0.26 * height
    strength = 0.46 / (1 + (height / 0.28) ** 2) * (1 - height / _SHADOW_REACH_M)
    return np.stack([points[:, 0], points[:, 2], radius, strength], axis=1).astype(np.float32)


def _ground_points(camera: Camera, eye: Array, scale: int) -> npt.NDArray[np.float32]:
    """(H*scale, W*scale, 2) x and z of the floor at every pixel, NaN at and above the horizon."""
    columns = (np.arange(camera.width_px * scale) + 0.5) / scale - camera.width_px / 2
    rows = (np.arange(camera.height_px * scale) + 0.5) / scale - camera.height_px / 2
    x, y = np.meshgrid(columns / camera.focal_px, rows / camera.focal_px)
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.asarray(camera.rotation).reshape(3, 3)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(rays[..., 1] * eye[1] < -1e-6, -eye[1] / rays[..., 1], np.nan)
    return (eye[[0, 2]] + reach[..., None] * rays[..., [0, 2]]).astype(np.float32)


def _studio(camera: Camera, eye: Array) -> Image:
    """A light room whose floor carries a grid of 0.5 m, stronger every metre, that fades into the wall."""
    scale = 2
    ground = _ground_points(camera, eye, scale).astype(np.float64)
    away = np.hypot(ground[..., 0] - eye[0], ground[..., 1] - eye[2])
    nearest = np.nanmin(away) if np.isfinite(away).any() else 1.0
    fade = np.where(np.isfinite(away), np.exp(-np.maximum(away - nearest, 0) / 4.0), 0.0)[..., None]
    height = np.linspace(0, 1, ground.shape[0])[:, None, None]
    wall = _WALL_HIGH + (_WALL_LOW - _WALL_HIGH) * height
    picture = wall + (_FLOOR - wall) * np.minimum(1, 1.4 * fade)
    with np.errstate(invalid="ignore"):
        for spacing, half_width, dark in ((0.5, 0.006, 0.05), (1.0, 0.009, 0.10)):
            off = np.abs(ground / spacing - np.round(ground / spacing)) * spacing
            line = np.any(off < half_width, axis=-1, keepdims=True)
            picture = picture * (1 - dark * line * np.minimum(1, 1.6 * fade))
    blocks = picture.reshape(camera.height_px, scale, camera.width_px, scale, 3)
    return np.round(blocks.mean(axis=(1, 3))).astype(np.uint8)
