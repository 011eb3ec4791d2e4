"""Half-body crops of real videos are rejected for what they lack, and the whole videos are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from opendance_hf.pipeline.clip import Clip, Image, Job
from opendance_hf.pipeline.pipelines import default_pipeline
from opendance_hf.pipeline.stage import Dropped
from opendance_hf.pipeline.video import read_frames
from opendance_hf.render.video import VideoWriter

REASON = "lower body not in the picture"


def until_complete(path: Path) -> list[Clip | Dropped]:
    """Run the stages up to the completion of the landmarks."""
    results: list[Clip | Dropped] = [Clip(path, "0" * 64, job=Job(path.parent))]
    for stage in default_pipeline():
        following: list[Clip | Dropped] = []
        for result in results:
            out = stage(result) if isinstance(result, Clip) else result
            following += [out] if isinstance(out, Clip | Dropped) else out
        results = following
        if stage.name == "complete":
            break
    return results


def crop(source: Path, target: Path, part: Callable[[float], tuple[float, float]]) -> Path:
    """Write a video of the rows (top, bottom, as shares of the height) that ``part`` gives for each time, in one size."""
    with VideoWriter(target, 24, audio=np.sin(np.arange(16000 * 9) / 8) / 3, sample_rate=16000) as video:
        for time_s, image in read_frames(source):
            video.write(rows_of(image, *part(time_s)))
    return target


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
    results = until_complete(crop(source, tmp_path / "half.mp4", lambda _: (0.04, bottom)))
    assert not [result for result in results if isinstance(result, Clip)]
    seconds = {REASON: 0.0}
    for result in results:
        assert isinstance(result, Dropped)
        seconds[result.reason] = seconds.get(result.reason, 0.0) + result.end_s - result.start_s
    assert seconds[REASON] > 0.7 * sum(seconds.values())


@pytest.mark.slow
@pytest.mark.shared
def test_a_zoom_to_the_upper_body_drops_only_that_part(shared: Path, tmp_path: Path) -> None:
    def zoom(time_s: float) -> tuple[float, float]:
        share = float(np.clip((time_s - 4.6) / 0.4, 0, 1))
        return 0.04 * share, 1 - 0.4 * share

    source = shared / "data/videos/solo_pier.mp4"
    kept, dropped, *_ = until_complete(crop(source, tmp_path / "zoom.mp4", zoom))
    assert isinstance(kept, Clip)
    assert (kept.start_s, kept.end_s) == pytest.approx((0, 4.8), abs=0.4)
    assert isinstance(dropped, Dropped)
    assert dropped.reason == REASON


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", ["solo", "duo", "solo_sea", "solo_pier"])
def test_whole_bodies_stay(shared: Path, name: str) -> None:
    results = until_complete(shared / f"data/videos/{name}.mp4")
    kept = [result for result in results if isinstance(result, Clip)]
    assert max(clip.end_s - clip.start_s for clip in kept) > 8
    # Wide trousers at the bottom of the picture: 0.26 in one of them. Half bodies have 0.6 and more.
    assert max(clip.scores["legs_out"] for clip in kept) < 0.35
    assert REASON not in {result.reason for result in results if isinstance(result, Dropped)}
