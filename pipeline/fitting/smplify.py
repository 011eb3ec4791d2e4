"""Refine SMPL bodies against 2D keypoints with SMPLify (paper section 3.1, after SPIN).

The bodies of an estimator initialise the fit and are its prior: a loss keeps rotations near them. This loss replaces
SMPLify's mixture of poses, whose file is licensed. Other losses penalise knees and elbows that bend sideways or
overstretch, and shapes far from the mean. :mod:`.problem` adds the losses of motion. Distances from keypoints have a
Geman-McClure loss, so outliers of the detector have little influence. Each dancer has one shape over the whole span.
The paper does not name its 2D keypoints; here they are the landmarks of :mod:`opendance_hf.pipeline.landmarks`.

Only the vertices of SMPL at which keypoints lie are posed, not all 6,890. The result is the same, since joints depend on
the shape only, and this is hundreds of times as fast.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from opendance_hf.motion.skeleton import JOINT_INDEX, PARENTS
from opendance_hf.motion.smpl import NUM_BETAS, SMPLData
from opendance_hf.pipeline.clip import Bodies, Fit, Landmarks, VideoInfo
from opendance_hf.pipeline.fitting.camera import level_rotation
from opendance_hf.pipeline.fitting.correspondences import SMPL_JOINT_LANDMARKS, SMPL_VERTEX_LANDMARKS
from opendance_hf.pipeline.fitting.losses import geman_mcclure, hinge, log_map
from opendance_hf.pipeline.fitting.problem import FitProblem
from opendance_hf.pipeline.fitting.settings import SMPLifySettings
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX


def refine_bodies(
    start: Bodies,
    found: Landmarks,
    data: SMPLData,
    video: VideoInfo,
    settings: SMPLifySettings,
    pins: npt.NDArray[np.bool_] | None = None,
) -> Fit:
    """Refine bodies against keypoints.

    Args:
        start: completed, smooth bodies of an estimator.
        found: completed, smooth landmarks of the same frames; only those in the image are used.
        data: SMPL body that the user provides.
        video: size of the image.
        settings: weights and limits.
        pins: (D, T, 2) feet that stand on the ground whatever the landmarks show.

    Returns:
        Motion in the world frame, with betas, rest offsets and transl as SMPL defines them.
    """
    problem = SMPLifyProblem(start, found, data, video, settings)
    problem.pins = pins
    problem.solve()
    placed = problem.place()
    betas = problem.betas.detach().numpy()
    offsets = data.rest_offsets(betas)
    # The problem's transl is the pelvis; SMPL's is relative to the origin of its rest body.
    transl = (placed.transl - offsets[:, None, 0]).astype(np.float32)
    return replace(placed, rest_offsets=offsets, transl=transl, betas=betas)


class SMPLifyProblem(FitProblem):
    """Optimise rotations, pelvis positions and SMPL shapes."""

    settings: SMPLifySettings

    def __init__(
        self, start: Bodies, found: Landmarks, data: SMPLData, video: VideoInfo, settings: SMPLifySettings
    ) -> None:
        super().__init__(found, video, settings)
        found = self.found
        # From the camera frame to the level view.
        to_view = (level_rotation(self.roll_rad) @ np.diag([1.0, -1.0, -1.0])).astype(np.float32)
        rotations = start.rotations.copy()
        rotations[:, :, 0] = to_view @ rotations[:, :, 0]
        self.start = torch.from_numpy(rotations)
        self.six = torch.from_numpy(np.ascontiguousarray(rotations[..., :2])).requires_grad_()
        betas = np.median(start.betas, axis=1).astype(np.float32)
        self.betas = torch.from_numpy(betas).requires_grad_()
        pelvis = (data.rest_offsets(start.betas)[:, :, 0] + start.transl) @ to_view.T
        # The estimator takes the diagonal of the image for the focal length (CLIFF), also where the file states another.
        pelvis[..., 2] *= self.focal_px / video.diagonal_px
        pelvis[..., 2] = np.minimum(pelvis[..., 2], -settings.nearest_m)
        self.transl = torch.from_numpy(pelvis.astype(np.float32)).requires_grad_()

        mean, moves = data.rest_joints()
        self.rest_mean, self.rest_moves = torch.from_numpy(mean), torch.from_numpy(moves)
        index = [vertex for vertex, _, _ in SMPL_VERTEX_LANDMARKS]
        self.skin_mean = torch.from_numpy(data.v_template[index])
        self.skin_moves = torch.from_numpy(data.shapedirs[index, :, :NUM_BETAS].copy())
        self.skin_bends = torch.from_numpy(data.posedirs[index].copy())
        self.skin_weights = torch.from_numpy(data.weights[index].copy())
        pairs = [*SMPL_JOINT_LANDMARKS, *SMPL_VERTEX_LANDMARKS]
        marks = [LANDMARK_INDEX[mark] for _, mark, _ in pairs]
        weight = torch.tensor([w for _, _, w in pairs])
        self.joint_index = torch.tensor([JOINT_INDEX[joint] for joint, _, _ in SMPL_JOINT_LANDMARKS])
        self.w_image = weight * torch.from_numpy(found.visibility[:, :, marks]) ** 2
        self.image = self.to_focal_lengths(found, marks)

    def build(self) -> Tensor:
        """Return the (D, 10) betas."""
        return self.betas

    def rest(self) -> Tensor:
        """Return the (D, 24, 3) joints of the shaped bodies in the rest pose."""
        return self.rest_mean + torch.einsum("jcb,db->djc", self.rest_moves, self.betas)

    def offsets(self) -> Tensor:
        """Return the (D, 24, 3) rest offsets; row 0 is zero, as ``transl`` is the pelvis here."""
        rest = self.rest()
        return torch.cat([torch.zeros_like(rest[:, :1]), rest[:, 1:] - rest[:, list(PARENTS[1:])]], dim=1)

    def skin(self, local: Tensor, joints: Tensor, turned: Tensor) -> Tensor:
        """Return the (D, T, K, 3) vertices at which keypoints lie, by linear blend skinning of these vertices only."""
        bends = (local[:, :, 1:] - torch.eye(3)).flatten(2)
        shaped = self.skin_mean + torch.einsum("kcb,db->dkc", self.skin_moves, self.betas)
        posed = shaped[:, None] + torch.einsum("kcp,dtp->dtkc", self.skin_bends, bends)
        # A joint moves a vertex to joint + R (vertex - joint in the rest pose).
        base = joints - (turned @ self.rest()[:, None, :, :, None]).squeeze(-1)
        turn = torch.einsum("kj,dtjab->dtkab", self.skin_weights, turned)
        return (turn @ posed[..., None]).squeeze(-1) + torch.einsum("kj,dtja->dtka", self.skin_weights, base)

    def loss(self) -> Tensor:
        """Return the sum of all loss terms, averaged over poses."""
        settings = self.settings
        local, joints, turned = self.pose()
        points = torch.cat([joints[:, :, self.joint_index], self.skin(local, joints, turned)], dim=2)
        depth = (-points[..., 2:]).clamp(min=settings.min_depth_m)
        flat = torch.cat([points[..., :1], -points[..., 1:2]], dim=-1) / depth
        penalty = geman_mcclure((flat - self.image) * depth.detach(), settings.geman_mcclure_m)
        total = settings.image_weight * (self.w_image * penalty).sum() / self.w_image.sum().clamp(min=1e-6)
        total = total + settings.prior_weight * (local - self.start).square().sum((-1, -2, -3)).mean()
        total = total + settings.hinge_weight * hinge(log_map(local), settings)
        total = total + settings.shape_weight * self.betas.square().sum(-1).mean()
        return total + self.motion_loss(local, joints)
