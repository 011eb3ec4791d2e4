"""A room, a light and a camera: pictures of posed figures, drawn with the z-buffer of :mod:`opendance_hf.render`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from opendance_hf.render.camera import look_at
from opendance_hf.render.raster import cast_shadows, draw_triangles, resolve, shade
from opendance_hf.schema import Camera
from opendance_hf.synthetic.figure import Figure

Array = npt.NDArray[np.floating]
Image = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

_SHADOW_REACH_M: Final = 0.9
_WALLS: Final[tuple[Colour, ...]] = (
    (214, 206, 196),
    (176, 190, 200),
    (206, 210, 206),
    (150, 144, 150),
    (222, 200, 176),
)
_CRATE: Final = (122, 84, 52)
_FLOORS: Final[tuple[Colour, ...]] = ((168, 128, 92), (128, 122, 116), (196, 178, 152), (104, 84, 70))
#: Half the width and the height of the part of a wall that has shelves and posters, metres, and its pixels a metre.
_SHELVES_M: Final = (7.0, 2.4)
_SHELVES_PPM: Final = 120
_BOARD_M: Final = 1.3  # length of a board where their ends are seen
#: Width of wall and floor and height of the wall that a moving camera sees, metres, and their pixels a metre.
_PLANES_M: Final = (16.0, 7.0)
_PLANE_PPM: Final = 150
_NEAREST_M: Final = 0.5  # from a moving camera to the nearest floor in its picture


@dataclass(frozen=True)
class Crate:
    """A box on the floor at (x, z), in front of everyone, metres."""

    x: float
    z: float
    width_m: float
    height_m: float


@dataclass(frozen=True)
class Room:
    """A room with a back wall at ``wall_z`` metres, and the direction (3,) its light comes from.

    ``furnished`` rooms have shelves and posters along the wall and visible ends of boards: corners that can be followed.
    """

    wall: Colour
    floor: Colour
    wall_z: float
    plank_m: float
    light: tuple[float, float, float]
    bright: float
    furnished: bool = False

    @classmethod
    def random(cls, rng: np.random.Generator) -> Room:
        """A room of ordinary colours."""
        light = np.array([rng.uniform(-0.7, 0.7), rng.uniform(0.6, 0.9), rng.uniform(0.4, 0.8)])
        light /= np.linalg.norm(light)
        return cls(
            wall=_WALLS[rng.integers(len(_WALLS))],
            floor=_FLOORS[rng.integers(len(_FLOORS))],
            wall_z=float(rng.uniform(-2.8, -1.9)),
            plank_m=float(rng.uniform(0.12, 0.22)),
            light=(float(light[0]), float(light[1]), float(light[2])),
            bright=float(rng.uniform(0.92, 1.06)),
        )


def title_card(seed: int, camera: Camera, time_s: float) -> Image:
    """(H, W, 3) picture that announces a dance, in one colour with a bar that grows."""
    rng = np.random.default_rng([seed, 6])
    image = np.full((camera.height_px, camera.width_px, 3), rng.integers(20, 120, 3), np.uint8)
    scale = min(camera.width_px, camera.height_px) / 480
    place = round(40 * scale), camera.height_px // 2
    cv2.putText(image, f"dance no. {seed}", place, cv2.FONT_HERSHEY_DUPLEX, 1.6 * scale, (240, 240, 230), 2)
    end = round((40 + 120 * time_s) * scale), place[1] + round(36 * scale)
    cv2.rectangle(image, (place[0], place[1] + round(24 * scale)), end, (230, 200, 90), -1)
    return image


def random_camera(rng: np.random.Generator, joints: Array, width_px: int, height_px: int) -> Camera:
    """A camera held by somebody in front of the dancers: any usual height, tilt and focal length.

    Args:
        rng: draws height, tilt and focal length.
        joints: (..., 3) everything it has to see, world metres.
        width_px: picture width.
        height_px: picture height.
    """
    points = joints.reshape(-1, 3)
    focal_px = float(np.hypot(width_px, height_px) * rng.uniform(0.85, 1.15))
    height = rng.uniform(0.9, 1.55)
    middle = 0.5 * (points.min(axis=0) + points.max(axis=0))
    aside = rng.uniform(-0.25, 0.25)
    target = np.array([middle[0], 0.92 + rng.uniform(-0.05, 0.05), middle[2]])
    half = np.array([width_px, height_px]) / 2 - 0.01 * height_px
    for distance in np.arange(2.2, 12.0, 0.05):
        camera = look_at(
            np.array([middle[0] + aside, height, middle[2] + distance]), target, width_px, height_px, focal_px
        )
        off = np.abs(camera.project(points) - np.array([width_px, height_px]) / 2)
        if (off <= half).all():
            break
    return camera


class _Things(NamedTuple):
    """List what stands along a wall: (left, bottom, width, height) and colour of framed pictures, and shelves, if any."""

    framed: Sequence[tuple[tuple[float, float, float, float], Array]]
    shelves: Image | None


class _Sight(NamedTuple):
    """Hold what a camera at ``eye`` sees of the empty room: a picture, and (H, W, 2) x and z of the floor, NaN elsewhere."""

    camera: Camera
    rotation: Array
    eye: Array
    background: Image
    ground: Array


class Stage:
    """Draws figures in a room; ``supersample`` squared samples are averaged for a pixel.

    The camera is static, unless :meth:`draw` is given another one.
    """

    def __init__(
        self,
        camera: Camera,
        room: Room,
        figures: list[Figure],
        rng: np.random.Generator,
        crate: Crate | None = None,
        supersample: int = 2,
    ) -> None:
        self.camera = camera
        self._supersample = supersample
        self._figures = figures
        self._room = room
        self._light = np.asarray(room.light, dtype=np.float32)
        self._colours = [(figure.colour * room.bright).astype(np.float32) for figure in figures]
        # A framed picture and a door: rooms have things in them.
        places = [
            (rng.uniform(-1.6, 1.4), 1.35, rng.uniform(0.4, 0.7), rng.uniform(0.35, 0.6)) for _ in range(2)
        ]
        framed = [(place, rng.uniform(60, 190, 3)) for place in places]
        self._things = _Things(framed, _paint_shelves(rng) if room.furnished else None)
        rotation, eye = _pose_of(camera)
        empty = _paint_room(camera, eye, room, self._things, rng, supersample)
        self._still = _Sight(camera, rotation, eye, *empty)
        fine = (camera.height_px * supersample, camera.width_px * supersample)
        self._depth = np.zeros(fine, dtype=np.float32)
        self._fine = np.zeros((*fine, 3), dtype=np.uint8)
        self._labels = np.zeros(fine, dtype=np.int8)
        self._crate = crate

    def draw(self, poses: list[tuple[Array, Array]], camera: Camera | None = None) -> Image:
        """Draw the figures, (H, W, 3), each with its bones' (rotations, positions).

        Args:
            poses: of each figure.
            camera: of the same size as the stage's; by default that one.
        """
        sight = self._still if camera is None else self._moved(camera)
        image = sight.background.copy()
        low, high = self._rasterise(poses, sight)
        blobs = np.concatenate(
            [
                _shadow_blobs(positions)
                for figure, (_, positions) in zip(self._figures, poses, strict=True)
                if figure.casts_shadow
            ]
        )
        cast_shadows(image, sight.ground, blobs, self._blob_boxes(blobs, sight))
        box = int(low[0]), int(high[0]), int(low[1]), int(high[1])
        resolve(image, self._depth, self._fine, self._supersample, *box)
        if self._crate is not None:
            self._draw_crate(image, self._crate, sight.camera)
        return image

    def _moved(self, camera: Camera) -> _Sight:
        """Return what another camera sees of the empty room: the room's planes, painted once, in its perspective."""
        rotation, eye = _pose_of(camera)
        scale = self._supersample
        size = camera.width_px * scale, camera.height_px * scale
        picture = np.zeros((size[1], size[0], 3), dtype=np.uint8)
        for plane, origin, axes in self._planes:
            # From the plane's pixels to the world, to the camera, to the samples of the picture.
            world = np.column_stack([*np.array(axes) / _PLANE_PPM, origin])
            view = rotation @ world
            view[:, 2] += camera.translation
            to_samples = np.array([[scale, 0, (size[0] - 1) / 2], [0, scale, (size[1] - 1) / 2], [0, 0, 1]])
            matrix = to_samples @ np.diag([camera.focal_px, camera.focal_px, 1]) @ view
            cv2.warpPerspective(plane, matrix, size, picture, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
        # The noise of each picture is its own.
        rng = np.random.default_rng(np.asarray(camera.rotation).view(np.uint32))
        small = cv2.resize(picture, (camera.width_px, camera.height_px), interpolation=cv2.INTER_AREA)
        noisy = small + rng.normal(0, 1.5, small.shape)
        point, floor = _room_points(camera, eye, self._room, 1)
        ground = np.where(floor[..., None], point[..., [0, 2]], np.nan).astype(np.float32)
        return _Sight(
            camera,
            rotation,
            eye,
            np.clip(np.round(noisy), 0, 255).astype(np.uint8),
            np.ascontiguousarray(ground),
        )

    @cached_property
    def _planes(self) -> list[tuple[Image, Array, tuple[tuple[int, int, int], tuple[int, int, int]]]]:
        """Return picture, corner and directions of rows and columns of the wall and of the floor before it."""
        wide, high, room = _PLANES_M[0], _PLANES_M[1], self._room
        deep = float(self._still.eye[2]) - _NEAREST_M - room.wall_z
        out = []
        for is_floor, origin, down, length in (
            (False, (-wide / 2, high, room.wall_z), (0, -1, 0), high),
            (True, (-wide / 2, 0.0, room.wall_z), (0, 0, 1), deep),
        ):
            x, along = np.meshgrid(
                np.arange(round(wide * _PLANE_PPM)) / _PLANE_PPM,
                np.arange(round(length * _PLANE_PPM)) / _PLANE_PPM,
            )
            point = np.array(origin) + x[..., None] * (1, 0, 0) + along[..., None] * down
            colours = _paint_points(point, np.full(x.shape, is_floor), room, self._things)
            plane = np.clip(np.round(colours), 0, 255).astype(np.uint8)
            out.append((plane, np.array(origin), ((1, 0, 0), down)))
        return out

    def _draw_crate(self, image: Image, crate: Crate, camera: Camera) -> None:
        """Its front and top; everything else is behind it."""
        left, right = crate.x - crate.width_m / 2, crate.x + crate.width_m / 2
        near, far = crate.z + crate.width_m / 2, crate.z - crate.width_m / 2
        top = crate.height_m
        for face, tone in (
            ([(left, 0, near), (right, 0, near), (right, top, near), (left, top, near)], 1.0),
            ([(left, top, near), (right, top, near), (right, top, far), (left, top, far)], 1.25),
        ):
            corners = np.round(camera.project(np.array(face, dtype=np.float64))).astype(np.int32)
            cv2.fillConvexPoly(image, corners, [round(tone * c) for c in _CRATE], cv2.LINE_AA)

    def silhouettes(self, poses: list[tuple[Array, Array]]) -> npt.NDArray[np.int8]:
        """(H, W) which figure is seen at each pixel, -1 where none."""
        self._rasterise(poses, self._still)
        seen = np.where(self._depth > 0, self._labels, np.int8(-1))
        step = self._supersample
        return np.ascontiguousarray(seen[step // 2 :: step, step // 2 :: step])

    def _rasterise(self, poses: list[tuple[Array, Array]], sight: _Sight) -> tuple[Array, Array]:
        self._depth.fill(0)
        size = np.array([self.camera.width_px, self.camera.height_px])
        low, high = size.copy(), np.zeros(2, dtype=int)
        for number, (figure, (rotations, positions)) in enumerate(zip(self._figures, poses, strict=True)):
            vertices = figure.pose(rotations, positions)
            colour = shade(vertices, figure.faces, self._colours[number], sight.eye, self._light)
            screen = self._to_screen(vertices, sight)
            draw_triangles(screen, figure.faces, colour, number, self._depth, self._fine, self._labels)
            pixels = screen[:, :2] / self._supersample
            low = np.minimum(low, np.floor(pixels.min(axis=0)).astype(int) - 1)
            high = np.maximum(high, np.ceil(pixels.max(axis=0)).astype(int) + 1)
        return np.clip(low, 0, size), np.clip(high, 0, size)

    def _to_screen(self, points: Array, sight: _Sight) -> Array:
        view = points @ sight.rotation.T + np.asarray(sight.camera.translation)
        centre = np.array([self.camera.width_px, self.camera.height_px]) / 2
        pixels = (view[:, :2] / view[:, 2:] * sight.camera.focal_px + centre) * self._supersample
        return np.concatenate([pixels, view[:, 2:]], axis=1)

    def _blob_boxes(self, blobs: Array, sight: _Sight) -> npt.NDArray[np.int32]:
        around = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]) * blobs[:, None, 2:3]
        corners = np.zeros((len(blobs), 4, 3))
        corners[..., [0, 2]] = blobs[:, None, :2] + around
        pixels = self._to_screen(corners.reshape(-1, 3), sight).reshape(-1, 4, 3)[..., :2] / self._supersample
        low, high = np.floor(pixels.min(axis=1)), np.ceil(pixels.max(axis=1)) + 1
        return np.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], axis=1).astype(np.int32)


def _pose_of(camera: Camera) -> tuple[Array, Array]:
    """Rotation (3, 3) and position (3,) of a camera."""
    rotation = np.asarray(camera.rotation).reshape(3, 3)
    return rotation, (-rotation.T @ np.asarray(camera.translation)).astype(np.float32)


def _shadow_blobs(positions: Array) -> npt.NDArray[np.float32]:
    """(N, 4) x, z, radius, strength of soft shadows under the bones' starts."""
    points = positions[positions[:, 1] < _SHADOW_REACH_M]
    height = np.maximum(points[:, 1], 0)
    radius = 0.13 + 0.30 * height
    strength = 0.50 / (1 + (height / 0.30) ** 2) * (1 - height / _SHADOW_REACH_M)
    return np.stack([points[:, 0], points[:, 2], radius, strength], axis=1).astype(np.float32)


def _paint_shelves(rng: np.random.Generator) -> Image:
    """Return (H, W, 3) rows of books, boxes and posters along a wall, from its top; 0 where the wall is bare."""
    width, height = (round(_SHELVES_PPM * size) for size in (2 * _SHELVES_M[0], _SHELVES_M[1]))
    image = np.zeros((height, width, 3), dtype=np.uint8)
    x = 0
    while x < width:
        colour = rng.integers(30, 220, 3).tolist()
        if rng.random() < 0.5:  # a shelf
            wide, tall = int(rng.integers(90, 200)), round(0.32 * _SHELVES_PPM)
            for bottom in range(height - round(0.1 * _SHELVES_PPM), 2 * tall, -tall - 8):
                cv2.rectangle(image, (x, bottom), (x + wide, bottom + 5), colour, -1)
                book = x
                while book < x + wide - 10:
                    thick, size = int(rng.integers(5, 16)), int(rng.integers(tall // 2, tall))
                    tone = rng.integers(20, 235, 3).tolist()
                    cv2.rectangle(image, (book, bottom - size), (book + thick, bottom), tone, -1)
                    book += thick + (14 if rng.random() < 0.2 else 0)
        else:  # a poster
            wide, tall = int(rng.integers(60, 130)), int(rng.integers(70, 150))
            top = int(rng.integers(20, 90))
            cv2.rectangle(image, (x, top), (x + wide, top + tall), colour, -1)
            for _ in range(6):
                spot = x + int(rng.integers(10, wide - 8)), top + int(rng.integers(10, tall - 8))
                cv2.circle(image, spot, int(rng.integers(4, 9)), rng.integers(20, 235, 3).tolist(), -1)
        x += wide + int(rng.integers(10, 60))
    return image


def _furniture(
    shelves: Image, point: Array, floor: npt.NDArray[np.bool_], plank: Array
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Return the (H, W, 3) colour of what stands along the wall, 0 where nothing does, and (H, W) ends of boards."""
    column = np.round((point[..., 0] + _SHELVES_M[0]) * _SHELVES_PPM)
    row = np.round((_SHELVES_M[1] - point[..., 1]) * _SHELVES_PPM)
    height, width = shelves.shape[:2]
    inside = ~floor & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    at = np.where(inside, row * width + column, 0).astype(np.intp)
    colour = np.where(inside[..., None], shelves.reshape(-1, 3)[at], 0)
    along = np.where(floor, point[..., 2], 0) / _BOARD_M + 0.37 * plank
    return colour, np.abs(along - np.floor(along) - 0.5) > 0.49


def _paint_room(
    camera: Camera, eye: Array, room: Room, things: _Things, rng: np.random.Generator, scale: int
) -> tuple[Image, Array]:
    """The empty room, and (H, W, 2) x and z of the floor at each pixel, NaN where the wall is."""
    point, floor = _room_points(camera, eye, room, scale)
    picture = _paint_points(point, floor, room, things)
    blocks = picture.reshape(camera.height_px, scale, camera.width_px, scale, 3).mean(axis=(1, 3))
    blocks += rng.normal(0, 1.5, blocks.shape)
    ground = np.where(floor[..., None], point[..., [0, 2]], np.nan)[::scale, ::scale]
    return np.clip(np.round(blocks), 0, 255).astype(np.uint8), np.ascontiguousarray(ground, dtype=np.float32)


def _room_points(camera: Camera, eye: Array, room: Room, scale: int) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Return the (H, W, 3) point of the room seen at each sample of a picture, and (H, W) whether it is on the floor."""
    columns = (np.arange(camera.width_px * scale) + 0.5) / scale - camera.width_px / 2
    rows = (np.arange(camera.height_px * scale) + 0.5) / scale - camera.height_px / 2
    x, y = np.meshgrid(columns / camera.focal_px, rows / camera.focal_px)
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.asarray(camera.rotation).reshape(3, 3)
    to_wall = (room.wall_z - eye[2]) / np.minimum(rays[..., 2], -1e-6)
    with np.errstate(divide="ignore"):
        to_floor = np.where(rays[..., 1] < -1e-6, -eye[1] / np.minimum(rays[..., 1], -1e-6), np.inf)
    floor = to_floor < to_wall
    point = eye + rays * np.where(floor, to_floor, to_wall)[..., None]
    return point, floor


def _paint_points(point: Array, floor: npt.NDArray[np.bool_], room: Room, things: _Things) -> Array:
    """Return the (H, W, 3) colours of (H, W, 3) points of the floor or the wall."""
    plank = np.floor(point[..., 0] / room.plank_m)
    tone = np.sin(plank * 12.9898 + 4.1) * 0.05
    seam = np.abs(point[..., 0] / room.plank_m - plank - 0.5) > 0.47
    grain = 0.02 * np.sin(point[..., 2] * 40 + plank * 7) + 0.015 * np.sin(point[..., 2] * 113 + plank * 3)
    near = np.exp(-((point[..., 0] / 2.5) ** 2) - ((point[..., 2] - 0.3) / 3.0) ** 2)
    boards = (
        np.array(room.floor)
        * ((1 + tone + grain) * np.where(seam, 0.86, 1.0) * (0.78 + 0.3 * near))[..., None]
    )
    skirting = (point[..., 1] < 0.09) & ~floor
    lamp = np.exp(-(((point[..., 0] - 2 * room.light[0]) / 2.2) ** 2) - ((point[..., 1] - 1.8) / 1.6) ** 2)
    plaster = (
        np.array(room.wall)
        * (0.80 + 0.2 * lamp + 0.01 * np.sin(point[..., 0] * 9 + point[..., 1] * 5))[..., None]
    )
    plaster = np.where(skirting[..., None], np.minimum(plaster * 1.12, 240), plaster)
    corner = 1 - 0.25 * np.exp(-np.abs(point[..., 2] - room.wall_z) / 0.35) * np.exp(-point[..., 1] / 0.25)
    for (left, bottom, width, height), mix in things.framed:
        inside = (point[..., 0] > left) & (point[..., 0] < left + width)
        inside &= (point[..., 1] > bottom) & (point[..., 1] < bottom + height) & ~floor
        plaster = np.where(inside[..., None], 0.6 * mix + 0.3 * plaster, plaster)
    if things.shelves is not None:
        furniture, ends = _furniture(things.shelves, point, floor, plank)
        plaster = np.where(furniture > 0, 0.85 * furniture, plaster)
        boards = np.where(ends[..., None], 0.8 * boards, boards)
    return np.asarray(np.where(floor[..., None], boards, plaster) * corner[..., None] * room.bright)
