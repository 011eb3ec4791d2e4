"""Cases of what is in the picture: half bodies, bystanders and rolled cameras. Rendered where nothing else is said."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from benchmarks.cases import Case
from opendance_hf.music import decode_audio
from opendance_hf.pipeline.clip import Clip, Image, Job
from opendance_hf.pipeline.pipelines import default_pipeline
from opendance_hf.pipeline.stage import Dropped
from opendance_hf.pipeline.video import read_frames
from opendance_hf.render.video import VideoWriter
from opendance_hf.synthetic.clips import make_clip, pose_of, render_clip
from opendance_hf.synthetic.figure import dress, random_looks
from opendance_hf.synthetic.music import SAMPLE_RATE
from opendance_hf.synthetic.scene import Room, Stage

FPS: Final = 15.0
DURATION_S: Final = 5.0


def run_until(path: Path, last: str) -> tuple[list[Clip], list[Dropped]]:
    """Run the default pipeline on a video up to a stage; return its clips and all dropped spans."""
    clips = [Clip(path, "0" * 64, job=Job(path.parent))]
    dropped: list[Dropped] = []
    for stage in default_pipeline():
        results = []
        for clip in clips:
            result = stage(clip)
            results += [result] if isinstance(result, Clip | Dropped) else list(result)
        dropped += [result for result in results if isinstance(result, Dropped)]
        clips = [result for result in results if isinstance(result, Clip)]
        if stage.name == last:
            break
    return clips, dropped


def changed(source: Path, target: Path, change: Callable[[Image], Image], times: int = 1) -> Path:
    """Write a video with every picture changed, played forwards and backwards in turn ``times`` times."""
    frames = list(read_frames(source))
    rate = Fraction(len(frames) - 1) / Fraction(frames[-1][0] - frames[0][0])
    with VideoWriter(target, rate, audio=sound_of(source, times), sample_rate=SAMPLE_RATE) as video:
        for turn in range(times):
            for _, image in frames if turn % 2 == 0 else reversed(frames):
                video.write(change(image))
    return target


def sound_of(source: Path, times: int) -> np.ndarray:
    """Return the sound of a video, or a tone of six seconds for one that is played several times."""
    if times == 1:
        return decode_audio(source, SAMPLE_RATE, 0.0, DURATION_S)
    return 0.3 * np.sin(2 * np.pi * 220 * np.arange(6 * SAMPLE_RATE) / SAMPLE_RATE)


def half_body(folder: Path) -> tuple[str, bool]:
    whole = render_clip(301, 1, folder, duration_s=DURATION_S, fps=FPS)
    cut = changed(whole, folder / "half.mp4", lambda image: image[: round(0.56 * len(image)) // 2 * 2])
    kept, dropped = run_until(cut, "complete")
    of_whole, _ = run_until(whole, "complete")
    text = "; ".join(str(span) for span in dropped) or "taken"
    return f"{text}; the whole video: {len(of_whole)} clip(s)", (
        not kept and "lower body not in the picture" in text and len(of_whole) == 1
    )


def bystander(folder: Path) -> tuple[str, bool]:
    clip = make_clip(302, 2, duration_s=DURATION_S, fps=FPS)
    rng = np.random.default_rng(302)
    looks = [*clip.looks, *random_looks(rng, 1)]
    stage = Stage(clip.stage.camera, Room.random(rng), [dress(look) for look in looks], rng)
    rotations, positions = clip.dances[0].rotations[0], clip.dances[0].positions[0]
    # Between the two dancers and 1.8 m behind them.
    positions = positions - positions[0] * (1, 0, 1) + (0.0, 0.0, -1.8)
    with VideoWriter(folder / "three.mp4", FPS, audio=clip.music.samples, sample_rate=SAMPLE_RATE) as video:
        for frame in range(len(clip.times_s)):
            video.write(stage.draw([*pose_of(clip, frame), (rotations, positions)]))
    clips, dropped = run_until(folder / "three.mp4", "track")
    found = "; ".join(str(span) for span in dropped)
    found = f"{len(clips[0].tracks.boxes)} dancers" if clips else found
    return found, found == "2 dancers"


def rolled_camera(folder: Path) -> tuple[str, bool]:
    level = render_clip(303, 1, folder, duration_s=DURATION_S, fps=FPS)
    roll_deg = 15.0

    def turn(image: Image) -> Image:
        height, width = image.shape[:2]
        # OpenCV's angle is counterclockwise; a positive roll makes the vertical lean to the right.
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -roll_deg, 1.0)
        return np.asarray(
            cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8
        )

    clips, dropped = run_until(changed(level, folder / "rolled.mp4", turn), "fit")
    if not clips:
        return "; ".join(str(span) for span in dropped), False
    found_deg = camera_roll_deg(clips[0])
    return f"{found_deg:.1f} degrees", abs(found_deg - roll_deg) < 4


def camera_roll_deg(clip: Clip) -> float:
    """Return the angle by which the world's vertical leans to the right in the image of a fitted clip."""
    up = np.asarray(clip.fit.camera.rotation).reshape(3, 3)[:, 1]
    return float(np.rad2deg(np.arctan2(up[0], -up[1])))


def real_views(folder: Path) -> tuple[str, bool]:
    shared = Path(os.environ.get("OPENDANCE_SHARED") or Path(__file__).resolve().parents[3] / "shared")
    source = shared / "data" / "real_truth"
    if not source.is_dir():
        return f"not measured: {source} not found; set OPENDANCE_SHARED", True
    found = list(_views(source, folder))
    return "; ".join(text for text, _ in found), all(right for _, right in found)


def _views(source: Path, folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield the number of dancers and the roll of two front views with a bystander, and of a back view."""
    for name, roll_deg in (("cam01", 14.4), ("cam02", -3.3), ("cam04", -25.8)):
        video = changed(source / f"{name}.mp4", folder / f"{name}.mp4", lambda image: image, times=3)
        clips, dropped = run_until(video, "fit")
        if not clips:
            yield f"{name}: {'; '.join(str(span) for span in dropped)}", False
            continue
        count, found_deg = len(clips[0].fit.rotations), camera_roll_deg(clips[0])
        text = f"{name}: {count} dancer(s), roll {found_deg:.1f} (true {roll_deg:.1f}) degrees"
        yield text, count == 1 and abs(found_deg - roll_deg) < 8


CASES: Final[tuple[Case, ...]] = (
    Case(
        "half-body", "rejected: lower body not in the picture; the whole video is taken", half_body, slow=True
    ),
    Case("bystander", "2 dancers of 3 people", bystander, slow=True),
    Case("rolled-camera", "15 degrees, within 4", rolled_camera, slow=True),
    Case("real-views", "1 dancer each; the roll within 8 degrees (1.7 s of motion)", real_views, slow=True),
)
