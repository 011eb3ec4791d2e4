"""SMPLify: refine SMPL bodies until they cover the 2D keypoints (paper section 3.1, after SPIN).

The bodies of an estimator are the start and the prior: rotations stay near them (in place of SMPLify's mixture of
poses, whose file is licensed), knees and elbows bend one way, shapes stay near the mean, and motion keeps the rules of
:mod:`.fit`. Keypoints pull by a Geman-McClure penalty: one that is far off is an error of its detector. One shape a
dancer, over the whole span. The paper does not name its 2D keypoints; ours are BlazePose's landmarks in the picture.

Joints depend on SMPL's vertices through its shape only, so of its 6,890 vertices only the few that a keypoint sits on
are posed; that is exact, and hundreds of times as fast as posing the whole mesh.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from opendance_hf.motion.skeleton import JOINT_INDEX, PARENTS
from opendance_hf.motion.smpl import NUM_BETAS, SMPLData
from opendance_hf.pipeline.backends.blazepose import LANDMARK_INDEX
from opendance_hf.pipeline.stages.bodies import Bodies
from opendance_hf.pipeline.stages.fit import Fit, FitProblem, hinge, log_map
from opendance_hf.pipeline.stages.pose import Landmarks

_STEPS: Final = (150, 100, 80)
#: Keypoints that are joints of SMPL: (joint, landmark, weight). BlazePose's hips lie elsewhere than SMPL's.
_JOINTS: Final = [
    (f"{side}_{joint}", f"{side}_{joint}", weight)
    for side in ("left", "right")
    for joint, weight in (
        ("hip", 0.3), ("knee", 1.0), ("ankle", 1.0), ("shoulder", 1.0), ("elbow", 1.0), ("wrist", 1.0),
    )
]  # fmt: skip
#: Keypoints that are points of the skin: (vertex, by smplx' numbering, landmark, weight).
_VERTICES: Final = [
    (332, "nose", 0.5),
    (583, "left_ear", 0.5),
    (4071, "right_ear", 0.5),
    (3216, "left_foot_index", 0.5),
    (6617, "right_foot_index", 0.5),
    (3387, "left_heel", 0.3),
    (6787, "right_heel", 0.3),
]
_W_IMAGE = 100.0
_W_PRIOR = 0.03
_W_HINGE = 0.2
_W_SHAPE = 0.02
#: Beyond this distance, in metres at the dancer's depth, a keypoint counts as an error.
_GEMAN_MCCLURE_M: Final = 0.2
_NEAREST_M: Final = 0.5


def smplify(start: Bodies, found: Landmarks, data: SMPLData, width_px: int, height_px: int) -> Fit:
    """Refine bodies against keypoints.

    Args:
        start: completed, smooth bodies of an estimator.
        found: completed, smooth landmarks of the same frames; only those in the picture are used.
        data: the user's SMPL body.
        width_px: of the picture.
        height_px: of the picture.

    Returns:
        Motion in the world frame with SMPL's own betas, rest offsets and transl.
    """
    problem = _Smplify(start, found, data, width_px, height_px)
    problem.optimise(_STEPS[0])
    problem.find_ground()
    problem.optimise(_STEPS[1])
    problem.find_contacts()
    problem.optimise(_STEPS[2])
    placed = problem.place()
    betas = problem.betas.detach().numpy()
    offsets = data.rest_offsets(betas)
    # The problem knows where the pelvis is; SMPL counts from the origin of its rest body.
    transl = (placed.transl - offsets[:, None, 0]).astype(np.float32)
    return replace(placed, rest_offsets=offsets, transl=transl, betas=betas)


class _Smplify(FitProblem):
    """The unknowns are rotations, places of the pelvis, and SMPL shapes."""

    def __init__(
        self, start: Bodies, found: Landmarks, data: SMPLData, width_px: int, height_px: int
    ) -> None:
        super().__init__(found, width_px, height_px)
        flip = np.diag([1.0, -1.0, -1.0]).astype(np.float32)
        rotations = start.rotations.copy()
        rotations[:, :, 0] = flip @ rotations[:, :, 0]
        self.start = torch.from_numpy(rotations)
        self.six = torch.from_numpy(np.ascontiguousarray(rotations[..., :2])).requires_grad_()
        betas = np.median(start.betas, axis=1).astype(np.float32)
        self.betas = torch.from_numpy(betas).requires_grad_()
        pelvis = (data.rest_offsets(start.betas)[:, :, 0] + start.transl) @ flip
        pelvis[..., 2] = np.minimum(pelvis[..., 2], -_NEAREST_M)
        self.transl = torch.from_numpy(pelvis.astype(np.float32)).requires_grad_()

        mean, moves = data.rest_joints()
        self.rest_mean, self.rest_moves = torch.from_numpy(mean), torch.from_numpy(moves)
        index = [vertex for vertex, _, _ in _VERTICES]
        self.skin_mean = torch.from_numpy(data.v_template[index])
        self.skin_moves = torch.from_numpy(data.shapedirs[index, :, :NUM_BETAS].copy())
        self.skin_bends = torch.from_numpy(data.posedirs[index].copy())
        self.skin_weights = torch.from_numpy(data.weights[index].copy())
        marks = [LANDMARK_INDEX[mark] for _, mark, _ in _JOINTS]
        marks += [LANDMARK_INDEX[mark] for _, mark, _ in _VERTICES]
        weight = torch.tensor([w for _, _, w in _JOINTS] + [w for _, _, w in _VERTICES])
        self.joint_index = torch.tensor([JOINT_INDEX[joint] for joint, _, _ in _JOINTS])
        self.w_image = weight * torch.from_numpy(found.visibility[:, :, marks]) ** 2
        centre = torch.tensor([width_px / 2, height_px / 2])
        self.image = (torch.from_numpy(found.image[:, :, marks]) - centre) / self.focal_px

    def build(self) -> Tensor:
        """(D, 10) shapes."""
        return self.betas

    def rest(self) -> Tensor:
        """(D, 24, 3) joints of the shaped rest bodies."""
        return self.rest_mean + torch.einsum("jcb,db->djc", self.rest_moves, self.betas)

    def offsets(self) -> Tensor:
        """(D, 24, 3) rest offsets; row 0 is zero, as places are the pelvis' here."""
        rest = self.rest()
        return torch.cat([torch.zeros_like(rest[:, :1]), rest[:, 1:] - rest[:, list(PARENTS[1:])]], dim=1)

    def skin(self, local: Tensor, joints: Tensor, turned: Tensor) -> Tensor:
        """(D, T, K, 3) the vertices that keypoints sit on: SMPL's skinning of these alone."""
        bends = (local[:, :, 1:] - torch.eye(3)).flatten(2)
        shaped = self.skin_mean + torch.einsum("kcb,db->dkc", self.skin_moves, self.betas)
        posed = shaped[:, None] + torch.einsum("kcp,dtp->dtkc", self.skin_bends, bends)
        # A joint carries a vertex to joint + R (vertex - its place at rest).
        base = joints - (turned @ self.rest()[:, None, :, :, None]).squeeze(-1)
        turn = torch.einsum("kj,dtjab->dtkab", self.skin_weights, turned)
        return (turn @ posed[..., None]).squeeze(-1) + torch.einsum("kj,dtja->dtka", self.skin_weights, base)

    def loss(self) -> Tensor:
        """The sum of all terms, per pose."""
        local, joints, turned = self.pose()
        points = torch.cat([joints[:, :, self.joint_index], self.skin(local, joints, turned)], dim=2)
        depth = (-points[..., 2:]).clamp(min=0.2)
        flat = torch.cat([points[..., :1], -points[..., 1:2]], dim=-1) / depth
        square = ((flat - self.image) * depth.detach()).square().sum(-1)
        sigma = _GEMAN_MCCLURE_M**2
        robust = sigma * square / (sigma + square)
        total = _W_IMAGE * (self.w_image * robust).sum() / self.w_image.sum().clamp(min=1e-6)
        total = total + _W_PRIOR * (local - self.start).square().sum((-1, -2, -3)).mean()
        total = total + _W_HINGE * hinge(log_map(local))
        total = total + _W_SHAPE * self.betas.square().sum(-1).mean()
        return total + self.steadiness(local, joints)
