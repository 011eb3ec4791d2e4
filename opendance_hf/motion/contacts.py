"""Find the frames in which a foot is at rest, and turn legs so that feet in contact stay where they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.ik import turn_limb, turn_tip
from opendance_hf.motion.intervals import true_intervals
from opendance_hf.motion.skeleton import JOINT_INDEX

Array = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RestLimits:
    """Hold the thresholds that find feet at rest, and the limits of the correction that holds them.

    Attributes:
        rest_mps: speed, m/s, below which a contact begins.
        leave_mps: speed, m/s, above which a contact ends.
        min_rest_s: minimum time, seconds, from the first to the last frame below ``rest_mps``; at least two frames.
        step_mps: speed, m/s, of the frames by which a contact is extended at both ends, as smoothing blurs them.
        blur_s: maximum extension at each end, seconds.
        max_blur_share: maximum extension at each end as a fraction of the time to the neighbouring contact.
        blend_s: time, seconds, over which a correction fades in before a contact and fades out after it.
        max_reach: maximum distance from hip to ankle as a fraction of the leg's length.
        straight_knee_m: distance, metres, from the knee to the line from the hip to the ankle's target below which the
            leg counts as straight; the direction in which it bends is then taken from the hip's rotation.
    """

    rest_mps: float = 0.3
    leave_mps: float = 0.5
    min_rest_s: float = 0.05
    step_mps: float = 0.8
    blur_s: float = 0.1
    max_blur_share: float = 0.25
    blend_s: float = 0.15
    max_reach: float = 0.999
    straight_knee_m: float = 0.02


def frames_at_rest(speed: Array, frame_s: float, limits: RestLimits) -> Bools:
    """Return the (T,) mask of frames in which a foot with the (T,) speeds in m/s is at rest."""
    # At least two frames: at the turning point of a swing, speed is near zero for a single frame.
    shortest = max(2, math.ceil(limits.min_rest_s / frame_s - 1e-3))
    rests = []
    for start, end in true_intervals(speed < limits.leave_mps):
        slow = start + np.flatnonzero(speed[start:end] < limits.rest_mps)
        if len(slow) and slow[-1] - slow[0] + 1 >= shortest:
            rests.append((int(slow[0]), int(slow[-1]) + 1))
    out = np.zeros(len(speed), dtype=bool)
    blur = round(limits.blur_s / frame_s)
    edges = [-len(speed), *(edge for rest in rests for edge in rest), 2 * len(speed)]
    for number, (start, end) in enumerate(rests):
        before, after = start - edges[2 * number], edges[2 * number + 3] - end
        first = max(0, start - min(blur, int(before * limits.max_blur_share)))
        last = min(len(speed), end + min(blur, int(after * limits.max_blur_share)))
        while start > first and speed[start - 1] < limits.step_mps:
            start -= 1
        while end < last and speed[end] < limits.step_mps:
            end += 1
        out[start:end] = True
    return out


def contact_shifts(
    path: Array, contact: Bools, blend: int, heights: tuple[float, float] | None = None
) -> tuple[Array, Array]:
    """Return the (T, 3) shift of a joint to its median position in each contact, with fades, and their (T, 1) weight."""
    shift, weight = np.zeros_like(path), np.zeros((len(path), 1))
    fade = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, blend + 1) / (blend + 1))
    contacts = true_intervals(contact)
    for number, (start, end) in enumerate(contacts):
        place = np.median(path[start:end], axis=0)
        if heights is not None:
            place[1] = np.clip(place[1], *heights)
        shift[start:end] = place - path[start:end]
        weight[start:end] = 1.0
        until = min(end + blend, contacts[number + 1][0] if number + 1 < len(contacts) else len(path))
        after = fade[: until - end, None]
        shift[end:until] += after * shift[end - 1]
        weight[end:until] += after
    for number, (start, _) in enumerate(contacts):
        since = max(start - blend, contacts[number - 1][1] if number else 0)
        before = fade[: start - since, None][::-1]
        shift[since:start] += before * shift[start]
        weight[since:start] += before
    # Between two close contacts both fades are averaged.
    share = np.maximum(weight, 1.0)
    return shift / share, weight / share


def turn_leg(
    local: Array,
    posed: tuple[Array, Array],
    side: str,
    body: Array,
    shift: Array,
    toe_shift: Array,
    limits: RestLimits,
) -> None:
    """Rotate a leg so that its hip moves by ``body``, its ankle by ``shift`` and its toes by ``toe_shift``.

    ``local`` is changed in place; ``posed`` are the joints and global rotations before the change.
    """
    joints, _ = posed
    hip, knee, ankle, toe = (JOINT_INDEX[f"{side}_{part}"] for part in ("hip", "knee", "ankle", "foot"))
    new_ankle, lower = turn_limb(
        local,
        posed,
        (hip, knee, ankle),
        joints[:, ankle] + shift - body,
        max_stretch=limits.max_reach,
        straight_m=limits.straight_knee_m,
    )
    foot = joints[:, toe] - joints[:, ankle]
    turn_tip(local, posed, (ankle, toe), lower, foot + toe_shift - body - (new_ankle - joints[:, ankle]))
