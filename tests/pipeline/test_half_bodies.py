"""Half-body crops of real videos are rejected for what they lack, and the whole videos are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from opendance_hf.motion.skeleton import JOINT_INDEX
from opendance_hf.pipeline.clip import Clip, Image, Job
from opendance_hf.pipeline.pipelines import default_pipeline
from opendance_hf.pipeline.stage import Dropped
from opendance_hf.pipeline.video import read_frames
from opendance_hf.render.video import VideoWriter

REASON = "lower body not in the picture"


#: Bottom of a crop, as a share of the height of the picture, at the hips, the thighs and the knees of the dancers.
CUTS = {
    "solo": (0.55, 0.64, 0.72),
    "duo": (0.71, 0.75, 0.78),
    "solo_sea": (0.48, 0.57, 0.65),
    "solo_pier": (0.51, 0.60, 0.70),
}


def until(path: Path, last: str = "complete") -> list[Clip | Dropped]:
    """Run the stages up to one, by default the completion of the landmarks."""
    results: list[Clip | Dropped] = [Clip(path, "0" * 64, job=Job(path.parent))]
    for stage in default_pipeline():
        following: list[Clip | Dropped] = []
        for result in results:
            out = stage(result) if isinstance(result, Clip) else result
            following += [out] if isinstance(out, Clip | Dropped) else out
        results = following
        if stage.name == last:
            break
    return results


def crop(source: Path, target: Path, part: Callable[[float], tuple[float, float]]) -> Path:
    """Write a video of the rows (top, bottom, as shares of the height) that ``part`` gives for each time, in one size."""
    with VideoWriter(target, 24, audio=np.sin(np.arange(16000 * 9) / 8) / 3, sample_rate=16000) as video:
        for time_s, image in read_frames(source):
            video.write(rows_of(image, *part(time_s)))
    return target


def cut_off(source: Path, target: Path, bottom: float) -> Path:
    """Write eight seconds of a video without the rows below ``bottom``, a share of the height."""
    with VideoWriter(target, 24, audio=np.sin(np.arange(16000 * 9) / 8) / 3, sample_rate=16000) as video:
        for _, image in read_frames(source, 1.5, 9.5):
            video.write(np.ascontiguousarray(image[: round(bottom * image.shape[0]) // 2 * 2]))
    return target


def seconds_by_reason(results: list[Clip | Dropped]) -> dict[str, float]:
    """Duration of the dropped spans by reason; of the kept ones under "kept"."""
    seconds: dict[str, float] = {}
    for result in results:
        reason = result.reason if isinstance(result, Dropped) else "kept"
        seconds[reason] = seconds.get(reason, 0.0) + result.end_s - result.start_s
    return seconds


def rows_of(image: Image, top: float, bottom: float) -> Image:
    """Return the middle of these rows with the proportions of the whole picture, at its size."""
    height, width = image.shape[:2]
    half = width * (bottom - top) / 2
    rows = image[
        round(top * height) : round(bottom * height), round(width / 2 - half) : round(width / 2 + half)
    ]
    return np.asarray(cv2.resize(rows, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("bottom", [0.62, 0.5], ids=["thighs up", "waist up"])
def test_a_half_body_is_rejected_by_that_name(shared: Path, tmp_path: Path, bottom: float) -> None:
    source = shared / "data/videos/solo_pier.mp4"
    seconds = seconds_by_reason(until(crop(source, tmp_path / "half.mp4", lambda _: (0.04, bottom))))
    assert "kept" not in seconds
    assert seconds[REASON] > 0.7 * sum(seconds.values())


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("at", [0, 1, 2], ids=["hips", "thighs", "knees"])
@pytest.mark.parametrize("name", CUTS)
def test_every_video_cut_off_above_the_shins_is_rejected_by_that_name(
    shared: Path, tmp_path: Path, name: str, at: int
) -> None:
    source = shared / f"data/videos/{name}.mp4"
    seconds = seconds_by_reason(until(cut_off(source, tmp_path / "half.mp4", CUTS[name][at])))
    assert "kept" not in seconds
    # Of two dancers whose boxes are cut off, one may not be found all the time.
    assert seconds[REASON] > 0.5 * sum(seconds.values())


@pytest.mark.slow
@pytest.mark.shared
def test_a_picture_that_cuts_off_the_feet_is_kept_and_the_feet_are_doubted(
    shared: Path, tmp_path: Path
) -> None:
    source = shared / "data/videos/solo_pier.mp4"
    means = []
    for bottom in (1.0, 0.93):
        results = until(cut_off(source, tmp_path / "feet.mp4", bottom), "confidence")
        (clip,) = [result for result in results if isinstance(result, Clip)]
        means.append(clip.columns["joint_confidence"].mean(axis=0))
    feet = [JOINT_INDEX[f"{side}_foot"] for side in ("left", "right")]
    arms = [JOINT_INDEX[f"{side}_elbow"] for side in ("left", "right")]
    assert means[1][feet].mean() < 0.6 * means[0][feet].mean()
    assert means[1][arms].mean() > 0.8 * means[0][arms].mean()


@pytest.mark.slow
@pytest.mark.shared
def test_a_zoom_to_the_upper_body_drops_only_that_part(shared: Path, tmp_path: Path) -> None:
    def zoom(time_s: float) -> tuple[float, float]:
        share = float(np.clip((time_s - 4.6) / 0.4, 0, 1))
        return 0.04 * share, 1 - 0.4 * share

    source = shared / "data/videos/solo_pier.mp4"
    kept, dropped, *_ = until(crop(source, tmp_path / "zoom.mp4", zoom))
    assert isinstance(kept, Clip)
    assert (kept.start_s, kept.end_s) == pytest.approx((0, 4.8), abs=0.4)
    assert isinstance(dropped, Dropped)
    assert dropped.reason == REASON


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", ["solo", "duo", "solo_sea", "solo_pier"])
def test_whole_bodies_stay(shared: Path, name: str) -> None:
    results = until(shared / f"data/videos/{name}.mp4")
    kept = [result for result in results if isinstance(result, Clip)]
    assert max(clip.end_s - clip.start_s for clip in kept) > 8
    # Wide trousers at the bottom of the picture: 0.26 in one of them. Half bodies have 0.6 and more.
    assert max(clip.scores["legs_out"] for clip in kept) < 0.35
    assert REASON not in {result.reason for result in results if isinstance(result, Dropped)}
