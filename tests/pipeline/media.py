"""Small video files for tests, made on the spot: no media lie in the repository."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 44_100


def write_clip(path: Path, seconds: float = 4.4, fps: int = 10, *, sound: bool = True) -> Path:
    """Two coloured blocks that drift over a dark stage to a steady tone: a video, but nobody is in it."""
    width, height = 320, 240
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono") if sound else None
        for number in range(round(seconds * fps)):
            picture = np.full((height, width, 3), 20, np.uint8)
            x = 40 + 2 * number
            picture[60:140, x : x + 60] = (200, 80, 40)
            picture[160:200, width - 60 - x : width - x] = (10, 90, 220)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        if audio is not None:
            tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)
            for start in range(0, len(tone), 1024):
                frame = av.AudioFrame.from_ndarray(
                    tone[None, start : start + 1024], format="fltp", layout="mono"
                )
                frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def trim(source: Path, target: Path, seconds: float) -> Path:
    """The first seconds of a video, its packets copied as they are."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        streams = {
            stream.index: new.add_stream_from_template(stream)
            for stream in (*old.streams.video, *old.streams.audio)
        }
        for packet in old.demux(*(old.streams[index] for index in streams)):
            if packet.dts is None or packet.dts * packet.time_base >= seconds:
                continue
            packet.stream = streams[packet.stream.index]
            new.mux(packet)
    return target
