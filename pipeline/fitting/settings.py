"""Thresholds and weights of the fitters. Imports nothing heavy: configurations hold these classes."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

import opendance_hf


@dataclass(frozen=True)
class ContactLimits:
    """When a foot counts as resting on the ground, and how it is then held in place.

    Attributes:
        rest_mps: speed in the image below which a foot comes to rest, metres a second.
        leave_mps: speed above which a rest ends.
        min_rest_s: a foot is slow for at least this long, and for at least two frames.
        step_mps: smoothing blurs landing and leaving: a rest is extended over frames slower than this.
        blur_s: by at most this long at either end.
        max_blur_share: and by at most this share of the time to the next rest, as a step takes its time.
        region_side_m: what the side of a person's region measures; it holds the whole body with a margin.
        blend_s: time over which a correction fades in before a contact and out after it.
        max_reach: largest share of its full length that a leg is stretched to.
        straight_knee_m: a knee nearer than this to the line from hip to ankle does not tell where the leg bends.
    """

    rest_mps: float = 0.3
    leave_mps: float = 0.5
    min_rest_s: float = 0.05
    step_mps: float = 0.8
    blur_s: float = 0.1
    max_blur_share: float = 0.25
    region_side_m: float = 2.2
    blend_s: float = 0.15
    max_reach: float = 0.999
    straight_knee_m: float = 0.02


@dataclass(frozen=True)
class FitSettings:
    """What both fitters have in common: the optimiser, and what is known of bodies, motion and the ground.

    Attributes:
        steps: optimiser steps before the ground is known, with the ground, and with ground and contacts.
        learning_rate: of rotations and places at the start.
        build_learning_rate: of bone lengths or body shape at the start.
        final_learning_rate: of all at the end; between them the rate follows a cosine.
        adam_betas: decay of the mean gradient and of the mean squared gradient.
        adam_epsilon: added to the root of the latter.
        min_depth_m: points nearer to the camera than this are projected as if they were this far.
        hinge_weight: of knees and elbows that bend sideways or overstretch.
        elbow_twist_share: weight of an elbow's twist about its upper arm relative to bending sideways.
        overstretch_factor: weight of overstretching relative to bending sideways.
        acceleration_weight: of the acceleration of joints.
        depth_acceleration_weight: of the pelvis' acceleration along the camera's axis.
        spin_weight: of the change of local rotations from frame to frame.
        ground_weight: of the lower foot's distance from the ground.
        ground_huber_m: beyond this distance the pull grows no further, as in a jump.
        contact_weight: of the movement of feet in contact.
        contact_height_m: a foot in contact is lower than this above the ground.
        toe_height_m: height of a resting toe joint above the ground.
        ground_smooth_s: window over which dancers are moved in depth onto the ground.
        max_ground_shift_m: and how far at most.
        max_tilt_rad: largest tilt of the camera that is believed.
        phrase_s: time for which a dancer may lean: spans of this length count as independent views of the vertical.
        contacts: when feet rest.
    """

    steps: tuple[int, int, int] = (200, 120, 80)
    learning_rate: float = 0.03
    build_learning_rate: float = 0.006
    final_learning_rate: float = 0.001
    adam_betas: tuple[float, float] = (0.9, 0.999)
    adam_epsilon: float = 1e-8
    min_depth_m: float = 0.2
    hinge_weight: float = 0.2
    elbow_twist_share: float = 0.1
    overstretch_factor: float = 10.0
    acceleration_weight: float = 10.0
    depth_acceleration_weight: float = 40.0
    spin_weight: float = 0.05
    ground_weight: float = 5.0
    ground_huber_m: float = 0.05
    contact_weight: float = 100.0
    contact_height_m: float = 0.3
    toe_height_m: float = 0.025
    ground_smooth_s: float = 0.5
    max_ground_shift_m: float = 1.0
    max_tilt_rad: float = 0.35
    phrase_s: float = 3.0
    contacts: ContactLimits = ContactLimits()


@dataclass(frozen=True)
class SkeletonSettings(FitSettings):
    """Settings of the fit of the mean skeleton's joints and bone lengths to landmarks.

    The image is right to two or three centimetres, depth hardly to ten: ``landmark_weight``, of the landmarks in metres,
    is small, and decides which way a limb points.

    Attributes:
        frame_rate_hz: about so many frames a second are fitted; landmarks smoothed over 0.3 s hold no more.
        landmark_weight: of the distance from the landmarks in metres.
        image_weight: of the distance from the landmarks in the image.
        bone_weight: of bone lengths that differ from the measured ones.
        stiffness_weight: factor of :data:`~opendance_hf.pipeline.fitting.correspondences.STIFFNESS`.
        huber_m: distance beyond which a landmark pulls no harder.
        hidden_landmark_share: weight of a hidden landmark in metres, relative to a visible one.
        hidden_image_share: and in the image.
        depth_smooth_s: window of the median over each dancer's first estimate of depth.
        depth_limits_m: least and largest first estimate of depth.
        size_limits: least and largest size of a dancer, relative to the mean skeleton.
        bone_limits: least and largest length of a bone, relative to the dancer's size.
    """

    frame_rate_hz: float = 12.0
    landmark_weight: float = 0.02
    image_weight: float = 1.0
    bone_weight: float = 0.05
    stiffness_weight: float = 1.0
    huber_m: float = 0.1
    hidden_landmark_share: float = 0.03
    hidden_image_share: float = 0.02
    depth_smooth_s: float = 0.5
    depth_limits_m: tuple[float, float] = (0.5, 50.0)
    size_limits: tuple[float, float] = (0.8, 1.2)
    bone_limits: tuple[float, float] = (0.85, 1.15)


@dataclass(frozen=True)
class SMPLifySettings(FitSettings):
    """Settings of the refinement of SMPL bodies.

    Attributes:
        image_weight: of the distance from the keypoints in the image.
        prior_weight: of rotations that differ from the estimator's.
        shape_weight: of shapes that differ from the mean.
        geman_mcclure_m: distance, at the dancer's depth, beyond which a keypoint counts as an error.
        nearest_m: a body starts no nearer to the camera than this.
    """

    steps: tuple[int, int, int] = (150, 100, 80)
    image_weight: float = 100.0
    prior_weight: float = 0.03
    shape_weight: float = 0.02
    geman_mcclure_m: float = 0.2
    nearest_m: float = 0.5


def solver_version() -> str:
    """Return the versions of this package and of torch, on which the numbers of a fit depend."""
    return f"{opendance_hf.__version__}+torch{version('torch').split('+')[0]}"
