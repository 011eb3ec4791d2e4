"""Track people with ByteTrack (Zhang et al. 2022, paper reference 32) from the ``trackers`` package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import numpy.typing as npt

from opendance_hf.pipeline.backends.base import Backend
from opendance_hf.pipeline.clip import Floats


@dataclass(frozen=True)
class ByteTrack(Backend):
    """Link boxes by motion, first those with high scores, then those with low ones.

    Args:
        lost_track_frames: number of frames without a box, at 30 per second, after which a track ends.
        activation_score: minimum score of the box that starts a track.
        high_score: minimum score of the boxes that are linked first.
        min_iou: minimum overlap of a box with the predicted box of its track.
        min_consecutive_frames: number of frames after which a track is valid.
    """

    name = "bytetrack"
    slow_imports = ("supervision", "trackers")

    lost_track_frames: int = 30
    activation_score: float = 0.7
    high_score: float = 0.6
    min_iou: float = 0.1
    min_consecutive_frames: int = 2

    @property
    def version(self) -> str:
        """Version of the ``trackers`` package."""
        return version("trackers")

    def load(self) -> Callable[[float], _ByteTrack]:
        """Return a function from a shot's frame rate to a new tracker; the rate scales ``lost_track_frames``."""
        return lambda rate_hz: _ByteTrack(self, rate_hz)


class _ByteTrack:
    def __init__(self, settings: ByteTrack, rate_hz: float) -> None:
        from trackers import ByteTrackTracker

        self._tracker = ByteTrackTracker(
            lost_track_buffer=settings.lost_track_frames,
            frame_rate=rate_hz or 30.0,
            track_activation_threshold=settings.activation_score,
            minimum_consecutive_frames=settings.min_consecutive_frames,
            minimum_iou_threshold=settings.min_iou,
            high_conf_det_threshold=settings.high_score,
        )

    def update(self, boxes: Floats) -> npt.NDArray[np.int64]:
        """Link the boxes of the next frame, see :class:`~opendance_hf.pipeline.backends.base.Tracker`."""
        import supervision

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
