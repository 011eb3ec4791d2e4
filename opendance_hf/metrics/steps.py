"""Step beat: the agreement of foot landings and take-offs with the beats of the music, or with a partner's steps.

Speed minima of all joints, which equation 1 of the paper compares with the music, have no common phase in captured
ballroom dances; foot landings and take-offs do. docs/metrics.md holds the figures.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from opendance_hf.metrics.beats import FPS, Beats
from opendance_hf.metrics.features import Floats, as_joints
from opendance_hf.motion.phase import as_times, beat_phase, phase_score
from opendance_hf.motion.skeleton import JOINT_INDEX

#: The toe joints of SMPL, 10 and 11.
TOES: Final = (JOINT_INDEX["left_foot"], JOINT_INDEX["right_foot"])
#: Standard deviation of the smoothing of toe positions, seconds.
TOE_SIGMA_S: Final = 2 / 60
#: A foot lands when its speed falls below the first after it has exceeded the second, metres a second.
STANDING_SPEED: Final = 0.35
SWINGING_SPEED: Final = 0.7


class FootEvents(NamedTuple):
    """Landings and take-offs of both feet.

    Attributes:
        landings: (L,) frame indices, sorted; an index occurs twice if both feet land in that frame.
        take_offs: (O,) likewise.
    """

    landings: npt.NDArray[np.intp]
    take_offs: npt.NDArray[np.intp]


class StepBeat(NamedTuple):
    """Agreement of foot events with beats, as measured by :func:`step_beat`.

    Attributes:
        score: mean of :func:`phase_score` over all landings and take-offs: 1 if every event is on a beat, about 0 by
            chance, negative off the beat. 0 without events.
        landings: the same over landings alone.
        take_offs: the same over take-offs alone.
        lock: length of the mean phase vector, 0 to 1: how constant the phase is, whatever its value. 0 without events.
        lead_s: time by which the mean phase is ahead of the beat, seconds; negative if the feet are late. 0 without
            events. It is arbitrary if the lock is weak.
        events_per_s: landings and take-offs a second.
        num: number of landings and take-offs.
    """

    score: float
    landings: float
    take_offs: float
    lock: float
    lead_s: float
    events_per_s: float
    num: int


class DuetStepBeat(NamedTuple):
    """Agreement of the steps of two dancers beside its controls, as measured by :func:`duet_step_beat`.

    Attributes:
        score: :func:`partner_steps` of the two; about 0 by chance.
        clone: the same of each dancer and a copy, the mean of both dancers: 1, or 0 for a dancer who does not step. A
            model that lets both dancers do the same earns this.
        mirrored: the same of each dancer and the mirror image.
        shuffled: the same of each of the two and strangers, mean; None without strangers. Chance in this set.
    """

    score: float
    clone: float
    mirrored: float
    shuffled: float | None


def foot_events(joints: npt.ArrayLike, fps: float = FPS) -> FootEvents:
    """Find landings and take-offs of both feet by hysteresis on the speed of the toes.

    Positions are smoothed by a Gaussian of 33 ms, the speed is the norm of central differences. A foot lands in the
    frame in which its speed falls below 0.35 m/s after it has exceeded 0.7 m/s; it takes off where the motion played
    backwards lands.

    Args:
        joints: (T, 24, 3), metres.
        fps: frames a second.

    Raises:
        ValueError: if the joints have another shape, fewer than three frames, NaN or infinity, or fps is not positive.
    """
    p = as_joints(joints)
    if p.ndim != 3:
        raise ValueError(f"joints must be (frames, 24, 3), got {p.shape}")
    if not 0 < fps < np.inf:
        raise ValueError(f"fps must be positive and finite, got {fps}")
    toes = gaussian_filter1d(np.moveaxis(p[:, TOES], 0, -1), TOE_SIGMA_S * fps, mode="nearest")  # (2, 3, T)
    step = np.gradient(toes, axis=-1)
    speed = np.sqrt((step * step).sum(axis=1)) * fps
    last = len(p) - 1
    landings = [_landings(foot) for foot in speed]
    take_offs = [last - _landings(foot[::-1]) for foot in speed]
    return FootEvents(np.sort(np.concatenate(landings)), np.sort(np.concatenate(take_offs)))


def _landings(speed: Floats) -> npt.NDArray[np.intp]:
    """Frames in which a speed (T,) falls below STANDING_SPEED after having exceeded SWINGING_SPEED."""
    state = (speed > SWINGING_SPEED).astype(np.int8) - (speed < STANDING_SPEED)
    decided = np.flatnonzero(state)
    falls = np.diff(state[decided]) < 0
    return decided[1:][falls]


def step_beat(joints: npt.ArrayLike, beats: Beats, fps: float = FPS) -> StepBeat | None:
    """Measure how well the steps of one dancer agree with the beats of the music.

    The phase of the beat is assumed to be 0, not fitted. Since :func:`phase_score` has mean zero over a beat, steps
    that ignore the music score 0 on average, whatever their density.

    Args:
        joints: (T, 24, 3), metres.
        beats: (B,) frame indices, fractions allowed; those outside of the motion define the phase near its ends.
        fps: frames a second of motion and beats.

    Returns:
        The scores; None with fewer than two different beats, as the phase is then undefined.

    Raises:
        ValueError: as :func:`foot_events` and :func:`beat_phase`.
    """
    events = foot_events(joints, fps)
    beats = np.unique(as_times(beats))
    return None if len(beats) < 2 else score_events(events, beats, len(np.asarray(joints)), fps)


def score_events(events: FootEvents, beats: Beats, num_frames: int, fps: float = FPS) -> StepBeat:
    """:func:`step_beat` for foot events that are known already.

    Raises:
        ValueError: as :func:`beat_phase`.
    """
    first = len(events.landings)
    phase = beat_phase(np.concatenate(events), beats)
    score = phase_score(phase)
    mean = np.exp(2j * np.pi * phase).mean() if len(phase) else 0j
    interval_s = float(np.median(np.diff(np.unique(as_times(beats))))) / fps
    return StepBeat(
        score=_mean(score),
        landings=_mean(score[:first]),
        take_offs=_mean(score[first:]),
        lock=min(float(abs(mean)), 1.0),
        lead_s=0.0 - float(np.angle(mean)) / (2 * np.pi) * interval_s,
        events_per_s=len(phase) * fps / num_frames,
        num=len(phase),
    )


def duet_step_beat(
    joints1: npt.ArrayLike, joints2: npt.ArrayLike, fps: float = FPS, strangers: Iterable[FootEvents] = ()
) -> DuetStepBeat:
    """Measure how well two dancers step together, beside the controls without which that number says little.

    A clone always wins, so the score is not a goal by itself; compare it with real couples.

    Args:
        joints1, joints2: (T, 24, 3), metres.
        fps: frames a second.
        strangers: foot events of dancers of other dances at the same frame rate, within T frames.

    Raises:
        ValueError: as :func:`foot_events`, or if the dancers have different lengths.
    """
    dancers = [np.asarray(joints, dtype=np.float64) for joints in (joints1, joints2)]
    events = [foot_events(joints, fps) for joints in dancers]
    if len(dancers[0]) != len(dancers[1]):
        raise ValueError(f"dancers must have one length, got {len(dancers[0])} and {len(dancers[1])} frames")
    mirrored = [foot_events(joints * [-1, 1, 1], fps) for joints in dancers]
    unrelated = [partner_steps(own, other) for other in strangers for own in events]
    return DuetStepBeat(
        score=partner_steps(*events),
        clone=_mean(np.array([partner_steps(own, own) for own in events])),
        mirrored=_mean(np.array([partner_steps(*pair) for pair in zip(events, mirrored, strict=True)])),
        shuffled=_mean(np.array(unrelated)) if unrelated else None,
    )


def partner_steps(one: FootEvents, two: FootEvents) -> float:
    """Score the foot events of two dancers by their phase between the partner's: landings by landings, take-offs alike.

    Each dancer's landings are the beats of the partner's, and likewise take-offs; the score is the mean of
    :func:`phase_score` over the events of both, so it is symmetric. A dancer with fewer than two different events of a
    kind gives no phase to the partner's.

    Returns:
        A number in [-0.5, 1], about 0 by chance; 0 if no event has a phase.
    """
    phases = [
        beat_phase(events, beats)
        for first, second in zip(one, two, strict=True)
        for events, beats in ((first, second), (second, first))
        if len(np.unique(beats)) > 1
    ]
    return _mean(phase_score(np.concatenate(phases))) if phases else 0.0


def _mean(scores: Floats) -> float:
    return float(scores.mean()) if scores.size else 0.0
