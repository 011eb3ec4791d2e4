"""Cut a video into shots (PySceneDetect, paper section 3.1), and measure the camera motion in each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.metadata import version
from itertools import pairwise
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from opendance_hf.pipeline.clip import CameraMotion, Clip, Image
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
    """

    name = "shots"
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

    def __call__(self, clip: Clip) -> list[Clip]:
        """Process a whole video; return one clip per shot. The last one has an infinite end."""
        cuts, camera = CutFinder(self.cut_threshold, self.min_shot_s), ShiftMeter(self)
        times: list[float] = []
        for picture in read_pictures(clip.path):
            clip.job.report(picture.time_s / max(clip.video.duration_s, 1e-3))
            times.append(picture.time_s)
            cuts.add(picture.time_s, picture.small)
            camera.add(picture.small)
        motion = CameraMotion(
            np.asarray(times, dtype=np.float64), np.asarray(camera.shifts, dtype=np.float64)
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


class CutFinder:
    """Find cuts in a stream of frames."""

    def __init__(self, threshold: float, min_shot_s: float) -> None:
        from scenedetect import ContentDetector

        # PySceneDetect's own reader is not used: its clock starts at the first frame, which may be later than the sound.
        self._detector = ContentDetector(threshold, min_scene_len=min_shot_s)
        self.found_s: set[float] = set()

    def add(self, time_s: float, image: Image) -> None:
        """Add the next frame, (H, W, 3) RGB, of reduced size."""
        from scenedetect import FrameTimecode
        from scenedetect.common import Timecode

        # The rate only affects frame numbers, which are not used.
        clock = FrameTimecode(Timecode(round(time_s / _TICK), _TICK), fps=30.0)
        self.found_s.update(cut.seconds for cut in self._detector.process_frame(clock, image[..., ::-1]))


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
