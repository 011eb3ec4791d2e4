"""How real videos are scored against judges that may find the wrong person."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.real_videos import LIMBS, distinct, pck
from opendance_hf.motion.skeleton import LIMB_JOINTS
from opendance_hf.pipeline.clip import Landmarks
from opendance_hf.pipeline.landmarks import NUM_LANDMARKS

TORSO_PX = 100.0


def judged(apart_px: np.ndarray, dancers: int = 2) -> Landmarks:
    """A judge's limbs of dancers whose second is ``apart_px`` (T,) to the right of the first."""
    frames = len(apart_px)
    image = np.zeros((dancers, frames, NUM_LANDMARKS, 2), np.float32)
    rows = {name: k for k, name in zip(LIMBS, LIMB_JOINTS, strict=True)}
    for name, k in rows.items():
        image[:, :, k, 1] = {"shoulder": 100.0, "hip": 100.0 + TORSO_PX}.get(name.split("_")[1], 250.0)
    if dancers > 1:
        image[1, :, :, 0] += apart_px[:, None]
    seen = np.zeros(image.shape[:3], np.float32)
    seen[:, :, LIMBS] = 1
    return Landmarks(
        np.arange(frames) / 30,
        image,
        np.zeros((*image.shape[:3], 3), np.float32),
        seen,
        np.ones(image.shape[:2]),
    )


def test_frames_in_which_a_judge_finds_one_person_twice_are_told() -> None:
    found = judged(np.array([0.0, 20.0, 40.0, 200.0]))
    assert distinct(found).tolist() == [False, False, True, True]


def test_one_dancer_is_always_distinct() -> None:
    assert distinct(judged(np.zeros(3), dancers=1)).tolist() == [True] * 3


@pytest.mark.parametrize(("away_px", "share"), [(0.0, 1.0), (19.0, 1.0), (21.0, 0.0)])
def test_pck_counts_limbs_within_a_fifth_of_the_torso(away_px: float, share: float) -> None:
    found = judged(np.full(4, 300.0))
    assert pck(found.image[:, :, LIMBS] + (away_px, 0), found) == share


def test_limbs_that_a_judge_is_not_sure_of_do_not_count() -> None:
    found = judged(np.full(4, 300.0))
    found.visibility[:, :, LIMBS[0]] = 0
    points = found.image[:, :, LIMBS].copy()
    points[:, :, 0] += 500
    assert pck(points, found) == 1
