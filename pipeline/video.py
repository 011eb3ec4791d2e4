"""Read the size, rate and duration of a source video, and its frames with their presentation times."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Final

import av
import av.error
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from opendance_hf.music import clock_origin, open_media
from opendance_hf.pipeline.clip import Image, VideoInfo
from opendance_hf.pipeline.stage import Rejected

#: Longer side of the images that are compared to find cuts, as in PySceneDetect.
_SMALL_PX: Final = 256
_IMAGE_FORMATS: Final = ("image2", "png_pipe", "jpeg_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe", "gif_pipe")


def probe(path: Path, max_side_px: int = 8192, max_duration_s: float = 3600.0) -> VideoInfo:
    """Read the properties of a video from its container, and decode its first frame.

    Raises:
        Rejected: if the file is empty, not a video, a still image, larger than ``max_side_px`` or longer than
            ``max_duration_s``.
    """
    if path.stat().st_size == 0:
        raise Rejected("the file is empty (0 bytes)")
    try:
        with _open(path) as container:
            stream = _video_stream(container)
            if stream is None:
                kind = "audio only" if container.streams.audio else "no video stream"
                raise Rejected(f"not a video: {kind}")
            duration_s = _duration(container, stream)
            if container.format.name in _IMAGE_FORMATS or stream.frames == 1 or duration_s <= 0:
                raise Rejected("a still image, not a video")
            if duration_s > max_duration_s:
                raise Rejected(f"{duration_s:.0f} s long; the limit is {max_duration_s:.0f} s")
            if max(stream.width, stream.height) > max_side_px:
                raise Rejected(f"{stream.width} x {stream.height} pixels; the limit is {max_side_px}")
            first = next(container.decode(stream))
            rotated = first.rotation % 180 != 0
            return VideoInfo(
                width_px=first.height if rotated else first.width,
                height_px=first.width if rotated else first.height,
                fps=float(stream.average_rate or stream.guessed_rate or 0),
                duration_s=duration_s,
                has_audio=bool(container.streams.audio),
            )
    except StopIteration:
        raise Rejected("the video has no decodable frame") from None
    except av.error.FFmpegError as error:
        raise Rejected(
            f"not a readable video: damaged, cut off, or another kind of file ({error.strerror or error}); "
            "check that it plays"
        ) from None


def _open(path: Path) -> av.container.InputContainer:
    return open_media(path)


def _video_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """Return the first video stream that is not an album cover; None if there is none."""
    streams = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
    return next(streams, None)


def _duration(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """Return the seconds from the clock's origin to the end of the stream, or the file's duration if it has none."""
    if stream.duration and stream.time_base:
        end_s = float(((stream.start_time or 0) + stream.duration) * stream.time_base)
        return end_s - clock_origin(container)
    return float(container.duration or 0) / av.time_base


class Picture:
    """One decoded frame and its presentation time, converted to RGB on request.

    Convert frames in the thread that reads the video: all frames of a size share one converter.
    """

    def __init__(
        self, time_s: float, frame: av.VideoFrame, converters: dict[int | None, VideoReformatter]
    ) -> None:
        self.time_s = time_s
        self._frame, self._converters = frame, converters

    def rgb(self, side_px: int | None = None) -> Image:
        """Convert to (H, W, 3) RGB, upright.

        Args:
            side_px: longer side of the result, rounded so that both sides are even; None for the original size.
        """
        frame = self._frame
        width, height = frame.width, frame.height
        if side_px is not None:
            scale = side_px / max(width, height) / 2
            width, height = 2 * max(1, round(width * scale)), 2 * max(1, round(height * scale))
        converted = self._converters.setdefault(side_px, VideoReformatter()).reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation="AREA" if width < frame.width else "BILINEAR",
        )
        image = np.asarray(converted.to_ndarray(), dtype=np.uint8)
        turns = round(frame.rotation / 90) % 4  # counterclockwise, as rot90 counts them
        return np.ascontiguousarray(np.rot90(image, turns)) if turns else image

    @cached_property
    def small(self) -> Image:
        """(H, W, 3) RGB at the reduced size used to compare frames."""
        return self.rgb(_SMALL_PX)


def read_frames(
    path: Path, start_s: float = 0.0, end_s: float = float("inf")
) -> Iterator[tuple[float, Image]]:
    """Yield frames as (time in seconds, (H, W, 3) RGB), upright; see :func:`read_pictures`."""
    return ((picture.time_s, picture.rgb()) for picture in read_pictures(path, start_s, end_s))


def read_pictures(path: Path, start_s: float = 0.0, end_s: float = float("inf")) -> Iterator[Picture]:
    """Yield the frames with start_s <= time < end_s, in order of time.

    Times are presentation times on the clock shared with the sound (:func:`opendance_hf.music.clock_origin`), so variable
    frame rates are supported. A frame whose time is not later than the previous one's is skipped. Decoding ends without an
    error at the first damaged packet.

    Raises:
        Rejected: if the image size changes.
    """
    converters: dict[int | None, VideoReformatter] = {}
    with _open(path) as container:
        stream = _video_stream(container)
        if stream is None:
            return
        stream.thread_type = "AUTO"
        origin_s = clock_origin(container)
        last_s = -float("inf")
        size: tuple[int, int] | None = None
        frames = container.decode(stream)
        while True:
            try:
                frame = next(frames)
            except (StopIteration, av.error.FFmpegError):
                return
            if frame.time is None:
                continue
            time_s = frame.time - origin_s
            if time_s <= last_s or time_s < start_s - 1e-6:
                continue
            if time_s >= end_s - 1e-6:
                return
            last_s = time_s
            size = size or (frame.width, frame.height)
            if (frame.width, frame.height) != size:
                raise Rejected(
                    f"the image size changes from {size[0]} x {size[1]} to {frame.width} x {frame.height} pixels at "
                    f"{time_s:.1f} s; split the file there"
                )
            yield Picture(time_s, frame, converters)
