"""ByteTrack (Zhang et al. 2022, paper reference 32) from the ``trackers`` package."""

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
    """Links boxes by motion; strong boxes first, then weak ones.

    Args:
        lost_track_frames: a track that is not found for this many frames, at 30 a second, is forgotten.
        activation_score: a new track starts with a box of at least this score.
        high_score: boxes of at least this score are linked first.
        min_iou: a box must overlap the predicted box of its track by this much.
        min_consecutive_frames: a track counts after this many frames.
    """

    name = "bytetrack"

    lost_track_frames: int = 30
    activation_score: float = 0.7
    high_score: float = 0.6
    min_iou: float = 0.1
    min_consecutive_frames: int = 2

    @property
    def version(self) -> str:
        """See :class:`Backend`."""
        return version("trackers")

    def load(self) -> Callable[[float], _ByteTrack]:
        """Return what starts a tracker for one shot, given the rate of its frames: tracks are forgotten after a time."""
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
        """See :class:`~opendance_hf.pipeline.backends.base.Tracker`."""
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
