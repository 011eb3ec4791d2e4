"""Metrics of dance: quality, diversity, agreement with the music and between dancers (paper sections 4.2 and 5.2).

Plain functions on numpy arrays: joints are (T, 24, 3) in metres, y-up, 60 FPS, beats are frame indices. A score that
is undefined is None with a reason, never NaN. :func:`evaluate` does all of it by a written-down :class:`Protocol`.
"""

from opendance_hf.metrics.agreement import BeatAgreement, matched_beats
from opendance_hf.metrics.beats import (
    beat_alignment,
    joint_speed,
    mean_mutual_beat_alignment,
    motion_beats,
    motion_motion_score,
    music_motion_score,
    mutual_beat_alignment,
    speed_minima,
)
from opendance_hf.metrics.duet import (
    beat_echo_degree,
    cross_distance_features,
    hand_hold_distance,
    interpenetration,
)
from opendance_hf.metrics.evaluation import (
    compare_sets,
    compare_systems,
    evaluate,
    get_protocol,
    measure,
)
from opendance_hf.metrics.features import (
    MotionFeatures,
    geometric_features,
    kinetic_features,
    motion_features,
    root_at_origin,
)
from opendance_hf.metrics.frechet import (
    Score,
    average_pairwise_distance,
    diversity_score,
    frechet_distance,
    frechet_score,
    normalise,
)
from opendance_hf.metrics.protocol import PROTOCOLS, STD_FLOORS, Clip, Protocol
from opendance_hf.metrics.quality import (
    GroundPenetration,
    floor_height,
    foot_skate_ratio,
    ground_penetration,
    jitter,
    physical_foot_contact,
    still_ratio,
)
from opendance_hf.metrics.scores import MEASURES, ClipScores, EvaluationResult, Measure, SetScores
from opendance_hf.metrics.steps import (
    DuetStepBeat,
    FootEvents,
    StepBeat,
    duet_step_beat,
    foot_events,
    partner_steps,
    step_beat,
)
from opendance_hf.metrics.uncertainty import (
    FeatureSet,
    Interval,
    PairedTest,
    SubsampleInterval,
    bootstrap_mean,
    diversity_subsamples,
    frechet_difference,
    frechet_floor,
    frechet_subsamples,
    paired_test,
)
from opendance_hf.motion.phase import beat_phase

__all__ = [
    "MEASURES",
    "PROTOCOLS",
    "STD_FLOORS",
    "BeatAgreement",
    "Clip",
    "ClipScores",
    "DuetStepBeat",
    "EvaluationResult",
    "FeatureSet",
    "FootEvents",
    "GroundPenetration",
    "Interval",
    "Measure",
    "MotionFeatures",
    "PairedTest",
    "Protocol",
    "Score",
    "SetScores",
    "StepBeat",
    "SubsampleInterval",
    "average_pairwise_distance",
    "beat_alignment",
    "beat_echo_degree",
    "beat_phase",
    "bootstrap_mean",
    "compare_sets",
    "compare_systems",
    "cross_distance_features",
    "diversity_score",
    "diversity_subsamples",
    "duet_step_beat",
    "evaluate",
    "floor_height",
    "foot_events",
    "foot_skate_ratio",
    "frechet_difference",
    "frechet_distance",
    "frechet_floor",
    "frechet_score",
    "frechet_subsamples",
    "geometric_features",
    "get_protocol",
    "ground_penetration",
    "hand_hold_distance",
    "interpenetration",
    "jitter",
    "joint_speed",
    "kinetic_features",
    "matched_beats",
    "mean_mutual_beat_alignment",
    "measure",
    "motion_beats",
    "motion_features",
    "motion_motion_score",
    "music_motion_score",
    "mutual_beat_alignment",
    "normalise",
    "paired_test",
    "partner_steps",
    "physical_foot_contact",
    "root_at_origin",
    "speed_minima",
    "step_beat",
    "still_ratio",
]
