"""Cut a video into shots (PySceneDetect, paper section 3.1), and measure how the camera moves in each."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.metadata import version
from itertools import pairwise
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from opendance_hf.pipeline.background import BackgroundFollower
from opendance_hf.pipeline.clip import CameraMotion, Clip, Detections, Floats, Image, VideoInfo
from opendance_hf.pipeline.stage import Stage
from opendance_hf.pipeline.video import read_pictures

_TICK: Final = Fraction(1, 1_000_000)


@dataclass(frozen=True)
class Shots(Stage):
    """Split a video at its cuts.

    Args:
        cut_threshold: mean change of hue, saturation and brightness between two frames that counts as a cut (0 to 255).
        min_shot_s: minimum duration of a shot; closer cuts are merged.
        camera_side_px: longer side of the reduced images in which camera motion is measured.
        camera_min_response: minimum response of the phase correlation for a shift to count. Measured on two real videos:
            95 of 100 pairs of one frame from each video are below 0.2 (median 0.08), and 95 of 100 pairs of neighbouring
            frames, shifted by an eighth of the image, are above (median 0.50).
        camera_min_contrast: standard deviation of grey levels below which no shift is measured (a black frame).
        path_rate_hz: largest number of frames per second in which turn and zoom of the camera are measured.
        path_near_px: distance from where turn and zoom move a corner of the background up to which they explain its motion,
            in pixels of pictures of 256 pixels.
        path_min_corners: smallest number of such corners that show how the camera moves.
        person_score: minimum score of a box whose middle does not count as background.
    """

    name = "shots"
    version = 4
    reads = ("video", "detections")
    writes = ("camera_motion",)
    changes = ("detections",)
    libraries = ("scenedetect",)
    runs_while_loading = True

    cut_threshold: float = 27.0
    min_shot_s: float = 0.5
    camera_side_px: int = 128
    camera_min_response: float = 0.2
    camera_min_contrast: float = 2.0
    path_rate_hz: float = 30.0
    path_near_px: float = 1.0
    path_min_corners: int = 12
    person_score: float = 0.2

    def __call__(self, clip: Clip) -> list[Clip]:
        """Process a whole video; return one clip per shot. The last one has an infinite end."""
        cuts, camera = CutFinder(self.cut_threshold, self.min_shot_s), ShiftMeter(self)
        focal_ratio = clip.video.assumed_focal_px / clip.video.diagonal_px
        background = BackgroundFollower(focal_ratio, self.path_near_px, self.path_min_corners)
        people = _People(clip.detections, clip.video, self.person_score)
        times: list[float] = []
        measured_s = -math.inf
        for picture in read_pictures(clip.path):
            clip.job.report(picture.time_s / max(clip.video.duration_s, 1e-3))
            times.append(picture.time_s)
            if cuts.add(picture.time_s, picture.small):
                background.restart()
            camera.add(picture.small)
            if picture.time_s - measured_s > 0.9 / self.path_rate_hz:
                background.add(picture.time_s, picture.small, people.around(picture.time_s))
                measured_s = picture.time_s
        motion = CameraMotion(
            np.asarray(times, dtype=np.float64),
            np.asarray(camera.shifts, dtype=np.float64),
            background.path(),
        )
        edges = [0.0, *sorted(cut for cut in cuts.found_s if cut > 0), float("inf")]
        return [
            replace(
                clip,
                start_s=start_s,
                end_s=end_s,
                camera_motion=motion.between(start_s, end_s),
                detections=clip.detections.between(start_s, end_s),
            )
            for start_s, end_s in pairwise(edges)
        ]

    def provenance(self) -> tuple[tuple[str, str, str], ...]:
        """Return the version of PySceneDetect, see :meth:`Stage.provenance`."""
        return ((self.name, "scenedetect-content", version("scenedetect")),)


class _People:
    """Hold the boxes of people, as shares of the picture's width and height."""

    def __init__(self, detections: Detections, video: VideoInfo, min_score: float) -> None:
        size = np.array([video.width_px, video.height_px] * 2, dtype=np.float32)
        self._times_s = detections.times_s
        self._boxes: list[Floats] = [
            boxes[boxes[:, 4] >= min_score, :4] / size for boxes in detections.by_frame()[0]
        ]

    def around(self, time_s: float) -> Floats:
        """Return the (N, 4) boxes of the frames before and after a time."""
        after = int(np.searchsorted(self._times_s, time_s + 1e-6))
        near = self._boxes[max(after - 1, 0) : after + 1]
        return np.concatenate([np.zeros((0, 4), np.float32), *near])


class CutFinder:
    """Find cuts in a stream of frames."""

    def __init__(self, threshold: float, min_shot_s: float) -> None:
        from scenedetect import ContentDetector

        # PySceneDetect's own reader is not used: its clock starts at the first frame, which may be later than the sound.
        self._detector = ContentDetector(threshold, min_scene_len=min_shot_s)
        self.found_s: set[float] = set()

    def add(self, time_s: float, image: Image) -> bool:
        """Add the next frame, (H, W, 3) RGB, of reduced size; return whether a cut was found."""
        from scenedetect import FrameTimecode
        from scenedetect.common import Timecode

        # The rate only affects frame numbers, which are not used.
        clock = FrameTimecode(Timecode(round(time_s / _TICK), _TICK), fps=30.0)
        found_s = {cut.seconds for cut in self._detector.process_frame(clock, image[..., ::-1])}
        self.found_s |= found_s
        return bool(found_s)


class ShiftMeter:
    """Measure the shift of the background between the frames of a stream."""

    def __init__(self, limits: Shots) -> None:
        self._limits = limits
        self._last: npt.NDArray[np.float32] | None = None
        self._window: npt.NDArray[np.float32] | None = None
        self.shifts: list[float] = []

    def add(self, image: Image) -> None:
        """Add the next frame, (H, W, 3) RGB, and append its shift in image heights (0 for the first)."""
        height, width = image.shape[:2]
        shrink = self._limits.camera_side_px / max(height, width)
        size = max(2, round(width * shrink)), max(2, round(height * shrink))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
        shift = 0.0
        if self._last is not None and self._last.shape == grey.shape and self._window is not None:
            # The peak is the shift of the largest part of the image, the background: dancers cover less of it.
            (x, y), response = cv2.phaseCorrelate(self._last, grey, self._window)
            contrast = min(self._last.std(), grey.std())
            # Across a black frame or a flash the peak is arbitrary, so no shift is measured.
            if response >= self._limits.camera_min_response and contrast >= self._limits.camera_min_contrast:
                shift = float(np.hypot(x, y)) / grey.shape[0]
        else:
            self._window = cv2.createHanningWindow(size, cv2.CV_32F).astype(np.float32)
        self._last = grey
        self.shifts.append(shift)
