"""Change the frame rate or the side of a motion, and give rotations to one that has joints alone."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from opendance_hf.formats.motion import Motion
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.generated import posed
from opendance_hf.motion.rotations import (
    axis_angle_to_matrix,
    matrix_to_quaternion,
    quaternion_to_axis_angle,
    slerp,
)
from opendance_hf.motion.skeleton import mirror_index

log = logging.getLogger(__name__)


def resampled(motion: Motion, fps: float) -> Motion:
    """Return the same motion at another rate, with round(T fps / motion.fps) frames; the last pose is held to the end.

    Rotations are interpolated spherically, positions linearly; joints of a motion with poses are their forward kinematics.
    ``meta["music_beats"]`` are moved to the new frames.

    Args:
        motion: at any rate.
        fps: the new rate, positive.
    """
    if fps == motion.fps:
        return motion
    frames = max(1, round(motion.num_frames * fps / motion.fps))
    changed = at_frames(motion, np.arange(frames) * (motion.fps / fps))
    meta = dict(motion.meta)
    if "music_beats" in meta:
        meta["music_beats"] = tuple(
            sorted({min(round(beat * fps / motion.fps), frames - 1) for beat in meta["music_beats"]})
        )
    return replace(changed, fps=float(fps), meta=meta)


def at_frames(motion: Motion, clock: npt.NDArray[np.floating]) -> Motion:
    """Return a motion at fractional frames, interpolated as in :func:`resampled`; ``fps`` and ``meta`` are kept.

    Args:
        motion: at any rate.
        clock: (N,) frames of the motion; those outside of it are its first or last.
    """
    last = motion.num_frames - 1
    clock = clock.clip(0, last)
    before = np.floor(clock).astype(int).clip(0, max(last - 1, 0))
    after = np.minimum(before + 1, last)
    share = clock - before

    def lerp(values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        part = share.reshape(-1, *[1] * (values.ndim - 2))
        return (values[:, before] * (1 - part) + values[:, after] * part).astype(values.dtype)

    changed: dict[str, Any] = {"joints": lerp(motion.joints)}
    if motion.poses is not None:
        quaternions = matrix_to_quaternion(axis_angle_to_matrix(motion.poses.astype(np.float64)))
        shares = np.broadcast_to(share[:, None], (motion.num_dancers, len(share), quaternions.shape[2]))
        turned = quaternion_to_axis_angle(slerp(quaternions[:, before], quaternions[:, after], shares))
        changed["poses"] = turned.astype(motion.poses.dtype)
    if motion.transl is not None:
        changed["transl"] = lerp(motion.transl)
    if motion.confidence is not None:
        changed["confidence"] = lerp(motion.confidence)
    if motion.poses is not None and motion.transl is not None and motion.rest_offsets is not None:
        posed = forward_kinematics(changed["poses"], changed["transl"], motion.rest_offsets[:, None])
        changed["joints"] = posed.astype(motion.joints.dtype)
    return replace(motion, **changed)


def mirrored(motion: Motion) -> Motion:
    """Return a motion with left and right exchanged: reflected in the plane x = 0."""
    swap, flip = mirror_index(), np.array([-1.0, 1.0, 1.0])
    changed: dict[str, Any] = {"joints": motion.joints[..., swap, :] * flip}
    # The axis of a rotation is a pseudovector: its components in the plane of the mirror change their sign.
    if motion.poses is not None:
        changed["poses"] = motion.poses[..., swap, :] * -flip
    if motion.transl is not None:
        changed["transl"] = motion.transl * flip
    if motion.rest_offsets is not None:
        changed["rest_offsets"] = motion.rest_offsets[..., swap, :] * flip
    return replace(
        motion, **{name: value.astype(getattr(motion, name).dtype) for name, value in changed.items()}
    )


def with_poses(motion: Motion) -> Motion:
    """Return a motion with rotations; those of joints alone are found by inverse kinematics, without twist of the bones.

    Rotations without ``transl`` or ``rest_offsets`` do not place a body: they are computed again in the same way, and that is
    logged.
    """
    if motion.poses is not None and motion.transl is not None and motion.rest_offsets is not None:
        return motion
    if motion.poses is not None:
        log.warning(
            "the dance has rotations without %s: rotations are computed again from the joints, without twist of the bones",
            "a translation" if motion.transl is None else "a skeleton at rest (rest_offsets)",
        )
    poses, transl, offsets = posed(motion.joints)
    joints = forward_kinematics(poses, transl, offsets[:, None])
    return replace(motion, joints=joints, poses=poses, transl=transl, rest_offsets=offsets, betas=None)
