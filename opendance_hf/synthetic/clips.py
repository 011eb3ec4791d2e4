"""Whole clips: choreography, music, figures, room and camera of one seed, as an MP4 file and its exact truth."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.render.video import VideoWriter
from opendance_hf.schema import Camera
from opendance_hf.synthetic.choreography import Part, Pattern, compose
from opendance_hf.synthetic.figure import Look, dress, random_looks
from opendance_hf.synthetic.motion import TRUTH_JOINTS, Performance, perform
from opendance_hf.synthetic.music import SAMPLE_RATE, Music, make_music
from opendance_hf.synthetic.scene import Room, Stage, random_camera
from opendance_hf.synthetic.score import constant_pose_error

Array = npt.NDArray[np.floating]

#: A take is danced anew until a still pose misses it by this much and this share of it faces away.
MIN_LIVELINESS_M: Final = 0.132
MIN_AWAY: Final = 0.16
_TAKES: Final = 60
_BODY_M: Final = 0.13  # what a body reaches beyond its bones
_SIZES: Final = {1: (480, 854), 2: (854, 480)}


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

    def save(self, path: Path) -> None:
        """Write to an npz file."""
        camera = {f"camera_{key}": np.asarray(value) for key, value in asdict(self.camera).items()}
        own = {f.name: np.asarray(getattr(self, f.name)) for f in fields(self) if f.name != "camera"}
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
                **{key: data[key] for key in ("joints", "facing_rad", "root", "times_s", "beats_s")},
            )


@dataclass(frozen=True)
class Clip:
    """Everything a clip is made of, before it is drawn."""

    name: str
    seed: int
    fps: float
    times_s: Array
    music: Music
    looks: list[Look]
    parts: list[Part]
    patterns: list[tuple[int, int, Pattern]]
    dances: list[Performance]
    stage: Stage


def make_clip(
    seed: int,
    num_dancers: int,
    *,
    duration_s: float = 8.0,
    fps: float = 30.0,
    size: tuple[int, int] | None = None,
) -> Clip:
    """Choreograph a clip; see :func:`render_clip` for the arguments.

    Raises:
        ValueError: for another number of dancers than one or two, or a clip shorter than two beats.
        MissingBodyError: if the package with the body's data is not installed.
    """
    if num_dancers not in _SIZES:
        raise ValueError(f"a clip has one or two dancers, not {num_dancers}")
    music = make_music(seed, duration_s)
    if len(music.beats_s) < 2:
        raise ValueError(f"{duration_s} s are too short to dance")
    rng = np.random.default_rng([seed, num_dancers, 3])
    looks = random_looks(rng, num_dancers)
    figures = [dress(look) for look in looks]
    times_s = np.arange(round(duration_s * fps)) / fps
    best = -1.0
    for take in range(_TAKES):
        parts_, patterns_ = compose(seed * _TAKES + take, num_dancers, len(music.beats_s))
        trial = [
            perform(part, figure.body, music.beats_s, times_s)
            for part, figure in zip(parts_, figures, strict=True)
        ]
        lively = min(constant_pose_error(dance.joints()) for dance in trial)
        away = min(float((np.cos(dance.facing_rad) < 0).mean()) for dance in trial)
        good = min(lively / MIN_LIVELINESS_M, 1.0) + min(away / MIN_AWAY, 1.0)
        if good > best:
            best, parts, patterns, dances = good, parts_, patterns_, trial
        if good >= 2.0:
            break
    width_px, height_px = size or _SIZES[num_dancers]
    points = np.concatenate([dance.positions.reshape(-1, 3) for dance in dances])
    reach = np.concatenate([points - _BODY_M, points + _BODY_M])
    camera = random_camera(rng, reach, width_px, height_px)
    stage = Stage(camera, Room.random(rng), figures, rng)
    name = f"{'solo' if num_dancers == 1 else 'duo'}_{seed:03d}"
    return Clip(name, seed, fps, times_s, music, looks, parts, patterns, dances, stage)


def render_clip(
    seed: int,
    num_dancers: int,
    folder: Path,
    *,
    duration_s: float = 8.0,
    fps: float = 30.0,
    size: tuple[int, int] | None = None,
) -> Path:
    """Write ``folder/videos/NAME.mp4``, with sound, and ``folder/truth/NAME.truth.npz``.

    The truth lies apart, so that ``folder/videos`` can be handed to a pipeline as it is.

    Args:
        seed: of everything: music, steps, bodies, clothes, room, camera.
        num_dancers: one or two.
        folder: made if need be.
        duration_s: length of the clip.
        fps: frames per second.
        size: width and height in pixels; by default upright for one dancer, wide for two.

    Returns:
        The path of the video; :func:`truth_path` gives that of its truth.

    Raises:
        ValueError: for another number of dancers than one or two, or a clip shorter than two beats.
        MissingBodyError: if the package with the body's data is not installed.
    """
    clip = make_clip(seed, num_dancers, duration_s=duration_s, fps=fps, size=size)
    video = folder / "videos" / f"{clip.name}.mp4"
    for path in (video, truth_path(video)):
        path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(video, fps, audio=clip.music.samples, sample_rate=SAMPLE_RATE, crf=20) as writer:
        for frame in range(len(clip.times_s)):
            writer.write(clip.stage.draw(pose_of(clip, frame)))
    truth_of(clip, hashlib.sha256(video.read_bytes()).hexdigest()).save(truth_path(video))
    return video


def truth_path(video: Path) -> Path:
    """Where :func:`render_clip` puts the truth of a video."""
    return video.parent.parent / "truth" / f"{video.stem}.truth.npz"


def pose_of(clip: Clip, frame: int) -> list[tuple[Any, Any]]:
    """Rotations and positions of every dancer's bones in one frame, as :meth:`Stage.draw` takes them."""
    return [(dance.rotations[frame], dance.positions[frame]) for dance in clip.dances]


def truth_of(clip: Clip, video_sha256: str = "") -> Truth:
    """The truth of a clip."""
    return Truth(
        name=clip.name,
        seed=clip.seed,
        fps=clip.fps,
        names=tuple(TRUTH_JOINTS),
        joints=np.stack([dance.joints() for dance in clip.dances]),
        facing_rad=np.stack([dance.facing_rad for dance in clip.dances]),
        root=np.stack([dance.root() for dance in clip.dances]),
        times_s=clip.times_s,
        beats_s=clip.music.beats_s,
        camera=clip.stage.camera,
        video_sha256=video_sha256,
    )
