"""Cuts are found at their time, on the clock of the sound; steady pictures are one shot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opendance_hf.pipeline.clip import Clip, Detections
from opendance_hf.pipeline.clothing import CLOTHING_DIM
from opendance_hf.pipeline.stages.shots import ShiftMeter, Shots
from opendance_hf.pipeline.video import probe
from tests.pipeline.clips import write_clip

NOBODY = Detections(
    np.zeros(0), np.zeros(0, np.int64), np.zeros((0, 5), np.float32), np.zeros((0, CLOTHING_DIM), np.float32)
)


def find_shots(path: Path) -> list[Clip]:
    return Shots()(Clip(path, "0" * 64, video=probe(path), detections=NOBODY))


def scene(colour: tuple[int, int, int], frames: int, seed: int) -> list[np.ndarray]:
    """A square that moves over a coloured ground."""
    rng = np.random.default_rng(seed)
    out = []
    for number in range(frames):
        picture = np.full((96, 128, 3), colour, np.uint8)
        picture[30:60, 10 + number % 60 : 40 + number % 60] = rng.integers(0, 255, 3)
        picture[30:60, 10 + number % 60 : 40 + number % 60] //= 2
        out.append(picture)
    return out


RED, BLUE, GREEN = (200, 30, 30), (30, 30, 200), (30, 200, 60)


def test_one_cut_makes_two_shots(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", scene(RED, 45, 0) + scene(BLUE, 55, 1))
    first, second = find_shots(path)
    assert (first.start_s, second.end_s) == (0.0, float("inf"))
    assert first.end_s == second.start_s == pytest.approx(45 / 20, abs=1e-3)


def test_no_cut_is_one_shot(tmp_path: Path) -> None:
    steady = [picture for _ in range(3) for picture in scene(RED, 20, 0)[:1] * 20]
    (shot,) = find_shots(write_clip(tmp_path / "a.mp4", steady))
    assert (shot.start_s, shot.end_s) == (0.0, float("inf"))


def test_cuts_have_real_times(tmp_path: Path) -> None:
    """Frames of uneven length, and pictures that start after the sound."""
    times = 1.0 + np.cumsum(np.random.default_rng(5).choice([0.02, 0.05, 0.1], 120))
    pictures = scene(RED, 40, 0) + scene(BLUE, 40, 1) + scene(GREEN, 40, 2)
    path = write_clip(tmp_path / "late.mkv", pictures, times, sound_s=(0.0, 8.0))
    shots = find_shots(path)
    assert [shot.start_s for shot in shots] == pytest.approx([0.0, times[40], times[80]], abs=2e-3)
    assert [shot.end_s for shot in shots[:-1]] == [shot.start_s for shot in shots[1:]]


def test_flash_cuts_at_most_once(tmp_path: Path) -> None:
    pictures = scene(RED, 40, 0) + scene(BLUE, 2, 1) + scene(RED, 40, 2)
    assert len(find_shots(write_clip(tmp_path / "flash.mp4", pictures))) <= 2


def test_each_shot_has_its_own_frames_and_detections(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", scene(RED, 45, 0) + scene(BLUE, 55, 1))
    times = np.arange(0, 100, 3) / 20
    boxes = np.repeat(times[:, None], 5, axis=1).astype(np.float32)
    found = Detections(times, np.ones(34, np.int64), boxes, np.zeros((34, CLOTHING_DIM), np.float32))
    first, second = Shots()(Clip(path, "0" * 64, video=probe(path), detections=found))
    assert len(first.camera_motion.times_s) == 45
    assert len(second.camera_motion.times_s) == 55
    assert first.detections.times_s.tolist() == times[times < 2.25].tolist()
    assert second.detections.times_s.tolist() == times[times >= 2.25].tolist()
    for shot in (first, second):
        np.testing.assert_allclose(shot.detections.boxes[:, 0], shot.detections.times_s)


def shifts(pictures: list[np.ndarray]) -> list[float]:
    meter = ShiftMeter(Shots())
    for picture in pictures:
        meter.add(picture)
    return meter.shifts


def pattern(seed: int, contrast: float, shift: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(100, contrast, (30, 100)).repeat(4, 0).repeat(4, 1)
    grey = np.clip(noise[:, shift : shift + 200], 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def test_pictures_that_do_not_match_show_no_camera_motion() -> None:
    assert np.mean(np.array(shifts([pattern(seed, 60.0) for seed in range(40)])) == 0) > 0.8


def test_the_noise_of_a_black_frame_shows_no_camera_motion() -> None:
    panned = [pattern(0, 60.0, 6 * t) for t in range(5)]
    assert shifts(panned)[1:] == pytest.approx([6 / 120] * 4, rel=0.2)
    faint = [pattern(0, 1.5, 6 * t) for t in range(5)]
    assert shifts(faint) == [0.0] * 5


def test_a_fade_to_black_shows_no_camera_motion() -> None:
    faded = [pattern(0, contrast, 6 * t) for t, contrast in enumerate((60.0, 1.5, 60.0))]
    assert shifts(faded) == [0.0] * 3


def test_a_shot_knows_how_its_camera_moves(tmp_path: Path) -> None:
    for step, speed in ((0, 0.0), (6, 6 * 20 / 120)):
        pictures = [pattern(0, 60.0, step * t) for t in range(30)]
        (shot,) = find_shots(write_clip(tmp_path / f"{step}.mkv", pictures, codec="ffv1"))
        assert len(shot.camera_motion.shifts) == 30
        assert shot.camera_motion.speed() == pytest.approx(speed, rel=0.2, abs=0.01)
