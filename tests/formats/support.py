"""A dance with everything that a format may lose: travel, a turn, twisted forearms and chest, two different bodies."""

from __future__ import annotations

import numpy as np

from opendance_hf.formats.motion import Motion
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS


def dance(num_dancers: int = 1, num_frames: int = 90, fps: float = 60.0) -> Motion:
    """Return a smooth dance on the ground; the right hand is above the head at the end of the first second."""
    time = np.arange(num_frames) / fps
    poses = np.zeros((num_dancers, num_frames, NUM_JOINTS, 3))
    transl = np.zeros((num_dancers, num_frames, 3))
    offsets = np.repeat(MEAN_OFFSETS[None].astype(np.float64), num_dancers, axis=0)
    for dancer in range(num_dancers):
        offsets[dancer] *= 1 + 0.06 * dancer
        phase = 2 * np.pi * time * (1 + 0.1 * dancer) + dancer

        def swing(
            joint: str, axis: int, size: float, shift: float = 0.0, rest: float = 0.0,
            dancer: int = dancer, phase: np.ndarray = phase,
        ) -> None:  # fmt: skip
            poses[dancer, :, JOINT_INDEX[joint], axis] = rest + size * np.sin(phase + shift)

        poses[dancer, :, 0, 1] = 1.75 * time / time[-1] - 0.4 * dancer
        swing("left_hip", 0, 0.5)
        swing("right_hip", 0, 0.5, np.pi)
        swing("left_knee", 0, 0.4, 1.0, 0.5)
        swing("right_knee", 0, 0.4, 1.0 + np.pi, 0.5)
        swing("spine2", 1, 0.3)
        swing("spine3", 1, 0.35, 0.5)
        swing("left_shoulder", 2, 0.4, 0.2, -0.9)
        swing("right_shoulder", 2, 0.6, 0.0, -0.6)
        swing("left_elbow", 1, 0.5, 0.0, -0.7)
        swing("right_elbow", 0, 1.1, 0.7)  # twist of the forearm
        swing("left_wrist", 0, 0.8)
        swing("neck", 1, 0.5, 0.3)
        transl[dancer] = np.stack(
            [0.7 * time + 1.2 * dancer, 0.93 + 0.02 * np.sin(2 * phase), 0.4 * np.sin(phase)], 1
        )
    joints = forward_kinematics(poses, transl, offsets[:, None])
    return Motion(joints, fps, poses, transl, offsets, meta={"id": "dance"})


def rotation_error_deg(left: np.ndarray, right: np.ndarray) -> float:
    """Return the largest angle between two arrays of axis-angles, degrees."""
    between = np.swapaxes(axis_angle_to_matrix(left), -1, -2) @ axis_angle_to_matrix(right)
    sine = np.linalg.norm(between - np.swapaxes(between, -1, -2), axis=(-2, -1)) / np.sqrt(8)
    cosine = (np.trace(between, axis1=-2, axis2=-1) - 1) / 2
    return float(np.degrees(np.arctan2(sine, cosine)).max())


def joint_error_mm(left: np.ndarray, right: np.ndarray) -> float:
    """Return the largest distance between two arrays of joints, millimetres."""
    return float(np.linalg.norm(left - right, axis=-1).max() * 1000)
