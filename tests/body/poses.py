"""Twelve poses that dancers take, by hand."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from opendance_hf.motion.skeleton import JOINT_INDEX, NUM_JOINTS


def pose(**turns_deg: tuple[float, ...] | list[tuple[float, ...]]) -> np.ndarray:
    """(24, 3) axis-angle from degrees by joint; of a list, the last turn comes first."""
    out = np.zeros((NUM_JOINTS, 3))
    for joint, turns in turns_deg.items():
        turn = Rotation.identity()
        for vector in turns if isinstance(turns, list) else [turns]:
            turn = turn * Rotation.from_rotvec(vector, degrees=True)
        out[JOINT_INDEX[joint]] = turn.as_rotvec()
    return out


POSES = {
    "t": pose(),
    "a": pose(
        left_shoulder=(0, 0, -60), right_shoulder=(0, 0, 60), left_elbow=(0, -15, 0), right_elbow=(0, 15, 0)
    ),
    "squat": pose(
        left_hip=[(0, 0, 15), (-105, 0, 0)], right_hip=[(0, 0, -15), (-105, 0, 0)],
        left_knee=(120, 0, 0), right_knee=(120, 0, 0), left_ankle=(-28, 0, 0), right_ankle=(-28, 0, 0),
        spine1=(20, 0, 0), spine2=(10, 0, 0),
        left_shoulder=[(0, -70, 0), (0, 0, -10)], right_shoulder=[(0, 70, 0), (0, 0, 10)],
    ),
    "high kick": pose(
        left_hip=(-120, 0, 0), left_knee=(8, 0, 0), left_ankle=(30, 0, 0), spine1=(-5, 0, 0),
        left_shoulder=(0, 0, -25), right_shoulder=(0, 0, 25),
    ),
    "arms overhead": pose(
        left_collar=(0, 0, 20), right_collar=(0, 0, -20), left_shoulder=(0, 0, 65), right_shoulder=(0, 0, -65)
    ),
    "arms crossed": pose(
        left_shoulder=[(0, -55, 0), (0, 0, -48)], right_shoulder=[(0, 55, 0), (0, 0, 48)],
        left_elbow=(0, -105, 0), right_elbow=(0, 105, 0),
    ),
    "back bend": pose(
        pelvis=(-15, 0, 0), spine1=(-25, 0, 0), spine2=(-25, 0, 0), spine3=(-15, 0, 0), neck=(-25, 0, 0),
        left_hip=(10, 0, 0), right_hip=(10, 0, 0), left_shoulder=(0, 0, 50), right_shoulder=(0, 0, -50),
    ),
    "forward fold": pose(
        pelvis=(85, 0, 0), left_hip=(-85, 0, 0), right_hip=(-85, 0, 0),
        spine1=(20, 0, 0), spine2=(20, 0, 0), spine3=(10, 0, 0), neck=(20, 0, 0),
        left_shoulder=(0, -80, 0), right_shoulder=(0, 80, 0),
    ),
    "split": pose(
        pelvis=(0, 60, 0), left_hip=(-85, 0, 0), right_hip=(75, 0, 0), left_ankle=(35, 0, 0), right_ankle=(35, 0, 0)
    ),
    "jump": pose(
        left_hip=[(0, 0, 35), (-20, 0, 0)], right_hip=[(0, 0, -35), (-20, 0, 0)],
        left_knee=(50, 0, 0), right_knee=(70, 0, 0), left_ankle=(35, 0, 0), right_ankle=(35, 0, 0),
        left_shoulder=(0, 0, 40), right_shoulder=(0, 0, -40), left_elbow=(0, 0, 30), right_elbow=(0, 0, -30),
    ),
    "twist": pose(
        spine1=(0, 25, 0), spine2=(0, 25, 0), spine3=(0, 15, 0), neck=(0, 30, 0),
        left_shoulder=[(0, -60, 0), (0, 0, -20), (60, 0, 0)], right_shoulder=[(0, 0, 50), (-70, 0, 0)],
        left_elbow=(0, -60, 0), right_elbow=(0, 90, 0), left_wrist=(90, 0, 0), right_wrist=(-80, 0, 0),
    ),
    "sitting": pose(
        pelvis=(-15, 0, 0), spine1=(15, 0, 0), spine2=(15, 0, 0), neck=(-10, 0, 0),
        left_hip=[(0, 0, 25), (-95, 0, 0), (0, 35, 0)], right_hip=[(0, 0, -10), (-115, 0, 0)],
        left_knee=(110, 0, 0), right_knee=(140, 0, 0),
        left_shoulder=(0, -40, -70), right_shoulder=(0, 60, 45), right_elbow=(0, 60, 0),
    ),
}  # fmt: skip
