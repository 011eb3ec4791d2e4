"""Small valid media of many containers and codecs, for the campaigns that damage them."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np

from opendance_hf.music import decode_audio
from opendance_hf.pipeline.video import read_pictures

RATE: Final = 44_100
#: Name of a file, video codec, pixel format and audio codec; an empty codec leaves the stream out.
CONTAINERS: Final = (
    ("a.mp4", "libx264", "yuv420p", "aac"),
    ("b.mkv", "ffv1", "yuv420p", "flac"),
    ("c.avi", "mpeg4", "yuv420p", "mp3"),
    ("d.ts", "mpeg2video", "yuv420p", "mp2"),
    ("e.flv", "flv1", "yuv420p", "mp3"),
    ("f.mov", "mjpeg", "yuvj420p", "pcm_s16le"),
    ("g.gif", "gif", "rgb8", ""),
)
SOUNDS: Final = (
    ("h.wav", "", "", "pcm_s16le"),
    ("i.mp3", "", "", "mp3"),
    ("j.ogg", "", "", "flac"),
    ("k.flac", "", "", "flac"),
    ("l.m4a", "", "", "aac"),
)


def pictures(
    seconds: float, fps: int, size: tuple[int, int], source: Path | None = None, start_s: float = 0.0
) -> list[np.ndarray]:
    """Return (H, W, 3) pictures of a video from a time on, or of two blocks that drift if there is no video."""
    width, height = size
    times = np.arange(round(seconds * fps)) / fps
    found: list[np.ndarray] = []
    if source is not None:
        for picture in read_pictures(source, start_s, start_s + seconds):
            if len(found) < len(times) and picture.time_s - start_s >= times[len(found)] - 1e-6:
                frame = av.VideoFrame.from_ndarray(picture.rgb(), format="rgb24")
                found.append(frame.reformat(width=width, height=height).to_ndarray())
        return found
    for number in range(len(times)):
        image = np.full((height, width, 3), 20, np.uint8)
        left = (width // 8 + 2 * number) % (width * 3 // 4)
        image[height // 4 : height // 2, left : left + width // 5] = (200, 80, 40)
        image[height * 2 // 3 :, width - width // 5 - left : width - left] = (10, 90, 220)
        found.append(image)
    return found


def sound(seconds: float, source: Path | None = None, start_s: float = 0.0) -> np.ndarray:
    """Return (samples,) of a video's sound, or a tone that swells if there is no video."""
    if source is not None:
        return decode_audio(source, RATE, start_s, start_s + seconds)
    clock = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * 440 * clock) * (1.2 + np.sin(4 * np.pi * clock)) / 2.2).astype(
        np.float32
    )


def write(
    path: Path, video: str, pix_fmt: str, audio: str, frames: list[np.ndarray], samples: np.ndarray, fps: int
) -> Path:
    """Encode pictures and sound into one file."""
    with av.open(str(path), "w") as out:
        stream = sounds = None
        if video:
            stream = out.add_stream(video, rate=fps)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = pix_fmt
            stream.thread_count = 1  # equal bytes on every machine
            stream.codec_context.time_base = Fraction(1, fps)
        if audio:
            sounds = out.add_stream(audio, rate=RATE, layout="mono")
        if stream is not None:
            for number, image in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, fps)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        if sounds is not None:
            for frame in _fitted(sounds, samples):
                out.mux(sounds.encode(frame))
            out.mux(sounds.encode(None))
    return path


def _fitted(stream: av.AudioStream, samples: np.ndarray) -> Iterator[av.AudioFrame]:
    """Yield frames of the samples in the format and size that an encoder takes."""
    context = stream.codec_context
    fitted = av.AudioResampler(context.format, context.layout, RATE, context.frame_size or 1024)
    for start in range(0, len(samples), 1024):
        piece = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], "flt", "mono")
        piece.sample_rate, piece.pts, piece.time_base = RATE, start, Fraction(1, RATE)
        yield from fitted.resample(piece)
    yield from fitted.resample(None)


def write_containers(
    folder: Path, seconds: float, source: Path | None = None, start_s: float = 0.0, fps: int = 10, size: tuple[int, int] = (96, 64),
    *, sounds: bool = True,
) -> list[Path]:  # fmt: skip
    """Write one small file of each container, cut from a video or of drifting blocks, and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    frames, samples = pictures(seconds, fps, size, source, start_s), sound(seconds, source, start_s)
    return [
        write(folder / name, video, pix_fmt, audio, frames, samples, fps)
        for name, video, pix_fmt, audio in (*CONTAINERS, *(SOUNDS if sounds else ()))
    ]
