"""Metrics of a leader and a follower, as Duolando (Siyao et al., ICLR 2024) defines them.

The Fréchet distance and the diversity of :func:`cross_distance_features` are known as FID_cd and Div_cd.
OpenDance-3D does not say who leads: its own measure of two dancers is the motion-motion score.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.metrics.beats import beat_alignment, motion_beats
from opendance_hf.metrics.features import Floats, as_joints

#: Pelvis, ankles, feet, head, shoulders, wrists.
CROSS_JOINTS: Final = (0, 7, 8, 10, 11, 15, 16, 17, 20, 21)
CROSS_DISTANCE_DIM: Final = len(CROSS_JOINTS) ** 2


def cross_distance_features(follower: npt.ArrayLike, leader: npt.ArrayLike) -> Floats:
    """Time means of the distances between ten joints of the follower and ten of the leader.

    Args:
        follower, leader: (..., T, J, 3), metres, in one world frame; the first 22 joints are SMPL's.

    Returns:
        (..., 100) metres; the leader's joint changes fastest.

    Raises:
        ValueError: if the shapes differ, there are fewer than 22 joints, or a joint is NaN or infinite.
    """
    one = as_joints(follower, num_joints=None, min_frames=1)
    two = as_joints(leader, num_joints=None, min_frames=1)
    if one.shape != two.shape or one.shape[-2] <= max(CROSS_JOINTS):
        raise ValueError(
            f"follower and leader must have one shape (frames, 22 or more, 3), got {one.shape}, {two.shape}"
        )
    index = list(CROSS_JOINTS)
    between = one[..., index, None, :] - two[..., None, index, :]
    distance = np.linalg.norm(between, axis=-1).mean(axis=-3)
    return distance.reshape(*distance.shape[:-2], CROSS_DISTANCE_DIM)


def beat_echo_degree(leader: npt.ArrayLike, follower: npt.ArrayLike) -> float | None:
    """BED: equation 1 from the leader's motion beats to the follower's.

    Args:
        leader, follower: (T, J, 3), metres, 60 FPS.

    Returns:
        A number in [0, 1]; None if either has no beats.

    Raises:
        ValueError: as :func:`opendance_hf.metrics.beats.motion_beats`.
    """
    return beat_alignment(motion_beats(leader), motion_beats(follower))
