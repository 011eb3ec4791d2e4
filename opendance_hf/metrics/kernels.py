"""The loops of the metrics over frames, compiled by numba (cached on disk after the first run).

Modules import this one where they call it: importing numba takes longer than all other imports of the metrics.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float64]


@njit(cache=True)
def kinetic(joints: Floats, frame_s: float, reach: int, slip: float) -> Floats:
    """(J, 3) means over frames 1 to T-1 of the energies of joints (T, J, 3).

    See :func:`opendance_hf.metrics.features.kinetic_features`. ``slip`` is how much of the position itself
    the official code adds to every second difference, 0 without its defect.
    """
    last, num_joints = len(joints) - 1, joints.shape[1]
    out = np.zeros((num_joints, 3))
    for t in range(1, last + 1):
        after, before = min(t + reach, last), max(t - reach - 1, 0)
        seconds = (after - before) * frame_s
        # Accelerations exist at frames 1 to T-2.
        first_in_window, last_in_window = max(t - reach, 1), min(t + reach, last - 1)
        scale = 1 / ((last_in_window - first_in_window + 1) * frame_s**2)
        for j in range(num_joints):
            vx = (joints[after, j, 0] - joints[before, j, 0]) / seconds
            vy = (joints[after, j, 1] - joints[before, j, 1]) / seconds
            vz = (joints[after, j, 2] - joints[before, j, 2]) / seconds
            square = 0.0
            for c in range(3):
                # The sum of accelerations telescopes to the difference of the velocities before and after the window.
                change = (joints[last_in_window + 1, j, c] - joints[last_in_window, j, c]) - (
                    joints[first_in_window, j, c] - joints[first_in_window - 1, j, c]
                )
                if slip != 0:
                    for k in range(first_in_window, last_in_window + 1):
                        change += slip * joints[k, j, c]
                square += (change * scale) ** 2
            out[j, 0] += vx * vx + vz * vz
            out[j, 1] += vy * vy
            out[j, 2] += np.sqrt(square)
    return out / last


#: Kinds of relations between body parts; see ``_RELATIONS`` in :mod:`opendance_hf.metrics.features`.
BEYOND, OFF_PLANE, ALONG, OFF, FAST, ANGLE = range(6)
#: Points that are no joints: the origin, one above, one below, and the height of the lowest joint.
NUM_EXTRA_POINTS = 4


@njit(cache=True, error_model="numpy")  # joints that coincide span no direction: NaN, never true
def geometric(
    joints: Floats,
    fps: float,
    kinds: npt.NDArray[np.int64],
    points: npt.NDArray[np.int64],
    low: Floats,
    high: Floats,
) -> Floats:
    """(R,) shares of the frames 1 to T-1 of joints (T, J, 3) in which each of R relations holds.

    Args:
        joints: metres, y up.
        fps: frames a second.
        kinds: (R,) which rule.
        points: (R, 4) of which joints, or points from J on.
        low: (R,) the value, a length, speed or cosine, must be greater,
        high: (R,) and less.
    """
    num_joints = joints.shape[1]
    count = np.zeros(len(kinds))
    place = np.zeros((num_joints + NUM_EXTRA_POINTS, 3))
    velocity = np.zeros((num_joints + NUM_EXTRA_POINTS, 3))
    place[num_joints + 1, 1], place[num_joints + 2, 1] = 1.0, -1.0
    for t in range(1, len(joints)):
        for j in range(num_joints):
            for c in range(3):
                place[j, c] = joints[t, j, c]
                velocity[j, c] = (joints[t, j, c] - joints[t - 1, j, c]) * fps
        place[num_joints + 3, 1] = place[:num_joints, 1].min()
        for r in range(len(kinds)):
            kind = kinds[r]
            a, b, c, d = points[r]
            # The component of a vector v along a direction n:
            nx, ny, nz = _minus(place[b], place[a])
            if kind in (BEYOND, ANGLE):
                vx, vy, vz = _minus(place[d], place[c])
            elif kind == OFF_PLANE:
                vx, vy, vz = _minus(place[d], place[a])
            elif kind == ALONG:
                vx, vy, vz = _minus(velocity[d], velocity[c])
            elif kind == OFF:
                vx, vy, vz = _minus(velocity[d], velocity[a])
            else:
                vx, vy, vz = velocity[a]
            if kind in (OFF_PLANE, OFF):
                ex, ey, ez = _minus(place[c], place[a])
                nx, ny, nz = ey * nz - ez * ny, ez * nx - ex * nz, ex * ny - ey * nx
            if kind == FAST:
                value = _norm(vx, vy, vz)
            else:
                value = (nx * vx + ny * vy + nz * vz) / _norm(nx, ny, nz)
                if kind == ANGLE:
                    value /= _norm(vx, vy, vz)
            count[r] += low[r] < value < high[r]
    return count / (len(joints) - 1)


@njit(inline="always")
def _minus(a: Floats, b: Floats) -> tuple[float, float, float]:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@njit(inline="always")
def _norm(x: float, y: float, z: float) -> float:
    return np.sqrt(x * x + y * y + z * z)


@njit(cache=True)
def mean_speed(joints: Floats) -> Floats:
    """(T-1,) how far the joints (T, J, 3) move from a frame to the next, on average."""
    num_frames, num_joints = joints.shape[:2]
    out = np.zeros(num_frames - 1)
    for t in range(num_frames - 1):
        for j in range(num_joints):
            x, y, z = _minus(joints[t + 1, j], joints[t, j])
            out[t] += _norm(x, y, z)
    return out / num_joints


@njit(cache=True)
def mean_jerk(joints: Floats) -> float:
    """The mean size of third differences over frames of joints (T, J, 3)."""
    num_frames, num_joints = joints.shape[:2]
    total = 0.0
    for t in range(num_frames - 3):
        for j in range(num_joints):
            square = 0.0
            for c in range(3):
                jerk = 3 * (joints[t + 1, j, c] - joints[t + 2, j, c]) + joints[t + 3, j, c] - joints[t, j, c]
                square += jerk * jerk
            total += np.sqrt(square)
    return total / ((num_frames - 3) * num_joints)


@njit(cache=True)
def count_matches(music: Floats, motion: Floats, num_frames: int, tolerance: float) -> tuple[int, int]:
    """(matches as given, sum of matches over all circular shifts) of two sorted lists of beats."""
    n1, n2 = len(music), len(motion)
    first, total = 0, 0
    stay = n1  # beats [0, stay) have not wrapped yet
    for shift in range(num_frames):
        while stay > 0 and music[stay - 1] + shift >= num_frames:
            stay -= 1
        matches, i, j = 0, 0, 0
        while i < n1 and j < n2:
            # In order of time: first the beats that wrapped, then the others.
            at = stay + i
            time = music[at] + shift - num_frames if at < n1 else music[at - n1] + shift
            gap = time - motion[j]
            if gap > tolerance:
                j += 1
            elif gap < -tolerance:
                i += 1
            else:  # the earliest possible partner leaves most for the others
                matches, i, j = matches + 1, i + 1, j + 1
        if shift == 0:
            first = matches
        total += matches
    return first, total
