"""Cut the part of a video that belongs to a dance, in a form that every browser plays."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Final

from opendance_hf.errors import OpenDanceError
from opendance_hf.pipeline.stage import Rejected
from opendance_hf.pipeline.video import read_pictures
from opendance_hf.render.video import VideoWriter

#: Largest video in a page, bytes before base64: about four minutes.
MAX_VIDEO_BYTES: Final = 24 * 1024**2
#: Longer side of its pictures, pixels.
_SIDE_PX: Final = 640
#: Pictures a second; more are left out.
_FPS: Final = 30
_CRF: Final = 28


class StageVideoError(OpenDanceError, ValueError):
    """Raised if a video cannot be shown beside a dance; the message has the file, the cause and the remedy."""


def video_part(path: Path, start_s: float, seconds: float) -> bytes:
    """Return an MP4 (H.264, no sound, at most 640 pixels and 30 pictures a second) of a part of a video.

    Args:
        path: the video; its codec need not be one that browsers play.
        start_s: where the part begins, on the clock of its sound.
        seconds: length of the part; a shorter video ends with its last picture.

    Raises:
        StageVideoError: if it has no pictures there, cannot be decoded, or is longer than :data:`MAX_VIDEO_BYTES`.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "part.mp4")
        try:
            _write_part(path, start_s, seconds, out)
        except Rejected as error:
            raise StageVideoError(f"{path}: {error}") from None
        except (OSError, ValueError) as error:
            raise StageVideoError(
                f"{path}: cannot be shown from {start_s:g} s on ({error}); see --video-start"
            ) from None
        size = out.stat().st_size
        if size > MAX_VIDEO_BYTES:
            raise StageVideoError(
                f"{path}: {size / 1024**2:.0f} MiB of pictures, a page holds {MAX_VIDEO_BYTES // 1024**2}: show a shorter dance"
            )
        return out.read_bytes()


def _write_part(path: Path, start_s: float, seconds: float, out: Path) -> None:
    due = 0.0
    with VideoWriter(out, Fraction(_FPS), crf=_CRF) as writer:
        for picture in read_pictures(path, start_s, start_s + seconds):
            at = max(picture.time_s - start_s, 0.0)
            if at < due - 0.25 / _FPS:
                continue
            due = (int(at * _FPS + 0.25) + 1) / _FPS
            writer.write(picture.rgb(_SIDE_PX), at)
