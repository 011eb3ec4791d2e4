"""MP4 files: H.264 pictures at an exact constant rate, with AAC sound if there is any."""

from __future__ import annotations

import contextlib
import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final

import av
import numpy as np
import numpy.typing as npt

from opendance_hf.files import partial_path

#: Sample rates the AAC encoder takes; other sound is resampled to the last one.
_AAC_RATES: Final = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_AUDIO_BLOCK: Final = 1024
_FINE: Final = Fraction(1, 90_000)


class VideoWriter:
    """Writes RGB pictures into an MP4 that browsers play at once (H.264, yuv420p, index in front).

    The file appears under its name only when it is complete; after an error nothing is left. The same input
    gives the same bytes with the same FFmpeg. Use it as a context manager:

        with VideoWriter("dance.mp4", fps=30, audio=samples, sample_rate=44_100) as video:
            for picture in pictures:
                video.write(picture)

    Args:
        path: where to write; an existing file is replaced at the end.
        fps: pictures per second; NTSC rates as ``Fraction(30_000, 1_001)``.
        audio: (N,) mono float samples in [-1, 1], or None. Sound beyond the last picture is cut.
        sample_rate: of ``audio``, Hz.
        crf: H.264 quality, 0 (lossless) to 51.
        preset: x264's: a faster one makes larger files.

    Raises:
        ValueError: on a rate that is not positive, sound that is not one finite channel, pictures that are not
            (H, W, 3) uint8 or change size, or a file closed without pictures.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fps: float | Fraction = 30,
        *,
        audio: npt.NDArray[np.floating] | None = None,
        sample_rate: int = 44_100,
        crf: int = 23,
        preset: str = "veryfast",
    ) -> None:
        if fps <= 0 or sample_rate <= 0:
            raise ValueError(f"fps and sample_rate must be positive, got {fps} and {sample_rate}")
        if audio is not None and (audio.ndim != 1 or not np.isfinite(audio).all()):
            raise ValueError(f"audio must be one channel (N,) of finite samples, got shape {audio.shape}")
        self.path = Path(path)
        self.fps = Fraction(fps).limit_denominator(1_001)
        self.num_frames = 0
        self._audio = None if audio is None or not len(audio) else np.clip(audio, -1, 1).astype(np.float32)
        self._sample_rate = sample_rate
        self._sent = 0
        self._shape: tuple[int, ...] | None = None
        self._temporary = partial_path(self.path)
        # The temporary name does not end in .mp4, so the format is said; bitexact keeps versions and dates out.
        self._container = av.open(
            str(self._temporary),
            "w",
            format="mp4",
            container_options={"movflags": "+faststart", "fflags": "+bitexact"},
        )
        # A fixed number of threads: x264's output depends on it.
        options = {"crf": str(crf), "preset": preset, "threads": "2"}
        self._video = self._container.add_stream("libx264", rate=self.fps, options=options)
        self._video.pix_fmt = "yuv420p"
        self._sound: av.AudioStream | None = None
        if self._audio is not None:
            rate = sample_rate if sample_rate in _AAC_RATES else _AAC_RATES[-1]
            self._sound = self._container.add_stream("aac", rate=rate)
            self._sound.layout = "mono"
            self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, picture: npt.NDArray[np.uint8], at_s: float | None = None) -> None:
        """Add one picture (H, W, 3) RGB. Odd sizes gain a copy of their last row or column: H.264 wants even ones.

        Args:
            picture: of the same size as the ones before.
            at_s: when it is shown, for videos of a variable rate; said of every picture or of none.
        """
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ValueError(f"a picture must be (H, W, 3) uint8, got {picture.shape} {picture.dtype}")
        if self._shape is None:
            self._shape = picture.shape
            self._video.height, self._video.width = (side + side % 2 for side in picture.shape[:2])
            if at_s is not None:
                self._video.codec_context.time_base = _FINE
        if picture.shape != self._shape:
            raise ValueError(f"picture {self.num_frames} is {picture.shape}, the ones before {self._shape}")
        height, width = picture.shape[:2]
        if height % 2 or width % 2:
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts = self.num_frames if at_s is None else round(at_s / _FINE)
        frame.time_base = 1 / self.fps if at_s is None else _FINE
        self._container.mux(self._video.encode(frame))
        self.num_frames += 1
        self._send_audio(self.num_frames / self.fps if at_s is None else at_s + 1 / self.fps)

    def close(self) -> None:
        """Finish the file and give it its name."""
        try:
            if not self.num_frames:
                raise ValueError(f"{self.path.name}: a video needs at least one picture")
            self._container.mux(self._video.encode(None))
            if self._sound is not None:
                for part in self._resampler.resample(None):
                    self._container.mux(self._sound.encode(part))
                self._container.mux(self._sound.encode(None))
            self._container.close()
            os.replace(self._temporary, self.path)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Give up and leave no file behind."""
        # A container that never got its header cannot be closed properly; the file goes anyway.
        with contextlib.suppress(Exception):
            self._container.close()
        self._temporary.unlink(missing_ok=True)

    def _send_audio(self, end_s: float | Fraction) -> None:
        """Encode the sound up to the end of the last picture, so that both streams interleave."""
        if self._audio is None or self._sound is None:
            return
        until = min(int(end_s * self._sample_rate), len(self._audio))
        while self._sent < until:
            block = self._audio[None, self._sent : min(self._sent + _AUDIO_BLOCK, until)]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout="mono")
            frame.sample_rate = self._sample_rate
            frame.pts = self._sent
            frame.time_base = Fraction(1, self._sample_rate)
            for part in self._resampler.resample(frame):
                self._container.mux(self._sound.encode(part))
            self._sent += block.shape[1]
