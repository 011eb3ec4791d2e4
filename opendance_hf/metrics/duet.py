"""Metrics of two dancers: as Duolando (Siyao et al., ICLR 2024) defines them, and how near their bodies come.

The Fréchet distance and the diversity of :func:`cross_distance_features` are known as FID_cd and Div_cd.
OpenDance-3D does not say who leads: its own measure of two dancers is the motion-motion score.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from opendance_hf.metrics.beats import beat_alignment, motion_beats
from opendance_hf.metrics.features import Floats, as_joints
from opendance_hf.motion.skeleton import JOINT_INDEX

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


_HANDS = [JOINT_INDEX["left_hand"], JOINT_INDEX["right_hand"]]
#: Hands whose joints are nearer than this can hold each other, metres. SMPL's hand joint is the middle of the palm.
HOLD_DISTANCE: Final = 0.2


def hand_hold_distance(dancer1: npt.ArrayLike, dancer2: npt.ArrayLike) -> Floats:
    """The distance between the nearest hands of two dancers, one of each, in every frame.

    Palm to palm it is 5 to 15 cm. The share of frames below :data:`HOLD_DISTANCE` is 0.37 to 0.85 in ten
    motion-captured salsas, whose dancers let go for turns, and hold shoulder and back too.

    Args:
        dancer1, dancer2: (T, 24, 3), metres, in one world frame.

    Returns:
        (T,) metres. The same whoever comes first.

    Raises:
        ValueError: if the joints have another shape, different lengths, fewer than three frames, NaN or infinity.
    """
    one, two = _two_dancers(dancer1, dancer2)
    between = one[:, _HANDS, None] - two[:, None, _HANDS]
    return np.sqrt(np.einsum("tijk,tijk->tij", between, between).min(axis=(1, 2)))


class Capsule(NamedTuple):
    """A body part: all points at most ``radius`` metres from the line between two joints."""

    joint1: str
    joint2: str
    radius: float


#: The body for :func:`interpenetration`: radii that fit inside an adult of average build, so the sides of the trunk,
#: which is wider than deep, and all soft tissue are left out. Hands and feet are missing: partners touch with them.
CAPSULES: Final = (
    Capsule("pelvis", "neck", 0.10),
    Capsule("left_hip", "right_hip", 0.09),
    Capsule("left_shoulder", "right_shoulder", 0.06),
    Capsule("neck", "head", 0.07),
    *(
        Capsule(f"{side}_{joint1}", f"{side}_{joint2}", radius)
        for side in ("left", "right")
        for joint1, joint2, radius in (
            ("shoulder", "elbow", 0.04),
            ("elbow", "wrist", 0.03),
            ("hip", "knee", 0.065),
            ("knee", "ankle", 0.045),
        )
    ),
)
_START = [JOINT_INDEX[capsule.joint1] for capsule in CAPSULES]
_END = [JOINT_INDEX[capsule.joint2] for capsule in CAPSULES]
_RADIUS = np.array([capsule.radius for capsule in CAPSULES])
_REACH = _RADIUS[:, None] + _RADIUS


def interpenetration(dancer1: npt.ArrayLike, dancer2: npt.ArrayLike) -> Floats:
    """How deep the bodies of two dancers are inside one another, in every frame.

    The largest r1 + r2 - distance over all pairs of :data:`CAPSULES`, one of each dancer.

    Args:
        dancer1, dancer2: (T, 24, 3), metres, in one world frame.

    Returns:
        (T,) metres; 0 where the bodies are apart. The same whoever comes first.

    Raises:
        ValueError: if the joints have another shape, different lengths, fewer than three frames, NaN or infinity.
    """
    one, two = _two_dancers(dancer1, dancer2)
    depth = np.zeros(len(one))
    (middle1, half1), (middle2, half2) = map(_middles, (one, two))
    # Most pairs are further apart than their lengths: only the rest is worth the exact distance.
    between = middle1[:, :, None] - middle2[:, None]
    square = np.einsum("tijk,tijk->tij", between, between)
    frame, i, j = np.nonzero(square < (half1[:, :, None] + half2[:, None] + _REACH) ** 2)
    start, end = np.array(_START), np.array(_END)
    distance = segment_distance(
        one[frame, start[i]], one[frame, end[i]], two[frame, start[j]], two[frame, end[j]]
    )
    np.maximum.at(depth, frame, _REACH[i, j] - distance)
    return depth


def segment_distance(a: Floats, b: Floats, c: Floats, d: Floats) -> Floats:
    """(...) distance between the segments a-b and c-d, ends (..., 3); either may be a point."""
    _, gap = nearest_points(a, b, c, d)
    return np.sqrt(_dot(gap, gap))


def nearest_points(a: Floats, b: Floats, c: Floats, d: Floats) -> tuple[Floats, Floats]:
    """Find the points of the segments a-b and c-d, ends (..., 3), that are nearest to each other.

    Returns:
        (..., 2) positions along the segments, 0 at a and c, 1 at b and d; and (..., 3) the vector from the point of c-d
        to that of a-b.
    """
    along1, along2, between = b - a, d - c, a - c
    length1, length2, cosine = _dot(along1, along1), _dot(along2, along2), _dot(along1, along2)
    slope1, slope2 = _dot(along1, between), _dot(along2, between)
    # The share of a-b nearest to the line c-d, then the share of c-d nearest to that, then of a-b nearest to that.
    # Of parallel lines any point will do to begin with.
    across = length1 * length2 - cosine**2
    share1 = np.clip(_ratio(cosine * slope2 - slope1 * length2, across), 0, 1)
    share2 = np.clip(_ratio(cosine * share1 + slope2, length2), 0, 1)
    share1 = np.clip(_ratio(cosine * share2 - slope1, length1), 0, 1)
    gap = between + share1[..., None] * along1 - share2[..., None] * along2
    return np.stack([share1, share2], axis=-1), gap


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 1e-12)


def _dot(a: Floats, b: Floats) -> Floats:
    return np.einsum("...i,...i->...", a, b)


def _middles(p: Floats) -> tuple[Floats, Floats]:
    """Middle (T, C, 3) and half length (T, C) of every capsule."""
    start, end = p[:, _START], p[:, _END]
    return (start + end) / 2, np.sqrt(_dot(end - start, end - start)) / 2


def _two_dancers(dancer1: npt.ArrayLike, dancer2: npt.ArrayLike) -> tuple[Floats, Floats]:
    one, two = as_joints(dancer1), as_joints(dancer2)
    if one.ndim != 3 or one.shape != two.shape:
        raise ValueError(f"two dancers must have one shape (frames, 24, 3), got {one.shape}, {two.shape}")
    return one, two
