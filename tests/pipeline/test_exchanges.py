"""Left and right that an estimator exchanges for a short time are found and exchanged back; turns are left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from opendance_hf.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from opendance_hf.pipeline.clip import Landmarks
from opendance_hf.pipeline.exchanges import PARTS, find_exchanges, undo_exchanges
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from tests.pipeline.truth import camera_at, dance, landmarks_of, together

LIMITS = (1.0, 1.0, 0.6)
FPS = 12.0


def moving(seed: int = 0, frames: int = 60, noise_m: float = 0.01, turns_per_s: float = 0.0) -> Landmarks:
    """Landmarks of a dancer as an estimator sees them 12 times a second; the person's region has a side of 2.2 m."""
    poses, transl, offsets = dance(seed, frames, FPS)
    if turns_per_s:
        turn = np.zeros((frames, 3))
        turn[:, 1] = 2 * np.pi * turns_per_s * np.arange(frames) / FPS
        root = axis_angle_to_matrix(turn) @ axis_angle_to_matrix(poses[:, 0])
        poses = np.concatenate([matrix_to_axis_angle(root)[:, None], poses[:, 1:]], axis=1)
    truth = together([(poses, transl, offsets)], camera_at(), FPS)
    found = landmarks_of(truth, noise_m=noise_m, seed=seed)
    metres_per_px = 4.5 / truth.camera.focal_px
    return replace(found, regions_px=np.full_like(found.regions_px, 2.2 / metres_per_px))


def exchange(
    found: Landmarks, start: int, end: int, parts: tuple[str, ...] = ("legs",), *, mirror: bool = False
) -> Landmarks:
    """The landmarks with the sides of the first dancer's parts exchanged in some frames, in metres mirrored or not."""
    image, world = found.image.copy(), found.world.copy()
    for part in parts:
        left, right = (
            [LANDMARK_INDEX[f"{side}_{name}"] for name in PARTS[part]] for side in ("left", "right")
        )
        for a, b in ((left, right), (right, left)):
            image[0, start:end, a] = found.image[0, start:end, b]
            world[0, start:end, a] = found.world[0, start:end, b] * (1, 1, -1 if mirror else 1)
    return replace(found, image=image, world=world)


def mask(found: Landmarks, start: int, end: int, parts: tuple[str, ...]) -> np.ndarray:
    out = np.zeros((*found.image.shape[:2], 2), dtype=bool)
    for part in parts:
        out[0, start:end, list(PARTS).index(part)] = True
    return out


@pytest.mark.parametrize("parts", [("arms",), ("legs",), ("arms", "legs")], ids=str)
@pytest.mark.parametrize("frames", [1, 2, 5, 9])
@pytest.mark.parametrize("mirror", [False, True], ids=["depth kept", "depth mirrored"])
def test_a_run_is_found_and_undone(parts: tuple[str, ...], frames: int, mirror: bool) -> None:
    before = moving()
    wrong = exchange(before, 20, 20 + frames, parts, mirror=mirror)
    found = find_exchanges(wrong, *LIMITS)
    np.testing.assert_array_equal(found, mask(before, 20, 20 + frames, parts))
    after = undo_exchanges(wrong, found)
    np.testing.assert_array_equal(after.image, before.image)
    np.testing.assert_array_equal(after.world, before.world)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("turns_per_s", [0.0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("noise_m", [0.0, 0.02, 0.05])
def test_turns_are_left_alone(seed: int, turns_per_s: float, noise_m: float) -> None:
    """The sides change places in the picture, at up to 45 degrees from one frame to the next."""
    before = moving(seed, 120, noise_m, turns_per_s)
    assert not find_exchanges(before, *LIMITS).any()


@pytest.mark.parametrize(
    ("start", "end"), [(20, 36), (0, 4), (1, 3), (56, 60), (57, 59)], ids=["long", *["at an end"] * 4]
)
def test_what_does_not_jump_back_in_time_is_kept(start: int, end: int) -> None:
    assert not find_exchanges(exchange(moving(), start, end), *LIMITS).any()
    assert not find_exchanges(exchange(moving(), 20, 22), 0.0, 1.0, 0.6).any(), "switched off"


def test_a_gap_is_no_jump() -> None:
    """Where nobody was seen in between, the sides may have changed places."""
    wrong = exchange(moving(), 20, 26)
    visibility = wrong.visibility.copy()
    visibility[0, 18:20] = visibility[0, 26:28] = 0
    assert not find_exchanges(replace(wrong, visibility=visibility), *LIMITS).any()


def test_each_dancer_is_judged_alone() -> None:
    one, other = moving(0), moving(1)
    wrong = exchange(one, 30, 33)
    both = Landmarks(
        one.times_s,
        *(
            np.concatenate([getattr(other, name), getattr(wrong, name)])
            for name in ("image", "world", "visibility", "regions_px")
        ),
    )
    found = find_exchanges(both, *LIMITS)
    assert not found[0].any()
    np.testing.assert_array_equal(found[1], mask(one, 30, 33, ("legs",))[0])
    np.testing.assert_array_equal(undo_exchanges(both, found).image[1], one.image[0])


@pytest.mark.shared
def test_runs_in_landmarks_of_an_estimator_are_undone(shared: Path) -> None:
    """Estimates of rendered dancers: at least three quarters of the exchanges are found, and hardly anything else."""
    with np.load(shared / "data" / "lifter_pairs" / "pairs_0.npz", allow_pickle=False) as data:
        pairs = dict(data)
    rng = np.random.default_rng(0)
    ends = np.cumsum(pairs["n"])
    tried = exact = other = frames = 0
    for end, count in list(zip(ends, pairs["n"], strict=True))[:60]:
        part = slice(end - count, end)
        image, world, seen = (pairs[key][None, part].astype(np.float32) for key in ("image", "world", "vis"))
        side = 1.3 * np.ptp(image, axis=2).max(axis=-1)
        found = Landmarks(np.arange(count) / FPS, image, world, seen, side.astype(np.float32))
        plain = find_exchanges(found, *LIMITS)
        frames += count
        other += int(plain.any(axis=-1).sum())
        start, length = int(rng.integers(4, count - 12)), int(rng.integers(1, 6))
        parts = [("arms",), ("legs",), ("arms", "legs")][rng.integers(3)]
        if plain[0, start - 4 : start + length + 4].any():
            continue
        tried += 1
        wrong = exchange(found, start, start + length, parts)
        exact += bool(
            (find_exchanges(wrong, *LIMITS) == plain | mask(found, start, start + length, parts)).all()
        )
    assert tried > 50
    assert exact >= 0.75 * tried
    assert other <= 0.01 * frames
