"""Make small odd and damaged media files, for the cases and for the tests."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt

RATE: Final = 44_100
FPS: Final = 20
Matrix = tuple[float, float, float, float]


def song(seconds: float, rate: int = RATE, level: float = 0.5) -> npt.NDArray[np.float32]:
    """Return a chord with a beat at 120 beats per minute, (samples,)."""
    time = np.arange(round(seconds * rate)) / rate
    chord = sum(np.sin(2 * np.pi * hertz * time) for hertz in (220.0, 277.2, 329.6))
    return (level / 3 * chord * (0.2 + 0.8 * np.exp(-8 * (time % 0.5)))).astype(np.float32)


def picture(height: int = 64, width: int = 96, level: int = 128) -> npt.NDArray[np.uint8]:
    """Return an image (H, W, 3) that looks different in each orientation: red left, blue right, green top."""
    image = np.full((height, width, 3), level, np.uint8)
    image[:, : width // 4] = 220, 30, 30
    image[:, -width // 4 :] = 30, 30, 220
    image[: height // 4] = 30, 220, 30
    return image


def pictures(count: int, height: int = 64, width: int = 96) -> list[npt.NDArray[np.uint8]]:
    """Return images whose centre changes from frame to frame."""
    return [picture(height, width, 60 + 3 * (number % 40)) for number in range(count)]


def write_media(
    path: Path,
    images: Sequence[npt.NDArray[np.uint8]] = (),
    sound: npt.NDArray[np.floating] | None = None,
    *,
    times_s: Sequence[float] | None = None,
    codecs: tuple[str, str] = ("libx264", "aac"),
    layout: str = "",
    options: dict[str, Any] | None = None,
) -> Path:
    """Write a media file.

    Args:
        path: its suffix is the container.
        images: (H, W, 3) RGB.
        sound: (samples,) or (channels, samples) at 44,100 Hz, full scale 1.
        times_s: presentation time of each image, 20 per second by default.
        codecs: of the images and the sound.
        layout: channel layout; mono or stereo by default.
        options: ``pixel_aspect`` (Fraction), ``start_s`` (video and sound), ``sound_start_s``, ``gop`` (frames),
            ``format`` and ``container`` (options of the muxer).
    """
    given = options or {}
    with av.open(str(path), "w", format=given.get("format"), options=given.get("container")) as out:
        video: Any = (
            out.add_stream(codecs[0], rate=FPS, options={"g": str(given.get("gop", 250))})
            if len(images)
            else None
        )
        channels = None if sound is None else np.atleast_2d(sound)
        audio: Any = None
        rate = 48_000 if codecs[1] == "libopus" else RATE  # Opus has no other
        if channels is not None:
            audio = out.add_stream(
                codecs[1], rate=rate, layout=layout or ("mono", "stereo")[len(channels) - 1]
            )
        if video is not None:
            video.height, video.width = images[0].shape[:2]
            video.pix_fmt = "rgb24" if codecs[0] == "png" else "yuv420p"
            video.codec_context.time_base = _tick(times_s)
            if aspect := given.get("pixel_aspect"):
                video.codec_context.sample_aspect_ratio = aspect
        packets = _video_packets(video, images, times_s, given.get("start_s", 0.0))
        packets += _sound_packets(
            audio, channels, given.get("start_s", 0.0) + given.get("sound_start_s", 0.0)
        )
        for packet in sorted(packets, key=_stamp_s):
            out.mux(packet)
    return path


def _stamp_s(packet: Any) -> float:
    return float((packet.pts if packet.dts is None else packet.dts) * packet.time_base)


def _tick(times_s: Sequence[float] | None) -> Fraction:
    """Return the unit of the time stamps, from which raw H.264 states its frame rate."""
    return Fraction(1, FPS) if times_s is None else Fraction(1, 1000)


def _video_packets(video: Any, images: Any, times_s: Any, start_s: float) -> list[Any]:
    packets: list[Any] = []
    for number, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        time_s = number / FPS if times_s is None else times_s[number]
        frame.time_base = _tick(times_s)
        frame.pts = round((start_s + time_s) / frame.time_base)
        packets += video.encode(frame)
    return packets + (video.encode(None) if video is not None else [])


def _sound_packets(audio: Any, channels: Any, start_s: float) -> list[Any]:
    if audio is None:
        return []
    context = audio.codec_context
    context.open(strict=False)
    resampler = av.AudioResampler(
        context.format.name, rate=context.rate, frame_size=context.frame_size or None
    )
    packets: list[Any] = []
    for first in range(0, channels.shape[1], 1024):
        packed = np.ascontiguousarray(channels[:, first : first + 1024].T, np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=audio.codec_context.layout.name)
        frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), round(start_s * RATE) + first
        for piece in resampler.resample(frame):
            packets += audio.encode(piece)
    for piece in resampler.resample(None):
        packets += audio.encode(piece)
    return packets + audio.encode(None)


def set_matrix(path: Path, matrix: Matrix) -> Path:
    """Write a display matrix (a, b, c, d) into the header of the video track of an MP4: x' = ax + cy, y' = bx + dy."""
    a, b, c, d = (round(0x10000 * value) for value in matrix)
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd")
    while at >= 0:
        # Version 0: the matrix is 44 bytes after the name; width and height follow it, and are 0 in a track of sound.
        if struct.unpack_from(">I", data, at + 80)[0]:
            struct.pack_into(">9i", data, at + 44, a, b, 0, c, d, 0, 0, 0, 0x40000000)
        at = data.find(b"tkhd", at + 4)
    path.write_bytes(data)
    return path


def damage(path: Path, kind: str, number: int, share: float = 1.0) -> Path:
    """Overwrite the last ``share`` of a packet of the first ``video`` or ``audio`` stream with ones."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(**{kind: 0}) if packet.size]  # type: ignore[arg-type]
        position, size = packets[number].pos, packets[number].size
    assert position is not None
    data = bytearray(path.read_bytes())
    first = position + round(size * (1 - share))
    data[first : position + size] = b"\xff" * (position + size - first)
    path.write_bytes(data)
    return path


def merge(path: Path, *parts: Path) -> Path:
    """Write the streams of several files, in their order, into one file."""
    packets: list[Any] = []
    with ExitStack() as stack:
        out = stack.enter_context(av.open(str(path), "w"))
        for part in parts:
            source = stack.enter_context(av.open(str(part)))
            targets = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
            for packet in source.demux():
                if packet.size:
                    packet.stream = targets[packet.stream_index]
                    packets.append(packet)
        for packet in sorted(packets, key=_stamp_s):
            out.mux(packet)
    return path


def join(path: Path, *parts: Path) -> Path:
    """Write the bytes of files one after the other."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path
