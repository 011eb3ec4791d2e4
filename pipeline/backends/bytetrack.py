"""ByteTrack (Zhang et al. 2022, paper reference 32) from the ``trackers`` package."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import numpy.typing as npt
import supervision
from trackers import ByteTrackTracker

from opendance_hf.pipeline.backends.base import Floats


class ByteTrack:
    """ByteTrack with its default thresholds; one instance follows one shot.

    Args:
        fps: frame rate of the video: the tracker forgets after a time, not after a number of frames.
    """

    name = "bytetrack"
    version = version("trackers")

    def __init__(self, fps: float = 30.0) -> None:
        self._tracker = ByteTrackTracker(frame_rate=fps or 30.0)

    def update(self, boxes: Floats) -> npt.NDArray[np.int64]:
        """See :class:`~opendance_hf.pipeline.backends.base.Tracker`."""
        tracks = np.full(len(boxes), -1, dtype=np.int64)
        detections = supervision.Detections(
            xyxy=boxes[:, :4].astype(np.float32),
            confidence=boxes[:, 4].astype(np.float32),
            class_id=np.zeros(len(boxes), dtype=int),
            data={"row": np.arange(len(boxes))},
        )
        result = self._tracker.update(detections)
        if len(result) and result.tracker_id is not None:
            tracks[np.asarray(result.data["row"], dtype=int)] = result.tracker_id
        return tracks
