"""Beats of a motion, and how well they agree with the music (paper equation 1) and with a partner (equation 2)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from opendance_hf.metrics.features import Floats, as_joints
from opendance_hf.motion.phase import Times, as_times

Beats = Times

#: Width of the smoothing of the joint speed, frames of 1/60 s, as in Bailando's evaluation.
SPEED_SIGMA: Final = 5.0
#: Width of the tolerance of equation 1, frames of 1/60 s.
BEAT_SIGMA: Final = 3.0
#: The frame rate that both widths are meant for; at others they scale with it.
FPS: Final = 60.0

#: Whose beats equation 1 is averaged over.
Anchor = Literal["music", "motion"]


def joint_speed(joints: npt.ArrayLike, *, sigma: float = SPEED_SIGMA) -> Floats:
    """The kinetic velocity of paper section 4.2: the mean speed of all joints, smoothed over time.

    Args:
        joints: (T, J, 3), metres.
        sigma: standard deviation of the Gaussian, frames; reflected at both ends. 0 does not smooth.

    Returns:
        (T-1,) metres a frame; number t is the step from frame t to t+1.

    Raises:
        ValueError: if the joints have another shape, fewer than two frames, NaN or infinity.
    """
    from opendance_hf.metrics import kernels

    p = as_joints(joints, num_joints=None, min_frames=2)
    if p.ndim != 3:
        raise ValueError(f"joints must be (frames, joints, 3), got {p.shape}")
    speed = kernels.mean_speed(np.ascontiguousarray(p))
    return gaussian_filter1d(speed, sigma, mode="reflect") if sigma > 0 else speed


def motion_beats(joints: npt.ArrayLike, *, fps: float = FPS) -> npt.NDArray[np.intp]:
    """Beats of a motion: the strict local minima of its :func:`joint_speed` (paper section 4.2).

    Args:
        joints: (T, J, 3), metres.
        fps: frames a second; the speed is smoothed over 5 frames at 60, and as many milliseconds at other rates.

    Returns:
        (B,) frame indices, increasing; the first and last step are never minima. Empty for a motion without any.

    Raises:
        ValueError: if the joints have another shape, fewer than two frames, NaN or infinity.
    """
    return speed_minima(joint_speed(joints, sigma=SPEED_SIGMA * fps / FPS))


def speed_minima(speed: Floats) -> npt.NDArray[np.intp]:
    """Indices of the strict local minima of a vector, ends excluded."""
    inner = speed[1:-1]
    return np.flatnonzero((inner < speed[:-2]) & (inner < speed[2:])) + 1


def beat_alignment(reference: Beats, beats: Beats, *, sigma: float = BEAT_SIGMA) -> float | None:
    """Equation 1: how close, on average, a beat of ``beats`` lies to each beat of ``reference``.

    f(B1, B2) is the mean over t1 in B1 of exp(-min over t2 in B2 of |t1 - t2|² / 2 sigma²). It is not symmetric: extra
    beats in ``beats`` are never punished, so jitter raises it (paper section 5.3).

    Args:
        reference: (B1,) times, frames; the music's beats in the music-motion score.
        beats: (B2,) times in the same unit, in any order.
        sigma: tolerance, in the same unit.

    Returns:
        A number in [0, 1]; None if either list is empty, as the mean or the minimum is then undefined.

    Raises:
        ValueError: if a list is not a finite vector, or sigma is not positive.
    """
    b1, b2 = as_times(reference), as_times(beats)
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    if not len(b1) or not len(b2):
        return None
    b2 = np.sort(b2)
    right = np.searchsorted(b2, b1)
    nearest = np.minimum(
        np.abs(b1 - b2[np.maximum(right - 1, 0)]), np.abs(b1 - b2[np.minimum(right, len(b2) - 1)])
    )
    return float(np.exp(-(nearest**2) / (2 * sigma**2)).mean())


def mutual_beat_alignment(beats1: Beats, beats2: Beats, *, sigma: float = BEAT_SIGMA) -> float | None:
    """Equation 2: the mean of :func:`beat_alignment` in both directions; symmetric.

    Returns:
        A number in [0, 1]; None if either list is empty.

    Raises:
        ValueError: as :func:`beat_alignment`.
    """
    forward = beat_alignment(beats1, beats2, sigma=sigma)
    backward = beat_alignment(beats2, beats1, sigma=sigma)
    return None if forward is None or backward is None else (forward + backward) / 2


def mean_mutual_beat_alignment(dancers: Sequence[Beats], *, sigma: float = BEAT_SIGMA) -> float | None:
    """Equation 2 averaged over all pairs of two or more dancers, given the motion beats of each.

    Returns:
        A number in [0, 1]; None if a dancer has no beats, since leaving the pair out would reward standing still.

    Raises:
        ValueError: with fewer than two dancers, and as :func:`beat_alignment`.
    """
    if len(dancers) < 2:
        raise ValueError(f"the motion-motion score needs at least two dancers, got {len(dancers)}")
    pairs = [mutual_beat_alignment(one, other, sigma=sigma) for one, other in combinations(dancers, 2)]
    known = [score for score in pairs if score is not None]
    return float(np.mean(known)) if len(known) == len(pairs) else None


def music_motion_score(
    joints: npt.ArrayLike, music_beats: Beats, *, anchor: Anchor = "music", fps: float = FPS
) -> float | None:
    """The music-motion score of one dancer: equation 1 between the beats of music and motion.

    Two forms are in use. Averaged over the music's beats (paper equation 1, Bailando) it asks whether every beat of
    the music is danced to, and extra motion beats are free. Averaged over the motion's beats (FACT, Li et al., ICCV
    2021, section 5.2.3) it asks whether every beat of the motion is on the music, and beats left out are free.

    Args:
        joints: (T, 24, 3), metres.
        music_beats: frame indices. Beats from frame T-1 on are left out, as in Bailando's evaluation: a motion of T
            frames has T-1 speeds.
        anchor: whose beats are averaged over.
        fps: frames a second of motion and beats; the tolerance is 3 frames at 60, and as many milliseconds at others.

    Returns:
        A number in [0, 1]; None if music or motion has no beats.

    Raises:
        ValueError: as :func:`motion_beats` and :func:`beat_alignment`.
    """
    if anchor not in ("music", "motion"):
        raise ValueError(f"anchor must be 'music' or 'motion', got {anchor!r}")
    music, motion = beats_within(music_beats, len(np.asarray(joints))), motion_beats(joints, fps=fps)
    sigma = BEAT_SIGMA * fps / FPS
    return (
        beat_alignment(music, motion, sigma=sigma)
        if anchor == "music"
        else beat_alignment(motion, music, sigma=sigma)
    )


def beats_within(music_beats: Beats, num_frames: int) -> Floats:
    """The beats in [0, num_frames - 1): those a motion of ``num_frames`` frames has a speed for."""
    beats = as_times(music_beats)
    return beats[(beats >= 0) & (beats < num_frames - 1)]


def motion_motion_score(
    dancers: Sequence[npt.ArrayLike] | npt.NDArray[np.floating], *, fps: float = FPS
) -> float | None:
    """The motion-motion score (equation 2) of dancers to one music; the mean over pairs for more than two.

    Args:
        dancers: for each dancer joints (T, 24, 3), metres; an array (D, T, 24, 3) will do too.
        fps: frames a second; both widths in time scale with it.

    Returns:
        A number in [0, 1]; None if a dancer has no beats.

    Raises:
        ValueError: with fewer than two dancers, and as :func:`motion_beats`.
    """
    beats = [motion_beats(joints, fps=fps) for joints in dancers]
    return mean_mutual_beat_alignment(beats, sigma=BEAT_SIGMA * fps / FPS)
