"""Fit the 24-joint SMPL skeleton to landmarks: rotations per frame, one set of bone lengths per dancer.

All dancers are optimised together over the whole span (Adam), against the landmarks in metres, their reprojection into the
picture, and what is known of bodies: joints that bend one way, limbs that keep their length, motion that does not
jump, feet that stay where they touch the ground. Works in the camera's frame turned y-up ("view": x right, y up, z
towards the camera); :func:`place` then puts it on the ground of a world frame.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.interpolate import make_interp_spline
from scipy.ndimage import gaussian_filter1d, median_filter
from torch import Tensor

from opendance_hf.motion.rotations import matrix_to_quaternion, quaternion_to_matrix
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS
from opendance_hf.pipeline.backends.base import Floats
from opendance_hf.pipeline.backends.blazepose import LANDMARK_INDEX
from opendance_hf.pipeline.stages.chain import chain
from opendance_hf.pipeline.stages.contacts import hold_feet, resting_feet
from opendance_hf.pipeline.stages.pose import Landmarks
from opendance_hf.schema import Camera

_J, _L = JOINT_INDEX, LANDMARK_INDEX
_SIDES: Final = ("left", "right")
_STEPS: Final = (200, 120, 80)
_LEARNING_RATE: Final = 0.03
_LAST_RATE: Final = _LEARNING_RATE / 30
_BETAS, _EPSILON = (0.9, 0.999), 1e-8
#: Landmarks that were smoothed over 0.3 s hold no more than so many pictures a second show.
_RATE_HZ: Final = 12

#: Landmarks that are a joint of the skeleton: (joint, landmark, weight).
_PAIRS: Final = [
    (f"{side}_{joint}", f"{side}_{landmark}", weight)
    for side in _SIDES
    for joint, landmark, weight in (
        ("hip", "hip", 1.0), ("knee", "knee", 1.0), ("ankle", "ankle", 1.0), ("foot", "foot_index", 0.5),
        ("shoulder", "shoulder", 1.0), ("elbow", "elbow", 1.0), ("wrist", "wrist", 1.0),
        ("hand", "index", 0.3),
    )
]  # fmt: skip
#: Landmarks that ride on a joint at an offset in its rest frame, metres: (joint, landmark, offset, weight).
_RIDERS: Final = [
    ("head", "nose", (0.0, 0.04, 0.11), 0.5),
    ("head", "left_ear", (0.075, 0.05, 0.0), 0.5),
    ("head", "right_ear", (-0.075, 0.05, 0.0), 0.5),
    ("left_ankle", "left_heel", (0.01, -0.05, -0.06), 0.3),
    ("right_ankle", "right_heel", (-0.01, -0.05, -0.06), 0.3),
]
#: Bones that share one scale, by the joint at their far end.
_BONES: Final[dict[str, tuple[str, ...]]] = {
    "pelvis": ("left_hip", "right_hip"),
    "trunk": ("spine1", "spine2", "spine3", "neck"),
    "head": ("head",),
    "shoulders": ("left_collar", "right_collar", "left_shoulder", "right_shoulder"),
    "upper_arm": ("left_elbow", "right_elbow"),
    "forearm": ("left_wrist", "right_wrist"),
    "hand": ("left_hand", "right_hand"),
    "thigh": ("left_knee", "right_knee"),
    "shin": ("left_ankle", "right_ankle"),
    "foot": ("left_foot", "right_foot"),
}
#: How stiff each joint is: weight of its squared rotation (radians).
_STIFFNESS: Final[dict[str, float]] = {
    "spine1": 0.02, "spine2": 0.02, "spine3": 0.02, "neck": 0.02, "head": 0.02, "left_collar": 0.1,
    "right_collar": 0.1, "left_foot": 1.0, "right_foot": 1.0, "left_hand": 1.0, "right_hand": 1.0,
    "left_wrist": 0.02, "right_wrist": 0.02, "left_ankle": 0.01, "right_ankle": 0.01, "left_hip": 0.001,
    "right_hip": 0.001, "left_shoulder": 0.001, "right_shoulder": 0.001,
}  # fmt: skip

# The picture is right to two or three centimetres, depth hardly to ten: it decides which way a limb points.
_W_WORLD, _W_IMAGE = 0.02, 1.0
_W_BONE = 0.05
_W_HINGE = 0.2
_W_ACCELERATION = 10.0
_W_DEPTH_ACCELERATION = 40.0
_W_SPIN = 0.05
_W_GROUND = 5.0
_W_CONTACT = 100.0
#: Left and right lie side by side: slices, since picking joints by number costs as much as the arithmetic here.
_HIPS, _KNEES, _FEET, _ELBOWS = (
    slice(_J[f"left_{joint}"], _J[f"right_{joint}"] + 1) for joint in ("hip", "knee", "foot", "elbow")
)
#: A picture's y points down.
_DOWN: Final = torch.tensor([1.0, -1.0])
#: Left elbows bend the other way about y than right ones.
_INWARD: Final = torch.tensor([1.0, -1.0])
#: (9, 4): a flat rotation to its skew part and its trace.
_SKEW_AND_TRACE: Final = torch.tensor(
    [[0, 0, 0, 1], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [-1, 0, 0, 0], [0, -1, 0, 0], [1, 0, 0, 0],
     [0, 0, 0, 1]], dtype=torch.float32,
)  # fmt: skip
_HUBER_M: Final = 0.1
_CONTACT_HEIGHT_M: Final = 0.3
_TOE_ABOVE_GROUND_M: Final = 0.025
#: A foot further than this above the ground, or below it, is a jump or an error, and pulls no harder.
_GROUND_HUBER_M: Final = 0.05
_GROUND_SMOOTH_S: Final = 0.5
_MAX_TILT_RAD: Final = 0.35
#: How long a lean lasts: the spans that count as independent views of what is upright.
_PHRASE_S: Final = 3.0


@dataclass
class Fit:
    """Fitted motion of D dancers at T source times, in the world frame of :mod:`opendance_hf.schema`.

    Attributes:
        times_s: (T,) seconds of the source.
        rotations: (D, T, 24, 3, 3) each joint relative to its parent, the root to the world.
        transl: (D, T, 3) pelvis position, metres.
        rest_offsets: (D, 24, 3) metres; row 0 is zero.
        camera: the source camera seen from that world.
        betas: (D, 10) SMPL shape, where a SMPL body was fitted. Then row 0 of ``rest_offsets`` is the pelvis of the
            shaped rest body and ``transl`` is SMPL's: pelvis = transl + rest_offsets[0].
    """

    times_s: npt.NDArray[np.float64]
    rotations: Floats
    transl: Floats
    rest_offsets: Floats
    camera: Camera
    betas: Floats | None = None


def fit(found: Landmarks, width_px: int, height_px: int) -> Fit:
    """Fit the skeleton to smooth, completed landmarks of all dancers of a span.

    Looks at some twelve frames a second and interpolates motion between them: on rendered clips that is nearer to the
    truth than as many steps with every frame, which do not come as far.
    """
    problem = FitProblem(found.part(_some(found.times_s)), width_px, height_px)
    problem.optimise(_STEPS[0])
    problem.find_ground()
    problem.optimise(_STEPS[1])
    problem.find_contacts()
    problem.optimise(_STEPS[2])
    return problem.spread(found).place()


def _some(times_s: npt.NDArray[np.float64]) -> slice:
    """Every which frame to fit; the ends are left out alike. A rate that changes counts where it is low."""
    usual_s = float(np.quantile(np.diff(times_s), 0.9))
    every = max(1, math.floor(1 / (_RATE_HZ * usual_s) + 0.499))  # 2.5 frames, of 30 a second, are two
    return slice((len(times_s) - 1) % every // 2, None, every)


class FitProblem:
    """Unknowns, observations and losses of one fit; N = D * T poses, dancer after dancer."""

    def __init__(self, found: Landmarks, width_px: int, height_px: int) -> None:
        self.found = found
        self.width_px, self.height_px = width_px, height_px
        self.focal_px = float(np.hypot(width_px, height_px))
        self.dancers, self.frames = found.visibility.shape[:2]
        self.rate = (self.frames - 1) / float(found.times_s[-1] - found.times_s[0])

        joints = [_J[joint] for joint, _, _ in _PAIRS]
        riders = [_J[joint] for joint, _, _, _ in _RIDERS]
        self.mark_index, self.rider_index = torch.tensor(joints + riders), torch.tensor(riders)
        marks = [_L[mark] for _, mark, _ in _PAIRS] + [_L[mark] for _, mark, _, _ in _RIDERS]
        weight = [w for _, _, w in _PAIRS] + [w for _, _, _, w in _RIDERS]
        self.rider_offset = torch.tensor([offset for _, _, offset, _ in _RIDERS])
        shown = torch.from_numpy(found.visibility[:, :, marks])
        # A hidden landmark is still a guess of the model: little trusted in depth, hardly in the picture.
        self.w_world = torch.tensor(weight) * (0.03 + 0.97 * shown)
        self.w_image = torch.tensor(weight) * (0.02 + 0.98 * shown**2) * (shown > 0)
        world = _face_camera(found, width_px, height_px, self.focal_px)
        self.world = torch.from_numpy(world[:, :, marks].astype(np.float32))
        centre = torch.tensor([width_px / 2, height_px / 2])
        self.image = (torch.from_numpy(found.image[:, :, marks]) - centre) / self.focal_px

        scale = _bone_scales(found)
        self.log_scale = torch.from_numpy(np.log(scale)).requires_grad_()
        self.log_scale_0 = self.log_scale.detach().clone()
        rotations = initial_rotations(world)
        self.six = torch.from_numpy(rotations[..., :2].astype(np.float32)).requires_grad_()
        self.transl = self._initial_transl().requires_grad_()

        # (24, 3) whose scale each coordinate of an offset has: wide hips are not lower ones, so how low the hips lie
        # goes with the trunk.
        self.scale_of = torch.zeros(NUM_JOINTS, 3, dtype=torch.long)
        for bone, names in enumerate(_BONES.values()):
            for name in names:
                self.scale_of[_J[name]] = bone
        for name in _BONES["pelvis"]:
            self.scale_of[_J[name], 1:] = list(_BONES).index("trunk")
        self.mean_offsets = torch.from_numpy(MEAN_OFFSETS.copy())
        self.stiffness = torch.tensor([_STIFFNESS.get(name, 0.0) for name in _J])
        #: Slope and level of the ground line y = level + slope * z, and (D, T, 2) feet at rest, once found.
        self.ground: tuple[float, float] | None = None
        self.contacts: Tensor | None = None
        self.resting = np.zeros((2, self.dancers, self.frames, 2), dtype=bool)

    def offsets(self) -> Tensor:
        """(D, 24, 3) rest offsets."""
        return self.mean_offsets * self.log_scale.exp()[:, self.scale_of]

    def _initial_transl(self) -> Tensor:
        """(D, T, 3) closed form: the depth and place at which the landmarks in metres project best."""
        weights = self.w_image + 1e-4
        world, image = self.world, self.image
        mean_w = (weights[..., None] * world).sum(2) / weights.sum(2, keepdim=True)
        mean_i = (weights[..., None] * image).sum(2) / weights.sum(2, keepdim=True)
        spread = world[..., :2] - mean_w[..., None, :2]
        flat = image - mean_i[..., None, :]
        flat = flat * _DOWN
        num = (weights[..., None] * spread * spread).sum((2, 3))
        den = (weights[..., None] * spread * flat).sum((2, 3)).clamp(min=1e-6)
        depth = (num / den).clamp(0.5, 50)
        kernel = max(1, round(0.5 * self.rate)) // 2 * 2 + 1
        depth = torch.nn.functional.pad(depth[:, None], (kernel // 2, kernel // 2), mode="replicate")
        depth = depth.unfold(2, kernel, 1).median(-1).values[:, 0]
        x = mean_i[..., 0] * depth - mean_w[..., 0]
        y = -mean_i[..., 1] * depth - mean_w[..., 1]
        return torch.stack([x, y, -depth], dim=-1)

    def build(self) -> Tensor:
        """What is unknown of the dancers' build."""
        return self.log_scale

    def optimise(self, steps: int) -> None:
        """Minimise all losses, with those of the ground and of contacts once these are known.

        Adam (Kingma and Ba 2015), its rate falling along a cosine; ``torch.optim`` would take seconds to load.
        """
        values = [self.six, self.transl, self.build()]
        paces = [_LEARNING_RATE, _LEARNING_RATE, _LEARNING_RATE / 5]
        means = [torch.zeros_like(value) for value in values]
        squares = [torch.zeros_like(value) for value in values]
        for step in range(steps):
            gradients = torch.autograd.grad(self.loss(), values)
            fall = (1 + math.cos(math.pi * step / steps)) / 2
            ahead, wide = 1 - _BETAS[0] ** (step + 1), 1 - _BETAS[1] ** (step + 1)
            with torch.no_grad():
                for value, pace, mean, square, gradient in zip(
                    values, paces, means, squares, gradients, strict=True
                ):
                    mean.lerp_(gradient, 1 - _BETAS[0])
                    square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
                    rate = _LAST_RATE + (pace - _LAST_RATE) * fall
                    value.addcdiv_(mean, (square / wide).sqrt_().add_(_EPSILON), value=-rate / ahead)

    def pose(self) -> tuple[Tensor, Tensor, Tensor]:
        """Local rotations (D, T, 24, 3, 3), joints (D, T, 24, 3) and global rotations, in the view frame."""
        return chain(self.six, self.transl, self.offsets())

    def loss(self) -> Tensor:
        """The sum of all terms, per pose."""
        local, joints, turned = self.pose()
        points = joints.index_select(2, self.mark_index)
        turn = turned.index_select(2, self.rider_index)
        points = torch.cat(
            [
                points[:, :, : len(_PAIRS)],
                points[:, :, len(_PAIRS) :] + (turn @ self.rider_offset[..., None]).squeeze(-1),
            ],
            dim=2,
        )
        hips = joints[:, :, _HIPS].mean(2)

        world = huber(points - hips[:, :, None] - self.world, self.w_world)
        depth = (-points[..., 2:]).clamp(min=0.2)
        flat = points[..., :2] * _DOWN / depth
        image = huber((flat - self.image) * depth.detach(), self.w_image)
        total = _W_WORLD * world + _W_IMAGE * image

        total = total + _W_BONE * ((self.log_scale - self.log_scale_0) ** 2).mean()
        angles = log_map(local)
        total = total + (self.stiffness[:, None] * angles.square()).sum() / self.dancers / self.frames
        total = total + _W_HINGE * hinge(angles)
        return total + self.steadiness(local, joints)

    def steadiness(self, local: Tensor, joints: Tensor) -> Tensor:
        """What is known of motion: it does not jump, feet are on the ground and stay where they rest."""
        total = torch.zeros(())
        if self.frames > 2:
            second = joints[:, 2:] - 2 * joints[:, 1:-1] + joints[:, :-2]
            # The same acceleration is a difference four times as small at 60 FPS, and its square sixteen times.
            pace = (self.rate / 30) ** 4
            total = total + 3 * _W_ACCELERATION * pace * second.square().mean()
            total = total + _W_DEPTH_ACCELERATION * pace * second[:, :, 0, 2].square().mean()
            spin = local[:, 1:] - local[:, :-1]
            total = total + 9 * _W_SPIN * pace**0.5 * spin.square().mean()
        feet = self._feet(joints)
        if self.ground is not None:
            # Size tells depth badly, and the ground well: some foot is on it nearly always.
            lowest = self._height(feet).amin(dim=2)
            total = total + _W_GROUND * (((lowest / _GROUND_HUBER_M).square() + 1).sqrt() - 1).mean() * 0.1
        if self.contacts is not None:
            step = (feet[:, 1:] - feet[:, :-1]).square().sum(-1) * (self.rate / 30) ** 2
            total = total + _W_CONTACT * (step * self.contacts[:, 1:] * self.contacts[:, :-1]).mean()
        return total

    def _feet(self, joints: Tensor) -> Tensor:
        """(D, T, 2, 3) toes."""
        return joints[:, :, _FEET]

    def _height(self, feet: Tensor) -> Tensor:
        """(D, T, 2) height of the toes over where toes at rest are."""
        assert self.ground is not None
        slope, level = self.ground
        return feet[..., 1] - (level + slope * feet[..., 2])

    @torch.no_grad()
    def find_ground(self) -> None:
        """The ground from how the dancers stand: people are upright on average, and their lower foot is on it.

        Depth errors move feet along the camera's rays, so a plane through the feet would follow these rays instead.
        """
        _, joints, _ = self.pose()
        neck = joints[:, :, _J["neck"]]
        ankles = (joints[:, :, _J["left_ankle"]] + joints[:, :, _J["right_ankle"]]) / 2
        up = torch.nn.functional.normalize(neck - ankles, dim=-1).reshape(-1, 3)
        tilt = float(torch.atan2(up[:, 2].median(), up[:, 1].median()))
        # People lean by several degrees for seconds, and cameras are held level to several degrees: believe the lean
        # to be the camera's only as far as there is much of it to see.
        phrases = self.dancers * self.frames / self.rate / _PHRASE_S
        tilt *= phrases / (phrases + 1)
        slope = -math.tan(max(-_MAX_TILT_RAD, min(_MAX_TILT_RAD, tilt)))
        feet = self._feet(joints)
        lowest = (feet[..., 1] - slope * feet[..., 2]).amin(dim=2)
        self.ground = (slope, float(lowest.median()))
        # Move everyone along their ray to the depth at which that foot's ray meets the ground; gradient steps alone
        # are slow at this.
        index = (feet[..., 1] - slope * feet[..., 2]).argmin(dim=2)[..., None, None].expand(-1, -1, 1, 3)
        foot = feet.gather(2, index)[:, :, 0]
        ray_y = foot[..., 1] / -foot[..., 2]
        shift = (self.ground[1] / (ray_y + slope) + foot[..., 2]).clamp(-1, 1).numpy()
        size = max(3, round(_GROUND_SMOOTH_S * self.rate))
        shift = gaussian_filter1d(median_filter(shift, size=(1, size), mode="nearest"), size / 4, axis=1)
        self.transl += torch.from_numpy(shift)[..., None] * self.transl / -self.transl[..., 2:]

    @torch.no_grad()
    def find_contacts(self) -> None:
        """Which feet rest on the ground: still in the picture, and low."""
        _, joints, _ = self.pose()
        low = self._height(self._feet(joints)) < _CONTACT_HEIGHT_M
        self.resting = resting_feet(self.found) & low.numpy()
        self.contacts = torch.from_numpy(self.resting[0]).float()

    @torch.no_grad()
    def spread(self, found: Landmarks) -> FitProblem:
        """This solution at more frames, those of ``found``, to be placed; feet are looked for anew in all of them."""
        times_s = self.found.times_s
        # Beyond the ends motion goes on for half a step and then holds: a curve is soon anywhere.
        half_s = float(np.median(np.diff(times_s))) / 2
        clock = np.clip(found.times_s, times_s[0] - half_s, times_s[-1] + half_s)

        def between(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
            spline = make_interp_spline(times_s, values, k=min(3, len(times_s) - 1), axis=1)
            return np.asarray(spline(clock))

        turns = matrix_to_quaternion(self.pose()[0].numpy().astype(np.float64))
        # q and -q are one rotation: the one on the side of the last keeps the way short.
        same_side = (turns[:, 1:] * turns[:, :-1]).sum(-1, keepdims=True) >= 0
        turns[:, 1:] *= np.cumprod(np.where(same_side, 1.0, -1.0), axis=1)
        turns = between(turns)
        local = quaternion_to_matrix(turns / np.linalg.norm(turns, axis=-1, keepdims=True))
        whole = copy(self)
        whole.found, whole.frames = found, len(found.times_s)
        whole.six = torch.from_numpy(local[..., :2].astype(np.float32))
        whole.transl = torch.from_numpy(between(self.transl.numpy()).astype(np.float32))
        whole.find_contacts()
        return whole

    @torch.no_grad()
    def place(self) -> Fit:
        """The result in a world whose ground is y = 0 and whose origin lies under the dancers' first place."""
        local, joints, _ = self.pose()
        assert self.ground is not None
        slope, level = self.ground
        # Turn the view frame about x so that the ground line y = level + slope * z becomes level.
        tilt = float(np.arctan(slope))
        cos, sin = np.cos(tilt), np.sin(tilt)
        turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
        start = turn @ joints[:, 0, 0].mean(0).numpy().astype(np.float64)
        ground_y = float((turn @ np.array([0.0, level, 0.0]))[1]) - _TOE_ABOVE_GROUND_M
        origin = np.array([start[0], ground_y, start[2]])

        rotations = local.numpy().astype(np.float64)
        rotations[:, :, 0] = turn @ rotations[:, :, 0]
        transl = self.transl.detach().numpy().astype(np.float64) @ turn.T - origin
        offsets = self.offsets().numpy()
        held, moved = hold_feet(rotations, transl, offsets, self.resting, self.found.times_s, -origin)
        # The origin lies under the dancers' first place also after their feet were put in theirs.
        first = moved[:, 0].mean(0) * np.array([1, 0, 1], np.float32)
        origin = origin + first
        moved = moved - first
        flip = np.diag([1.0, -1.0, -1.0])
        camera = Camera(
            width_px=self.width_px,
            height_px=self.height_px,
            focal_px=self.focal_px,
            rotation=tuple((flip @ turn.T).ravel().tolist()),
            translation=tuple((flip @ turn.T @ origin).tolist()),
        )
        return Fit(
            times_s=self.found.times_s,
            rotations=held,
            transl=moved,
            rest_offsets=offsets,
            camera=camera,
        )


def _face_camera(found: Landmarks, width_px: int, height_px: int, focal_px: float) -> npt.NDArray[np.float64]:
    """(D, T, 33, 3) landmarks in metres in the view frame.

    The estimator sees a crop and answers as if the camera looked straight at it; a person off the picture's centre is
    seen along another ray (what CLIFF's bounding-box input is about), so the answer is turned by that ray's angle.
    """
    hips = found.image[:, :, [_L["left_hip"], _L["right_hip"]]].mean(axis=2).astype(np.float64)
    x = (hips[..., 0] - width_px / 2) / focal_px
    y = -(hips[..., 1] - height_px / 2) / focal_px
    ray = unit(np.stack([x, y, -np.ones_like(x)], axis=-1))
    turn = _between(np.broadcast_to([0.0, 0.0, -1.0], ray.shape), ray)
    return np.einsum("dtij,dtkj->dtki", turn, found.world.astype(np.float64))


def log_map(rotations: Tensor) -> Tensor:
    """(..., 3, 3) to a rotation vector that equals the axis-angle up to about 90 degrees and is smooth beyond."""
    # One product instead of nine elements picked one by one: the gradient of each would fill a tensor with zeros.
    parts = rotations.flatten(-2) @ _SKEW_AND_TRACE.to(rotations.dtype)
    # The skew part is 2 sin(a) axis; dividing by 2 cos(a / 2) leaves 2 sin(a / 2) axis, monotonic up to half a turn.
    return parts[..., :3] / (1 + parts[..., 3:]).clamp(min=0.05).sqrt()


def huber(difference: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean over all points of the Huber loss of their distance (metres), quadratic below 10 cm."""
    square = difference.square().sum(-1)
    robust = (square / _HUBER_M**2 + 1).sqrt() - 1
    return (weight * robust).sum() / weight.sum() * 2 * _HUBER_M**2 * 100


def hinge(angles: Tensor) -> Tensor:
    """Knees bend backwards about x only, elbows forwards about y; both may not overstretch."""
    knees, elbows = angles[..., _KNEES, :], angles[..., _ELBOWS, :]
    inward = elbows[..., 1] * _INWARD
    side = knees[..., 1:].square().sum(-1) + elbows[..., 2].square() + 0.1 * elbows[..., 0].square()
    over = torch.relu(-knees[..., 0]).square() + torch.relu(inward).square()
    return (side + 10 * over).mean()


def _bone_scales(found: Landmarks) -> Floats:
    """(D, B) bone length over the mean skeleton's, from the landmarks that are well seen."""
    ends = {
        "upper_arm": ("shoulder", "elbow"), "forearm": ("elbow", "wrist"), "thigh": ("hip", "knee"),
        "shin": ("knee", "ankle"),
    }  # fmt: skip
    out = np.ones((len(found.world), len(_BONES)), dtype=np.float32)
    for dancer, (world, shown) in enumerate(zip(found.world, found.visibility, strict=True)):
        measured = {}
        for bone, (near, far) in ends.items():
            lengths, weights = [], []
            for side in _SIDES:
                a, b = _L[f"{side}_{near}"], _L[f"{side}_{far}"]
                lengths.append(np.linalg.norm(world[:, a] - world[:, b], axis=-1))
                weights.append(np.minimum(shown[:, a], shown[:, b]))
            value, weight = np.concatenate(lengths), np.concatenate(weights)
            seen = value[weight >= np.quantile(weight, 0.5)]
            rest = np.mean([np.linalg.norm(MEAN_OFFSETS[_J[name]]) for name in _BONES[bone]])
            measured[bone] = float(np.median(seen) / rest)
        overall = float(np.clip(np.median(list(measured.values())), 0.8, 1.2))
        for index, bone in enumerate(_BONES):
            out[dancer, index] = np.clip(measured.get(bone, overall), 0.85 * overall, 1.15 * overall)
    return out


def initial_rotations(world: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(D, T, 24, 3, 3) rotations from landmark directions: trunk, then each limb's two bones and its bend."""

    def at(name: str) -> npt.NDArray[np.float64]:
        return world[..., _L[name], :]

    out = np.broadcast_to(np.eye(3), (*world.shape[:2], NUM_JOINTS, 3, 3)).copy()
    up = (at("left_shoulder") + at("right_shoulder") - at("left_hip") - at("right_hip")) / 2
    left = unit(at("left_hip") - at("right_hip") + at("left_shoulder") - at("right_shoulder"))
    root = frame(left, up)
    out[:, :, 0] = root
    for side, sign in (("left", 1.0), ("right", -1.0)):
        thigh = at(f"{side}_knee") - at(f"{side}_hip")
        shin = at(f"{side}_ankle") - at(f"{side}_knee")
        upper = _limb(root, np.array([0, -1.0, 0]), np.array([1.0, 0, 0]), thigh, shin)
        out[:, :, _J[f"{side}_hip"]] = np.swapaxes(root, -1, -2) @ upper
        out[:, :, _J[f"{side}_knee"]] = _swing(upper, np.array([0, -1.0, 0]), shin)
        arm = at(f"{side}_elbow") - at(f"{side}_shoulder")
        forearm = at(f"{side}_wrist") - at(f"{side}_elbow")
        along = np.array([sign, 0, 0])
        upper = _limb(root, along, np.array([0, -sign, 0]), arm, forearm)
        out[:, :, _J[f"{side}_shoulder"]] = np.swapaxes(root, -1, -2) @ upper
        out[:, :, _J[f"{side}_elbow"]] = _swing(upper, along, forearm)
    return out


def unit(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(..., 3) vectors of length one."""
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-9)


def frame(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(..., 3, 3) rotations whose first column is x and whose second lies towards y."""
    x = unit(x)
    z = unit(np.cross(x, y))
    return np.stack([x, np.cross(z, x), z], axis=-1)


def _between(start: npt.NDArray[np.float64], end: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(..., 3, 3) smallest rotations that take unit vectors to unit vectors."""
    axis = np.cross(start, end)
    cos = np.clip((start * end).sum(-1), -0.999, 1.0)[..., None, None]
    x, y, z = np.moveaxis(axis, -1, 0)
    zero = np.zeros_like(x)
    k = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*axis.shape, 3)
    rough = np.eye(3) + k + k @ k / (1 + cos)
    return frame(rough[..., 0], rough[..., 1])


def _swing(
    upper: npt.NDArray[np.float64], rest: npt.NDArray[np.float64], target: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Local rotation of a joint that turns its bone from rest towards a direction given in the view frame."""
    local = np.einsum("...ji,...j->...i", upper, unit(target))
    return _between(np.broadcast_to(rest, local.shape), local)


def _limb(
    root: npt.NDArray[np.float64],
    along: npt.NDArray[np.float64],
    bend: npt.NDArray[np.float64],
    first: npt.NDArray[np.float64],
    second: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Global rotation of a limb's upper bone.

    ``along`` is the bone's rest direction and ``bend`` the axis its far joint bends about. Where the limb is bent,
    the bend decides the twist; where it is straight, the smallest swing from the trunk does.
    """
    first, second = unit(first), unit(second)
    swing = root @ _swing(root, along, first)
    rest_axis = swing @ bend
    axis = np.cross(first, second)
    sin = np.linalg.norm(axis, axis=-1, keepdims=True)
    trust = np.clip((sin - 0.2) / 0.4, 0, 1)
    mixed = trust * unit(axis) + (1 - trust) * rest_axis
    mixed = unit(mixed - (mixed * first).sum(-1, keepdims=True) * first)
    rest = np.stack([along, bend, np.cross(along, bend)], axis=-1)
    return np.stack([first, mixed, np.cross(first, mixed)], axis=-1) @ rest.T
