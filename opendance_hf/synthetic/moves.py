"""Movements that are added to a dance, whether it is choreographed or captured: poses that are held, jumps, turns, crouching."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.synthetic.choreography import Part
from opendance_hf.synthetic.motion import Performance

Array = npt.NDArray[np.floating]

SWAY_S: Final = 0.006  # of the dance's own time: millimetres
_RAMP_S: Final = 0.3  # from dancing to standing
_GRAVITY_MPS2: Final = 9.81
_BEATS_PER_HOP: Final = 2
_TURN_S: Final = 0.9  # for one turn
_MAX_CROUCHED_LIFT_M: Final = 0.12


@dataclass(frozen=True)
class Moves:
    """Hold the movements that are added to a dance.

    Attributes:
        hold_from_s: when the dancers stop in a pose; ``hold_s``: for how long.
        hop_m: height of a jump on every other beat.
        turns: number of turns that each dancer makes on the spot from the middle of the dance, with neighbours turning
            opposite ways.
        crouch_m: how much lower the hips are in the middle half of a choreography.
    """

    hold_from_s: float = 0.0
    hold_s: float = 0.0
    hop_m: float = 0.0
    turns: int = 0
    crouch_m: float = 0.0


def held(times_s: Array, from_s: float, hold_s: float) -> Array:
    """Return the moment of the dance that is seen at each time if it stops for a while, hardly swaying."""
    clock = np.arange(0, times_s.max() + _RAMP_S, 1e-3)
    pace = np.clip((np.abs(clock - from_s - hold_s / 2) - hold_s / 2) / _RAMP_S + 1, 0, 1)
    moments = np.interp(times_s, clock, np.cumsum(pace) * 1e-3)
    return moments + SWAY_S * (1 - np.interp(times_s, clock, pace)) * np.sin(2 * np.pi * 0.3 * times_s)


def crouched(part: Part, crouch_m: float) -> Part:
    """Return a part whose middle half is danced low: hips down, feet hardly lifted."""
    count = len(part.counts)
    low = range(count // 4, 3 * count // 4)
    return replace(
        part,
        counts=tuple(
            replace(c, level_m=c.level_m + crouch_m, lift_m=min(c.lift_m, _MAX_CROUCHED_LIFT_M))
            if k in low
            else c
            for k, c in enumerate(part.counts)
        ),
    )


def hopped(dance: Performance, hop_m: float, beats_s: Array, times_s: Array) -> Performance:
    """Return a dance with jumps: the body is thrown up, to land on every other beat."""
    speed = np.sqrt(2 * _GRAVITY_MPS2 * hop_m)
    up = np.zeros(len(times_s))
    for landing_s in beats_s[1::_BEATS_PER_HOP]:
        t = times_s - landing_s + 2 * speed / _GRAVITY_MPS2
        up = np.maximum(up, speed * t - _GRAVITY_MPS2 * t**2 / 2)
    positions = dance.positions + up[:, None, None] * np.array([0.0, 1.0, 0.0])
    return replace(dance, positions=positions, planted=dance.planted & (up[:, None] <= 0))


def spun(dance: Performance, turns: int, times_s: Array) -> Performance:
    """Return a dance in which the dancer turns on the spot so many times, from the middle of it; no foot is planted then."""
    phase = np.clip((times_s - times_s.mean()) / (_TURN_S * abs(turns)) + 0.5, 0, 1)
    angle = 2 * np.pi * turns * phase**2 * (3 - 2 * phase)
    still = (phase == 0) | (phase == 1)
    done = turned(dance, angle, dance.root())
    return replace(done, planted=done.planted & still[:, None])


def turned(dance: Performance, angle_rad: Array | float, centre: Array) -> Performance:
    """Turn a dance about the vertical, counter-clockwise seen from above.

    Args:
        dance: of T frames.
        angle_rad: (T,) for each frame, or one for all.
        centre: (T, 3) a point of the axis in each frame, or (3,).
    """
    angle = np.broadcast_to(angle_rad, len(dance.positions))
    zero = np.zeros_like(angle)
    turn = axis_angle_to_matrix(np.stack([zero, angle, zero], axis=1))
    centre = np.broadcast_to(centre, (len(angle), 3))[:, None]
    return replace(
        dance,
        rotations=turn[:, None] @ dance.rotations,
        positions=(dance.positions - centre) @ np.swapaxes(turn, 1, 2) + centre,
        facing_rad=dance.facing_rad + angle,
    )
