"""A dancer who steps on the spot, with feet that truly stand, to be damaged by tests."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from opendance_hf.cleanup.bodies import LIMBS, Body, turn_tip
from opendance_hf.motion.ik import turn_limb
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS

Array = npt.NDArray[np.floating]

ANKLE_M, TOE_M = 0.085, 0.025
LEFT, RIGHT = 0, 1


def stepping_dancer(frames: int = 300, fps: float = 60.0, seed: int = 0, step_s: float = 0.5) -> Body:
    """A body that steps from foot to foot, sways, and swings its arms with hits; feet in contact do not move."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames) / fps
    rest = MEAN_OFFSETS.astype(np.float64)
    local = np.broadcast_to(np.eye(3), (frames, 24, 3, 3)).copy()
    pelvis = np.stack(
        [0.04 * np.sin(np.pi * time / step_s), 0.86 + 0.01 * np.cos(4 * np.pi * time), 0 * time], axis=1
    )
    body = Body(local, pelvis, rest)
    posed = body.posed()
    for limb, phase in ((LIMBS[0], 0.0), (LIMBS[1], 1.3)):
        root, middle, end, tip = limb
        side = 1.0 if limb == LIMBS[0] else -1.0
        # tanh of a sine: the hand waits, then hits.
        swing = np.tanh(4 * np.sin(np.pi * time / step_s + phase))
        goal = posed[0][:, root] + np.stack(
            [side * 0.25 + 0 * time, -0.15 + 0.2 * swing, 0.3 + 0 * time], axis=1
        )
        elbow = posed[0][:, root] + [side, -0.5, 0]
        _, lower = turn_limb(local, posed, (root, middle, end), goal, towards=elbow)
        turn_tip(local, posed, (end, tip), lower, goal - posed[0][:, middle])
    for foot in (LEFT, RIGHT):
        root, middle, end, tip = LIMBS[2 + foot]
        ankle = foot_path(time, foot, step_s, rng)
        knee = posed[0][:, root] + [0, -0.3, 0.5]
        _, lower = turn_limb(local, posed, (root, middle, end), ankle, towards=knee)
        forward = np.broadcast_to(np.array([0, TOE_M - ANKLE_M, 0.124]), ankle.shape)
        turn_tip(local, posed, (end, tip), lower, forward)
    return body


def foot_path(time: Array, foot: int, step_s: float, rng: np.random.Generator) -> Array:
    """(T, 3) path of an ankle that stands for one step and travels during the next."""
    number = (time / step_s).astype(int)
    moving = number % 2 == foot
    count = number[-1] // 2 + 3
    side = 1 if foot == LEFT else -1
    places = np.stack(
        [side * rng.uniform(0.07, 0.16, count), np.full(count, ANKLE_M), rng.uniform(-0.1, 0.1, count)],
        axis=1,
    )
    start = number // 2 + (~moving & (foot == LEFT))
    share = np.where(moving, np.clip((time / step_s - number - 0.1) / 0.8, 0, 1), 0)
    share = share * share * (3 - 2 * share)
    path = places[start] + share[:, None] * (places[start + 1] - places[start])
    path[:, 1] += 0.12 * np.sin(np.pi * share) ** 2
    return path


def peak_acceleration(path: Array, fps: float, seconds: float = 1 / 15) -> Array:
    """(T,) acceleration of a (T, 3) path over steps of about 1/15 s, m/s²."""
    step = max(1, round(seconds * fps))
    out = np.zeros(len(path))
    bend = path[2 * step :] - 2 * path[step:-step] + path[: -2 * step]
    out[step:-step] = np.linalg.norm(bend, axis=-1) * (fps / step) ** 2
    return out


WRISTS = [JOINT_INDEX["left_wrist"], JOINT_INDEX["right_wrist"]]
TOES = [JOINT_INDEX["left_foot"], JOINT_INDEX["right_foot"]]
