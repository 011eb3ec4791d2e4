"""Follow the background of a video, and compute from it how its camera turns and zooms.

Corners of the background are followed from keyframes (Lucas-Kanade), so errors do not add up from frame to frame. A camera
that turns around its centre and zooms moves all of them by K' R inv(K), whatever their distance. If it travels, near
and far corners move apart, and this motion explains only a part of them.

Camera frames have x to the right, y down and z away from the camera, and the focal length of a frame with zoom 1 is the
diagonal of the picture, as in the fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from opendance_hf.pipeline.clip import Floats, Image

Array = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

#: Middle part of a person's box that does not count as background, as shares of its width and height.
_BODY: Final = np.array([0.7, 1.05])
#: Grey level up to which rows and columns at the edges of a picture are black bars, and the width of the edges.
_BLACK: Final = 30
_EDGE_PX: Final = 4
_WINDOW_PX: Final = (13, 13)
_PYRAMID_LEVELS: Final = 1
_STOP: Final = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 10, 0.02)
#: Largest mean difference in grey level between a corner and where it was found.
_UNLIKE: Final = 16
#: Smallest correlation of a corner with where it was found.
_ALIKE: Final = 0.9
_MAX_JUMP_PX: Final = 10
#: Corners are the strongest within this neighbourhood, and at most some in each cell of a grid.
_AROUND: Final = np.ones((11, 11), np.uint8)
_MIN_STRENGTH: Final = 5e-5
_CELL_PX, _IN_CELL = 32, 2
_ITERATIONS: Final = 5
#: Smallest residual that counts as noise when corners are weighted.
_NOISE_PX: Final = 0.15


@dataclass(frozen=True)
class FollowerSettings:
    """Settings of a :class:`BackgroundFollower`; lengths are pixels of the reduced picture.

    Attributes:
        min_corners: smallest number of corners that show how the camera moves.
        parallax_quantile: parallax is this quantile of the distances of the corners from where turn and zoom move them.
        near_px: largest distance of a corner from where rotation and zoom move it.
        min_followed: a keyframe is replaced if a smaller share of its corners is still followed.
        max_shift: a keyframe is replaced if the picture's centre has moved further, as a share of the longer side.
        max_ratio: a keyframe is replaced if the focal length has changed by a larger ratio.
        patience: number of frames that are not understood after which the camera counts as still until then.
    """

    min_corners: int = 12
    parallax_quantile: float = 0.75
    near_px: float = 1.0
    min_followed: float = 0.5
    max_shift: float = 0.2
    max_ratio: float = 1.08
    patience: int = 5


@dataclass(frozen=True)
class Aim:
    """How a camera is turned and zoomed: ``turn`` (3, 3) from the first camera frame to its own, and the focal length's ratio."""

    turn: Array
    zoom: float


@dataclass
class _Keyframe:
    grey: Image
    corners: Array
    aim: Aim
    #: (N, 2) how far the corners were last found from where the aim moves them.
    offsets: Array


class BackgroundFollower:
    """Measure the turn and the zoom of the camera in a stream of frames.

    Attributes:
        turns: rotation vector (3,) from the first camera frame, of each frame, radians; NaN where it is unknown.
        zooms: focal length of each frame relative to the first.
        parallax: share of the followed corners that turn and zoom explain, of each frame; NaN where none is followed.
    """

    def __init__(self, settings: FollowerSettings) -> None:
        self._settings = settings
        self._keys: list[_Keyframe] = []
        self._key: _Keyframe | None = None
        self._aim = Aim(np.eye(3), 1.0)
        self._missed = 0
        self.turns: list[Array] = []
        self.zooms: list[float] = []
        self.parallax: list[float] = []

    def add(self, image: Image, people: Floats) -> None:
        """Add the next frame.

        Args:
            image: (H, W, 3) RGB, of reduced size.
            people: (N, 4) boxes of people, ``x1 y1 x2 y2`` as shares of the width and height.
        """
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        free = background_mask(grey, people)
        if self._key is not None and self._key.grey.shape != grey.shape:
            self._keys, self._key = [], None
        if self._key is None:
            self._start(grey, free)
        aim, share, followed = self._locate(grey, free)
        self.parallax.append(share)
        self.turns.append(cv2.Rodrigues(self._aim.turn if aim is None else aim.turn)[0].ravel())
        self.zooms.append(self._aim.zoom if aim is None else aim.zoom)
        if aim is None:
            self.turns[-1] = np.full(3, np.nan)
            self._missed += 1
            if self._missed > self._settings.patience:
                # Another scene: nothing from before is in the picture.
                self._keys, self._missed = [], 0
                self._start(grey, free)
            return
        self._aim, self._missed = aim, 0
        self._change_key(grey, free, followed)

    def _start(self, grey: Image, free: Image) -> None:
        corners = corners_of(grey, free)
        self._key = _Keyframe(grey, corners, self._aim, np.zeros_like(corners))
        self._keys.append(self._key)

    def _locate(self, grey: Image, free: Image) -> tuple[Aim | None, float, float]:
        """Return the aim of a frame, None if unknown; the parallax in degrees; and the share of corners followed."""
        key, least = self._key, self._settings.min_corners
        assert key is not None
        if len(key.corners) < least:
            return None, np.nan, 0.0
        guess = moved(key.corners, key.aim, self._aim, grey.shape) + key.offsets
        found, seen = _follow(key.grey, grey, key.corners, guess)
        at = np.floor(found).astype(int)
        seen &= ((at >= 0) & (at < (grey.shape[1], grey.shape[0]))).all(axis=1)
        seen[seen] = free[at[seen, 1], at[seen, 0]] > 0
        if seen.sum() < least:
            return None, np.nan, float(seen.mean())
        aim, apart = fitted_aim(key.corners[seen], found[seen], key.aim, self._aim, grey.shape)
        near = apart < self._settings.near_px
        if near.sum() < least:
            return None, np.nan, float(seen.mean())
        # A corner that moves in another way counts if it looks the same.
        others = np.flatnonzero(seen)[~near]
        alike = np.array([_alike(key.grey, key.corners[i], grey, found[i]) for i in others], dtype=bool)
        seen[others] = alike
        key.offsets[seen] = found[seen] - moved(key.corners[seen], key.aim, aim, grey.shape)
        key.offsets[others[~alike]] = 0
        apart = np.concatenate([apart[near], apart[~near][alike]])
        parallax = np.percentile(apart, 100 * self._settings.parallax_quantile)
        degrees = float(np.degrees(parallax / (np.hypot(*grey.shape) * aim.zoom)))
        return aim, degrees, float(seen.mean())

    def _change_key(self, grey: Image, free: Image, followed: float) -> None:
        """Go on from another keyframe if the camera has left the present one behind."""
        assert self._key is not None
        if followed >= self._settings.min_followed and self._distance(self._key.aim, grey.shape) < 1:
            return
        nearest = min(self._keys, key=lambda key: self._distance(key.aim, grey.shape))
        if nearest is not self._key and self._distance(nearest.aim, grey.shape) < 0.5:
            self._key = nearest
        else:
            self._start(grey, free)

    def _distance(self, aim: Aim, shape: tuple[int, ...]) -> float:
        """How far the camera is from another aim, relative to what a keyframe allows."""
        centre = np.array([[shape[1] / 2, shape[0] / 2]])
        shift = np.linalg.norm(moved(centre, aim, self._aim, shape) - centre) / max(shape[:2])
        ratio = abs(np.log(self._aim.zoom / aim.zoom)) / np.log(self._settings.max_ratio)
        return float(max(shift / self._settings.max_shift, ratio))


def corners_of(grey: Image, free: Image) -> Floats:
    """Return (N, 2) pixels of corners in the free part of a picture, a few in each cell of a grid.

    The strongest corners of a picture often lie on one thing; spread ones show different distances.
    """
    strength = cv2.cornerMinEigenVal(grey, 5)
    peak = (strength == cv2.dilate(strength, _AROUND)) & (strength > _MIN_STRENGTH) & (free > 0)
    y, x = np.nonzero(peak)
    order = np.argsort(-strength[y, x], kind="stable")
    y, x = y[order], x[order]
    cell = y // _CELL_PX * (grey.shape[1] // _CELL_PX + 1) + x // _CELL_PX
    taken: dict[int, int] = {}
    chosen = []
    for index, number in enumerate(cell.tolist()):
        taken[number] = taken.get(number, 0) + 1
        if taken[number] <= _IN_CELL:
            chosen.append(index)
    return np.stack([x[chosen], y[chosen]], axis=1).astype(np.float32)


def _follow(before: Image, after: Image, points: Array, guess: Array) -> tuple[Floats, Bools]:
    """Return where (N, 2) points of one picture are in another one near a guess, and which of them were found."""
    if not len(points):
        return np.zeros((0, 2), np.float32), np.zeros(0, dtype=bool)
    start = np.ascontiguousarray(guess, dtype=np.float32)[:, None]
    found, status, unlike = cv2.calcOpticalFlowPyrLK(
        before,
        after,
        np.ascontiguousarray(points, dtype=np.float32)[:, None],
        start.copy(),
        winSize=_WINDOW_PX,
        maxLevel=_PYRAMID_LEVELS,
        criteria=_STOP,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    jump = np.linalg.norm(found - start, axis=2)[:, 0]
    return found[:, 0], (status[:, 0] > 0) & (unlike[:, 0] < _UNLIKE) & (jump < _MAX_JUMP_PX)


def _alike(first: Image, one: Array, second: Image, other: Array) -> bool:
    """Return whether two pictures look the same around a point (2,) of each, but for brightness and contrast."""
    a, b = (
        cv2.getRectSubPix(picture, _WINDOW_PX, (float(at[0]), float(at[1]))).astype(np.float64)
        for picture, at in ((first, one), (second, other))
    )
    a, b = a - a.mean(), b - b.mean()
    return bool((a * b).sum() > _ALIKE * np.sqrt(np.square(a).sum() * np.square(b).sum()))


def background_mask(grey: Image, people: Floats) -> Image:
    """Return an (H, W) mask, 255 where the background is likely: not in the middle of people's boxes, nor at edges.

    The outer parts of a box hold arms for moments only, and much of the background where a dancer fills the picture.
    Black bars at the sides, and the edges that they make, do not count as background.

    Args:
        grey: (H, W) the picture.
        people: (N, 4) boxes as shares of its width and height.
    """
    mask = np.zeros(grey.shape, np.uint8)
    rows, columns = (np.flatnonzero(grey.max(axis=axis) > _BLACK) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return mask
    edge = _EDGE_PX
    mask[rows[0] + edge : max(rows[-1] + 1 - edge, 0), columns[0] + edge : max(columns[-1] + 1 - edge, 0)] = 255
    centres, sides = (people[:, :2] + people[:, 2:]) / 2, people[:, 2:] - people[:, :2]
    size = np.array([grey.shape[1], grey.shape[0]])
    low, high = (((centres + sign * sides * _BODY / 2) * size).clip(0) for sign in (-1, 1))
    for (x1, y1), (x2, y2) in zip(np.floor(low).astype(int), np.ceil(high).astype(int), strict=True):
        mask[y1:y2, x1:x2] = 0
    return mask


def homography(before: Aim, after: Aim, width: float, height: float) -> Array:
    """Return the (3, 3) matrix that maps pixels of a frame to those of another frame of the same camera."""
    focal, centre = np.hypot(width, height), (width / 2, height / 2)
    first, second = (
        np.array([[focal * aim.zoom, 0, centre[0]], [0, focal * aim.zoom, centre[1]], [0, 0, 1]])
        for aim in (before, after)
    )
    return second @ after.turn @ before.turn.T @ np.linalg.inv(first)


def moved(points: Array, before: Aim, after: Aim, shape: tuple[int, ...]) -> Array:
    """Map (N, 2) points of a frame of ``shape`` (H, W) to another frame."""
    there = np.column_stack([points, np.ones(len(points))]) @ homography(before, after, shape[1], shape[0]).T
    return there[:, :2] / there[:, 2:]


def fitted_aim(
    points: Array, found: Array, before: Aim, guess: Aim, shape: tuple[int, ...]
) -> tuple[Aim, Array]:
    """Compute the aim that moves most points of a frame to where they were found in another one.

    The solution is a robust least-squares fit: iteratively reweighted Gauss-Newton steps, absolute distances first, then
    Tukey's weights.

    Args:
        points: (N, 2) pixels.
        found: (N, 2) the same points in the other frame.
        before: aim of the first frame.
        guess: aim of the other frame, approximately.
        shape: (H, W) of both.

    Returns:
        The aim, and the (N,) distances of the points from where it moves them, pixels.
    """
    centre, focal = np.array([shape[1] / 2, shape[0] / 2]), float(np.hypot(shape[1], shape[0]))
    rays = np.column_stack([(points - centre) / (focal * before.zoom), np.ones(len(points))]) @ before.turn
    turn, zoom = guess.turn, guess.zoom
    target = (found - centre).T
    rows = np.empty((2, 4, len(points)))
    for iteration in range(_ITERATIONS + 1):
        there = turn @ rays.T
        x, y = flat = there[:2] / there[2]
        miss = target - focal * zoom * flat
        apart = np.hypot(miss[0], miss[1])
        if iteration == _ITERATIONS:
            break
        if iteration < 2:
            weight = 1 / np.maximum(apart, _NOISE_PX)
        else:
            reach = 4.7 * max(1.4826 * float(np.median(apart)), _NOISE_PX)
            weight = np.square(1 - np.square(np.minimum(apart / reach, 1)))
        # How far a point moves in the picture for a small turn around each axis, and for a zoom.
        rows[0] = -x * y, 1 + x * x, -y, x
        rows[1] = -1 - y * y, x * y, x, y
        flat_rows = rows.transpose(1, 0, 2).reshape(4, -1) * (focal * zoom)
        weighted = flat_rows * np.concatenate([weight, weight])
        normal = weighted @ flat_rows.T
        normal[np.diag_indices(4)] += 1e-6 * np.trace(normal)
        step = np.linalg.solve(normal, weighted @ miss.ravel())
        turn = cv2.Rodrigues(step[:3])[0] @ turn
        zoom *= float(np.exp(step[3].clip(-0.5, 0.5)))
    return Aim(turn, zoom), apart
