"""Open media files, choose their streams, and check their time stamps by reading all packets without decoding them."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from io import FileIO
from os import PathLike, stat
from typing import TYPE_CHECKING, Any, Final

from opendance_hf.errors import OpenDanceError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

#: Time stamps that go back by more than this are a restart of the clock; less is reordering or jitter.
_RESTART_S: Final = 0.5
#: A stream that pauses for longer than this is refused as two recordings, and not as a long one.
_ABSURD_GAP_S: Final = 6 * 3600.0
# FFmpeg also accepts playlists (hls, dash) and scripts (concat, ffmetadata). Through them, a text file named like a
# video could read other files from disk or network.
_FORMATS: Final = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,h264,hevc,asf,ogg,wav,w64,mp3,aac,ac3,eac3,flac,"
    "aiff,amr,ape,au,caf,dv,gxf,ivf,m4v,mxf,nut,obu,rm,tta,wv,yuv4mpegpipe,gif,"
    "image2,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,gif_pipe"
)


class ReadError(OpenDanceError, OSError):
    """Raised if a disk or share fails while a media file is read, which says nothing about the content of the file."""


@dataclass
class Clock:
    """Follow the time stamps of one stream, in the order of the file, and describe the first impossible step.

    Attributes:
        max_gap_s: longest pause between two packets.
        fault: description of the first impossible step; empty if there was none.
    """

    max_gap_s: float = _ABSURD_GAP_S
    fault: str = ""
    _latest_s: float = -math.inf
    _first_s: float = math.inf
    _tick_s: float = 0.0

    def add(self, packet: Packet[Any]) -> None:
        """Check the time stamp of the next packet of the stream."""
        stamp = packet.pts if packet.dts is None else packet.dts
        if stamp is None or not packet.size or self.fault:
            return
        if not self._tick_s:
            self._tick_s = float(packet.time_base)
        time_s = stamp * self._tick_s
        self._first_s = min(self._first_s, time_s)
        at_s = self._latest_s - self._first_s
        if time_s < self._latest_s - _RESTART_S:
            self.fault = (
                f"the clock restarts after {at_s:.1f} s: time stamps go back by {self._latest_s - time_s:.1f} s, as where "
                "recordings were joined; give each recording as a file of its own"
            )
        elif time_s > self._latest_s + self.max_gap_s and math.isfinite(self._latest_s):
            self.fault = (
                f"time stamps jump ahead by {time_s - self._latest_s:.0f} s after {at_s:.1f} s (at most {self.max_gap_s:.0f} s "
                "allowed), as where recordings were joined; give each recording as a file of its own"
            )
        end_s = time_s + (packet.duration or 0) * self._tick_s
        self._latest_s = max(self._latest_s, time_s if end_s - time_s > self.max_gap_s else end_s)


@dataclass
class Packets:
    """Packets of one stream.

    Attributes:
        count: number of packets.
        start_s: earliest presentation time, seconds on the file's clock; infinite without time stamps.
        end_s: end of the last packet, seconds on the file's clock; minus infinity without time stamps.
        clock: check of the time stamps.
    """

    count: int = 0
    start_s: float = math.inf
    end_s: float = -math.inf
    clock: Clock = field(default_factory=Clock)

    def add(self, packet: Packet[Any], frame_s: float) -> None:
        """Count a packet; ``frame_s`` is its duration if the file does not state one."""
        self.clock.add(packet)
        if not packet.size or packet.is_discard:
            return
        self.count += 1
        if packet.pts is not None:
            time_s = float(packet.pts * packet.time_base)
            self.start_s = min(self.start_s, time_s)
            duration_s = float(packet.duration * packet.time_base) if packet.duration else frame_s
            self.end_s = max(self.end_s, time_s + duration_s)


@contextmanager
def open_media(path: str | PathLike[str], *, sound_only: bool = False) -> Iterator[InputContainer]:
    """Open a media file for a ``with`` block; playlists and scripts that refer to other files are refused.

    Python reads the file for FFmpeg, which itself would take an error of the disk for the end or for damage of the file.

    Args:
        path: of the file.
        sound_only: True to decode no picture. FFmpeg decodes the first picture of every video stream when it opens a file,
            whatever its size.

    Raises:
        av.FFmpegError: if the file is not a media file, or damaged.
        ReadError: if its disk fails.
        OSError: if it cannot be opened.
    """
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
    if sound_only:
        options["codec_whitelist"] = _audio_decoders()
    # Not buffered, and not a class of Python: a KeyboardInterrupt raised in a method that FFmpeg calls would be lost.
    with open(str(path), "rb", buffering=0) as file:
        with _disk_errors(file.name):
            container = _opened(file, options)
        with container:
            yield container


def _opened(file: FileIO, options: dict[str, str]) -> InputContainer:
    """Open a file by its Python object; by its name where FFmpeg itself goes on after a place that no file can have."""
    import av

    try:
        # Accept files with broken tags, such as a title that is not UTF-8.
        return av.open(file, "r", metadata_errors="ignore", options=options)
    except av.FFmpegError:
        raise
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # From seek(): a damaged file names a place beyond the limit of the file system, which FFmpeg ignores.
        return av.open(file.name, "r", metadata_errors="ignore", options=options)


@contextmanager
def _disk_errors(path: str) -> Iterator[None]:
    """Raise a ReadError for an error of the disk in the block; errors of FFmpeg pass."""
    import av

    try:
        yield
    except av.FFmpegError:
        raise
    except OSError as error:
        if error.errno == errno.EINVAL:  # not the disk's, see _opened
            raise av.ArgumentError(errno.EINVAL, error.strerror or "", path) from None
        raise ReadError(
            f"{path}: cannot be read ({error.strerror or error}); check its disk or share, and run the same command again"
        ) from error


@lru_cache(maxsize=1)
def _audio_decoders() -> str:
    """Return the names of the audio decoders of this FFmpeg, separated by commas."""
    import av
    from av.codec.codec import UnknownCodecError

    names = []
    for name in sorted(av.codecs_available):
        try:
            codec = av.Codec(name, "r")
        except UnknownCodecError:  # an encoder only
            continue
        if codec.type == "audio":
            names.append(name)
    return ",".join(names)


def clock_origin(container: InputContainer) -> float:
    """Return the timestamp, in seconds, of time 0 of an open file: the earliest start of its streams.

    Audio and video streams count, cover pictures do not. Readers of the frames of the same file must subtract the same
    number from their timestamps.
    """
    starts = [
        float(stream.start_time * stream.time_base)
        for stream in (*container.streams.audio, *_videos(container))
        if stream.start_time is not None and stream.time_base is not None
    ]
    return min(starts, default=0.0)


def read_packets(path: str | PathLike[str]) -> dict[int, Packets]:
    """Read all packets of the audio and video streams of a file, and return what they state by index of the stream.

    Raises:
        av.FFmpegError: if the file cannot be opened. Damage later ends the file.
        ReadError: if its disk fails.
    """
    # Nothing is remembered of files that cannot be read.
    found = stat(path)
    return _read_packets(str(path), found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=256)
def _read_packets(path: str, _mtime_ns: int, _size: int) -> dict[int, Packets]:
    import av

    with open_media(path) as container:
        streams = [*container.streams.audio, *_videos(container)]
        found = {stream.index: Packets() for stream in streams}
        rates = {stream.index: _frame_s(stream) for stream in streams}
        with suppress(av.FFmpegError):
            for packet in demux(container, streams):
                index = packet.stream.index  # stream_index is 0 in the empty packets at the end
                found[index].add(packet, rates[index])
    return found


def demux(container: InputContainer, streams: Stream | Sequence[Stream]) -> Iterator[Packet]:
    """Yield the packets of streams; those of a stream that a transport stream begins later are skipped.

    Raises:
        av.FFmpegError: where the file is so damaged that it ends for FFmpeg.
        ReadError: if its disk fails.
    """
    while True:
        try:
            with _disk_errors(container.name):
                yield from container.demux(streams)
            return
        except (
            IndexError
        ):  # PyAV does not know that stream; the packet is read, and the next call begins after it
            continue


def video_stream(container: InputContainer, path: str | PathLike[str]) -> VideoStream | None:
    """Return the stream that is a video, not a cover or a slide show: of those with most frames the largest picture."""
    streams = _videos(container)
    if len(streams) < 2:
        return streams[0] if streams else None
    packets = read_packets(path)
    most = max(packets[stream.index].count for stream in streams)
    moving = [stream for stream in streams if 2 * packets[stream.index].count >= most]
    return max(moving, key=lambda stream: stream.width * stream.height)


def audio_stream(container: InputContainer) -> AudioStream | None:
    """Return the audio stream that players choose; None if there is none."""
    import av

    stream = container.streams.best("audio")
    return stream if isinstance(stream, av.AudioStream) else None


def frame_rate(stream: VideoStream, packets: Packets) -> float:
    """Return the frame rate that a file states, 0 if none; without time stamps, that of the coded picture."""
    rates = stream.average_rate, stream.guessed_rate
    first, second = rates if math.isfinite(packets.start_s) else rates[::-1]
    return float(first or second or 0)


def _videos(container: InputContainer) -> list[VideoStream]:
    from av.stream import Disposition

    # Without a codec context there is no decoder.
    return [
        s
        for s in container.streams.video
        if s.codec_context is not None and not s.disposition & Disposition.attached_pic
    ]


def _frame_s(stream: Stream) -> float:
    rate = stream.average_rate or stream.guessed_rate if stream.type == "video" else None
    return 1 / float(rate) if rate else 0.0
