"""What each term of the skeleton's fit is for: every test fails if its term's weight is 0.

Comments give the measured value with the term, and without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.rotations import matrix_to_axis_angle
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS
from opendance_hf.pipeline.backends.skeleton import Skeleton
from opendance_hf.pipeline.clip import Fit, Landmarks
from opendance_hf.pipeline.fitting.losses import ELBOWS, KNEES, hinge, log_map
from opendance_hf.pipeline.fitting.skeleton import SkeletonProblem, fit_skeleton, frames_to_fit
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from tests.pipeline.truth import (
    FEET,
    FOCAL_PX,
    LIMBS,
    VIDEO,
    Truth,
    camera_at,
    dance,
    landmarks_of,
    together,
    view_of,
)

FRAMES = 31
SIDES = ("left", "right")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def truth() -> Truth:
    return together([dance(1, FRAMES)], camera_at())


def fit(found: Landmarks, settings: Skeleton | None = None) -> Fit:
    return fit_skeleton(found, VIDEO, settings or Skeleton())


def joints_of(fitted: Fit) -> np.ndarray:
    poses = matrix_to_axis_angle(fitted.rotations.astype(np.float64))
    return forward_kinematics(poses, fitted.transl, fitted.rest_offsets[:, None])


def angles_of(fitted: Fit) -> np.ndarray:
    """(D, T, 24, 3) local rotations, radians."""
    return log_map(torch.from_numpy(fitted.rotations.astype(np.float64))).numpy()


def shifted(found: Landmarks, names: list[str], by_m: tuple[float, float, float], by_px: float) -> Landmarks:
    """Landmarks with some moved in metres, and to the right in the image."""
    index = [LANDMARK_INDEX[name] for name in names]
    world, image = found.world.copy(), found.image.copy()
    world[:, :, index] += by_m
    image[:, :, index, 0] += by_px
    return replace(found, world=world, image=image)


# --- what is known of bodies -------------------------------------------------------------------------------------


def test_knees_do_not_bend_sideways(truth: Truth) -> None:
    """A left foot seen 15 cm too far to the side is reached by the hip, not by a knee that bends sideways."""
    foot = ["left_ankle", "left_heel", "left_foot_index"]
    found = shifted(landmarks_of(truth), foot, (0.15, 0, 0), 0.15 * FOCAL_PX / 4.5)
    sideways = np.abs(angles_of(fit(found))[:, :, KNEES, 1:])
    assert sideways.mean() < 0.045, "0.024, without the hinge term 0.072"


def test_elbows_do_not_bend_backwards(truth: Truth) -> None:
    """Wrists guessed 30 cm too far back."""
    wrists = [f"{side}_{part}" for side in SIDES for part in ("wrist", "index")]
    angles = angles_of(fit(shifted(landmarks_of(truth), wrists, (0, 0, -0.3), 0)))[:, :, ELBOWS]
    assert np.abs(angles[..., 2]).mean() < 0.1, "0.030, without the hinge term 0.45"
    overstretch = np.maximum(angles[..., 1] * (1, -1), 0)
    assert overstretch.mean() < 0.005, "0.0001, without the hinge term 0.039"


@pytest.mark.parametrize(
    ("joint", "axis", "sign", "cost"),
    [
        ("knee", 0, 1, 0.0),  # backwards, as knees do
        ("knee", 0, -1, 10.0),
        ("knee", 1, 1, 1.0),
        ("knee", 2, 1, 1.0),
        ("elbow", 1, -1, 0.0),  # forwards, of the left elbow
        ("elbow", 1, 1, 10.0),
        ("elbow", 2, 1, 1.0),
        ("elbow", 0, 1, 0.1),
    ],
)
def test_hinges_turn_one_way(joint: str, axis: int, sign: int, cost: float) -> None:
    angles = torch.zeros(1, 1, NUM_JOINTS, 3)
    angles[..., JOINT_INDEX[f"left_{joint}"], axis] = sign * 0.5
    assert float(hinge(angles, Skeleton())) == pytest.approx(cost * 0.25 / 2)


def test_a_hidden_hand_keeps_the_length_that_suits_the_dancer(truth: Truth) -> None:
    found = landmarks_of(truth)
    for side in SIDES:
        elbow, wrist, index = (LANDMARK_INDEX[f"{side}_{part}"] for part in ("elbow", "wrist", "index"))
        found.visibility[:, :, index] = 0
        found.world[:, :, index] += 0.8 * (found.world[:, :, wrist] - found.world[:, :, elbow])
    fitted = fit(found)
    hands = [JOINT_INDEX[f"{side}_hand"] for side in SIDES]
    scale = np.linalg.norm(fitted.rest_offsets[:, hands], axis=-1) / np.linalg.norm(
        MEAN_OFFSETS[hands], axis=-1
    )
    # The dancer is 1.05 to 1.09 times the mean skeleton; without the bone term the hands shrink to 0.52.
    np.testing.assert_allclose(scale, 1.07, atol=0.1)


def test_straight_limbs_do_not_spin_about_themselves() -> None:
    """The landmarks of a straight arm do not tell its twist: it must not jump with their noise."""
    poses, _, offsets = dance(1, FRAMES)
    poses = np.zeros_like(poses)
    height = -forward_kinematics(poses[:1], np.zeros((1, 3)), offsets)[0, FEET, 1].min()
    still = together([(poses, np.tile([0.0, height, 0.0], (FRAMES, 1)), offsets)], camera_at())
    fitted = fit(landmarks_of(still, noise_m=0.02, seed=1), Skeleton(frame_rate_hz=30))
    shoulders = [JOINT_INDEX[f"{side}_shoulder"] for side in SIDES]
    spin = np.linalg.norm(np.diff(fitted.rotations[:, :, shoulders], axis=1), axis=(-2, -1))
    assert spin.mean() < 0.33, "0.23, without the spin term 0.49"


def test_landmarks_in_metres_decide_which_way_limbs_point(truth: Truth) -> None:
    assert limb_errors(fit(landmarks_of(truth)), truth) < 0.03, "0.015, without this term 0.054"


def test_the_image_outweighs_landmarks_in_metres(truth: Truth) -> None:
    """Every landmark is off by some 14 cm in metres, all the time, and right in the image."""
    found = landmarks_of(truth)
    wrong = np.random.default_rng(0).normal(0, 0.08, (1, 1, *found.world.shape[2:]))
    estimated = Skeleton(landmark_weight=0.02)  # as without the stage depth
    fitted = fit(replace(found, world=(found.world + wrong).astype(np.float32)), estimated)
    pixels = fitted.camera.project(joints_of(fitted)) - truth.camera.project(truth.joints)
    assert np.linalg.norm(pixels[:, :, LIMBS], axis=-1).mean() < 6, "1.8, 28 if the weights are swapped"
    assert limb_errors(fitted, truth) < 0.06, "0.027, 0.11 if the weights are swapped"


def limb_errors(fitted: Fit, truth: Truth) -> float:
    found, true = view_of(joints_of(fitted), fitted.camera), view_of(truth.joints, truth.camera)
    difference = (found - found[:, :, :1]) - (true - true[:, :, :1])
    return float(np.linalg.norm(difference[:, :, LIMBS], axis=-1).mean())


# --- what is known of motion and the ground, with landmarks that jitter by 3 cm ------------------------------------


@dataclass
class Jittering:
    """A fit of noisy landmarks, in between and at its end."""

    problem: SkeletonProblem
    fitted: Fit

    @property
    def view(self) -> np.ndarray:
        """(D, T, 24, 3) joints before the camera."""
        return view_of(joints_of(self.fitted), self.fitted.camera)


@pytest.fixture(scope="module")
def jittering(one_thread: None, truth: Truth) -> Jittering:
    found = landmarks_of(truth, noise_m=0.03, seed=3)
    settings = Skeleton()
    some = found.part(frames_to_fit(found.times_s, settings.frame_rate_hz))
    problem = SkeletonProblem(some, VIDEO, settings)
    problem.solve()
    return Jittering(problem, problem.interpolated(found).place())


def test_joints_do_not_jump(jittering: Jittering) -> None:
    bend = np.linalg.norm(np.diff(jittering.view, 2, axis=1), axis=-1)
    assert bend.mean() < 0.028, "metres; 0.023, without the acceleration term 0.035"


def test_depth_does_not_jump(jittering: Jittering) -> None:
    bend = np.abs(np.diff(jittering.view[:, :, 0, 2], 2, axis=1))
    assert bend.mean() < 0.006, "metres; 0.0024, without the term for depth 0.013"


def test_one_foot_is_on_the_ground(jittering: Jittering) -> None:
    lower = joints_of(jittering.fitted)[:, :, FEET, 1].min(axis=2)
    assert np.abs(lower - 0.025).mean() < 0.006, "metres; 0.0017, without the ground term 0.016"


def test_feet_in_contact_do_not_slide_even_before_they_are_held(jittering: Jittering) -> None:
    contacts = jittering.problem.resting[0]
    held = contacts[:, 1:] & contacts[:, :-1]
    feet = jittering.problem.pose()[1].detach().numpy()[:, :, FEET]
    step = np.linalg.norm(np.diff(feet, axis=1), axis=-1)[held]
    assert len(step) >= 3
    assert step.mean() < 0.02, "metres; 0.007, without the contact term 0.044"


def test_a_foot_held_still_in_the_air_is_not_in_contact() -> None:
    poses, _, offsets = dance(1, FRAMES)
    poses = np.zeros_like(poses)
    poses[:, JOINT_INDEX["left_hip"], 0], poses[:, JOINT_INDEX["left_knee"], 0] = -1.4, 1.4
    height = -forward_kinematics(poses[:1], np.zeros((1, 3)), offsets)[0, FEET, 1].min()
    still = together([(poses, np.tile([0.0, height, 0.0], (FRAMES, 1)), offsets)], camera_at())
    problem = SkeletonProblem(landmarks_of(still), VIDEO, Skeleton(steps=(60, 20, 0)))
    problem.solve()
    assert not problem.resting[..., 0].any()
    assert problem.resting[..., 1].all()


def test_stiff_joints_do_not_follow_noise(jittering: Jittering) -> None:
    stiff = [JOINT_INDEX[f"{side}_{part}"] for side in SIDES for part in ("collar", "wrist")]
    size = np.abs(angles_of(jittering.fitted)[:, :, stiff])
    assert size.mean() < 0.1, "radians; 0.06, without stiffness 0.18"
