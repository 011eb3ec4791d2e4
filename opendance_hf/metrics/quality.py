"""Physical plausibility of one dancer: sliding feet, unsupported accelerations, the ground, jitter.

Joints are (T, 24, 3) in the order of :mod:`opendance_hf.motion.skeleton`, metres, y-up. All numbers are in SI units, so
clips of different frame rates can be compared, but for what the rate itself does: noise between two frames makes
speeds, and even more so jerks, that grow with the rate. Only joints are looked at, which lie inside the body.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from opendance_hf.metrics.features import MIN_FRAMES, Floats, as_joints
from opendance_hf.motion.skeleton import JOINT_INDEX

_PELVIS = JOINT_INDEX["pelvis"]
_ANKLES = [JOINT_INDEX["left_ankle"], JOINT_INDEX["right_ankle"]]
_TOES = [JOINT_INDEX["left_foot"], JOINT_INDEX["right_foot"]]
_HORIZONTAL = [0, 2]
_UP = 1

#: The toe joint of a foot that stands on the ground is about this high, metres.
TOE_HEIGHT: Final = 0.025
#: A foot whose toe joint is lower than this above the ground touches it, metres: its height at rest and 5 cm, the
#: tolerance of GMD (Karunratanakul et al., ICCV 2023).
CONTACT_HEIGHT: Final = TOE_HEIGHT + 0.05
#: A foot on the ground that moves faster slides, m/s: 2.5 cm a frame at 20 FPS, as in GMD.
SLIDE_SPEED: Final = 0.5
#: A dancer whose joints on average move less stands still, m/s: ten salsas and ten modern solos (CMU), whose dancers stand at both ends, do so in 3% and 7% of the time.
STILL_SPEED: Final = 0.15
GRAVITY: Final = 9.81
#: EDGE measures its feet in metres a frame at this rate, and multiplies the score by 10,000.
_EDGE_FPS = 30.0
_EDGE_SCALE = 10_000.0
# Rounding of float32 positions makes accelerations up to about this, m/s².
_STEADY = 0.01


def floor_height(joints: npt.ArrayLike) -> float:
    """The height of the ground, in metres, from where the feet go: for motions whose world has no ground at y = 0.

    The 5th percentile over frames of the lowest ankle or toe joint, less :data:`TOE_HEIGHT`. So 5% of the frames may be
    glitches, and a dancer must have a foot on the ground in 5% of the frames at least. Good to two or three
    centimetres.

    Raises:
        ValueError: if the joints have another shape, fewer than three frames, NaN or infinity.
    """
    return _floor_height(_dancer(joints))


def _floor_height(p: Floats) -> float:
    lowest = p[:, _ANKLES + _TOES, _UP].min(axis=1)
    # np.percentile(lowest, 5), of which most is overhead.
    place = 0.05 * (len(lowest) - 1)
    below = int(place)
    found = np.partition(lowest, (below, below + 1))
    fifth = found[below] + (place - below) * (found[below + 1] - found[below])
    return float(fifth - TOE_HEIGHT)


def foot_skate_ratio(
    joints: npt.ArrayLike,
    *,
    fps: float = 60.0,
    floor: float | None = None,
    speed: float = SLIDE_SPEED,
    contact_height: float = CONTACT_HEIGHT,
) -> float:
    """The share of steps (from a frame to the next) in which the dancer is on the ground but no foot stands on it.

    A foot is on the ground if its toe joint is low in both frames. It stands if any point of it between ankle and toe
    moves less than ``speed`` horizontally, so turning on the ball or on the heel is no sliding. One standing foot
    suffices: while it carries the body, the other may glide over the ground as feet do in most steps of a dance.
    Counting every low and fast foot finds 10 to 30% of sliding in motion-captured salsa, this definition 0 to 2%.

    Args:
        joints: (T, 24, 3), metres, y-up.
        fps: frames a second.
        floor: height of the ground, metres; None for :func:`floor_height`.
        speed: m/s.
        contact_height: of a toe joint above the ground, metres.

    Returns:
        A number in [0, 1]; 0 for a dancer who never touches the ground.

    Raises:
        ValueError: if the joints have another shape, fewer than three frames, NaN or infinity, or fps is not positive.
    """
    return float(
        skating_steps(joints, fps=fps, floor=floor, speed=speed, contact_height=contact_height).mean()
    )


def skating_steps(
    joints: npt.ArrayLike,
    *,
    fps: float = 60.0,
    floor: float | None = None,
    speed: float = SLIDE_SPEED,
    contact_height: float = CONTACT_HEIGHT,
) -> npt.NDArray[np.bool_]:
    """Return the (T-1,) mask of the steps that :func:`foot_skate_ratio` counts; arguments as there."""
    _check_rate(fps)
    p = _dancer(joints)
    low = p[:, _TOES, _UP] < (_floor_height(p) if floor is None else floor) + contact_height
    contact = low[1:] & low[:-1]
    standing = contact & (_slowest_of_foot(p) <= speed / fps)
    return np.asarray(contact.any(axis=1) & ~standing.any(axis=1))


def _slowest_of_foot(p: Floats) -> Floats:
    """(T-1, 2): how far the point of each foot, between ankle and toe, that moves least moves horizontally."""
    step = np.diff(p[:, _ANKLES + _TOES][..., _HORIZONTAL], axis=0)
    ankle, along = step[:, :2], step[:, 2:] - step[:, :2]
    # The steps of the points of a foot lie on a line from the ankle's to the toe's; the nearest to zero is wanted.
    square = np.einsum("...i,...i->...", along, along)
    share = np.clip(-np.einsum("...i,...i->...", ankle, along) / np.where(square > 0, square, 1), 0, 1)
    slowest = ankle + share[..., None] * along
    return np.sqrt(np.einsum("...i,...i->...", slowest, slowest))


def still_ratio(
    joints: npt.ArrayLike, *, fps: float = 60.0, speed: float = STILL_SPEED, window_s: float = 2.0
) -> float:
    """Compute the share of the time that the dancer stands still, as models that freeze do.

    Of the windows of ``window_s``, one starting at every frame, those count in which joints move by less than ``speed``,
    averaged over joints and frames. A clip that is shorter is one window.

    Args:
        joints: (T, 24, 3), metres, y-up.
        fps: frames a second.
        speed: m/s.
        window_s: seconds.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: if the joints have another shape, fewer than three frames, NaN or infinity, or fps is not positive.
    """
    _check_rate(fps)
    moved = np.linalg.norm(np.diff(_dancer(joints), axis=0), axis=-1).mean(axis=1) * fps
    length = min(len(moved), max(1, round(window_s * fps)))
    sums = np.concatenate([[0.0], np.cumsum(moved)])
    return float((sums[length:] - sums[:-length] < length * speed).mean())


def physical_foot_contact(
    joints: npt.ArrayLike, *, fps: float = 60.0, acceleration_scale: float | None = GRAVITY
) -> float | None:
    """PFC of EDGE (Tseng, Castellon and Liu, CVPR 2023): does the body accelerate while no foot stands? Lower is better.

    10,000 times the mean over frames of a · l · r. a is the norm of the pelvis' acceleration, its downward part set to
    zero, for gravity gives that for nothing. l is the horizontal step of the left ankle or toe, whichever is smaller,
    in metres; r the same of the right foot. Steps and accelerations are taken over 1/30 s, the frame of EDGE, or the
    nearest whole number of frames: the noise of shorter ones would make the score depend on the frame rate.

    EDGE divides a by its largest value in the clip. That makes the score depend on the length of the clip, as a
    maximum grows with the number of frames, and lets one glitch hide all the rest. By default a is in units of
    gravity instead, so that the score of a clip is the mean of the scores of its parts.

    Args:
        joints: (T, 24, 3), metres, y-up, at least 1/15 s and one frame.
        fps: frames a second.
        acceleration_scale: what to divide a by, m/s²; None for the clip's own maximum, which at 30 FPS gives the
            number of EDGE's evaluation.

    Returns:
        A number of at least 0. None if the clip's own maximum is wanted and it is less than 0.01 m/s², rounding.

    Raises:
        ValueError: if the joints have another shape, too few frames, NaN or infinity, or fps or acceleration_scale is
            not positive.
    """
    _check_rate(fps)
    frame = max(1, round(fps / _EDGE_FPS))
    p = _dancer(joints, min_frames=2 * frame + 1)
    velocity = p[frame:, _PELVIS] - p[:-frame, _PELVIS]
    acceleration = (velocity[frame:] - velocity[:-frame]) * (fps / frame) ** 2
    np.maximum(acceleration[:, _UP], 0, out=acceleration[:, _UP])
    a = np.sqrt(np.einsum("ti,ti->t", acceleration, acceleration))
    if acceleration_scale is None:
        acceleration_scale = float(a.max())
        if acceleration_scale < _STEADY:
            return None
    elif not acceleration_scale > 0:
        raise ValueError(f"acceleration_scale must be positive, got {acceleration_scale}")
    feet = p[frame:, _ANKLES + _TOES][..., _HORIZONTAL]
    step = (feet[frame:] - feet[:-frame]) * (fps / frame / _EDGE_FPS)
    step = np.sqrt(np.einsum("...i,...i->...", step, step))
    slower = np.minimum(step[:, :2], step[:, 2:])
    return float((a * slower[:, 0] * slower[:, 1]).mean() / acceleration_scale * _EDGE_SCALE)


class GroundPenetration(NamedTuple):
    """How deep joints lie below the ground.

    Attributes:
        mean_depth: of the lowest joint, metres; frames without one below the ground count as 0.
        share: of frames in which the lowest joint is more than 1 cm below the ground.
    """

    mean_depth: float
    share: float


def ground_penetration(joints: npt.ArrayLike, *, floor: float) -> GroundPenetration:
    """How far the lowest of all joints is below the ground.

    Joints lie inside the body. Soles are 2 to 5 cm lower, so a body may well sink that deep before it shows here.

    Args:
        joints: (T, 24, 3), metres, y-up.
        floor: height of the ground, metres. One estimated from the same motion makes little sense.

    Raises:
        ValueError: if the joints have another shape, fewer than three frames, NaN or infinity, or floor is not finite.
    """
    if not np.isfinite(floor):
        raise ValueError(f"floor must be finite, got {floor}")
    depth = np.maximum(floor - _dancer(joints)[..., _UP].min(axis=1), 0)
    return GroundPenetration(float(depth.mean()), float((depth > 0.01).mean()))


def jitter(joints: npt.ArrayLike, *, fps: float = 60.0) -> float:
    """The mean jerk, the third derivative of the position, over joints and frames: m/s³.

    Noise of a given size grows with the cube of the frame rate here: compare only at one rate.

    Args:
        joints: (T, 24, 3), metres.
        fps: frames a second.

    Raises:
        ValueError: if the joints have another shape, fewer than four frames, NaN or infinity, or fps is not positive.
    """
    from opendance_hf.metrics import kernels

    _check_rate(fps)
    p = _dancer(joints, min_frames=4)
    return float(kernels.mean_jerk(np.ascontiguousarray(p)) * fps**3)


def _dancer(joints: npt.ArrayLike, *, min_frames: int = MIN_FRAMES) -> Floats:
    p = as_joints(joints, min_frames=min_frames)
    if p.ndim != 3:
        raise ValueError(f"joints must be those of one dancer, (frames, 24, 3), got {p.shape}")
    return p


def _check_rate(fps: float) -> None:
    if not (fps > 0 and np.isfinite(fps)):
        raise ValueError(f"fps must be positive, got {fps}")
