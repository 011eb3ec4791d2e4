"""Follow the background of a video, and compute from it how its camera turns and zooms.

Corners of the background are followed from keyframes (Lucas-Kanade), so errors do not add up from frame to frame. A camera
that turns around its centre and zooms moves all of them by K' R inv(K), whatever their distance. If it travels, near
and far corners move apart, and this motion explains only a part of them.

Camera frames have x to the right, y down and z away from the camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from opendance_hf.pipeline.clip import CameraPath, Floats, Image

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
#: Parallax is this quantile of the distances of the corners from where turn and zoom move them.
_PARALLAX_QUANTILE: Final = 0.75
#: A keyframe is replaced if a smaller share of its corners is followed, if the middle of the picture has moved by this share
#: of the longer side, or if the focal length has changed by this ratio.
_MIN_FOLLOWED, _MAX_SHIFT, _MAX_RATIO = 0.5, 0.2, 1.08
#: Number of frames that are not understood after which everything from before is forgotten.
_PATIENCE: Final = 5


@dataclass(frozen=True)
class Aim:
    """Hold how a camera is turned and zoomed.

    Attributes:
        turn: (3, 3) rotation from the camera frame of the reference frame to its own.
        focal: focal length, relative to the diagonal of the picture.
    """

    turn: Array
    focal: float


@dataclass
class _Keyframe:
    grey: Image
    corners: Array
    aim: Aim
    #: (N, 2) how far the corners were last found from where the aim moves them.
    offsets: Array


class BackgroundFollower:
    """Measure the turn and the zoom of the camera in a stream of frames; the first one is the reference.

    Args:
        focal_ratio: focal length of that frame, relative to the diagonal of the picture. A wrong one makes turns look as if
            the camera travelled a little.
        near_px: distance from where turn and zoom move a corner up to which they explain its motion, pixels.
        min_corners: smallest number of such corners that show how the camera moves.
    """

    def __init__(self, focal_ratio: float = 1.0, near_px: float = 1.0, min_corners: int = 12) -> None:
        self._focal_ratio, self._near_px, self._min_corners = focal_ratio, near_px, min_corners
        self._keys: list[_Keyframe] = []
        self._key: _Keyframe | None = None
        self._aim = Aim(np.eye(3), focal_ratio)
        self._missed = self._unseen = self._part = 0
        self._rows: list[tuple[float, Array, float, float, int]] = []

    def path(self) -> CameraPath:
        """Return the path of the camera over the frames so far."""
        times, turns, zooms, parallax, parts = zip(*self._rows, strict=True) if self._rows else ((),) * 5
        return CameraPath(
            np.asarray(times, dtype=np.float64),
            np.asarray(turns, dtype=np.float64).reshape(-1, 3),
            np.asarray(zooms, dtype=np.float64),
            np.asarray(parallax, dtype=np.float64),
            np.asarray(parts, dtype=np.int64),
            self._focal_ratio,
        )

    def restart(self) -> None:
        """Forget everything, as after a cut: the next frame is the reference of those after it."""
        self._keys, self._key, self._missed, self._unseen = [], None, 0, 0
        self._aim = Aim(np.eye(3), self._focal_ratio)
        self._part += 1

    def add(self, time_s: float, image: Image, people: Floats) -> None:
        """Add the next frame.

        Args:
            time_s: its time.
            image: (H, W, 3) RGB, of reduced size.
            people: (N, 4) boxes of people, ``x1 y1 x2 y2`` as shares of the width and height.
        """
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        free = background_mask(grey, people)
        if self._key is not None and self._key.grey.shape != grey.shape:
            self.restart()
        if self._key is None:
            self._start(grey, free)
        aim, parallax, followed = self._locate(grey, free)
        if aim is None:
            self._rows.append(
                (time_s, np.full(3, np.nan), self._aim.focal / self._focal_ratio, parallax, self._part)
            )
            self._missed += 1
            self._unseen = self._unseen + 1 if np.isnan(parallax) else 0
            if self._unseen > _PATIENCE:
                # Nothing from before is in the picture, and how the camera has turned meanwhile is not known.
                self.restart()
                self._start(grey, free)
            elif self._missed > _PATIENCE:
                # Corners move in another way than a turn and a zoom move them. The last aim is the best guess.
                self._keys, self._missed = [], 0
                self._start(grey, free)
            return
        turn = np.asarray(cv2.Rodrigues(aim.turn)[0], dtype=np.float64).ravel()
        self._rows.append((time_s, turn, aim.focal / self._focal_ratio, parallax, self._part))
        self._aim, self._missed, self._unseen = aim, 0, 0
        self._change_key(grey, free, followed)

    def _start(self, grey: Image, free: Image) -> None:
        corners = corners_of(grey, free)
        self._key = _Keyframe(grey, corners, self._aim, np.zeros_like(corners))
        self._keys.append(self._key)

    def _locate(self, grey: Image, free: Image) -> tuple[Aim | None, float, float]:
        """Return the aim of a frame, None if unknown; the parallax in degrees; and the share of corners followed."""
        key, least = self._key, self._min_corners
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
        near = apart < self._near_px
        # A corner that moves in another way counts if it looks the same.
        others = np.flatnonzero(seen)[~near]
        alike = np.array([_alike(key.grey, key.corners[i], grey, found[i]) for i in others], dtype=bool)
        apart = np.concatenate([apart[near], apart[~near][alike]])
        if len(apart) < least:
            return None, np.nan, float(seen.mean())
        parallax = np.quantile(apart, _PARALLAX_QUANTILE) / (np.hypot(*grey.shape) * aim.focal)
        if near.sum() < least:
            return None, float(np.degrees(parallax)), float(seen.mean())
        seen[others] = alike
        key.offsets[seen] = found[seen] - moved(key.corners[seen], key.aim, aim, grey.shape)
        key.offsets[others[~alike]] = 0
        return aim, float(np.degrees(parallax)), float(seen.mean())

    def _change_key(self, grey: Image, free: Image, followed: float) -> None:
        """Go on from another keyframe if the camera has left the present one behind."""
        assert self._key is not None
        if followed >= _MIN_FOLLOWED and self._distance(self._key.aim, grey.shape) < 1:
            return
        nearest = min(self._keys, key=lambda key: self._distance(key.aim, grey.shape))
        if nearest is not self._key and self._distance(nearest.aim, grey.shape) < 0.5:
            self._key = nearest
        else:
            self._start(grey, free)

    def _distance(self, aim: Aim, shape: tuple[int, ...]) -> float:
        """Return how far the camera is from another aim, relative to what a keyframe allows."""
        centre = np.array([[shape[1] / 2, shape[0] / 2]])
        shift = np.linalg.norm(moved(centre, aim, self._aim, shape) - centre) / max(shape[:2])
        ratio = abs(np.log(self._aim.focal / aim.focal)) / np.log(_MAX_RATIO)
        return float(max(shift / _MAX_SHIFT, ratio))


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
    good = (status[:, 0] > 0) & (unlike[:, 0] < _UNLIKE) & (jump < _MAX_JUMP_PX)
    return np.asarray(found[:, 0], dtype=np.float32), good


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
    mask[rows[0] + edge : max(rows[-1] + 1 - edge, 0), columns[0] + edge : max(columns[-1] + 1 - edge, 0)] = (
        255
    )
    centres, sides = (people[:, :2] + people[:, 2:]) / 2, people[:, 2:] - people[:, :2]
    size = np.array([grey.shape[1], grey.shape[0]])
    low, high = (((centres + sign * sides * _BODY / 2) * size).clip(0) for sign in (-1, 1))
    for (x1, y1), (x2, y2) in zip(np.floor(low).astype(int), np.ceil(high).astype(int), strict=True):
        mask[y1:y2, x1:x2] = 0
    return mask


def homography(before: Aim, after: Aim, width: float, height: float) -> Array:
    """Return the (3, 3) matrix that maps pixels of a frame to those of another frame of the same camera."""
    diagonal, centre = np.hypot(width, height), (width / 2, height / 2)
    first, second = (
        np.array([[diagonal * aim.focal, 0, centre[0]], [0, diagonal * aim.focal, centre[1]], [0, 0, 1]])
        for aim in (before, after)
    )
    return second @ after.turn @ before.turn.T @ np.linalg.inv(first)


def moved(points: Array, before: Aim, after: Aim, shape: tuple[int, ...]) -> Array:
    """Map (N, 2) points of a frame of ``shape`` (H, W) to another frame."""
    there = np.column_stack([points, np.ones(len(points))]) @ homography(before, after, shape[1], shape[0]).T
    return there[:, :2] / there[:, 2:]


def steady_picture(image: Image, path: CameraPath, time_s: float) -> Image:
    """Return the picture (H, W, 3) of a time as the camera of the reference frame shows it, black where it saw nothing."""
    at = int(np.abs(path.times_s - time_s).argmin())
    turn = np.asarray(cv2.Rodrigues(path.turns[at])[0], dtype=np.float64)
    height, width = image.shape[:2]
    reference = Aim(np.eye(3), path.focal_ratio)
    matrix = homography(Aim(turn, path.focal_ratio * float(path.zooms[at])), reference, width, height)
    return np.asarray(cv2.warpPerspective(image, matrix, (width, height)), dtype=np.uint8)


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
    centre, diagonal = np.array([shape[1] / 2, shape[0] / 2]), float(np.hypot(shape[1], shape[0]))
    rays = (
        np.column_stack([(points - centre) / (diagonal * before.focal), np.ones(len(points))]) @ before.turn
    )
    turn, focal = guess.turn, guess.focal
    target = (found - centre).T
    rows = np.empty((2, 4, len(points)))
    for iteration in range(_ITERATIONS + 1):
        there = turn @ rays.T
        x, y = flat = there[:2] / there[2]
        miss = target - diagonal * focal * flat
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
        flat_rows = rows.transpose(1, 0, 2).reshape(4, -1) * (diagonal * focal)
        weighted = flat_rows * np.concatenate([weight, weight])
        normal = weighted @ flat_rows.T
        normal[np.diag_indices(4)] += 1e-6 * np.trace(normal)
        step = np.linalg.solve(normal, weighted @ miss.ravel())
        turn = cv2.Rodrigues(step[:3])[0] @ turn
        focal *= float(np.exp(step[3].clip(-0.5, 0.5)))
    return Aim(turn, focal), apart
