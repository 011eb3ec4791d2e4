"""Known motion, seen by a perfect estimator through a known camera, is found again; bad sight degrades it gently."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import opendance_hf
from opendance_hf.motion.body import bone_lengths, forward_kinematics
from opendance_hf.motion.rotations import matrix_to_axis_angle, unit
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS, mirror_index
from opendance_hf.pipeline.backends.filters import Filters
from opendance_hf.pipeline.backends.skeleton import Skeleton
from opendance_hf.pipeline.clip import Clip, Fit, Landmarks
from opendance_hf.pipeline.fitting.camera import camera_roll, level_landmarks, level_rotation
from opendance_hf.pipeline.fitting.initial_pose import initial_rotations
from opendance_hf.pipeline.fitting.losses import log_map
from opendance_hf.pipeline.fitting.skeleton import frames_to_fit
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.pipeline.stages.fit import FitSkeleton
from tests.pipeline.truth import (
    FEET,
    HEIGHT_PX,
    LIMBS,
    VIDEO,
    WIDTH_PX,
    Truth,
    camera_at,
    dance,
    landmarks_of,
    together,
    view_of,
)

#: The toe joints of the truth lie on the ground, those of a fit this far above it.
TOE_M = 0.025


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@dataclass
class Case:
    truth: Truth
    found: Fit

    @property
    def joints(self) -> np.ndarray:
        """(D, T, 24, 3) fitted joints in the world."""
        poses = matrix_to_axis_angle(self.found.rotations.astype(np.float64))
        return forward_kinematics(poses, self.found.transl, self.found.rest_offsets[:, None])

    @property
    def seen(self) -> tuple[np.ndarray, np.ndarray]:
        """Fitted and true joints in the camera's frame, where both can be compared."""
        return view_of(self.joints, self.found.camera), view_of(self.truth.joints, self.truth.camera)

    def limb_errors(self) -> np.ndarray:
        """(D, T, 12) metres, relative to the pelvis."""
        found, true = (joints - joints[:, :, :1] for joints in self.seen)
        return np.linalg.norm(found - true, axis=-1)[:, :, LIMBS]


def fit(found: Landmarks, settings: Skeleton | None = None) -> Fit:
    clip = Clip(Path("a.mp4"), "0" * 64, video=VIDEO, smoothed=found)
    return FitSkeleton(settings or Skeleton())(clip).fit


def solve(truth: Truth) -> Case:
    return Case(truth, fit(landmarks_of(truth)))


@pytest.fixture(scope="module")
def duet(one_thread: None) -> Case:
    """Two dancers of different size, side by side and one further back, the camera level."""
    left = dance(1, 60, place=(-0.7, 0.3))
    right = dance(2, 60, place=(0.7, -0.4), size=0.95, facing_deg=-40)
    return solve(together([left, right], camera_at()))


@pytest.fixture(scope="module")
def solo(one_thread: None) -> Case:
    """A tall dancer off the picture's centre, turned away from a camera that looks down."""
    return solve(
        together([dance(4, 60, facing_deg=150, place=(0.9, 0.0), size=1.1)], camera_at(1.6, 4.5, 8.0))
    )


@pytest.fixture(params=["duet", "solo"])
def case(request: pytest.FixtureRequest) -> Case:
    return request.getfixturevalue(request.param)


def test_limbs_are_found_again(case: Case) -> None:
    errors = case.limb_errors()
    assert errors.mean() < 0.0185
    assert np.quantile(errors, 0.95) < 0.05, "feet that leave the ground slowly are held a moment too long"
    assert errors.mean(axis=(0, 1)).max() < 0.04


def test_place_before_the_camera_is_found_again(case: Case) -> None:
    found, true = case.seen
    error = np.abs(found[:, :, 0] - true[:, :, 0]).mean(axis=(0, 1))
    assert (error < (0.02, 0.02, 0.065)).all()


def test_picture_is_met(case: Case) -> None:
    found = case.found.camera.project(case.joints)[:, :, LIMBS]
    true = case.truth.camera.project(case.truth.joints)[:, :, LIMBS]
    assert np.linalg.norm(found - true, axis=-1).mean() < 8


def test_left_is_left(case: Case) -> None:
    found, true = (joints - joints[:, :, :1] for joints in case.seen)
    straight = np.linalg.norm(found - true, axis=-1)[:, :, LIMBS]
    crossed = np.linalg.norm(found[:, :, mirror_index()] - true, axis=-1)[:, :, LIMBS]
    assert (straight < crossed).mean() > 0.99


def test_bones_keep_the_length_the_dancer_has(case: Case) -> None:
    lengths = bone_lengths(case.joints)
    assert np.ptp(lengths, axis=1).max() < 1e-5
    true = bone_lengths(case.truth.joints)[:, 0]
    limbs = [
        joint - 1 for joint in LIMBS if "hip" not in fit_name(joint) and "shoulder" not in fit_name(joint)
    ]
    assert np.abs(lengths[:, 0, limbs] / true[:, limbs] - 1).max() < 0.04
    assert not case.found.rest_offsets[:, 0].any()


def fit_name(joint: int) -> str:
    return next(name for name, index in JOINT_INDEX.items() if index == joint)


def test_feet_stand_on_the_ground(case: Case) -> None:
    standing = case.truth.joints[:, :, FEET, 1] < 0.005
    height = case.joints[:, :, FEET, 1]
    assert standing.mean() > 0.4
    assert np.abs(height[standing] - TOE_M).max() < 0.06
    assert np.abs(height[standing] - TOE_M).mean() < 0.02
    raised = case.truth.joints[:, :, FEET, 1] > 0.15
    assert height[raised].min() > 0.08


def test_standing_feet_do_not_slide(case: Case) -> None:
    still = np.linalg.norm(np.diff(case.truth.joints[:, :, FEET], axis=1), axis=-1) < 1e-3
    step = np.linalg.norm(np.diff(case.joints[:, :, FEET], axis=1), axis=-1)[still] * 30
    assert np.median(step) < 0.08, "metres per second"


def test_first_place_is_the_origin(case: Case) -> None:
    assert np.abs(case.joints[:, 0, 0].mean(axis=0)[[0, 2]]).max() < 1e-4
    assert 0.7 < case.joints[:, :, 0, 1].mean() < 1.2


def test_dancers_keep_their_distance(duet: Case) -> None:
    found, true = (np.linalg.norm(joints[0, :, 0] - joints[1, :, 0], axis=-1) for joints in duet.seen)
    np.testing.assert_allclose(found, true, rtol=0.1)
    assert (duet.joints[0, :, 0, 0] < duet.joints[1, :, 0, 0]).all(), "left stays left of right"
    assert (duet.joints[0, :, 0, 2] > duet.joints[1, :, 0, 2]).mean() > 0.95, "in front stays in front"


def test_facing_is_kept(case: Case) -> None:
    def front(joints: np.ndarray) -> np.ndarray:
        across = joints[..., JOINT_INDEX["left_hip"], :] - joints[..., JOINT_INDEX["right_hip"], :]
        return np.arctan2(across[..., 2], across[..., 0])

    difference = front(case.seen[0]) - front(case.seen[1])
    assert np.rad2deg(np.abs(np.angle(np.exp(1j * difference)))).mean() < 6


def test_rotations_are_rotations(case: Case) -> None:
    product = case.found.rotations @ np.swapaxes(case.found.rotations, -1, -2)
    assert np.abs(product - np.eye(3)).max() < 1e-5
    assert np.linalg.det(case.found.rotations).min() > 0.999
    for value in (case.found.rotations, case.found.transl, case.found.rest_offsets):
        assert value.dtype == np.float32
        assert np.isfinite(value).all()
    camera = np.asarray(case.found.camera.rotation).reshape(3, 3)
    np.testing.assert_allclose(camera @ camera.T, np.eye(3), atol=1e-6)
    np.testing.assert_array_equal(case.found.times_s, case.truth.times_s)


def test_noise_and_a_hidden_arm_degrade_it_gently() -> None:
    truth = together([dance(0, 60)], camera_at())
    found = landmarks_of(truth, noise_m=0.03, seed=1)
    arm = [LANDMARK_INDEX[f"left_{part}"] for part in ("elbow", "wrist", "index", "pinky", "thumb")]
    gone = slice(20, 32)
    found.visibility[:, gone, arm] = 0.05
    found.world[:, gone, arm] += 0.2
    found.image[:, gone, arm] += 60
    case = Case(truth, fit(Filters().load().landmarks(found)))
    errors = case.limb_errors()
    hidden = [LIMBS.index(JOINT_INDEX[name]) for name in ("left_elbow", "left_wrist")]
    seen = np.delete(errors, hidden, axis=2)
    assert seen.mean() < 0.03, "smoothing and the body's own limits beat the noise of 30 mm per axis"
    assert np.quantile(seen, 0.95) < 0.075
    assert errors[:, gone][:, :, hidden].mean() < 0.3, "nearer than the wrong guess, which is 35 cm off"
    assert np.delete(errors, range(15, 37), axis=1)[:, :, hidden].mean() < 0.04, (
        "before and after it is as good"
    )
    assert np.ptp(bone_lengths(case.joints), axis=1).max() < 1e-5
    jump = np.linalg.norm(np.diff(case.joints, axis=1), axis=-1).max()
    assert jump < 2 * np.linalg.norm(np.diff(truth.joints, axis=1), axis=-1).max()


def test_same_input_same_bytes() -> None:
    quick = Skeleton(steps=(10, 10, 10))
    found = landmarks_of(together([dance(5, 40)], camera_at()), noise_m=0.01)
    first, second = (fit(dataclasses.replace(found), quick) for _ in range(2))
    for name in ("rotations", "transl", "rest_offsets"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()
    assert first.camera == second.camera


def test_input_is_left_as_it_was() -> None:
    found = landmarks_of(together([dance(5, 20)], camera_at()))
    before = {name: value.copy() for name, value in vars(found).items()}
    fit(found, Skeleton(steps=(2, 2, 2)))
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(found, name), value)


@pytest.mark.parametrize("roll_deg", [-24.0, 13.0])
def test_a_rolled_camera_is_found_and_dancers_stand_upright(roll_deg: float) -> None:
    dancers = [dance(1, 60, place=(-0.7, 0.3)), dance(2, 60, place=(0.7, -0.4), facing_deg=-40)]
    case = solve(together(dancers, camera_at(1.6, 4.5, 8.0, roll_deg)))
    up, true_up = (np.asarray(c.rotation).reshape(3, 3)[:, 1] for c in (case.found.camera, case.truth.camera))
    assert np.rad2deg(np.arccos(up @ true_up)) < 4
    assert case.limb_errors().mean() < 0.025
    found = case.found.camera.project(case.joints)[:, :, LIMBS]
    true = case.truth.camera.project(case.truth.joints)[:, :, LIMBS]
    assert np.linalg.norm(found - true, axis=-1).mean() < 8
    standing = case.truth.joints[:, :, FEET, 1] < 0.005
    assert np.abs(case.joints[:, :, FEET, 1][standing] - TOE_M).mean() < 0.02


def rolled_parts(trunk_deg: float, legs_deg: float) -> Landmarks:
    """Somebody whose trunk and legs lean to the right in the image by these angles."""
    found = landmarks_of(together([dance(0, 10)], camera_at()))
    legs = [
        i
        for name, i in LANDMARK_INDEX.items()
        if name.endswith(("hip", "knee", "ankle", "heel", "foot_index"))
    ]
    trunk = [i for i in LANDMARK_INDEX.values() if i not in legs]
    for part, angle in ((trunk, trunk_deg), (legs, legs_deg)):
        found.world[:, :, part] = found.world[:, :, part] @ level_rotation(-np.deg2rad(angle)).T.astype(
            np.float32
        )
    # In the middle of the image, where the estimator's view is the camera's.
    found.image[:] = (WIDTH_PX / 2, HEIGHT_PX / 2)
    return found


@pytest.mark.parametrize(
    ("trunk_deg", "legs_deg", "roll_deg"),
    [(17, 17, 17), (-25, -25, -25), (0, 20, 0), (20, -20, 0), (70, 80, 0)],
    ids=["right", "left", "a lunge", "a bend", "lying"],
)
def test_a_roll_leans_trunk_and_legs_to_the_same_side(
    trunk_deg: float, legs_deg: float, roll_deg: float
) -> None:
    found = camera_roll(rolled_parts(trunk_deg, legs_deg), VIDEO, Skeleton())
    assert np.rad2deg(found) == pytest.approx(roll_deg, abs=4)
    assert (found == 0) == (roll_deg == 0)


def test_landmarks_of_a_level_camera_are_not_touched() -> None:
    found = landmarks_of(together([dance(5, 20)], camera_at(roll_deg=1.5)))
    roll_rad = camera_roll(found, VIDEO, Skeleton())
    assert roll_rad == 0
    assert level_landmarks(found, VIDEO, roll_rad) is found


def test_levelled_landmarks_are_those_of_a_level_camera() -> None:
    dancers = [dance(5, 20, place=(0.6, 0.0))]
    rolled = landmarks_of(together(dancers, camera_at(1.5, 4.5, 6.0, 20.0)))
    level = landmarks_of(together(dancers, camera_at(1.5, 4.5, 6.0)))
    found = level_landmarks(rolled, VIDEO, np.deg2rad(20.0))
    np.testing.assert_allclose(found.image, level.image, atol=1e-2)
    np.testing.assert_allclose(found.world, level.world, atol=1e-5)


# --- its parts ---------------------------------------------------------------------------------------------------


@pytest.mark.shared
def test_first_guess_meets_real_motion(shared: object) -> None:
    """Directions of real limbs: where the bones of the first guess point, before anything is optimised."""
    with np.load(shared / "data/mocap/modern_05_02.npz") as data:  # type: ignore[operator]
        joints = data["joints"][:, ::12].astype(np.float64)
    world = np.zeros((*joints.shape[:2], len(LANDMARK_INDEX), 3))
    names = [
        f"{side}_{part}"
        for side in ("left", "right")
        for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
    ]
    for name in names:
        world[:, :, LANDMARK_INDEX[name]] = joints[:, :, JOINT_INDEX[name]]
    rotations = initial_rotations(world)
    np.testing.assert_allclose(
        rotations @ np.swapaxes(rotations, -1, -2), np.broadcast_to(np.eye(3), rotations.shape), atol=1e-6
    )
    assert np.linalg.det(rotations).min() > 0.999
    posed = forward_kinematics(
        matrix_to_axis_angle(rotations), np.zeros((*rotations.shape[:2], 3)), MEAN_OFFSETS
    )
    for side in ("left", "right"):
        for near, far in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist")):
            a, b = JOINT_INDEX[f"{side}_{near}"], JOINT_INDEX[f"{side}_{far}"]
            mine, real = (unit(j[:, :, b] - j[:, :, a]) for j in (posed, joints))
            angle = np.degrees(np.arccos(np.clip((mine * real).sum(-1), -1, 1)))
            assert np.median(angle) < 12, (side, near, far)


def test_log_map() -> None:
    axis = np.array([[0.6, 0.0, 0.8]])
    for degrees in (0, 1, 20, 60, 90):
        vector = axis * np.deg2rad(degrees)
        found = log_map(torch.from_numpy(Rotation.from_rotvec(vector).as_matrix())).numpy()
        np.testing.assert_allclose(found, vector, atol=0.11 * np.deg2rad(degrees) + 1e-9)
    angles = np.deg2rad(np.arange(0, 170, 5))
    turned = Rotation.from_rotvec(angles[:, None] * axis).as_matrix()
    size = log_map(torch.from_numpy(turned)).norm(dim=-1).numpy()
    assert (np.diff(size) > 0).all(), "a larger turn never looks smaller"


def test_frames_that_are_not_fitted_lie_between_those_that_are() -> None:
    """Sixty frames a second, of which every fifth is fitted and the outermost are not."""
    truth = together([dance(3, 123, fps=60.0)], camera_at(), fps=60.0)
    case = solve(truth)
    assert case.limb_errors().mean() < 0.02
    bend = np.linalg.norm(np.diff(case.joints, 2, axis=1), axis=-1)
    true_bend = np.linalg.norm(np.diff(truth.joints, 2, axis=1), axis=-1)
    arms = [joint for joint in range(NUM_JOINTS) if "elbow" in fit_name(joint) or "wrist" in fit_name(joint)]
    assert bend[:, :, arms].max() < 2 * true_bend.max()
    assert bend.max() < 0.025, "feet that were held are let go within a few frames"


def test_a_last_frame_that_comes_late_does_not_throw_the_dancer() -> None:
    found = landmarks_of(together([dance(0, 62)], camera_at()))
    found.times_s[-1] += 0.4
    fitted = fit(found)
    step = np.linalg.norm(np.diff(fitted.transl, axis=1), axis=-1)[0]
    turn = fitted.rotations[0, 1:] @ np.swapaxes(fitted.rotations[0, :-1], -1, -2)
    angle = np.rad2deg(np.arccos(np.clip((np.trace(turn, axis1=-2, axis2=-1) - 1) / 2, -1, 1))).max(axis=-1)
    assert step[-1] < 2 * step[:-1].max()
    assert angle[-1] < 2 * angle[:-1].max()


@pytest.mark.parametrize("start_s", [0.0, 0.1, 17 / 30, 3.3, 101.7])
@pytest.mark.parametrize(("fps", "every"), [(24, 2), (25, 2), (30_000 / 1_001, 2), (30, 2), (60, 5), (10, 1)])
def test_a_frame_rate_has_one_step(fps: float, every: int, start_s: float) -> None:
    times_s = start_s + np.arange(round(5 * fps)) / fps
    some = frames_to_fit(times_s, 12)
    assert some.step == every
    assert some.start <= every // 2
    # Half at 60, half at 15: the slow half must not lose frames.
    mixed = np.concatenate([times_s[0] + np.arange(240) / 60, times_s[0] + 4 + np.arange(60) / 15])
    assert frames_to_fit(mixed, 12).step == 1


def test_part_of_landmarks_takes_every_nth_frame() -> None:
    found = landmarks_of(together([dance(0, 21)], camera_at()))
    part = found.part(slice(0, None, 5))
    np.testing.assert_array_equal(part.times_s, found.times_s[::5])
    np.testing.assert_array_equal(part.image, found.image[:, ::5])
    assert found.part(slice(0, 21)) is found


def test_provenance_names_the_solver_and_its_libraries() -> None:
    ((stage, name, version),) = FitSkeleton().provenance()
    assert (stage, name) == ("fit", "skeleton-adam")
    assert version == f"{opendance_hf.__version__}+torch{torch.__version__.split('+')[0]}"
