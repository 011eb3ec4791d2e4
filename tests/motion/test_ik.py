from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opendance_hf.motion import ik
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.ik import joints_to_poses, place_limb, two_bone_ik
from opendance_hf.motion.rotations import unit
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS


def test_joints_of_a_rigid_skeleton_come_back() -> None:
    rng = np.random.default_rng(0)
    poses = rng.normal(0, 0.6, (50, 24, 3))
    transl = rng.normal(0, 1, (50, 3))
    joints = forward_kinematics(poses, transl, MEAN_OFFSETS)
    found, moved, offsets = joints_to_poses(joints)
    np.testing.assert_allclose(offsets, MEAN_OFFSETS, atol=1e-6)
    np.testing.assert_allclose(forward_kinematics(found, moved, offsets), joints, atol=1e-6)


def test_rest_pose_is_zero_and_opposite_bones_are_fine() -> None:
    rest = forward_kinematics(np.zeros((2, 24, 3)), np.zeros((2, 3)), MEAN_OFFSETS)
    rest[1, 4:5] = 2 * rest[1, 1:2] - rest[1, 4:5]  # the left knee straight above its hip
    found, moved, offsets = joints_to_poses(rest, MEAN_OFFSETS)
    np.testing.assert_allclose(found[0], 0, atol=1e-6)
    again = forward_kinematics(found, moved, offsets)
    np.testing.assert_allclose(again[1, 4], rest[1, 4], atol=1e-6)


def test_real_mocap_is_reproduced(shared: Path) -> None:
    with np.load(shared / "data" / "mocap" / "salsa_01.npz") as data:
        joints = data["joints"][0, :300]
    again = forward_kinematics(*joints_to_poses(joints))
    assert np.linalg.norm(again - joints, axis=-1).mean() < 0.03


def limbs(seed: int, shape: tuple[int, ...] = (50,), unequal: bool = True) -> tuple[np.ndarray, ...]:
    """Roots, middles, ends and unit poles of limbs with bones of 0.3 to 0.5 m, bent by 0.3 to 2.5 rad."""
    rng = np.random.default_rng(seed)
    root, along, pole = rng.standard_normal((3, *shape, 3))
    along, pole = unit(along), unit(np.cross(along, pole))
    upper_m = rng.uniform(0.3, 0.5, (*shape, 1))
    lower_m = rng.uniform(0.3, 0.5, (*shape, 1)) if unequal else upper_m
    bend = rng.uniform(0.3, 2.5, (*shape, 1))
    middle = root + upper_m * (np.cos(bend / 2) * along + np.sin(bend / 2) * pole)
    end = middle + lower_m * (np.cos(bend / 2) * along - np.sin(bend / 2) * pole)
    return root, middle, end, pole


def turn(rotations: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return (rotations @ vectors[..., None])[..., 0]


def solve(root: np.ndarray, middle: np.ndarray, end: np.ndarray, goal: np.ndarray, pole: np.ndarray):
    """The middle and the end joint after the two rotations."""
    upper, lower = two_bone_ik(root, middle, end, goal, pole)
    for rotation in (upper, lower):
        np.testing.assert_allclose(
            rotation @ np.swapaxes(rotation, -1, -2), np.eye(3) + 0 * rotation, atol=1e-12
        )
        np.testing.assert_allclose(np.linalg.det(rotation), 1)
    new_middle = root + turn(upper, middle - root)
    return new_middle, new_middle + turn(lower, end - middle)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(), (7,), (2, 3)]))
def test_two_bone_ik_reaches_goals(seed: int, shape: tuple[int, ...]) -> None:
    root, middle, end, pole = limbs(seed, shape)
    rng = np.random.default_rng(seed)
    upper_m, lower_m = (
        np.linalg.norm(bone, axis=-1, keepdims=True) for bone in (middle - root, end - middle)
    )
    least, most = np.abs(upper_m - lower_m) / 0.999, 0.999 * (upper_m + lower_m)
    goal = root + unit(rng.standard_normal((*shape, 3))) * (
        least + rng.uniform(0.001, 1, (*shape, 1)) * (most - least)
    )
    new_middle, new_end = solve(root, middle, end, goal, pole)
    np.testing.assert_allclose(new_end, goal, atol=1e-9)
    # The middle joint stays on its side of the line from root to goal.
    line = unit(goal - root)
    before, after = (
        joint - root - line * ((joint - root) * line).sum(-1, keepdims=True) for joint in (middle, new_middle)
    )
    sure = (np.linalg.norm(before, axis=-1) > 0.02) & (np.linalg.norm(after, axis=-1) > 1e-6)
    assert ((unit(before) * unit(after)).sum(-1) > 1 - 1e-6)[sure].all()


def test_two_bone_ik_leaves_a_limb_that_is_there() -> None:
    root, middle, end, pole = limbs(0)
    upper, lower = two_bone_ik(root, middle, end, end, pole)
    np.testing.assert_allclose(upper, np.broadcast_to(np.eye(3), upper.shape), atol=1e-6)
    np.testing.assert_allclose(lower, np.broadcast_to(np.eye(3), lower.shape), atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.floats(1.05, 100))
def test_two_bone_ik_straightens_towards_far_goals(seed: int, times: float) -> None:
    root, middle, end, pole = limbs(seed)
    length = np.linalg.norm(middle - root, axis=-1, keepdims=True) + np.linalg.norm(
        end - middle, axis=-1, keepdims=True
    )
    line = unit(np.random.default_rng(seed).standard_normal(root.shape))
    _, new_end = solve(root, middle, end, root + times * length * line, pole)
    np.testing.assert_allclose(new_end, root + 0.999 * length * line, atol=1e-9)


@pytest.mark.parametrize("unequal", [False, True])
def test_two_bone_ik_folds_towards_the_root(unequal: bool) -> None:
    root, middle, end, pole = limbs(1, unequal=unequal)
    _, new_end = solve(root, middle, end, root, pole)
    difference = np.linalg.norm(middle - root, axis=-1) - np.linalg.norm(end - middle, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(new_end - root, axis=-1), np.abs(difference) / 0.999, atol=1e-8)


@pytest.mark.parametrize("pole", [[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [0.3, -1.0, 1.0]])
def test_a_straight_limb_bends_towards_the_pole(pole: list[float]) -> None:
    root, middle, end = np.array([[0.0, 1, 0], [0, 0.6, 0], [0, 0.2, 0]])
    new_middle, new_end = solve(root, middle, end, np.array([0, 0.5, 0]), np.array(pole))
    np.testing.assert_allclose(new_end, [0, 0.5, 0], atol=1e-9)
    assert np.sign(new_middle[2]) == np.sign(pole[2])


def test_a_pole_along_the_limb_still_reaches() -> None:
    root, middle, end = np.array([[0.0, 1, 0], [0, 0.6, 0], [0, 0.2, 0]])
    _, new_end = solve(root, middle, end, np.array([0, 0.5, 0]), np.array([0, -1.0, 0]))
    np.testing.assert_allclose(new_end, [0, 0.5, 0], atol=1e-9)


def test_place_limb_keeps_lengths() -> None:
    root, goal, pole = np.random.default_rng(2).standard_normal((3, 200, 3))
    middle, end = place_limb(root, goal, pole, 0.4, 0.45)
    np.testing.assert_allclose(np.linalg.norm(middle - root, axis=-1), 0.4)
    np.testing.assert_allclose(np.linalg.norm(end - middle, axis=-1), 0.45)
    assert (
        (
            (middle - root) * (pole - unit(goal - root) * (pole * unit(goal - root)).sum(-1, keepdims=True))
        ).sum(-1)
        > 0
    ).all()


@pytest.mark.parametrize("degrees", [-170, -60, 30, 120])
def test_the_joints_of_the_spine_share_the_twist_of_the_chest(degrees: float) -> None:
    poses = np.zeros((1, NUM_JOINTS, 3))
    axis = MEAN_OFFSETS[JOINT_INDEX["spine3"]] / np.linalg.norm(MEAN_OFFSETS[JOINT_INDEX["spine3"]])
    poses[0, JOINT_INDEX["spine3"]] = np.radians(degrees) * axis
    joints = forward_kinematics(poses, np.zeros((1, 3)), MEAN_OFFSETS)
    found, transl, rest = joints_to_poses(joints, MEAN_OFFSETS.astype(float))
    np.testing.assert_allclose(forward_kinematics(found, transl, rest), joints, atol=1e-6)
    angles = np.degrees(np.linalg.norm(found[0, [JOINT_INDEX[f"spine{n}"] for n in (1, 2, 3)]], axis=-1))
    np.testing.assert_allclose(angles, abs(degrees) / 3, atol=4)


def test_poses_of_blocks_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    poses = np.cumsum(rng.normal(0, 0.02, (70, 24, 3)), axis=0)
    joints = np.float32(
        forward_kinematics(poses, np.zeros((70, 3)), MEAN_OFFSETS) + rng.normal(0, 0.005, poses.shape)
    )
    ground = np.abs(rng.normal(0, 1, (70, 3)))
    whole = joints_to_poses(joints, lower_by=ground)
    monkeypatch.setattr(ik, "_FRAMES_AT_A_TIME", 16)
    for one, other in zip(whole, joints_to_poses(joints, lower_by=ground), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    lowered = joints_to_poses(joints.astype(np.float64) - ground[:, None])
    for one, other in zip(whole, lowered, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
