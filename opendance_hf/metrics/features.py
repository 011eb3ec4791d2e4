"""Kinetic and geometric features of a motion: what FID_k, FID_g, Div_k and Div_g are computed on.

Kinetic: energies of the 24 joints (Onuma et al., FMDistance, Eurographics 2008). Geometric: how often each of 32
relations between body parts holds (Müller et al., Efficient content-based retrieval of motion capture data, SIGGRAPH
2005). Source: paper section 5.2. By default the numbers are those of the evaluation code of Bailando and AIST++,
which the field reports, with its peculiarities; ``corrected`` mends each of them:

* *Energy expenditure* is meant to be an acceleration, but one of its two velocities divides only the earlier position
  by the frame time. It grows with 60 times the distance from the origin, which is why :func:`motion_features`
  first moves the root of frame 0 there. Corrected: both velocities are divided.
* The geometric features take velocities as if frames were 1/120 s apart. At 60 FPS their speed thresholds are half of
  what the table below says. Corrected: the true frame rate.
* Geometric features 4 and 5 are one and the same (the chest against the spine) and 10 and 11 mix up the hands, since
  the code ignores the last of four joints. Corrected, after Müller et al.: 4 and 5, the right and left hand rises
  along the trunk; 9, the hands approach; 10 and 11, the right and left hand leaves the pelvis.
* A kinetic window is 2 frames to either side. Corrected: 2/60 s, whatever the frame rate.

Joints are y-up, metres, in the order of :mod:`opendance_hf.motion.skeleton`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.skeleton import JOINT_INDEX, NUM_JOINTS

Floats = npt.NDArray[np.float64]
Motion = npt.NDArray[np.floating]

KINETIC_DIM: Final = 3 * NUM_JOINTS
GEOMETRIC_DIM: Final = 32
#: A difference of differences needs three frames.
MIN_FRAMES: Final = 3

_FPS = 60.0
#: Velocities and accelerations are averaged over this many frames to either side, at 60 FPS.
_WINDOW = 2
_GEOMETRIC_FPS = 120.0


class MotionFeatures(NamedTuple):
    """Features of N motions, a row each: ``kinetic`` (N, 72) and ``geometric`` (N, 32)."""

    kinetic: Floats
    geometric: Floats


def motion_features(
    motions: Iterable[Motion], *, corrected: bool = False, fps: float = _FPS
) -> MotionFeatures:
    """Both features of every motion, each motion moved so that its root starts at the origin.

    Args:
        motions: N arrays (T, 24, 3), metres, y-up; T may differ. An array of equal lengths will do too.
        corrected: mend the peculiarities of the official code, listed above.
        fps: frames a second. Only corrected features know any other than 60.

    Raises:
        ValueError: if a motion has another shape, fewer than three frames, NaN or infinity; the message counts
            motions from 0. If the frame rate is not 60 and the features are not corrected.
    """
    kinetic, geometric = [], []
    for i, motion in enumerate(motions):
        try:
            rooted = root_at_origin(as_joints(motion))
        except ValueError as error:
            raise ValueError(f"motion {i}: {error}") from None
        kinetic.append(kinetic_features(rooted, corrected=corrected, fps=fps))
        geometric.append(geometric_features(rooted, corrected=corrected, fps=fps))
    return MotionFeatures(
        np.reshape(kinetic, (-1, KINETIC_DIM)).astype(np.float64),
        np.reshape(geometric, (-1, GEOMETRIC_DIM)).astype(np.float64),
    )


def root_at_origin(joints: Motion) -> Motion:
    """(..., T, J, 3) moved so that the root joint of frame 0 is the origin; height included, as the field does."""
    return joints - joints[..., :1, :1, :]


def as_joints(
    joints: npt.ArrayLike, *, num_joints: int | None = NUM_JOINTS, min_frames: int = MIN_FRAMES
) -> Floats:
    """Check joints (..., T, J, 3) and return them in float64.

    Raises:
        ValueError: for another shape, fewer than ``min_frames`` frames, NaN or infinity.
    """
    array = np.asarray(joints, dtype=np.float64)
    wanted = f"(frames, {num_joints or 'joints'}, 3)"
    if array.ndim < 3 or array.shape[-1] != 3 or num_joints not in (None, array.shape[-2]):
        raise ValueError(f"joints must be {wanted}, got {array.shape}")
    if array.shape[-3] < min_frames:
        raise ValueError(f"joints must have at least {min_frames} frames, got {array.shape[-3]}")
    # The sum of squares is finite only if all are, and several times as fast; it may overflow for huge numbers, though.
    flat = array.reshape(-1)
    if not np.isfinite(np.dot(flat, flat)) and not np.isfinite(array).all():
        raise ValueError("joints hold NaN or infinity")
    return array


def kinetic_features(joints: npt.ArrayLike, *, corrected: bool = False, fps: float = _FPS) -> Floats:
    """Kinetic features (..., 72) of joints (..., T, 24, 3): for each joint three means over frames 1 to T-1.

    The three are horizontal kinetic energy vx² + vz², vertical kinetic energy vy² (m²/s²), both of the velocity across
    a window of five frames, and *energy expenditure*, the norm of the windowed acceleration (m/s²), by default with
    the slip described above. With it the result depends on where the motion stands; comparable numbers are those of
    :func:`motion_features`.

    Args:
        joints: metres, y-up.
        corrected: without the slip, and with a window of the same duration at any frame rate.
        fps: frames a second; 60 unless corrected.

    Raises:
        ValueError: if the joints have another shape, fewer than three frames, NaN or infinity; see also
            :func:`motion_features`.
    """
    from opendance_hf.metrics import kernels

    p = as_joints(joints)
    frame_s = 1 / _checked_fps(corrected, fps)
    reach = max(1, round(_WINDOW * fps / _FPS))
    # x[k+1] - x[k] - (x[k] dt - x[k-1]) instead of x[k+1] - x[k] - (x[k] - x[k-1]).
    slip = 0.0 if corrected else 1 - frame_s
    means = [kernels.kinetic(motion, frame_s, reach, slip) for motion in _each(p)]
    return np.reshape(means, (*p.shape[:-3], KINETIC_DIM))


def _each(p: Floats) -> Floats:
    """(..., T, J, 3) as (N, T, J, 3), laid out for the kernels."""
    return np.ascontiguousarray(p).reshape(-1, *p.shape[-3:])


def _checked_fps(corrected: bool, fps: float) -> float:
    if not (np.isfinite(fps) and fps > 0):
        raise ValueError(f"fps must be positive, got {fps}")
    if not corrected and fps != _FPS:
        raise ValueError(
            f"the official features are defined at 60 FPS, got {fps:g}: resample, or use corrected=True"
        )
    return fps


# Lengths of the template body that thresholds are given in, metres.
_HUMERUS, _SHOULDERS, _HIPS = 0.2568381, 0.3908484, 0.1192471

# Points that are no joints, appended to the 24 by the kernel: the origin, one above, one below, the lowest joint's height.
_POINTS: Final[dict[str, int]] = {
    **JOINT_INDEX,
    **{name: NUM_JOINTS + i for i, name in enumerate(("zero", "up", "down", "floor"))},
}

# Every relation is a rule of the points a, b, c, d and a threshold; all comparisons are strict.
#   beyond    p lies more than t along a->b, seen from c            (points a, b, c, p)
#   off_plane p lies more than t off the plane of a, b, c           (points a, b, c, p)
#   along     p moves faster than t along a->b, relative to c       (points a, b, c, p)
#   off       p moves faster than t off the plane of a, b, c        (points a, b, c, p)
#   fast      p moves faster than t                                 (point p)
#   angle     the angle between a->b and c->d lies in (low, high)   (points a, b, c, d; degrees)
_Threshold = float | tuple[float, float]
_RELATIONS: Final[tuple[tuple[str, str, _Threshold], ...]] = (
    ("off", "neck right_hip left_hip right_wrist", 1.8 * _HUMERUS),
    ("off", "neck left_hip right_hip left_wrist", 1.8 * _HUMERUS),
    ("beyond", "spine3 neck neck right_wrist", 0.2 * _HUMERUS),
    ("beyond", "spine3 neck neck left_wrist", 0.2 * _HUMERUS),
    ("along", "spine1 spine3 spine1 spine3", 1.8 * _HUMERUS),
    ("along", "spine1 spine3 spine1 spine3", 1.8 * _HUMERUS),
    ("angle", "right_elbow right_shoulder right_elbow right_wrist", (0, 110)),
    ("angle", "left_elbow left_shoulder left_elbow left_wrist", (0, 110)),
    ("beyond", "left_shoulder right_shoulder left_wrist right_wrist", 2.5 * _SHOULDERS),
    ("along", "left_wrist right_wrist left_wrist right_wrist", 1.4 * _HUMERUS),
    ("along", "right_wrist pelvis right_wrist left_wrist", 1.4 * _HUMERUS),
    ("along", "left_wrist pelvis left_wrist right_wrist", 1.4 * _HUMERUS),
    ("fast", "right_wrist", 2.5 * _HUMERUS),
    ("fast", "left_wrist", 2.5 * _HUMERUS),
    ("off_plane", "pelvis left_hip left_foot right_ankle", 0.38 * _HUMERUS),
    ("off_plane", "pelvis right_hip right_foot left_ankle", 0.38 * _HUMERUS),
    ("beyond", "zero up floor right_ankle", 1.2 * _HUMERUS),
    ("beyond", "zero up floor left_ankle", 1.2 * _HUMERUS),
    ("beyond", "left_hip right_hip left_ankle right_ankle", 2.1 * _HIPS),
    ("angle", "right_knee right_hip right_knee right_ankle", (0, 110)),
    ("angle", "left_knee left_hip left_knee left_ankle", (0, 110)),
    ("fast", "right_ankle", 2.5 * _HUMERUS),
    ("fast", "left_ankle", 2.5 * _HUMERUS),
    ("angle", "neck pelvis right_shoulder right_elbow", (25, 180)),
    ("angle", "neck pelvis left_shoulder left_elbow", (25, 180)),
    ("angle", "neck pelvis right_hip right_knee", (50, 180)),
    ("angle", "neck pelvis left_hip left_knee", (50, 180)),
    ("off_plane", "right_ankle neck left_ankle pelvis", 0.5 * _HUMERUS),
    ("angle", "neck pelvis zero up", (70, 110)),
    ("beyond", "zero down floor right_wrist", -1.2 * _HUMERUS),
    ("beyond", "zero down floor left_wrist", -1.2 * _HUMERUS),
    ("fast", "pelvis", 2.3 * _HUMERUS),
)

# The same with the hands where Müller et al. have them.
_MENDED: Final[dict[int, str]] = {
    4: "spine1 spine3 spine3 right_wrist",
    5: "spine1 spine3 spine3 left_wrist",
    9: "left_wrist right_wrist right_wrist left_wrist",
    10: "right_wrist pelvis right_wrist pelvis",
    11: "left_wrist pelvis left_wrist pelvis",
}


def _relations(mended: dict[int, str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats, Floats]:
    """Kinds, points, and the lower and upper limit of every relation, as the kernel wants them."""
    rules = [rule for rule, _, _ in _RELATIONS]
    names = [mended.get(i, relation[1]).split() for i, relation in enumerate(_RELATIONS)]
    points = [[_POINTS[name] for name in (*row, *["zero"] * (4 - len(row)))] for row in names]
    limits = []
    for _, _, threshold in _RELATIONS:
        if isinstance(threshold, tuple):
            # Cosines fall as angles grow, and rounding may take them past 1.
            narrowest, widest = np.cos(np.radians(threshold))
            limits.append((widest, narrowest))
        else:
            limits.append((threshold, np.inf))
    low, high = np.array(limits).T.copy()
    kinds = np.array([("beyond", "off_plane", "along", "off", "fast", "angle").index(rule) for rule in rules])
    return kinds, np.array(points), low, high


_TABLES: Final = {False: _relations({}), True: _relations(_MENDED)}


def geometric_features(joints: npt.ArrayLike, *, corrected: bool = False, fps: float = _FPS) -> Floats:
    """Geometric features (..., 32) of joints (..., T, 24, 3): the share of frames 1 to T-1 where each relation holds.

    Args:
        joints: metres, y-up.
        corrected: true velocities, and the right hands; see above.
        fps: frames a second; 60 unless corrected.

    Raises:
        ValueError: if the joints have another shape, fewer than three frames, NaN or infinity; see also
            :func:`motion_features`.
    """
    from opendance_hf.metrics import kernels

    p = as_joints(joints)
    fps = _checked_fps(corrected, fps)
    rate = fps if corrected else _GEOMETRIC_FPS
    shares = [kernels.geometric(motion, rate, *_TABLES[corrected]) for motion in _each(p)]
    return np.reshape(shares, (*p.shape[:-3], GEOMETRIC_DIM))
