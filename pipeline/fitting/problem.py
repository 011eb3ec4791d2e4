"""Define the base class of all fits: unknowns, optimiser, losses for motion and ground, and conversion to the world frame.

All dancers are optimised together over the whole span, in the view frame: the camera frame with x right, y up and z
towards the camera, after the camera's estimated roll has been removed (:mod:`.camera`). :meth:`FitProblem.place` then
transforms the result to a world frame whose ground is y = 0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter1d, median_filter
from torch import Tensor

from opendance_hf.motion.balance import vertical
from opendance_hf.motion.skeleton import JOINT_INDEX
from opendance_hf.pipeline.clip import Fit, Landmarks, VideoInfo
from opendance_hf.pipeline.fitting.camera import (
    Tilt,
    camera_roll,
    camera_tilt,
    horizon,
    level_landmarks,
    level_rotation,
)
from opendance_hf.pipeline.fitting.contacts import hold_feet, resting_feet
from opendance_hf.pipeline.fitting.holds import Hold, hand_holds
from opendance_hf.pipeline.fitting.kinematics import differentiable_forward_kinematics
from opendance_hf.pipeline.fitting.losses import FEET, HANDS, foot_slide, ground_distance, hands_apart, jitter
from opendance_hf.pipeline.fitting.settings import FitSettings
from opendance_hf.schema import Camera

#: Time, seconds, in which a dancer makes one step.
_STEP_S: Final = 0.5
#: Factors that convert image coordinates (y down) to the view frame (y up).
IMAGE_TO_VIEW: Final = torch.tensor([1.0, -1.0])


class FitProblem(ABC):
    """Hold the unknowns, observations and losses of one fit of D dancers over T frames.

    Subclasses set ``six`` and ``transl`` and define the unknown body proportions of the dancers and the loss.

    Attributes:
        found: landmarks as a level camera would see them.
        roll_rad: estimated roll of the camera.
        tilt: estimated pitch and focal length of the camera; None until the ground is estimated.
        focal_px: focal length, first the assumed, then the estimated one.
        image: observed image points relative to the image centre, in focal lengths.
        six: (D, T, 24, 3, 2) the first two columns of each joint's local rotation, not yet orthonormal.
        transl: (D, T, 3) pelvis positions in the view frame, metres.
        ground: slope and level of the ground line y = level + slope * z; None until it is estimated.
        contacts: (D, T, 2) 1 where the toes are at rest; None until they are detected.
        holds: hands that hold each other.
        resting: (2, D, T, 2) mask of toes and ankles at rest.
        pins: (D, T, 2) feet that annotators pinned to the ground; None if there are none.
    """

    six: Tensor
    transl: Tensor
    image: Tensor

    def __init__(self, found: Landmarks, video: VideoInfo, settings: FitSettings) -> None:
        self.video = video
        self.settings = settings
        self.roll_rad = camera_roll(found, video, settings)
        self.found = level_landmarks(found, video, self.roll_rad)
        self.width_px, self.height_px = video.width_px, video.height_px
        self.focal_px = video.assumed_focal_px
        self.tilt: Tilt | None = None
        self.dancers, self.frames = found.visibility.shape[:2]
        self.rate = (self.frames - 1) / float(found.times_s[-1] - found.times_s[0])
        self.ground: tuple[float, float] | None = None
        self.contacts: Tensor | None = None
        self.holds: list[Hold] = []
        self.pins: npt.NDArray[np.bool_] | None = None
        self.resting = np.zeros((2, self.dancers, self.frames, 2), dtype=bool)

    @abstractmethod
    def build(self) -> Tensor:
        """Return the unknown body proportions: logarithms of bone scales, or SMPL betas."""

    @abstractmethod
    def offsets(self) -> Tensor:
        """Return the (D, 24, 3) rest offsets."""

    @abstractmethod
    def loss(self) -> Tensor:
        """Return the sum of all terms."""

    def solve(self) -> None:
        """Optimise without the ground, then with the ground, then with ground and contacts."""
        free, grounded, held = self.settings.steps
        self.optimise(free)
        self.find_ground()
        self.optimise(grounded)
        self.find_contacts()
        self.optimise(held)

    def optimise(self, steps: int) -> None:
        """Minimise the loss with Adam (Kingma and Ba 2015) and a cosine schedule of the learning rates.

        ``torch.optim`` is not used: its first optimiser imports torch's compiler, which takes as long as importing torch,
        and one of its steps takes as long as an eighth of the loss with its gradients.
        """
        settings = self.settings
        rates = (settings.learning_rate, settings.learning_rate, settings.build_learning_rate)
        unknowns = (self.six, self.transl, self.build())
        means = [torch.zeros_like(value) for value in unknowns]
        squares = [torch.zeros_like(value) for value in unknowns]
        beta_1, beta_2 = settings.adam_betas
        for step in range(steps):
            gradients = torch.autograd.grad(self.loss(), unknowns)
            cosine = (1 + math.cos(math.pi * step / steps)) / 2
            unbiased_1, unbiased_2 = 1 - beta_1 ** (step + 1), 1 - beta_2 ** (step + 1)
            with torch.no_grad():
                for value, gradient, mean, square, rate in zip(
                    unknowns, gradients, means, squares, rates, strict=True
                ):
                    mean.lerp_(gradient, 1 - beta_1)
                    square.mul_(beta_2).addcmul_(gradient, gradient, value=1 - beta_2)
                    scale = square.sqrt().div_(math.sqrt(unbiased_2)).add_(settings.adam_epsilon)
                    rate = settings.final_learning_rate + (rate - settings.final_learning_rate) * cosine
                    value.addcdiv_(mean, scale, value=-rate / unbiased_1)

    def pose(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return local rotations, joints and global rotations in the view frame."""
        return differentiable_forward_kinematics(self.six, self.transl, self.offsets())

    def to_focal_lengths(self, found: Landmarks, marks: list[int]) -> Tensor:
        """Return the (D, T, K, 2) image points of K landmarks relative to the image centre, in focal lengths, y down."""
        centre = torch.tensor([self.width_px / 2, self.height_px / 2])
        return (torch.from_numpy(found.image[:, :, marks]) - centre) / self.focal_px

    def motion_loss(self, local: Tensor, joints: Tensor) -> Tensor:
        """Return the sum of the losses of acceleration, distance from the ground and sliding in contact."""
        settings = self.settings
        total = torch.zeros(())
        if self.frames > 2:
            total = total + jitter(local, joints, self.rate, settings)
        feet = joints[:, :, FEET]
        if self.ground is not None:
            # Depth from apparent size is inaccurate. The ground constrains it better: one foot is nearly always on it.
            lowest = self._height(feet).amin(dim=2)
            total = total + settings.ground_weight * ground_distance(lowest, settings) * 0.1
        if self.contacts is not None:
            total = total + settings.contact_weight * foot_slide(feet, self.contacts, self.rate)
        if self.holds:
            total = total + settings.hold_weight * hands_apart(
                joints[:, :, HANDS], self.holds, settings.holds.palm_m
            )
        return total

    def _height(self, feet: Tensor) -> Tensor:
        """Return the (D, T, 2) height of the toe joints above that of resting ones, metres."""
        assert self.ground is not None
        slope, level = self.ground
        return feet[..., 1] - (level + slope * feet[..., 2])

    @torch.no_grad()
    def find_ground(self) -> None:
        """Estimate the ground, assuming that dancers are upright on average and that their lower foot is on it.

        A plane fitted to the feet would be tilted towards the camera rays, since depth errors move feet along them.
        """
        self.tilt = self._camera_tilt(self.pose()[1].numpy().astype(np.float64))
        self.change_focal_length(self.tilt.focal_ratio)
        slope = -math.tan(self.tilt.pitch_rad)
        _, joints, _ = self.pose()
        feet = joints[:, :, FEET]
        lowest = (feet[..., 1] - slope * feet[..., 2]).amin(dim=2)
        self.ground = (slope, float(lowest.median()))
        self._move_to_ground(feet)

    def _camera_tilt(self, joints: npt.NDArray[np.float64]) -> Tilt:
        """Estimate pitch and focal length from the (D, T, 24, 3) joints of a fit without a ground."""
        priors = self.settings.camera
        if self.video.focal_px:
            priors = replace(priors, focal_sd=priors.stated_focal_sd)
        up = vertical({name: joints[:, :, index] for name, index in JOINT_INDEX.items()})
        feet = joints[:, :, FEET].reshape(-1, 2, 3)
        lower = feet[np.arange(len(feet)), feet[..., 1].argmin(axis=1)]
        seconds = self.dancers * self.frames / self.rate
        depths = np.maximum(-lower[:, 2], self.settings.min_depth_m)
        seen = horizon(lower[:, 1] / depths, depths, seconds / _STEP_S)
        return camera_tilt(math.atan2(up[2], up[1]), seen, seconds / self.settings.phrase_s, priors)

    def change_focal_length(self, ratio: float) -> None:
        """Multiply the focal length and the depths by a factor, so that the dancers keep their size in the image."""
        self.focal_px *= ratio
        self.image = self.image / ratio
        self.transl[..., 2] *= ratio

    def _move_to_ground(self, feet: Tensor) -> None:
        """Shift dancers along their camera ray to the depth at which the ray of the lower foot meets the ground.

        The optimiser alone needs many steps for such shifts.
        """
        settings = self.settings
        assert self.ground is not None
        slope, level = self.ground
        index = (feet[..., 1] - slope * feet[..., 2]).argmin(dim=2)[..., None, None].expand(-1, -1, 1, 3)
        foot = feet.gather(2, index)[:, :, 0]
        ray_y = foot[..., 1] / -foot[..., 2]
        limit = settings.max_ground_shift_m
        shift = (level / (ray_y + slope) + foot[..., 2]).clamp(-limit, limit).numpy()
        size = max(3, round(settings.ground_smooth_s * self.rate))
        shift = gaussian_filter1d(median_filter(shift, size=(1, size), mode="nearest"), size / 4, axis=1)
        self.transl += torch.from_numpy(shift)[..., None] * self.transl / -self.transl[..., 2:]

    @torch.no_grad()
    def find_contacts(self) -> None:
        """Detect the feet at rest on the ground, still in the image and low, and the hands that hold each other."""
        _, joints, _ = self.pose()
        low = self._height(joints[:, :, FEET]) < self.settings.contact_height_m
        self.resting = resting_feet(self.found, self.settings.contacts) & low.numpy()
        if self.pins is not None:
            self.resting |= self.pins
        self.contacts = torch.from_numpy(self.resting[0]).float()
        hands = joints[:, :, HANDS].numpy().astype(np.float64)
        self.holds = hand_holds(self.found, hands, self.settings.holds)

    @torch.no_grad()
    def place(self) -> Fit:
        """Return the result in a world frame with the ground at y = 0 and the origin under the dancers' first position."""
        local, joints, _ = self.pose()
        assert self.ground is not None
        assert self.tilt is not None
        slope, level = self.ground
        # Rotate the view frame about x so that the ground line y = level + slope * z becomes horizontal.
        tilt = float(np.arctan(slope))
        cos, sin = np.cos(tilt), np.sin(tilt)
        turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
        start = turn @ joints[:, 0, 0].mean(0).numpy().astype(np.float64)
        ground_y = float((turn @ np.array([0.0, level, 0.0]))[1]) - self.settings.toe_height_m
        origin = np.array([start[0], ground_y, start[2]])

        rotations = local.numpy().astype(np.float64)
        rotations[:, :, 0] = turn @ rotations[:, :, 0]
        transl = self.transl.detach().numpy().astype(np.float64) @ turn.T - origin
        offsets = self.offsets().numpy()
        times_s = self.found.times_s
        held, moved = hold_feet(
            rotations, transl, offsets, self.resting, times_s, -origin, self.settings.contacts
        )
        # hold_feet moved the dancers: move the origin under their first position again.
        first = moved[:, 0].mean(0) * np.array([1, 0, 1], np.float32)
        origin = origin + first
        moved = moved - first
        # From the world to the level view, to the rolled view, to the camera frame.
        to_camera = np.diag([1.0, -1.0, -1.0]) @ level_rotation(self.roll_rad).T @ turn.T
        camera = Camera(
            width_px=self.width_px,
            height_px=self.height_px,
            focal_px=self.focal_px,
            rotation=tuple(to_camera.ravel().tolist()),
            translation=tuple((to_camera @ origin).tolist()),
            focal_sd=self.tilt.focal_sd,
            tilt_sd_deg=math.degrees(self.tilt.pitch_sd_rad),
        )
        contacts = self.resting.transpose(1, 2, 3, 0).reshape(self.dancers, self.frames, -1)
        return Fit(times_s, held, moved, offsets, camera, contacts=contacts)
