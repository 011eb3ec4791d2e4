"""Define the thresholds and weights of the fitters.

Configurations contain these classes, so the module does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

import opendance_hf
from opendance_hf.motion.contacts import RestLimits
from opendance_hf.pipeline.landmarks import REGION_SIDE_M


@dataclass(frozen=True)
class ContactLimits(RestLimits):
    """Hold the thresholds that find feet at rest in the image.

    Foot speeds are speeds in the image, converted to metres per second by ``region_side_m``.

    Attributes:
        region_side_m: assumed side of a person's region, metres; it contains the whole body with a margin.
    """

    region_side_m: float = REGION_SIDE_M


@dataclass(frozen=True)
class HoldLimits:
    """Hold the thresholds that find hands of two dancers that hold each other.

    Attributes:
        near_m: maximum distance of two palms in the image, converted to metres by the size of the dancers' regions.
        max_distance_m: maximum distance of the fitted hands, metres, which is mostly an error of depth.
        min_seen: minimum visibility of the wrists and fingers.
        min_hold_s: minimum duration, seconds; hands that pass each other are near for less.
        palm_m: distance of SMPL's hand joints, the middles of the palms, in a hold, metres (10 to 13 cm in captures).
    """

    near_m: float = 0.25
    max_distance_m: float = 0.6
    min_seen: float = 0.2
    min_hold_s: float = 0.3
    palm_m: float = 0.12


@dataclass(frozen=True)
class CameraPriors:
    """Hold what is known about cameras and about the estimates of them; angles in radians.

    Attributes:
        pitch_rad: usual pitch of a camera.
        pitch_sd_rad: its standard deviation.
        body_sd_rad: standard deviation of the pitch of the bodies' vertical, however long they are seen.
        phrase_sd_rad: standard deviation that is added to it for one phrase of dance, as dancers may lean for seconds.
        focal_sd: standard deviation of the logarithm of a focal length relative to the assumed one.
        stated_focal_sd: the same if the file states the focal length.
        max_focal_sd_share: the assumed focal length is kept unless what is seen narrows it to this share of ``focal_sd``.
        horizon_sd: standard deviation of a horizon from bodies, in focal lengths, however far they walk.
        horizon_factor: factor of the standard deviation that a straight line has.
    """

    pitch_rad: float = 0.09
    pitch_sd_rad: float = 0.2
    body_sd_rad: float = 0.05
    phrase_sd_rad: float = 0.08
    focal_sd: float = 0.25
    stated_focal_sd: float = 0.05
    max_focal_sd_share: float = 0.6
    horizon_sd: float = 0.03
    horizon_factor: float = 3.0


@dataclass(frozen=True)
class FitSettings:
    """Hold the settings that both fitters share: of the optimiser and of the losses for joint limits, motion and ground.

    Weights are factors of loss terms. Differences between frames are scaled to 30 frames per second.

    Attributes:
        steps: Adam iterations of the three phases: without the ground, with the ground, with ground and contacts.
        learning_rate: initial learning rate of rotations (elements of matrices) and of translations (metres).
        build_learning_rate: initial learning rate of bone scales (logarithms) or of SMPL betas.
        final_learning_rate: learning rate at the end of each phase; a cosine schedule leads there.
        adam_betas: Adam's decay rates of the averages of the gradient and of the squared gradient.
        adam_epsilon: Adam's constant that is added to the denominator.
        min_depth_m: minimum depth, metres, with which points are projected; nearer points are projected with it.
        hinge_weight: weight of the squared angles (rad²) by which knees and elbows bend sideways or overstretch.
        elbow_twist_share: weight of twisting an elbow about its upper arm, relative to bending it sideways.
        overstretch_factor: weight of overstretching a knee or elbow, relative to bending it sideways.
        acceleration_weight: weight of the squared acceleration of joints, in metres per frame squared.
        depth_acceleration_weight: the same for the pelvis along the camera's optical axis, added to it.
        spin_weight: weight of the squared change of local rotation matrices from frame to frame.
        ground_weight: weight of the pseudo-Huber loss of the lower foot's distance from the ground; a tenth of it is used.
        ground_huber_m: distance from the ground, metres, above which this loss grows linearly, as in a jump.
        contact_weight: weight of the squared movement of toes in contact, in metres per frame.
        hold_weight: weight of the squared distance, metres, beyond that of a hold between hands that hold each other.
        contact_height_m: maximum height, metres, of a foot in contact above the height of a resting foot.
        toe_height_m: height of a resting toe joint above the ground, metres.
        ground_smooth_s: window, seconds, of the filter of the depth shift that moves dancers onto the ground.
        max_ground_shift_m: maximum depth shift, metres.
        min_roll_rad: estimated roll of the camera, radians, below which the camera counts as level: it is the spread of the
            estimate for level cameras.
        min_lean_rad: minimum lean of trunk and of legs, radians, to the side of the roll; otherwise the roll is 0.
        max_roll_rad: estimated roll, radians, above which it is ignored, as the dancers are then not upright.
        phrase_s: length, seconds, of a span that counts as one independent observation of the vertical.
        camera: what is known about cameras.
        contacts: thresholds of foot contacts.
        holds: thresholds of hands that hold each other.
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
    hold_weight: float = 10.0
    contact_height_m: float = 0.3
    toe_height_m: float = 0.025
    ground_smooth_s: float = 0.5
    max_ground_shift_m: float = 1.0
    min_roll_rad: float = 0.07
    min_lean_rad: float = 0.05
    max_roll_rad: float = 0.7
    phrase_s: float = 3.0
    camera: CameraPriors = CameraPriors()
    contacts: ContactLimits = ContactLimits()
    holds: HoldLimits = HoldLimits()


@dataclass(frozen=True)
class SkeletonSettings(FitSettings):
    """Hold the settings of the fit of joint rotations and bone lengths to landmarks.

    The defaults are for landmarks whose depth is corrected (stage depth). An estimator's own are accurate to two or three
    centimetres in the image plane, but to about ten at best in depth: ``landmark_weight`` should then be 0.02, ``hidden_landmark_share`` 0.03 and ``steps``
    (200, 120, 80); they mainly decide whether a limb points to the camera or away from it.

    Attributes:
        frame_rate_hz: approximate number of fitted frames per second; landmarks smoothed over 0.3 s contain no faster
            motion.
        landmark_weight: weight of the distance between joints and the landmarks in metres.
        image_weight: weight of the distance in the image, converted to metres at the depth of the joint.
        bone_weight: weight of the squared logarithm of the ratio of fitted to measured bone lengths.
        stiffness_weight: factor of :data:`~opendance_hf.pipeline.fitting.correspondences.STIFFNESS`.
        huber_m: distance, metres, above which the losses of both distances grow linearly instead of quadratically.
        hidden_landmark_share: weight of a landmark in metres with visibility 0, relative to visibility 1.
        hidden_image_share: the same in the image, for a visibility near 0; with visibility 0 the weight is 0.
        depth_smooth_s: window, seconds, of the median filter of each dancer's initial depth.
        depth_limits_m: minimum and maximum initial depth, metres.
        size_limits: minimum and maximum measured size of a dancer, relative to the mean skeleton.
        bone_limits: minimum and maximum measured length of a bone, relative to the dancer's size.
    """

    steps: tuple[int, int, int] = (140, 80, 60)
    frame_rate_hz: float = 12.0
    landmark_weight: float = 1.0
    image_weight: float = 1.0
    bone_weight: float = 0.05
    stiffness_weight: float = 1.0
    huber_m: float = 0.1
    hidden_landmark_share: float = 0.005
    hidden_image_share: float = 0.02
    depth_smooth_s: float = 0.5
    depth_limits_m: tuple[float, float] = (0.5, 50.0)
    size_limits: tuple[float, float] = (0.8, 1.2)
    bone_limits: tuple[float, float] = (0.85, 1.15)


@dataclass(frozen=True)
class SMPLifySettings(FitSettings):
    """Hold the settings of the refinement of SMPL bodies.

    Attributes:
        image_weight: weight of the distance from the keypoints in the image, converted to metres at their depth.
        prior_weight: weight of the squared difference from the estimator's rotation matrices.
        shape_weight: weight of the squared SMPL betas.
        geman_mcclure_m: scale of the Geman-McClure loss, metres: at this distance it reaches half of its upper bound.
        nearest_m: minimum initial depth of the pelvis, metres.
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
