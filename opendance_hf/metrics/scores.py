"""What an evaluation says: the scores of a clip, of a set of clips, and of predictions against a reference.

``dataclasses.asdict`` of any of them is ready for JSON and holds no NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from opendance_hf.metrics.frechet import Score
from opendance_hf.metrics.protocol import Protocol
from opendance_hf.metrics.uncertainty import Interval, SubsampleInterval


class Measure(NamedTuple):
    """What a score of one clip means.

    Attributes:
        label: for a table.
        unit: empty for a plain number.
        better: whether more is better, less, or being like the reference; "control" for a score of dances made up for
            comparison.
        each_dancer: one value a dancer; otherwise one a clip of two or more dancers, the mean over pairs.
        what: one line.
        bounds: the range of the score, for its interval; None where it has no end.
    """

    label: str
    unit: str
    better: Literal["higher", "lower", "like the reference", "control"]
    each_dancer: bool
    what: str
    bounds: tuple[float | None, float | None]


_SHARE: Final = (0.0, 1.0)
_ABOVE_CHANCE: Final = (None, 1.0)
_AMOUNT: Final = (0.0, None)
_PHASE_SCORE: Final = (-0.5, 1.0)


#: Every score of a clip, in the order of the table.
MEASURES: Final[dict[str, Measure]] = {
    "music_motion": Measure("music-motion", "", "higher", True, "equation 1, mean over music beats", _SHARE),
    "music_motion_by_motion": Measure(
        "music-motion (FACT)", "", "higher", True, "equation 1, mean over motion beats", _SHARE
    ),
    "step_beat": Measure(
        "step beat",
        "",
        "higher",
        True,
        "foot landings and take-offs on music beats, 0 by chance",
        _PHASE_SCORE,
    ),
    "step_beat_landings": Measure(
        "step beat (landings)", "", "higher", True, "the same of landings alone", _PHASE_SCORE
    ),
    "step_lock": Measure(
        "step lock",
        "",
        "like the reference",
        True,
        "how constant the phase of foot events is, whatever its value",
        _SHARE,
    ),
    "step_lead": Measure(
        "step lead", "s", "like the reference", True, "how far the feet are ahead of the beat", (None, None)
    ),
    "step_density": Measure(
        "foot events", "1/s", "like the reference", True, "landings and take-offs a second", _AMOUNT
    ),
    "beat_precision": Measure(
        "beat precision",
        "",
        "higher",
        True,
        "motion beats that match a music beat, above chance",
        _ABOVE_CHANCE,
    ),
    "beat_recall": Measure(
        "beat recall", "", "higher", True, "music beats that match a motion beat, above chance", _ABOVE_CHANCE
    ),
    "beat_f1": Measure("beat F1", "", "higher", True, "both together, above chance", _ABOVE_CHANCE),
    "motion_beat_density": Measure(
        "motion beats", "1/s", "like the reference", True, "what inflates equation 1", _AMOUNT
    ),
    "jitter": Measure("jitter", "m/s³", "like the reference", True, "mean jerk of the joints", _AMOUNT),
    "foot_skate": Measure(
        "foot skate", "", "lower", True, "share of steps on the ground without a standing foot", _SHARE
    ),
    "pfc": Measure(
        "PFC", "", "lower", True, "physical foot contact, accelerations in units of gravity", _AMOUNT
    ),
    "pfc_edge": Measure(
        "PFC (EDGE)", "", "lower", True, "the same by each clip's largest acceleration", _AMOUNT
    ),
    "penetration": Measure(
        "penetration", "m", "lower", True, "mean depth of the lowest joint below the ground", _AMOUNT
    ),
    "motion_motion": Measure("motion-motion", "", "higher", False, "equation 2", _SHARE),
    "partner_f1": Measure(
        "partner F1", "", "higher", False, "matched motion beats of partners, above chance", _ABOVE_CHANCE
    ),
    "partner_steps": Measure(
        "partner steps",
        "",
        "higher",
        False,
        "foot events of partners at one time, 0 by chance; a clone wins",
        _PHASE_SCORE,
    ),
    "partner_steps_clone": Measure(
        "steps (clone)", "", "control", False, "partner steps of each dancer and a copy", _PHASE_SCORE
    ),
    "partner_steps_mirrored": Measure(
        "steps (mirrored)",
        "",
        "control",
        False,
        "partner steps of each dancer and the mirror image",
        _PHASE_SCORE,
    ),
    "partner_steps_shuffled": Measure(
        "steps (shuffled)",
        "",
        "control",
        False,
        "partner steps of each dancer and dancers of other groups",
        _PHASE_SCORE,
    ),
    "hand_distance": Measure(
        "hand distance", "m", "like the reference", False, "median of the nearest hands", _AMOUNT
    ),
    "hand_hold": Measure(
        "hand hold", "", "like the reference", False, "share of frames with hands within 20 cm", _SHARE
    ),
    "interpenetration": Measure(
        "interpenetration", "m", "lower", False, "mean depth of one body inside the other", _AMOUNT
    ),
}


@dataclass(frozen=True)
class ClipScores:
    """Scores of one clip; a value that is undefined is None, and ``notes`` says why.

    Attributes:
        id: the clip's name.
        group: the clip's group, usually its song.
        num_dancers: each is one sample.
        num_frames: its length.
        fps: frames a second.
        frames_used: how many of its frames the protocol counts.
        num_music_beats: beats of the music within those frames; None if unknown.
        num_motion_beats: beats of each dancer.
        scores: keys of :data:`MEASURES` to one value a dancer, or to one value for what dancers share.
        notes: name of a score to the reason why it is undefined.
    """

    id: str
    group: str
    num_dancers: int
    num_frames: int
    fps: float
    frames_used: int
    num_music_beats: int | None
    num_motion_beats: tuple[int, ...]
    scores: dict[str, tuple[float | None, ...]]
    notes: dict[str, str]


@dataclass(frozen=True)
class SetScores:
    """Scores of one set of clips: a row of paper table 3.

    Attributes:
        num_clips: clips in the set.
        num_samples: dancers in the set.
        num_groups: groups, usually songs, in the set.
        min_frames, median_frames, max_frames: the lengths used, over clips.
        min_fps, max_fps: the frame rates, over clips.
        fingerprint: SHA-256 of all joints and beats, whatever the order and names of the clips.
        num_short: clips shorter than the protocol's windows, which FID and Div leave out.
        div_k, div_g, div_cd: diversity, normalised by the reference; cd is of the distances within couples, each of
            whom is once taken for the leader.
        div_at_n: "k", "g", "cd" to how the diversity comes out for subsets of the N of :attr:`EvaluationResult.fid_at_n`.
        means: keys of :data:`MEASURES` to the mean over dancers, or over clips for what dancers share, with its
            bootstrap interval over groups.
        clips: every clip.
    """

    num_clips: int
    num_samples: int
    num_groups: int
    min_frames: int
    median_frames: float
    max_frames: int
    min_fps: float
    max_fps: float
    fingerprint: str
    num_short: int
    div_k: Score
    div_g: Score
    div_cd: Score
    div_at_n: dict[str, SubsampleInterval]
    means: dict[str, Interval]
    clips: tuple[ClipScores, ...]


@dataclass(frozen=True)
class EvaluationResult:
    """What :func:`evaluate` found; ``dataclasses.asdict`` of it is ready for JSON and holds no NaN.

    Attributes:
        protocol: how it was measured.
        version: of opendance-hf.
        seed: of everything drawn at random.
        fid_k, fid_g, fid_cd: Fréchet distance of predictions to reference on kinetic and geometric features, and on
            the distances within couples.
        fid_at_n: "k", "g", "cd" to the distance between N predictions and N reference samples, N being the number of
            predictions or what 95% of random halves of the reference's groups hold, whichever is less.
        floor_at_n: likewise, between N and N reference samples without a common group: what a perfect model would
            get. Both are biased upwards by the same small N, and neither is a confidence interval.
        predictions: the row of the method.
        reference: the row of the ground truth.
    """

    protocol: Protocol
    version: str
    seed: int
    fid_k: Score
    fid_g: Score
    fid_cd: Score
    fid_at_n: dict[str, SubsampleInterval]
    floor_at_n: dict[str, SubsampleInterval]
    predictions: SetScores
    reference: SetScores
