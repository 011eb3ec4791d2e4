"""Store what really happens in a clip, as the pipeline's results are compared with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from opendance_hf.schema import Camera

Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Truth:
    """What really happens in a clip of D dancers and T frames, in the world frame of :mod:`opendance_hf.schema`.

    Attributes:
        names: of the 14 joints.
        joints: (D, T, 14, 3) metres.
        facing_rad: (D, T) yaw of the hips, 0 towards +z, positive towards the dancer's left.
        root: (D, T, 3) the middle of the hips, metres.
        times_s: (T,) when each frame is shown; ``beats_s`` (K,) the beats of the music.
        video_sha256: of the MP4 file, by which a sequence finds its truth.
        planted: (D, T, 2) whether the left and right foot rest on the floor.
        start_s: when the dance begins, after the title if there is one; ``end_s`` when it ends: what follows is still.
        camera: of the first frame, after the title.
        turns: (T, 3, 3) rotations from the camera frame of the first frame to that of each; None if the camera does not
            move, and in files from before cameras moved.
        zooms: (T,) focal length of each frame relative to the first; None likewise.
    """

    name: str
    seed: int
    fps: float
    names: tuple[str, ...]
    joints: Array
    facing_rad: Array
    root: Array
    times_s: Array
    beats_s: Array
    camera: Camera
    video_sha256: str
    planted: npt.NDArray[np.bool_]
    start_s: float
    end_s: float
    turns: Array | None = None
    zooms: Array | None = None

    def save(self, path: Path) -> None:
        """Write to an npz file."""
        camera = {f"camera_{key}": np.asarray(value) for key, value in asdict(self.camera).items()}
        own = {
            f.name: np.asarray(getattr(self, f.name))
            for f in fields(self)
            if f.name != "camera" and getattr(self, f.name) is not None
        }
        np.savez(path, **own, **camera)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Read what :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as data:
            camera = Camera(
                width_px=int(data["camera_width_px"]),
                height_px=int(data["camera_height_px"]),
                focal_px=float(data["camera_focal_px"]),
                rotation=tuple(data["camera_rotation"].tolist()),
                translation=tuple(data["camera_translation"].tolist()),
            )
            return cls(
                name=str(data["name"]),
                seed=int(data["seed"]),
                fps=float(data["fps"]),
                names=tuple(data["names"].tolist()),
                camera=camera,
                video_sha256=str(data["video_sha256"]),
                start_s=float(data["start_s"]),
                end_s=float(data["end_s"]),
                **{
                    key: data[key]
                    for key in (
                        "joints",
                        "facing_rad",
                        "root",
                        "times_s",
                        "beats_s",
                        "planted",
                        "turns",
                        "zooms",
                    )
                    if key in data
                },
            )


def truth_path(video: Path) -> Path:
    """Where :func:`render_clip` puts the truth of a video."""
    return video.parent.parent / "truth" / f"{video.stem}.truth.npz"
