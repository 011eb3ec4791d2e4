"""Bodies of constant bone lengths: made from joints or from poses, and moved to follow joints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.body import pose_joints
from opendance_hf.motion.ik import aim, joints_to_poses, turn_limb, turn_tip
from opendance_hf.motion.rotations import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    quaternion_to_matrix,
    slerp,
)
from opendance_hf.motion.skeleton import JOINT_INDEX

Array = npt.NDArray[np.floating]
#: Arms as (shoulder, elbow, wrist, hand) and legs as (hip, knee, ankle, toe), left before right.
LIMBS = tuple(
    tuple(JOINT_INDEX[f"{side}_{part}"] for part in parts)
    for parts in (("shoulder", "elbow", "wrist", "hand"), ("hip", "knee", "ankle", "foot"))
    for side in ("left", "right")
)


@dataclass
class Body:
    """Motion of one skeleton.

    Attributes:
        local: (T, 24, 3, 3) rotations relative to the parent.
        pelvis: (T, 3) position, metres.
        rest_offsets: (24, 3) rest skeleton, metres.
    """

    local: Array
    pelvis: Array
    rest_offsets: Array

    @classmethod
    def of_poses(cls, poses: Array, transl: Array, rest_offsets: Array) -> Body:
        """Make a body of (T, 24, 3) axis-angle poses, (T, 3) transl and (24, 3) rest offsets."""
        rest = np.asarray(rest_offsets, dtype=np.float64)
        return cls(axis_angle_to_matrix(np.asarray(poses, np.float64)), transl + rest[0], rest)

    @classmethod
    def of_joints(cls, joints: Array) -> Body:
        """Make a body that follows (T, 24, 3) joints, whose bones may change their lengths."""
        return cls.of_poses(*joints_to_poses(joints)).following(joints)

    def posed(self) -> tuple[Array, Array]:
        """Return the (T, 24, 3) joints in metres and the (T, 24, 3, 3) global rotations."""
        return pose_joints(self.local, self.transl, self.rest_offsets)

    @property
    def joints(self) -> Array:
        """Return the (T, 24, 3) positions of the joints, metres."""
        return self.posed()[0]

    @property
    def transl(self) -> Array:
        """Return the (T, 3) transl of SMPL, metres."""
        return self.pelvis - self.rest_offsets[0]

    @property
    def poses(self) -> Array:
        """Return the (T, 24, 3) axis-angle of the joints, radians."""
        return matrix_to_axis_angle(self.local)

    def copy(self) -> Body:
        """Return a body whose motion can be changed in place."""
        return Body(self.local.copy(), self.pelvis.copy(), self.rest_offsets)

    def aimed(self, joints: Array, turned: Array) -> Body:
        """Return the body with its bones parallel to those between joints, twisted as ``turned``; it follows the joints."""
        return Body(aim(joints, turned, self.rest_offsets), joints[:, 0], self.rest_offsets).following(joints)

    def following(self, joints: Array) -> Body:
        """Return the body moved onto joints: the mean of all joints fits, and limbs reach for wrists, ankles and tips."""
        out = self.copy()
        for _ in range(2):  # the limbs of the second round start nearer
            out.pelvis = out.pelvis + (joints - out.joints).mean(axis=1)
        posed = out.posed()
        for root, middle, end, tip in LIMBS:
            reached, lower = turn_limb(
                out.local, posed, (root, middle, end), joints[:, end], towards=joints[:, middle]
            )
            turn_tip(out.local, posed, (end, tip), lower, joints[:, tip] - reached)
        return out


def blend(body: Body, other: Body, share: Array) -> Body:
    """Mix two motions of one skeleton; ``share`` (T,) is that of the other one, from 0 to 1."""
    mixed = share > 0
    local, pelvis = body.local.copy(), body.pelvis.copy()
    start, end = (matrix_to_quaternion(one.local[mixed]) for one in (body, other))
    local[mixed] = quaternion_to_matrix(
        slerp(start, end, np.broadcast_to(share[mixed, None], start.shape[:2]))
    )
    pelvis += share[:, None] * (other.pelvis - pelvis)
    return Body(local, pelvis, body.rest_offsets)
