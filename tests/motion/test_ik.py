from __future__ import annotations

from pathlib import Path

import numpy as np

from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.ik import joints_to_poses
from opendance_hf.motion.skeleton import MEAN_OFFSETS


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
    np.testing.assert_allclose(again[1, 4], rest[1, 4], atol=1e-4)


def test_real_mocap_is_reproduced(shared: Path) -> None:
    with np.load(shared / "data" / "mocap" / "salsa_01.npz") as data:
        joints = data["joints"][0, :300]
    again = forward_kinematics(*joints_to_poses(joints))
    assert np.linalg.norm(again - joints, axis=-1).mean() < 0.03
