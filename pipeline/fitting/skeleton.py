"""Fit the 24-joint SMPL skeleton to landmarks: rotations per frame, one set of bone lengths per dancer.

The observations are the landmarks in metres and in the image. Additional losses penalise knees and
elbows that bend sideways or overstretch, acceleration, and sliding of feet in contact. Bone lengths are constant over the
span.
"""

from __future__ import annotations

import math
from copy import copy

import numpy as np
import numpy.typing as npt
import torch
from scipy.interpolate import make_interp_spline
from torch import Tensor

from opendance_hf.motion.rotations import matrix_to_quaternion, quaternion_to_matrix
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS
from opendance_hf.pipeline.clip import Fit, Landmarks, Times, VideoInfo
from opendance_hf.pipeline.fitting.camera import level_landmarks
from opendance_hf.pipeline.fitting.correspondences import BONES, JOINT_LANDMARKS, OFFSET_LANDMARKS, STIFFNESS
from opendance_hf.pipeline.fitting.initial_pose import bone_scales, initial_rotations, landmarks_in_view
from opendance_hf.pipeline.fitting.losses import HIPS, hinge, log_map, pseudo_huber
from opendance_hf.pipeline.fitting.problem import IMAGE_TO_VIEW, FitProblem
from opendance_hf.pipeline.fitting.settings import SkeletonSettings
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX


def fit_skeleton(
    found: Landmarks,
    video: VideoInfo,
    settings: SkeletonSettings,
    pins: npt.NDArray[np.bool_] | None = None,
) -> Fit:
    """Fit the skeleton to smooth, completed landmarks of all dancers of a span.

    Fits about ``frame_rate_hz`` frames per second and interpolates between them. On rendered clips this is more accurate
    than the same number of steps with all frames, after which the fit has converged less. ``pins`` (D, T, 2) are feet that
    stand on the ground whatever the landmarks show.
    """
    frames = frames_to_fit(found.times_s, settings.frame_rate_hz)
    problem = SkeletonProblem(found.part(frames), video, settings)
    problem.pins = None if pins is None else pins[:, frames]
    problem.solve()
    return problem.interpolated(found, pins).place()


def frames_to_fit(times_s: Times, rate_hz: float) -> slice:
    """Return the slice that picks about ``rate_hz`` frames per second, centred.

    Of a variable frame rate, the 90 percent quantile of the time between frames is used.
    """
    usual_s = float(np.quantile(np.diff(times_s), 0.9))
    every = max(
        1, math.floor(1 / (rate_hz * usual_s) + 0.499)
    )  # 0.499: a step of 2.5 frames (30 FPS, 12 Hz) becomes 2
    return slice((len(times_s) - 1) % every // 2, None, every)


class SkeletonProblem(FitProblem):
    """Optimise rotations, pelvis positions and the scales of groups of bones."""

    settings: SkeletonSettings

    def __init__(self, found: Landmarks, video: VideoInfo, settings: SkeletonSettings) -> None:
        super().__init__(found, video, settings)
        found = self.found
        joints = [JOINT_INDEX[joint] for joint, _, _ in JOINT_LANDMARKS]
        carriers = [JOINT_INDEX[joint] for joint, _, _, _ in OFFSET_LANDMARKS]
        self.mark_index, self.carrier_index = torch.tensor(joints + carriers), torch.tensor(carriers)
        marks = [LANDMARK_INDEX[mark] for _, mark, _ in JOINT_LANDMARKS]
        marks += [LANDMARK_INDEX[mark] for _, mark, _, _ in OFFSET_LANDMARKS]
        weight = [w for _, _, w in JOINT_LANDMARKS] + [w for _, _, _, w in OFFSET_LANDMARKS]
        self.mark_offset = torch.tensor([offset for _, _, offset, _ in OFFSET_LANDMARKS])
        shown = torch.from_numpy(found.visibility[:, :, marks])
        # Hidden landmarks are extrapolated by the model: they get low weights, lowest in the image.
        low, low_image = settings.hidden_landmark_share, settings.hidden_image_share
        self.w_world = torch.tensor(weight) * (low + (1 - low) * shown)
        self.w_image = torch.tensor(weight) * (low_image + (1 - low_image) * shown**2) * (shown > 0)
        world = landmarks_in_view(found, self.width_px, self.height_px, self.focal_px)
        self.world = torch.from_numpy(world[:, :, marks].astype(np.float32))
        self.image = self.to_focal_lengths(found, marks)

        scale = bone_scales(found, settings)
        self.log_scale = torch.from_numpy(np.log(scale)).requires_grad_()
        self.measured_log_scale = self.log_scale.detach().clone()
        rotations = initial_rotations(world)
        self.six = torch.from_numpy(rotations[..., :2].astype(np.float32)).requires_grad_()
        self.transl = self._initial_transl().requires_grad_()
        self.scale_of = _scale_of_offsets()
        self.mean_offsets = torch.from_numpy(MEAN_OFFSETS.copy())
        stiffness = torch.tensor([STIFFNESS.get(name, 0.0) for name in JOINT_INDEX])
        self.stiffness = settings.stiffness_weight * stiffness

    def build(self) -> Tensor:
        """Return the (D, B) logarithms of the scales of ``BONES``."""
        return self.log_scale

    def offsets(self) -> Tensor:
        """Return the (D, 24, 3) rest offsets."""
        return self.mean_offsets * self.log_scale.exp()[:, self.scale_of]

    def _initial_transl(self) -> Tensor:
        """Return the (D, T, 3) positions, in closed form, at which the projected landmarks in metres fit the image best."""
        weights = self.w_image + 1e-4
        world, image = self.world, self.image
        mean_w = (weights[..., None] * world).sum(2) / weights.sum(2, keepdim=True)
        mean_i = (weights[..., None] * image).sum(2) / weights.sum(2, keepdim=True)
        spread = world[..., :2] - mean_w[..., None, :2]
        flat = image - mean_i[..., None, :]
        flat = flat * IMAGE_TO_VIEW
        num = (weights[..., None] * spread * spread).sum((2, 3))
        den = (weights[..., None] * spread * flat).sum((2, 3)).clamp(min=1e-6)
        depth = (num / den).clamp(*self.settings.depth_limits_m)
        kernel = max(1, round(self.settings.depth_smooth_s * self.rate)) // 2 * 2 + 1
        depth = torch.nn.functional.pad(depth[:, None], (kernel // 2, kernel // 2), mode="replicate")
        depth = depth.unfold(2, kernel, 1).median(-1).values[:, 0]
        x = mean_i[..., 0] * depth - mean_w[..., 0]
        y = -mean_i[..., 1] * depth - mean_w[..., 1]
        return torch.stack([x, y, -depth], dim=-1)

    def _points(self, joints: Tensor, turned: Tensor) -> Tensor:
        """Return the (D, T, K, 3) points of the skeleton that correspond to the landmarks."""
        points = joints.index_select(2, self.mark_index)
        turn = turned.index_select(2, self.carrier_index)
        count = len(JOINT_LANDMARKS)
        moved = points[:, :, count:] + (turn @ self.mark_offset[..., None]).squeeze(-1)
        return torch.cat([points[:, :, :count], moved], dim=2)

    def loss(self) -> Tensor:
        """Return the sum of all loss terms, averaged over poses."""
        settings = self.settings
        local, joints, turned = self.pose()
        points = self._points(joints, turned)
        hips = joints[:, :, HIPS].mean(2)
        world = pseudo_huber(points - hips[:, :, None] - self.world, self.w_world, settings.huber_m)
        depth = (-points[..., 2:]).clamp(min=settings.min_depth_m)
        flat = points[..., :2] * IMAGE_TO_VIEW / depth
        image = pseudo_huber((flat - self.image) * depth.detach(), self.w_image, settings.huber_m)
        total = settings.landmark_weight * world + settings.image_weight * image

        total = total + settings.bone_weight * ((self.log_scale - self.measured_log_scale) ** 2).mean()
        angles = log_map(local)
        total = total + (self.stiffness[:, None] * angles.square()).sum() / self.dancers / self.frames
        total = total + settings.hinge_weight * hinge(angles, settings)
        return total + self.motion_loss(local, joints)

    @torch.no_grad()
    def interpolated(self, found: Landmarks, pins: npt.NDArray[np.bool_] | None = None) -> SkeletonProblem:
        """Return this solution interpolated to the frames of ``found``, with contacts detected in these frames."""
        found = level_landmarks(found, self.video, self.roll_rad)
        times_s = self.found.times_s
        # Beyond the first and last fitted frame, extrapolate for half a step and then hold: splines diverge.
        half_s = float(np.median(np.diff(times_s))) / 2
        clock = np.clip(found.times_s, times_s[0] - half_s, times_s[-1] + half_s)

        def interpolate(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
            spline = make_interp_spline(times_s, values, k=min(3, len(times_s) - 1), axis=1)
            return np.asarray(spline(clock))

        turns = matrix_to_quaternion(self.pose()[0].numpy().astype(np.float64))
        # q and -q are the same rotation; flip signs so that consecutive quaternions lie in one hemisphere.
        same_side = (turns[:, 1:] * turns[:, :-1]).sum(-1, keepdims=True) >= 0
        turns[:, 1:] *= np.cumprod(np.where(same_side, 1.0, -1.0), axis=1)
        turns = interpolate(turns)
        local = quaternion_to_matrix(turns / np.linalg.norm(turns, axis=-1, keepdims=True))
        all_frames = copy(self)
        all_frames.found, all_frames.frames, all_frames.pins = found, len(found.times_s), pins
        all_frames.six = torch.from_numpy(local[..., :2].astype(np.float32))
        all_frames.transl = torch.from_numpy(interpolate(self.transl.numpy()).astype(np.float32))
        all_frames.find_contacts()
        return all_frames


def _scale_of_offsets() -> Tensor:
    """Return the (24, 3) index into ``BONES`` of the scale of each coordinate of each offset.

    Only the width of the hips has the scale of the pelvis; their other two coordinates have the scale of the trunk.
    """
    out = torch.zeros(NUM_JOINTS, 3, dtype=torch.long)
    for bone, names in enumerate(BONES.values()):
        for name in names:
            out[JOINT_INDEX[name]] = bone
    for name in BONES["pelvis"]:
        out[JOINT_INDEX[name], 1:] = list(BONES).index("trunk")
    return out
