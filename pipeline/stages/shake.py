"""How the camera moves: the shift of the picture's background from frame to frame."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from opendance_hf.pipeline.backends.base import Image

_SIDE_PX: Final = 128
#: How sharp the peak must be. Measured on two real videos: frames of one and of the other stay below in 95 of 100
#: pairs (median 0.08), neighbouring frames moved by an eighth of the picture are above in 95 of 100 (0.50).
_MIN_RESPONSE: Final = 0.2
#: Of a picture's grey levels, their standard deviation; a black frame has none.
_MIN_CONTRAST: Final = 2.0


class CameraMotion:
    """Measures the shift between frames that are shown to it one after another."""

    def __init__(self) -> None:
        self._last: npt.NDArray[np.float32] | None = None
        self._window: npt.NDArray[np.float32] | None = None
        self.shifts: list[float] = []

    def see(self, image: Image) -> None:
        """Look at the next frame, (H, W, 3) RGB; adds a shift in picture heights (0 for the first)."""
        height, width = image.shape[:2]
        shrink = _SIDE_PX / max(height, width)
        size = max(2, round(width * shrink)), max(2, round(height * shrink))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
        shift = 0.0
        if self._last is not None and self._last.shape == grey.shape and self._window is not None:
            # The peak is the shift that most of the picture shares: the background's, dancers being the smaller part.
            (x, y), response = cv2.phaseCorrelate(self._last, grey, self._window)
            # A black frame or a flash has no shift to speak of; the peak found in it is anywhere.
            if response >= _MIN_RESPONSE and min(self._last.std(), grey.std()) >= _MIN_CONTRAST:
                shift = float(np.hypot(x, y)) / grey.shape[0]
        else:
            self._window = cv2.createHanningWindow(size, cv2.CV_32F).astype(np.float32)
        self._last = grey
        self.shifts.append(shift)


def camera_speed(times_s: npt.NDArray[np.float64], shifts: npt.NDArray[np.floating]) -> float:
    """Mean shift a second, picture heights, over the frames of one shot (whose first shift is that of the cut)."""
    if len(times_s) < 2:
        return 0.0
    return float(np.sum(shifts[1:]) / (times_s[-1] - times_s[0]))
