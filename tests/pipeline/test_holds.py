"""Hands of two dancers that hold each other in the image stay together in the fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from opendance_hf.motion.skeleton import JOINT_INDEX
from opendance_hf.pipeline.backends.skeleton import Skeleton
from opendance_hf.pipeline.clip import Landmarks
from opendance_hf.pipeline.fitting.holds import hand_holds
from opendance_hf.pipeline.fitting.settings import HoldLimits
from opendance_hf.pipeline.fitting.skeleton import SkeletonProblem
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from tests.pipeline.truth import VIDEO, camera_at, dance, landmarks_of, together

FRAMES = 60
LIMITS = HoldLimits()
HANDS = [JOINT_INDEX["left_hand"], JOINT_INDEX["right_hand"]]
_PALM = ("wrist", "index", "pinky", "thumb")


def side_by_side(gap_px: float = 10.0) -> tuple[Landmarks, np.ndarray]:
    """Two dancers; the left hand of the first is near the right hand of the second in the image, from frame 10 to 40."""
    dancers = [dance(1, FRAMES, place=(-0.45, 0.0)), dance(2, FRAMES, place=(0.45, 0.0))]
    truth = together(dancers, camera_at())
    found = landmarks_of(truth)
    image = found.image.copy()
    for name in _PALM:
        own, other = LANDMARK_INDEX[f"left_{name}"], LANDMARK_INDEX[f"right_{name}"]
        image[0, 10:40, own] = image[1, 10:40, other] + (gap_px, 0)
    return replace(found, image=image), truth.joints[:, :, HANDS]


def test_hands_that_are_near_for_long_hold_each_other() -> None:
    found, hands = side_by_side()
    holds = hand_holds(found, np.broadcast_to(hands[:1, :, :1], hands.shape), LIMITS)
    (hold,) = [hold for hold in holds if hold.hands == (0, 1)]
    assert hold.frames[10:40].all()
    assert hold.frames.sum() <= 34


@pytest.mark.parametrize("reason", ["passing", "hidden", "far in depth", "apart"])
def test_hands_that_only_look_near_do_not(reason: str) -> None:
    found, hands = side_by_side(300.0 if reason == "apart" else 10.0)
    hands = np.broadcast_to(hands[:1, :, :1], hands.shape).copy()
    if reason == "passing":
        found = found.part(slice(34, 60))
        hands = hands[:, 34:60]
    if reason == "hidden":
        visibility = found.visibility.copy()
        visibility[0, :, [LANDMARK_INDEX[f"left_{name}"] for name in _PALM]] = 0.05
        found = replace(found, visibility=visibility)
    if reason == "far in depth":
        hands[1, ..., 2] -= 1.0
    assert not [hold for hold in hand_holds(found, hands, LIMITS) if hold.hands == (0, 1)]


def test_a_fit_brings_hands_that_hold_together() -> None:
    torch.set_num_threads(1)
    found, _ = side_by_side()

    def apart(weight: float) -> np.ndarray:
        problem = SkeletonProblem(found, VIDEO, Skeleton(hold_weight=weight, steps=(60, 30, 60)))
        problem.solve()
        hands = problem.pose()[1].detach().numpy()[:, :, HANDS]
        frames = [hold.frames for hold in problem.holds if hold.hands == (0, 1)]
        assert frames, "the hold is found"
        return np.linalg.norm(hands[0, :, 0] - hands[1, :, 1], axis=-1)[frames[0]]

    with_it, without = apart(10.0), apart(0.0)
    assert np.median(with_it) < 0.2
    assert np.median(with_it) < 0.8 * np.median(without)
