"""What a detector, a tracker and a pose estimator are to the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class Picture(Protocol):
    """A frame of a video; :class:`opendance_hf.pipeline.stages.decode.Picture` is the real one."""

    @property
    def time_s(self) -> float:
        """When it is shown, seconds of the source."""
        ...

    @property
    def small(self) -> Image:
        """(H, W, 3) RGB, just large enough to compare pictures."""
        ...

    def rgb(self) -> Image:
        """(H, W, 3) RGB, upright."""
        ...


@dataclass(frozen=True)
class Region:
    """A square of the image, possibly turned: centre and side in pixels, rotation in radians (clockwise)."""

    cx: float
    cy: float
    size: float
    rotation: float = 0.0


@dataclass(frozen=True)
class Keypoints:
    """One person in one frame, as the 33 BlazePose landmarks (names in :mod:`.blazepose`).

    Attributes:
        image: (33, 2) pixels in the source frame.
        world: (33, 3) metres relative to the mid hip, x right, y up, z towards the camera.
        visibility: (33,) probability that the landmark is in the frame and not hidden.
        score: probability that the region holds a person.
        region: the region this person would be best seen in, from the estimate itself.
    """

    image: Floats
    world: Floats
    visibility: Floats
    score: float
    region: Region


class Detector(Protocol):
    """Finds people in a frame."""

    name: str
    version: str

    def detect(self, image: Image) -> Floats:
        """(H, W, 3) RGB image to (N, 5) boxes ``x1 y1 x2 y2 score`` in pixels."""
        ...


class Tracker(Protocol):
    """Links boxes over the frames of one shot; a fresh instance for every shot."""

    name: str
    version: str

    def update(self, boxes: Floats) -> npt.NDArray[np.int64]:
        """(N, 5) boxes of the next frame to (N,) track numbers; -1 for a box that no track has claimed."""
        ...


class PoseEstimator(Protocol):
    """Estimates one person's 2D and 3D landmarks inside a region."""

    name: str
    version: str

    def estimate(self, image: Image, region: Region, mirrored: bool = False) -> Keypoints:
        """(H, W, 3) RGB image and the region that holds one person to that person's landmarks.

        ``mirrored``: look at it in a mirror; the answer is turned back. It errs the other way in depth.
        """
        ...
