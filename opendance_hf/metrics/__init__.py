"""Metrics of dance: quality, diversity, agreement with the music and between dancers (paper sections 4.2 and 5.2).

Plain functions on numpy arrays: joints are (T, 24, 3) in metres, y-up, 60 FPS, beats are frame indices. A score that
is undefined is None with a reason, never NaN. :func:`evaluate` does all of it by a written-down :class:`Protocol`.
"""

from opendance_hf.metrics.beats import (
    beat_alignment,
    joint_speed,
    mean_mutual_beat_alignment,
    motion_beats,
    motion_motion_score,
    music_motion_score,
    mutual_beat_alignment,
)
from opendance_hf.metrics.duet import beat_echo_degree, cross_distance_features
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
from opendance_hf.metrics.protocol import (
    PROTOCOLS,
    Clip,
    ClipScores,
    EvaluationResult,
    Protocol,
    SetScores,
    evaluate,
)

__all__ = [
    "PROTOCOLS",
    "Clip",
    "ClipScores",
    "EvaluationResult",
    "MotionFeatures",
    "Protocol",
    "Score",
    "SetScores",
    "average_pairwise_distance",
    "beat_alignment",
    "beat_echo_degree",
    "cross_distance_features",
    "diversity_score",
    "evaluate",
    "frechet_distance",
    "frechet_score",
    "geometric_features",
    "joint_speed",
    "kinetic_features",
    "mean_mutual_beat_alignment",
    "motion_beats",
    "motion_features",
    "motion_motion_score",
    "music_motion_score",
    "mutual_beat_alignment",
    "normalise",
    "root_at_origin",
]
