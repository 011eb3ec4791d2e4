"""A video of a dance with its sound."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.body import forward_kinematics
from opendance_hf.render.avatar import AvatarRenderer
from opendance_hf.render.camera import frame_dancers
from opendance_hf.render.video import VideoWriter
from opendance_hf.schema import FPS

_VIDEO_FPS: Final = 30
_SIZE_PX: Final = (640, 640)


def film(
    path: Path,
    poses: npt.NDArray[np.floating],
    transl: npt.NDArray[np.floating],
    rest_offsets: npt.NDArray[np.floating],
    sound: npt.NDArray[np.float32],
    sample_rate: int,
) -> None:
    """Write a video of dancers as :func:`opendance_hf.motion.generated.posed` returns them, 60 FPS, with sound (samples,)."""
    joints = np.stack(
        [forward_kinematics(*dancer) for dancer in zip(poses, transl, rest_offsets, strict=True)]
    )
    renderer = AvatarRenderer(frame_dancers(joints, *_SIZE_PX), rest_offsets)
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, _VIDEO_FPS, audio=sound, sample_rate=sample_rate) as video:
        for frame in range(0, poses.shape[1], FPS // _VIDEO_FPS):
            video.write(renderer.draw(poses[:, frame], transl[:, frame]))
