"""People in the picture who do not dance: a bystander, a passer-by, a poster, and the dancers' image on a screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.schema import Camera
from opendance_hf.synthetic.choreography import Count, Part
from opendance_hf.synthetic.figure import Figure, dress, random_looks
from opendance_hf.synthetic.motion import Performance, perform
from opendance_hf.synthetic.moves import turned

Array = npt.NDArray[np.floating]

#: Depth of a flat figure relative to the body's, enough for its parts to hide each other, and its distance to the wall.
_FLAT: Final = 0.02
_FROM_WALL_M: Final = 0.03
#: Distance along the wall between the dancers' reach and a figure on it.
_BESIDE_M: Final = 0.55
_SCREEN_SCALE: Final = 0.7
_STEP_S: Final = 0.38
_STEP_M: Final = 0.6
#: How far outside the picture a passer-by starts and ends.
_OUTSIDE_M: Final = 0.8
_HALF_WIDTH_M: Final = 0.9


@dataclass(frozen=True)
class Other:
    """Somebody who does not dance.

    Attributes:
        figure: their body and clothes.
        rotations: (T, B, 3, 3) of the bones at T times, or (1, B, 3, 3) for somebody who stands still.
        positions: (T, B, 3) or (1, B, 3), likewise.
    """

    figure: Figure
    rotations: Array
    positions: Array

    def pose(self, moment: int) -> tuple[Array, Array]:
        """Return the rotations and positions of the bones at one of the times."""
        index = min(moment, len(self.positions) - 1)
        return self.rotations[index], self.positions[index]


@dataclass(frozen=True)
class FlatFigure(Figure):
    """A picture of a figure on the back wall.

    Attributes:
        wall_z: of the wall, metres.
        middle_x: the x of the figure that is at ``on_wall_x``.
        on_wall_x: of the picture, metres.
        scale: size relative to the figure.
        mirrored: True if left and right are exchanged, as in a mirror.
    """

    wall_z: float = 0.0
    middle_x: float = 0.0
    on_wall_x: float = 0.0
    scale: float = 1.0
    mirrored: bool = False

    @classmethod
    def of(cls, figure: Figure, wall_z: float, middle_x: float, on_wall_x: float, scale: float) -> FlatFigure:
        """Return the picture of a figure; smaller ones are mirrored and hang so that their middle is a metre high."""
        mirrored = scale < 1
        faces = np.ascontiguousarray(figure.faces[:, ::-1]) if mirrored else figure.faces
        own = (figure.body, figure.vertices, faces, figure.colour)
        return cls(*own, wall_z, middle_x, on_wall_x, scale, mirrored)

    casts_shadow = False

    def pose(self, rotations: Array, positions: Array) -> Array:
        """Return the (V, 3) vertices, see :meth:`Figure.pose`."""
        vertices = super().pose(rotations, positions)
        side = -self.scale if self.mirrored else self.scale
        x = self.on_wall_x + side * (vertices[:, 0] - self.middle_x)
        y = 1.0 + self.scale * (vertices[:, 1] - 1.0) if self.mirrored else vertices[:, 1]
        z = self.wall_z + _FROM_WALL_M + _FLAT * (vertices[:, 2] - vertices[:, 2].min())
        return np.ascontiguousarray(np.stack([x, y, z], axis=1), dtype=np.float32)

    def reach(self) -> Array:
        """Return (2, 3) opposite corners of the space that the picture takes on the wall."""
        half = self.scale * _HALF_WIDTH_M
        low, high = (0.25, 1.75) if self.mirrored else (0.0, 1.85)
        return np.array(
            [[self.on_wall_x - half, low, self.wall_z], [self.on_wall_x + half, high, self.wall_z]]
        )


def bystander(seed: int, camera: Camera, z: float) -> Other:
    """Return somebody who stands still near the left or right edge of the picture."""
    rng = np.random.default_rng([seed, 12])
    figure = dress(random_looks(rng, 1)[0])
    across = np.linspace(-8, 8, 401)
    columns = _columns(camera, across, z)
    share = float(rng.uniform(0.08, 0.13))
    x = float(np.interp(camera.width_px * (share if rng.random() < 0.5 else 1 - share), columns, across))
    part = Part((x, z), (Count(arms=("rest", "hip")),) * 4)
    pose = perform(part, figure.body, np.arange(4.0), np.array([1.0]))
    pose = turned(pose, rng.uniform(-0.7, 0.7), pose.root()[0])
    return Other(figure, pose.rotations, pose.positions)


def passer_by(seed: int, camera: Camera, z: float, times_s: Array) -> Other:
    """Return somebody who walks through the whole picture at a depth, in the middle of the (T,) times."""
    rng = np.random.default_rng([seed, 13])
    figure = dress(random_looks(rng, 1)[0])
    across = np.linspace(-8, 8, 401)
    left, right = np.interp([0, camera.width_px], _columns(camera, across, z), across)
    steps = int(np.ceil((right - left + 2 * _OUTSIDE_M) / _STEP_M))
    way = int(rng.choice([-1, 1]))
    # Walk towards +z from the origin, then turn the whole walk and move it to its place.
    counts = [
        Count("left" if k % 2 else "right", (0.0, _STEP_M), arms=("rest", "rest")) for k in range(steps)
    ]
    middle_s = 0.5 * (times_s[0] + times_s[-1])
    beats_s = middle_s + (np.arange(steps) - steps / 2) * _STEP_S
    walk = perform(Part((0.0, 0.0), tuple(counts)), figure.body, beats_s, times_s)
    walk = turned(walk, way * np.pi / 2, np.zeros(3))
    start = left - _OUTSIDE_M if way > 0 else right + _OUTSIDE_M
    return Other(figure, walk.rotations, walk.positions + np.array([start, 0.0, z]))


def poster(seed: int, wall_z: float, low_x: float, high_x: float) -> Other:
    """Return a life-size picture of somebody in a dance pose on the wall, beside the dancers' (low_x, high_x)."""
    rng = np.random.default_rng([seed, 14])
    figure = dress(random_looks(rng, 1)[0])
    part = Part((0.0, 0.0), (Count(arms=("goal", "hip")),) * 4)
    pose = perform(part, figure.body, np.arange(4.0), np.array([1.0]))
    x = _beside(rng, low_x, high_x, _HALF_WIDTH_M)
    return Other(FlatFigure.of(figure, wall_z, 0.0, x, 1.0), pose.rotations, pose.positions)


def screen_images(seed: int, wall_z: float, dancers: list[tuple[Figure, Performance]]) -> list[Other]:
    """Return the dancers' mirrored images on a screen at the wall, beside them and smaller."""
    rng = np.random.default_rng([seed, 15])
    x = np.concatenate([dance.positions[..., 0].ravel() for _, dance in dancers])
    low, high, middle = float(x.min()), float(x.max()), float(np.mean([x.min(), x.max()]))
    at = _beside(rng, low, high, _SCREEN_SCALE * (high - low) / 2)
    return [
        Other(
            FlatFigure.of(figure, wall_z, middle, at, _SCREEN_SCALE),
            dance.rotations,
            dance.positions,
        )
        for figure, dance in dancers
    ]


def _beside(rng: np.random.Generator, low_x: float, high_x: float, half_m: float) -> float:
    gap = _BESIDE_M + half_m
    return float(low_x - gap if rng.random() < 0.5 else high_x + gap)


def _columns(camera: Camera, across: Array, z: float) -> Array:
    """Return the (N,) columns of points at chest height, (N,) metres across and at one depth."""
    level = np.full(len(across), 0.9)
    return camera.project(np.stack([across, level, np.full(len(across), z)], axis=1))[:, 0]
