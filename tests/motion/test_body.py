from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from opendance_hf.motion.body import bone_lengths, forward_kinematics, pose_joints
from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.motion.skeleton import JOINT_INDEX, JOINT_NAMES, MEAN_OFFSETS, PARENTS, mirror_index


def reference_fk(pose: np.ndarray, transl: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """One pose, joint by joint, with 4x4 matrices of scipy's rotations."""
    world: list[np.ndarray] = []
    for joint, parent in enumerate(PARENTS):
        local = np.eye(4)
        local[:3, :3] = Rotation.from_rotvec(pose[joint]).as_matrix()
        local[:3, 3] = offsets[joint] + (transl if parent < 0 else 0)
        world.append(local if parent < 0 else world[parent] @ local)
    return np.stack([matrix[:3, 3] for matrix in world])


def test_forward_kinematics_against_matrices() -> None:
    rng = np.random.default_rng(0)
    poses, transl = rng.standard_normal((2, 5, 24, 3)), rng.standard_normal((2, 5, 3))
    offsets = MEAN_OFFSETS + rng.standard_normal((2, 1, 24, 3)) * 0.01
    got = forward_kinematics(poses, transl, offsets)
    for i in np.ndindex(2, 5):
        np.testing.assert_allclose(got[i], reference_fk(poses[i], transl[i], offsets[i[0], 0]), atol=1e-12)


def test_pose_joints_returns_global_rotations_too() -> None:
    rng = np.random.default_rng(3)
    poses, transl = rng.standard_normal((2, 5, 24, 3)), rng.standard_normal((2, 5, 3))
    joints, turned = pose_joints(axis_angle_to_matrix(poses), transl, MEAN_OFFSETS)
    np.testing.assert_array_equal(joints, forward_kinematics(poses, transl, MEAN_OFFSETS))
    for joint in (0, JOINT_INDEX["left_knee"], JOINT_INDEX["right_hand"]):
        expected, parent = Rotation.identity(), joint
        while parent >= 0:
            expected = Rotation.from_rotvec(poses[1, 2, parent]) * expected
            parent = PARENTS[parent]
        np.testing.assert_allclose(turned[1, 2, joint], expected.as_matrix(), atol=1e-12)


def test_rest_pose_is_the_sum_of_offsets() -> None:
    joints = forward_kinematics(np.zeros((24, 3), np.float32), np.array([1, 2, 3], np.float32), MEAN_OFFSETS)
    assert joints.dtype == np.float32
    np.testing.assert_allclose(joints[0], [1, 2, 3])
    left, right = joints[JOINT_INDEX["left_wrist"]], joints[JOINT_INDEX["right_wrist"]]
    assert left[0] > right[0]
    assert joints[JOINT_INDEX["head"], 1] > 2.5 > 2 > joints[JOINT_INDEX["left_foot"], 1] + 0.8


def test_root_turns_everything() -> None:
    rng = np.random.default_rng(1)
    pose = rng.standard_normal((24, 3))
    turned = pose.copy()
    turn = Rotation.from_rotvec([0, 1.1, 0])
    turned[0] = (turn * Rotation.from_rotvec(pose[0])).as_rotvec()
    zero = np.zeros(3)
    straight = forward_kinematics(pose, zero, MEAN_OFFSETS)
    np.testing.assert_allclose(
        forward_kinematics(turned, zero, MEAN_OFFSETS), turn.apply(straight), atol=1e-6
    )


def test_bone_lengths_do_not_depend_on_the_pose() -> None:
    poses = np.random.default_rng(2).standard_normal((6, 24, 3))
    lengths = bone_lengths(forward_kinematics(poses, np.zeros((6, 3)), MEAN_OFFSETS))
    expected = np.broadcast_to(np.linalg.norm(MEAN_OFFSETS[1:], axis=-1), (6, 23))
    np.testing.assert_allclose(lengths, expected, atol=1e-6)


def test_wrong_number_of_joints() -> None:
    with pytest.raises(ValueError, match=r"must end in \(24, 3\)"):
        forward_kinematics(np.zeros((22, 3)), np.zeros(3), MEAN_OFFSETS)
    with pytest.raises(ValueError, match=r"\(24, 3, 3\)"):
        pose_joints(np.zeros((24, 3)), np.zeros(3), MEAN_OFFSETS)


def test_mirror_is_an_involution() -> None:
    mirror = mirror_index()
    np.testing.assert_array_equal(mirror[mirror], np.arange(24))
    assert JOINT_NAMES[mirror[JOINT_INDEX["left_knee"]]] == "right_knee"
    assert mirror[JOINT_INDEX["spine2"]] == JOINT_INDEX["spine2"]


@pytest.mark.shared
def test_parity_skeleton(shared: Path) -> None:
    reference = json.loads((shared / "reference/smpl_skeleton.json").read_text())
    assert list(JOINT_NAMES) == reference["names"]
    assert list(PARENTS) == reference["parents"]
    np.testing.assert_array_equal(MEAN_OFFSETS, np.array(reference["offsets_m"], np.float32))
