"""Read the size, rate and duration of a source video, and its frames with their presentation times."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Final, cast

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.buffer import Buffer
from av.video.reformatter import VideoReformatter

from opendance_hf.music import clock_origin, open_media
from opendance_hf.music.media import (
    Packets,
    audio_stream,
    demux,
    frame_rate,
    read_packets,
    video_stream,
)
from opendance_hf.pipeline.clip import Image, VideoInfo
from opendance_hf.pipeline.stage import Rejected

#: Longer side of the images that are compared to find cuts, as in PySceneDetect.
_SMALL_PX: Final = 256
_IMAGE_FORMATS: Final = ("image2", "png_pipe", "jpeg_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe", "gif_pipe")
#: Tag in which phones state the focal length of a lens with the same view on 35 mm film, in millimetres; its limits; and
#: the diagonal of that film.
_FOCAL_TAG: Final = "com.apple.quicktime.camera.focal_length.35mm_equivalent"
_FOCAL_LIMITS_MM: Final = (8.0, 800.0)
_FULL_FRAME_MM: Final = math.hypot(36.0, 24.0)
#: Widest and narrowest pixel that a video may have; 64:45 and 40:33 are usual.
_MAX_PIXEL_ASPECT: Final = 4
#: Smallest cosine between an axis of the picture and the edge of the screen that it is shown along (10 degrees).
_MIN_ALONG: Final = 0.985
#: Longest time that a frame counts as shown when missing frames are measured.
_LONGEST_FRAME_S: Final = 0.25


def probe(path: Path, max_side_px: int = 8192, max_duration_s: float = 3600.0) -> VideoInfo:
    """Read the properties of a video from its container, and decode its first frame.

    Raises:
        Rejected: if the file is empty, not a video, a still image, larger than ``max_side_px`` or longer than
            ``max_duration_s``.
        ReadError: if its disk fails.
    """
    if path.stat().st_size == 0:
        raise Rejected("the file is empty (0 bytes)")
    try:
        with open_media(path) as container:
            stream = video_stream(container, path)
            if stream is None:
                kind = "audio only" if container.streams.audio else "no video stream"
                raise Rejected(f"not a video: {kind}")
            packets = read_packets(path)
            sound = audio_stream(container)
            for index in (stream.index, *([] if sound is None else [sound.index])):
                if fault := packets[index].clock.fault:
                    raise Rejected(fault)
            duration_s = _duration(container, stream, packets[stream.index])
            if container.format.name in _IMAGE_FORMATS or packets[stream.index].count == 1 or duration_s <= 0:
                raise Rejected("a still image, not a video")
            if duration_s > max_duration_s:
                raise Rejected(f"{duration_s:.0f} s long; the limit is {max_duration_s:.0f} s")
            if max(stream.width, stream.height) > max_side_px:
                raise Rejected(f"{stream.width} x {stream.height} pixels; the limit is {max_side_px}")
            frame = next(_Frames(container, stream).decoded(), None)
            if frame is None:
                raise Rejected("the video has no decodable frame")
            width_px, height_px = View.of(frame, stream).shown_size
            if max(width_px, height_px) > max_side_px:
                raise Rejected(f"{width_px} x {height_px} pixels as shown; the limit is {max_side_px}")
            fps = frame_rate(stream, packets[stream.index])
            focal_px = _stated_focal_px((container.metadata, stream.metadata), width_px, height_px)
            return VideoInfo(width_px, height_px, fps, duration_s, sound is not None, focal_px=focal_px)
    except av.error.FFmpegError as error:
        raise Rejected(
            f"not a readable video: damaged, cut off, or another kind of file ({error.strerror or error}); "
            "check that it plays"
        ) from None


def _stated_focal_px(tags: Iterable[Mapping[str, str]], width_px: int, height_px: int) -> float | None:
    """Return the focal length in pixels from a file's tags; None if it states none, or one that no lens has."""
    for one in tags:
        try:
            stated_mm = float(one[_FOCAL_TAG])
        except (KeyError, ValueError):
            continue
        if _FOCAL_LIMITS_MM[0] <= stated_mm <= _FOCAL_LIMITS_MM[1]:
            return stated_mm / _FULL_FRAME_MM * math.hypot(width_px, height_px)
    return None


def _duration(container: av.container.InputContainer, stream: av.VideoStream, packets: Packets) -> float:
    """Return the seconds from the clock's origin to the end of the last frame, as read: what files state may be wrong."""
    if packets.end_s > packets.start_s:
        return round(packets.end_s - clock_origin(container), 6)
    rate = frame_rate(stream, packets)
    return packets.count / rate if rate else 0.0


@dataclass(frozen=True)
class View:
    """How the decoded frames of a video are shown.

    Attributes:
        width_px: width of the decoded frame.
        height_px: height of the decoded frame.
        pixel_aspect: width of a pixel divided by its height.
        axes: ((a, b), (c, d)) the directions, x right and y down, in which the decoded frame's rows and columns are shown;
            each is 0, 1 or -1.
    """

    width_px: int
    height_px: int
    pixel_aspect: Fraction
    axes: tuple[tuple[int, int], tuple[int, int]]
    #: The pixel aspect in the coded picture, by which changes are found; None if it is not stated there.
    coded_aspect: Fraction | None = None

    @classmethod
    def of(cls, frame: av.VideoFrame, stream: av.VideoStream) -> View:
        """Read the view of a frame.

        Raises:
            Rejected: for pixels more than four times as wide as high, or the other way round; or for a display matrix that
                is not a rotation by 0, 90, 180 or 270 degrees with or without mirroring.
        """
        aspect = stream.sample_aspect_ratio or Fraction(1)
        if not Fraction(1, _MAX_PIXEL_ASPECT) <= aspect <= _MAX_PIXEL_ASPECT:
            raise Rejected(
                f"the file states pixels of {_ratio(aspect)}, expected 1:{_MAX_PIXEL_ASPECT} to "
                f"{_MAX_PIXEL_ASPECT}:1; correct it with: ffmpeg -i FILE -vf setsar=1 -c:a copy REPAIRED.mp4"
            )
        coded = stream.codec_context.sample_aspect_ratio
        return cls(frame.width, frame.height, aspect, _axes(frame), coded)

    @property
    def displayed_width_px(self) -> int:
        """Width of the decoded frame in square pixels; even, unless it is that of the frame."""
        return (
            self.width_px
            if self.pixel_aspect == 1
            else 2 * max(1, round(self.width_px * self.pixel_aspect / 2))
        )

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height in square pixels, upright."""
        size = self.displayed_width_px, self.height_px
        return size if self.axes[0][0] else (size[1], size[0])

    def upright(self, image: Image) -> Image:
        """Rotate and mirror a decoded image (H, W, 3) as it is shown."""
        (a, b), (c, d) = self.axes
        turned = image[::d, ::a] if a else image.transpose(1, 0, 2)[::b, ::c]
        return np.ascontiguousarray(turned)


def _axes(frame: av.VideoFrame) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the directions of a frame's display matrix, see :class:`View`."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return (1, 0), (0, 1)
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(cast(Buffer, data)))
    matrix: npt.NDArray[np.float64] = np.array([[a, b], [c, d]], np.float64)
    lengths = np.hypot(*matrix.T)
    if not lengths.any():  # players ignore a matrix of zeros
        return (1, 0), (0, 1)
    along = matrix / np.maximum(lengths, 1e-9)[:, None]
    axes = np.rint(along).astype(int)
    if abs(np.linalg.det(axes)) != 1 or (np.abs(along * axes).sum(axis=1) < _MIN_ALONG).any():
        angle = np.degrees(np.arctan2(along[0, 1], along[0, 0]))
        raise Rejected(
            f"the display matrix {matrix.tolist()} turns the picture by {angle:.0f} degrees or shears it: expected a "
            "multiple of 90 degrees, mirrored or not; encode the picture as it is to be shown, with: ffmpeg -i FILE OUT.mp4"
        )
    return (int(axes[0, 0]), int(axes[0, 1])), (int(axes[1, 0]), int(axes[1, 1]))


class Picture:
    """One decoded frame and its presentation time, converted to RGB on request.

    Convert frames in the thread that reads the video: all frames of a size share one converter.
    """

    def __init__(
        self,
        time_s: float,
        frame: av.VideoFrame,
        view: View,
        converters: dict[int | None, VideoReformatter],
    ) -> None:
        self.time_s = time_s
        self._frame, self._view, self._converters = frame, view, converters

    def rgb(self, side_px: int | None = None) -> Image:
        """Convert to (H, W, 3) RGB in square pixels, upright, as players show it.

        Args:
            side_px: longer side of the result, rounded so that both sides are even; None for the original size.
        """
        frame, full_width = self._frame, self._view.displayed_width_px
        width, height = full_width, frame.height
        if side_px is not None:
            scale = side_px / max(width, height) / 2
            width, height = 2 * max(1, round(width * scale)), 2 * max(1, round(height * scale))
        converted = self._converters.setdefault(side_px, VideoReformatter()).reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation="AREA" if width < full_width else "BILINEAR",
        )
        image = np.asarray(converted.to_ndarray(), dtype=np.uint8)
        return self._view.upright(image)

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
    frame rates are supported. Frames of a stream without time stamps get times by its rate. A frame whose time is not later
    than the previous one's is skipped, and so is one that the decoder reports as damaged.

    Raises:
        Rejected: if the image size, the shape of the pixels or the orientation changes; or, where the end is reached, if
            most frames after the first one cannot be decoded.
        ReadError: if its disk fails.
    """
    converters: dict[int | None, VideoReformatter] = {}
    with open_media(path) as container:
        stream = video_stream(container, path)
        if stream is None:
            return
        # Not "FRAME": decoders that work on several frames of a damaged file at once give other frames every time.
        stream.thread_type = "SLICE"
        packets = read_packets(path)[stream.index]
        stamped = np.isfinite(packets.start_s)
        origin_s, rate = clock_origin(container), frame_rate(stream, packets)
        frames = _Frames(container, stream)
        last_s = -float("inf")
        view: View | None = None
        for number, frame in enumerate(frames.decoded()):
            time_s = frame.time if stamped or not rate else number / rate
            if time_s is None:
                continue
            time_s -= origin_s if stamped else 0.0
            if time_s <= last_s or time_s < start_s - 1e-6:
                continue
            if time_s >= end_s - 1e-6:
                return
            frames.show(frame, time_s - last_s)
            last_s = time_s
            view = _unchanged(view, View.of(frame, stream), time_s)
            yield Picture(time_s, frame, view, converters)
        if start_s <= 0:
            frames.check()


def _ratio(aspect: Fraction | None) -> str:
    return "square" if aspect is None else f"{aspect.numerator}:{aspect.denominator}"


def _unchanged(before: View | None, view: View, time_s: float) -> View:
    """Return the view of a frame; it must be that of the frames before.

    Raises:
        Rejected: if it is not.
    """
    if before is None or view == before:
        return view
    if (view.width_px, view.height_px) != (before.width_px, before.height_px):
        change = f"image size changes from {before.width_px} x {before.height_px} to {view.width_px} x {view.height_px} pixels"
    elif view.axes == before.axes:
        change = (
            f"shape of the pixels changes from {_ratio(before.coded_aspect)} to {_ratio(view.coded_aspect)}"
        )
    else:
        change = f"orientation changes from {before.axes} to {view.axes}"
    raise Rejected(f"the {change} at {time_s:.1f} s; split the file there")


@dataclass
class _Frames:
    """Frames of a stream; packets that cannot be decoded and frames with damage are skipped, and counted."""

    container: av.container.InputContainer
    stream: av.VideoStream
    _packet_times_s: list[float] = field(default_factory=list)
    _shown: int = 0
    _covered_s: float = 0.0
    _first_s: float = 0.0

    def decoded(self) -> Iterator[av.VideoFrame]:
        """Yield the frames without damage. Damage that FFmpeg cannot read past ends the file."""
        try:
            for packet in demux(self.container, self.stream):
                if packet.size and packet.pts is not None and not packet.is_discard:
                    self._packet_times_s.append(float(packet.pts * packet.time_base))
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    continue
                for frame in frames:
                    if not frame.is_corrupt:
                        yield frame
        except av.error.FFmpegError:
            return

    def show(self, frame: av.VideoFrame, step_s: float) -> None:
        """Count a frame that is shown ``step_s`` after the one before."""
        self._shown += 1
        if self._shown == 1:
            self._first_s = frame.time or 0.0
        else:
            self._covered_s += min(step_s, _LONGEST_FRAME_S)

    def check(self) -> None:
        """Check, at the end of the file, that most frames from the first one on were shown.

        Raises:
            Rejected: if less than half of the frames, and of the time, can be decoded.
        """
        expected = np.array(self._packet_times_s)
        expected = expected[expected >= self._first_s - 1e-6]
        if len(expected) > 2 * self._shown and np.ptp(expected) > 2 * self._covered_s:
            raise Rejected(
                f"the picture is mostly damaged: {self._shown} of {len(expected)} frames can be decoded; use another copy of "
                "the file"
            )
