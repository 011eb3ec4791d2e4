from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from opendance_hf.pipeline.clip import Bodies, Clip, Landmarks
from opendance_hf.pipeline.stage import Dropped
from opendance_hf.pipeline.stages.trim import Trim

FPS = 25.0
SIZE_PX = 440.0  # 200 pixels a metre
MAX_HOLD_S = Trim().max_hold_s


def dancing_runs(found: Landmarks) -> tuple[list[slice], list[Dropped]]:
    runs = Trim().dancing_runs(found)
    return [r for r in runs if isinstance(r, slice)], [r for r in runs if isinstance(r, Dropped)]


def clip(*parts: tuple[float, float], dancers: int = 1) -> Landmarks:
    """Everybody moves aside, at a speed (metres a second) for so long (seconds), one part after another."""
    speed = np.concatenate([np.full(round(lasts * FPS), mps) for mps, lasts in parts])
    x = np.cumsum(speed) / FPS * SIZE_PX / 2.2
    image = np.zeros((dancers, len(speed), 33, 2), np.float32)
    image[..., 0] = x[:, None]
    shown = np.ones(image.shape[:3], np.float32)
    world = np.zeros((*image.shape[:3], 3), np.float32)
    return Landmarks(np.arange(len(speed)) / FPS, image, world, shown, np.full(image.shape[:2], SIZE_PX))


def seconds(found: Landmarks, runs: list[slice]) -> list[tuple[float, float]]:
    return [(found.times_s[run.start], found.times_s[run.stop - 1] + 1 / FPS) for run in runs]


def test_waiting_and_posing_are_cut() -> None:
    found = clip((0.02, 1.5), (1.0, 6.0), (0.02, 2.0))
    runs, dropped = dancing_runs(found)
    (span,) = seconds(found, runs)
    assert span == pytest.approx((1.5, 7.5), abs=0.2)
    assert [drop.reason for drop in dropped] == ["nobody moves", "nobody moves"]
    assert dropped[1].end_s == pytest.approx(9.5, abs=0.05)


def test_a_pose_held_for_a_moment_belongs_to_the_dance_and_a_freeze_does_not() -> None:
    held = clip((1.0, 5.0), (0.0, MAX_HOLD_S - 1), (1.0, 5.0))
    assert [(run.start, run.stop) for run in dancing_runs(held)[0]] == [(0, len(held.times_s))]
    frozen = clip((1.0, 5.0), (0.0, MAX_HOLD_S + 1), (1.0, 5.0))
    runs, dropped = dancing_runs(frozen)
    assert len(runs) == 2
    assert [drop.reason for drop in dropped] == ["nobody moves"]


def test_what_is_too_short_without_its_stillness_is_dropped_with_the_reason() -> None:
    runs, dropped = dancing_runs(clip((0.0, 3.0), (1.0, 2.0), (0.0, 3.0)))
    assert runs == []
    assert dropped[1].reason == "the dance is too short"
    assert dropped[1].detail.startswith("2.")
    assert dancing_runs(clip((0.0, 6.0)))[0] == []


def test_one_dancer_is_enough() -> None:
    found = clip((1.0, 6.0), dancers=2)
    found.image[1] = 0
    assert seconds(found, dancing_runs(found)[0]) == [pytest.approx((0.0, 6.0))]
    assert np.median(Trim().limb_speed(found)) == pytest.approx(1.0, rel=0.1)


def test_a_twitch_in_the_last_frame_is_no_dance() -> None:
    found = clip((1.0, 6.0), (0.02, 1.6), (0.6, 0.04))
    (span,) = seconds(found, dancing_runs(found)[0])
    assert span == pytest.approx((0.0, 6.0), abs=0.2)


def test_a_breath_before_the_dance_and_after_it_stays() -> None:
    found = clip((0.0, 0.5), (1.0, 6.0), (0.0, 0.5))
    assert [(run.start, run.stop) for run in dancing_runs(found)[0]] == [(0, len(found.times_s))]


def test_a_dance_of_jerks_is_a_dance() -> None:
    """One frame moves and three stand: only the mean over a quarter of a second shows that somebody dances."""
    found = clip(*[(2.0, 1 / FPS), (0.0, 3 / FPS)] * 40)
    runs, dropped = dancing_runs(found)
    assert len(runs) == 1
    assert not dropped


def test_every_part_of_a_clip_is_cut_alike() -> None:
    found = clip((0.0, 2.0), (1.0, 6.0), (0.0, 2.0))
    frames = len(found.times_s)
    numbers = np.arange(frames, dtype=np.float32)[None]
    bodies = Bodies(
        found.times_s, np.zeros((1, frames, 24, 3, 3), np.float32), np.zeros((1, frames, 10), np.float32),
        np.repeat(numbers[..., None], 3, axis=-1),
    )  # fmt: skip
    noise = np.random.default_rng(0).normal(0, 30, found.image.shape).astype(np.float32)
    seen = replace(found, image=found.image + noise, visibility=np.repeat(numbers[..., None], 33, axis=-1))
    video = Clip(Path("v.mp4"), "0" * 64, end_s=10.0, landmarks=seen, smoothed=found, bodies=bodies)
    before, part, after = Trim()(video)
    assert isinstance(part, Clip)
    assert part.bodies is not None
    first, last = round(part.start_s * FPS), round(part.end_s * FPS)
    assert isinstance(before, Dropped)
    assert isinstance(after, Dropped)
    assert (before.end_s, after.start_s) == pytest.approx((part.start_s, part.end_s))
    for times_s in (part.landmarks.times_s, part.smoothed.times_s, part.bodies.times_s):
        np.testing.assert_array_equal(times_s, found.times_s[first:last])
    np.testing.assert_array_equal(part.landmarks.visibility[0, :, 0], numbers[0, first:last])
    np.testing.assert_array_equal(part.bodies.transl[0, :, 0], numbers[0, first:last])
    np.testing.assert_array_equal(part.smoothed.image, found.image[:, first:last])
    parts = Trim()(replace(video, bodies=None))
    assert [one.bodies for one in parts if isinstance(one, Clip)] == [None], "pipelines without bodies"
