"""Remove jitter and spikes from joints."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter
from scipy.signal import butter, sosfiltfilt

from opendance_hf.cleanup.bodies import Body
from opendance_hf.cleanup.settings import SteadyLimits
from opendance_hf.motion.rotations import unit

Array = npt.NDArray[np.floating]

#: Standard deviation of the third difference of white noise of standard deviation 1.
_THIRD_DIFFERENCE: Final = math.sqrt(20)
#: Median absolute value of a normal distribution of standard deviation 1.
_NORMAL_MEDIAN: Final = 0.6745


def steady_joints(joints: Array, fps: float, limits: SteadyLimits) -> Array:
    """Remove spikes of one or two frames and jitter from (T, 24, 3) joints.

    The cutoff of the filter follows the measured noise, see :func:`cutoff_hz`: hits of clean motion stay sharp.
    """
    noise_m = noise_level(joints)
    cutoff = cutoff_hz(noise_m, fps, limits)
    parts = [
        low_pass(remove_spikes(part, noise_m, limits), cutoff, fps)
        for part in np.split(joints, cuts(joints, fps, limits))
    ]
    return np.concatenate(parts)


def steady_body(body: Body, fps: float, limits: SteadyLimits) -> Body:
    """Return a body that follows its own steady joints; twist about the bones is filtered alike."""
    joints, turned = body.posed()
    cutoff = cutoff_hz(noise_level(joints), fps, limits)
    parts = [_low_pass_rotations(part, cutoff, fps) for part in np.split(turned, cuts(joints, fps, limits))]
    return body.aimed(steady_joints(joints, fps, limits), np.concatenate(parts))


def cuts(joints: Array, fps: float, limits: SteadyLimits) -> list[int]:
    """Return the frames in which a dancer appears at another place; nothing is filtered across them."""
    speed = np.linalg.norm(np.diff(joints[:, 0], axis=0), axis=-1) * fps
    return (np.flatnonzero(speed > limits.max_speed_mps) + 1).tolist()


def noise_level(joints: Array) -> float:
    """Estimate the standard deviation of white noise on (T, N, 3) joints, metres per coordinate.

    It is computed from the median size of third differences, which motion at 60 FPS hardly has.
    """
    if len(joints) < 4:
        return 0.0
    typical = np.median(np.abs(np.diff(joints, n=3, axis=0)), axis=0) / _NORMAL_MEDIAN / _THIRD_DIFFERENCE
    return float(np.median(np.sqrt(np.square(typical).mean(axis=-1))))


def cutoff_hz(noise_m: float, fps: float, limits: SteadyLimits) -> float | None:
    """Return the cutoff frequency for a noise level; None if the frame rate has no higher frequencies.

    The amplitude of motion falls with about the fourth power of the frequency. So the frequency above which noise
    dominates changes with the inverse fourth root of the noise.
    """
    density_m = max(noise_m, 1e-6) * math.sqrt(60 / fps)
    cutoff = limits.cutoff_hz * (limits.noise_m / density_m) ** 0.25
    cutoff = min(max(cutoff, limits.min_cutoff_hz), limits.max_cutoff_hz)
    return cutoff if cutoff < limits.max_rate_share * fps else None


def low_pass(values: Array, cutoff: float | None, fps: float) -> Array:
    """Filter (T, ...) values with a second-order Butterworth filter, forwards and backwards, which causes no delay."""
    if cutoff is None or len(values) < 4:
        return values
    sections = butter(2, cutoff, fs=fps, output="sos")
    padding = min(len(values) - 1, round(3 * fps / cutoff))
    return np.asarray(sosfiltfilt(sections, values, axis=0, padtype="odd", padlen=padding))


def remove_spikes(joints: Array, noise_m: float, limits: SteadyLimits) -> Array:
    """Replace joints (T, N, 3) that jump away for one or two frames by the median of five frames."""
    if len(joints) < 5:
        return joints
    median = median_filter(joints, size=(5, 1, 1), mode="nearest")
    away_m = np.linalg.norm(joints - median, axis=-1, keepdims=True)
    return np.where(away_m > max(limits.spike_m, 6 * noise_m), median, joints)


def _low_pass_rotations(rotations: Array, cutoff: float | None, fps: float) -> Array:
    """Filter (T, 24, 3, 3) rotations as paths of their first two columns."""
    columns = low_pass(rotations[..., :2], cutoff, fps)
    first = unit(columns[..., 0])
    second = unit(columns[..., 1] - (first * columns[..., 1]).sum(-1, keepdims=True) * first)
    return np.stack([first, second, np.cross(first, second)], axis=-1)
