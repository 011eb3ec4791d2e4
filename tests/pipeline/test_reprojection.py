"""How well a sequence agrees with the picture: near 1 for the truth, low for what drifts, stands or slides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from opendance_hf.motion.skeleton import JOINT_INDEX
from opendance_hf.pipeline.clip import Clip, Fit, Landmarks, Motion
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.pipeline.stages.reprojection import Reprojection
from tests.pipeline.truth import FEET, Truth, camera_at, dance, landmarks_of, together


@pytest.fixture(scope="module")
def truth() -> Truth:
    return together([dance(1, 240, 60.0), dance(2, 240, 60.0, place=(1.5, 0.0))], camera_at(), 60.0)


@pytest.fixture(scope="module")
def seen(truth: Truth) -> Landmarks:
    """Every other frame: the picture's rate is not that of the motion."""
    return landmarks_of(truth).part(slice(None, None, 2))


def motion(joints: np.ndarray) -> Motion:
    joints = joints.astype(np.float32)
    return Motion(0.0, 4.0, joints, joints[:, :, 0], joints, np.ones(joints.shape[:2], np.float32))


def scores(joints: np.ndarray, found: Landmarks, stage: Reprojection | None = None) -> dict[str, float]:
    return (stage or Reprojection()).measure(motion(joints), camera_at(), found)


def test_the_truth_agrees_with_the_picture(truth: Truth, seen: Landmarks) -> None:
    found = scores(truth.joints, seen)
    assert found["reprojection_pck"] == 1.0
    assert found["speed_correlation"] > 0.99
    assert found["foot_slide_mps"] < 0.01


def test_a_dancer_who_stands_beside_it_does_not(truth: Truth, seen: Landmarks) -> None:
    away = truth.joints.copy()
    away[1, ..., 0] += 0.5
    found = scores(away, seen)
    assert found["reprojection_pck"] == pytest.approx(0.5, abs=0.02), "one dancer of two"
    assert found["speed_correlation"] > 0.98, "moves alike, though elsewhere"
    half_right = scores(away, seen, Reprojection(near_torsos=2.0))
    assert half_right["reprojection_pck"] == 1.0


def test_an_avatar_that_stands_still_moves_like_nobody(truth: Truth, seen: Landmarks) -> None:
    still = np.repeat(truth.joints[:, :1], 240, axis=1)
    assert scores(still, seen)["speed_correlation"] == pytest.approx(0, abs=1e-6)
    other = together([dance(8, 240, 60.0), dance(9, 240, 60.0)], camera_at(), 60.0)
    assert scores(other.joints, seen)["speed_correlation"] < 0.6


def test_a_hand_that_is_fitted_still_agrees_with_no_movement(truth: Truth, seen: Landmarks) -> None:
    stiff = truth.joints.copy()
    stiff[0, :, JOINT_INDEX["left_wrist"]] = stiff[0, 0, JOINT_INDEX["left_wrist"]]
    assert scores(stiff, seen)["speed_correlation"] == pytest.approx(7 / 8, abs=0.01), "of two dancers' ends"


def test_speeds_are_compared_at_any_rhythm_of_frames(truth: Truth) -> None:
    """A long step between two frames is not a fast one."""
    found = landmarks_of(truth)
    index = np.cumsum(np.random.default_rng(0).choice([1, 2, 8], 60))
    index = index[index < 240]
    fields = {name: value[:, index] for name, value in vars(found).items() if name != "times_s"}
    uneven = Landmarks(times_s=found.times_s[index], **fields)
    assert scores(truth.joints, uneven)["speed_correlation"] > 0.99
    noisy = replace(uneven, image=uneven.image + np.random.default_rng(1).normal(0, 400, uneven.image.shape))
    assert abs(scores(truth.joints, noisy)["speed_correlation"]) < 0.3, "its long steps are slow, not alike"


def test_what_was_not_seen_does_not_count(truth: Truth, seen: Landmarks) -> None:
    """Hands that the estimator guesses, at a visibility below a half, may be anywhere."""
    wild = replace(seen, image=seen.image.copy(), visibility=seen.visibility.copy())
    hands = [LANDMARK_INDEX[f"{side}_wrist"] for side in ("left", "right")]
    wild.image[:, :, hands] += np.random.default_rng(0).normal(0, 200, wild.image[:, :, hands].shape)
    wild.visibility[:, :, hands] = 0.6
    assert scores(truth.joints, wild)["reprojection_pck"] < 0.9
    assert scores(truth.joints, wild)["speed_correlation"] < 0.7
    wild.visibility[:, :, hands] = 0.4
    assert scores(truth.joints, wild)["reprojection_pck"] == 1.0
    assert scores(truth.joints, wild)["speed_correlation"] > 0.99
    # A hand that is seen in every other frame has no speed.
    wild.image[:, ::2, hands] = seen.image[:, ::2, hands]
    wild.visibility[:, ::2, hands] = 1.0
    assert scores(truth.joints, wild)["speed_correlation"] > 0.99
    wild.visibility[:] = 0
    nothing = scores(truth.joints, wild)
    assert (nothing["reprojection_pck"], nothing["speed_correlation"]) == (0.0, 0.0)


def test_a_slide_is_that_of_the_foot_that_should_stand(truth: Truth, seen: Landmarks) -> None:
    sliding = truth.joints + np.linspace(0, 2, 240)[None, :, None, None] * (1.0, 0.0, 0.0)
    assert scores(sliding, seen)["foot_slide_mps"] == pytest.approx(0.5, rel=0.05)
    hovering = sliding + np.array([0.0, 0.05, 0.0])
    assert scores(hovering, seen)["foot_slide_mps"] == pytest.approx(0.5, rel=0.05), "the fit errs by as much"
    flying = sliding + np.array([0.0, 0.5, 0.0])
    assert scores(flying, seen)["foot_slide_mps"] == 0.0, "feet in the air may move"
    assert scores(flying, seen, Reprojection(foot_on_ground_m=1.0))["foot_slide_mps"] > 0.3
    # One foot on the ground may be moved while the other stands.
    dragging = np.zeros((1, 240, 24, 3))
    dragging[0, :, FEET[1], 0] = np.linspace(0, 4, 240)
    dragging[..., JOINT_INDEX["head"], 1] = 1.6
    alone = Landmarks(*(value if value.ndim == 1 else value[:1] for value in vars(seen).values()))
    assert scores(dragging, alone)["foot_slide_mps"] == 0.0


def test_the_scores_are_added_to_those_of_the_clip(truth: Truth, seen: Landmarks) -> None:
    fit = Fit(truth.times_s, truth.poses, truth.transl, truth.rest_offsets, truth.camera)
    clip = Clip(
        Path("v.mp4"), "0" * 64, landmarks=seen, fit=fit, motion=motion(truth.joints), scores={"earlier": 1.0}
    )
    found = Reprojection()(clip)
    assert found.scores == {"earlier": 1.0, **scores(truth.joints, seen)}
