"""Small video files made on the spot."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 16000
_TICK = Fraction(1, 1000)


def flat(levels: np.ndarray | list[float], height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Grey pictures, one for each level."""
    return [np.full((height, width, 3), level, np.uint8) for level in levels]


def write_clip(
    path: Path,
    pictures: list[np.ndarray],
    times_s: np.ndarray | list[float] | None = None,
    *,
    sound_s: tuple[float, float] | None = None,
    codec: str = "mpeg4",
) -> Path:
    """Pictures shown at the given times (default: 20 a second), with a tone between two times of the same clock."""
    times = np.arange(len(pictures)) / 20 if times_s is None else times_s
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=20)
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = _TICK
        audio = container.add_stream("pcm_s16le", rate=RATE, layout="mono") if sound_s else None
        for picture, time_s in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time_s * 1000), _TICK
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None and sound_s is not None:
            start_s, end_s = sound_s
            tone = (9000 * np.sin(np.arange(round((end_s - start_s) * RATE)) / 8)).astype(np.int16)
            for offset in range(0, len(tone), 1024):
                piece = av.AudioFrame.from_ndarray(tone[None, offset : offset + 1024], "s16", "mono")
                piece.sample_rate = RATE
                piece.pts, piece.time_base = round(start_s * RATE) + offset, Fraction(1, RATE)
                container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
    return path


def turn(path: Path, clockwise_deg: int) -> Path:
    """Write into an mp4's track header that players are to show the pictures turned."""
    matrix = {
        90: (0, 1, -1, 0),
        180: (-1, 0, 0, -1),
        270: (0, -1, 1, 0),
    }[clockwise_deg]
    a, b, c, d = (0x10000 * value for value in matrix)
    data = bytearray(path.read_bytes())
    header = data.index(b"tkhd")
    # Version and flags, then version 0's times, track, duration (20 bytes), then 16 bytes before the matrix.
    assert data[header + 4] == 0
    struct.pack_into(">9i", data, header + 8 + 20 + 16, a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(data)
    return path
