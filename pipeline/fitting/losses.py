"""Compute the loss terms of the fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from opendance_hf.motion.skeleton import JOINT_INDEX
from opendance_hf.pipeline.fitting.holds import Hold
from opendance_hf.pipeline.fitting.settings import FitSettings

# Left and right joints are adjacent, so a slice selects both; indexing would cost as much as the arithmetic.
HIPS, KNEES, FEET, ELBOWS, HANDS = (
    slice(JOINT_INDEX[f"left_{joint}"], JOINT_INDEX[f"right_{joint}"] + 1)
    for joint in ("hip", "knee", "foot", "elbow", "hand")
)
#: Frame rate for which the weights were chosen; differences between frames are scaled to it.
_REFERENCE_HZ: Final = 30
#: (9, 4) linear map from a flattened rotation matrix to its skew-symmetric part and its trace.
_SKEW_AND_TRACE: Final = torch.tensor(
    [[0, 0, 0, 1], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [-1, 0, 0, 0], [0, -1, 0, 0], [1, 0, 0, 0],
     [0, 0, 0, 1]], dtype=torch.float32,
)  # fmt: skip
#: Sign of the overstretch angle about y: left elbows bend about -y, right elbows about +y.
_OVERSTRETCH_SIGN: Final = torch.tensor([1.0, -1.0])


def log_map(rotations: Tensor) -> Tensor:
    """Return (..., 3) vectors that equal the axis-angle up to about 90 degrees and are smooth beyond."""
    # One matrix product is faster than selecting elements, whose gradients would each be a full tensor.
    parts = rotations.flatten(-2) @ _SKEW_AND_TRACE.to(rotations.dtype)
    # The skew part is 2 sin(a) axis; dividing by 2 cos(a / 2) leaves 2 sin(a / 2) axis, monotonic up to half a turn.
    return parts[..., :3] / (1 + parts[..., 3:]).clamp(min=0.05).sqrt()


def pseudo_huber(difference: Tensor, weight: Tensor, scale_m: float) -> Tensor:
    """Return the weighted mean over all points of the pseudo-Huber loss of their distance, in square decimetres."""
    square = difference.square().sum(-1)
    robust = (square / scale_m**2 + 1).sqrt() - 1
    return (weight * robust).sum() / weight.sum() * 2 * scale_m**2 * 100


def geman_mcclure(difference: Tensor, scale_m: float) -> Tensor:
    """Return the Geman-McClure loss of each (..., 2) difference, in square metres; it is bounded by ``scale_m`` squared."""
    square = difference.square().sum(-1)
    sigma = scale_m**2
    return sigma * square / (sigma + square)


def hinge(angles: Tensor, settings: FitSettings) -> Tensor:
    """Return the mean squared components, rad², of (..., 24, 3) rotations that knees and elbows cannot make.

    Knees bend backwards about x only and elbows forwards about y.
    """
    knees, elbows = angles[..., KNEES, :], angles[..., ELBOWS, :]
    inward = elbows[..., 1] * _OVERSTRETCH_SIGN
    side = (
        knees[..., 1:].square().sum(-1)
        + elbows[..., 2].square()
        + settings.elbow_twist_share * elbows[..., 0].square()
    )
    over = torch.relu(-knees[..., 0]).square() + torch.relu(inward).square()
    return (side + settings.overstretch_factor * over).mean()


def jitter(local: Tensor, joints: Tensor, rate_hz: float, settings: FitSettings) -> Tensor:
    """Return the weighted squared accelerations of (D, T, 24, 3) joints and changes of (D, T, 24, 3, 3) rotations."""
    second = joints[:, 2:] - 2 * joints[:, 1:-1] + joints[:, :-2]
    # At twice the frame rate, the second difference of the same motion is a quarter, and its square a sixteenth.
    scale = (rate_hz / _REFERENCE_HZ) ** 4
    # The factors 3 and 9 turn means over coordinates and matrix elements into sums.
    total = 3 * settings.acceleration_weight * scale * second.square().mean()
    total = total + settings.depth_acceleration_weight * scale * second[:, :, 0, 2].square().mean()
    spin = local[:, 1:] - local[:, :-1]
    return total + 9 * settings.spin_weight * scale**0.5 * spin.square().mean()


def foot_slide(feet: Tensor, contacts: Tensor, rate_hz: float) -> Tensor:
    """Return the mean squared step of (D, T, 2, 3) feet between two frames in contact, given by the (D, T, 2) mask."""
    step = (feet[:, 1:] - feet[:, :-1]).square().sum(-1) * (rate_hz / _REFERENCE_HZ) ** 2
    return (step * contacts[:, 1:] * contacts[:, :-1]).mean()


def hands_apart(hands: Tensor, holds: Sequence[Hold], palm_m: float) -> Tensor:
    """Return the squared distances beyond ``palm_m`` of the (D, T, 2, 3) hands that hold each other, averaged over poses."""
    total = torch.zeros(())
    for hold in holds:
        first, second = (
            hands[dancer, :, hand] for dancer, hand in zip(hold.dancers, hold.hands, strict=True)
        )
        beyond = torch.relu(((first - second).square().sum(-1) + 1e-6).sqrt() - palm_m)
        total = total + (beyond.square() * torch.from_numpy(hold.frames)).sum()
    return total / hands.shape[0] / hands.shape[1]


def ground_distance(height_m: Tensor, settings: FitSettings) -> Tensor:
    """Return the mean pseudo-Huber loss of the (D, T) heights of the lower feet above the ground."""
    return (((height_m / settings.ground_huber_m).square() + 1).sqrt() - 1).mean()
