"""One written-down way from two sets of dances to the numbers of a table, and everything needed to read them.

A protocol names what papers tend to leave out: how much of each dance counts, and what is one sample.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf import __version__
from opendance_hf.metrics.beats import (
    beat_alignment,
    beats_within,
    mean_mutual_beat_alignment,
    motion_beats,
)
from opendance_hf.metrics.features import MIN_FRAMES, as_joints, motion_features
from opendance_hf.metrics.frechet import Score, diversity_score, frechet_score
from opendance_hf.schema import FPS


@dataclass(frozen=True)
class Protocol:
    """How sets of dances are compared.

    Common to all: each dancer of a clip is one sample (paper section 5.2), the root of every dancer's first frame is
    moved to the origin, features are those of :mod:`opendance_hf.metrics.features`, reference dances count whole.

    Attributes:
        name: what to call it in a table.
        prediction_frames: only this many first frames of a predicted dance count; None for all.
        source: who defined it.
    """

    name: str
    prediction_frames: int | None
    source: str


PROTOCOLS: Final[dict[str, Protocol]] = {
    protocol.name: protocol
    for protocol in (
        # 20 s of a prediction against whole reference dances.
        Protocol("bailando", 1200, "Bailando (Siyao et al., CVPR 2022), official evaluation code"),
        # The paper gives no crop. Its reference set is all sequences, train and test: pass them all.
        Protocol("opendance-3d", None, "OpenDance-3D, section 5.2 and equations 1 and 2"),
    )
}


@dataclass(frozen=True, eq=False)
class Clip:
    """One dance to be evaluated, 60 FPS.

    Attributes:
        id: its name in the result.
        joints: (D, T, 24, 3) of D dancers over T frames, metres, y-up, all dancers in one world frame.
        music_beats: (B,) frame indices, None if unknown.

    Raises:
        ValueError: naming the clip, if the joints have another shape, fewer than three frames, NaN or infinity, or
            the beats are no finite vector.
    """

    id: str
    joints: npt.NDArray[np.floating]
    music_beats: npt.NDArray[np.integer] | None = None

    def __post_init__(self) -> None:
        try:
            if np.ndim(self.joints) != 4 or not len(self.joints):
                raise ValueError(f"joints must be (dancers, frames, 24, 3), got {np.shape(self.joints)}")
            as_joints(self.joints)
            if self.music_beats is not None:
                beats_within(self.music_beats, MIN_FRAMES)
        except ValueError as error:
            raise ValueError(f"clip {self.id!r}: {error}") from None


@dataclass(frozen=True)
class ClipScores:
    """Scores of one clip; a value that is undefined is None, and ``notes`` says why.

    Attributes:
        id: the clip's name.
        num_dancers: each is one sample.
        num_frames: its length.
        frames_used: how many of them the protocol counts.
        num_music_beats: beats of the music within those frames; None if unknown.
        num_motion_beats: beats of each dancer. Their density is what inflates the music-motion score (section 5.3).
        music_motion: equation 1 for each dancer.
        motion_motion: equation 2, mean over pairs of dancers.
        notes: name of a score to the reason why it is undefined.
    """

    id: str
    num_dancers: int
    num_frames: int
    frames_used: int
    num_music_beats: int | None
    num_motion_beats: tuple[int, ...]
    music_motion: tuple[float | None, ...]
    motion_motion: float | None
    notes: dict[str, str]


@dataclass(frozen=True)
class SetScores:
    """Scores of one set of clips: a row of paper table 3.

    Attributes:
        num_clips: clips in the set.
        num_samples: dancers in the set, the N of FID and Div.
        min_frames, median_frames, max_frames: the lengths used, over clips.
        div_k, div_g: diversity, normalised by the reference.
        music_motion: mean of equation 1 over samples.
        motion_motion: mean of equation 2 over clips of two or more dancers.
        clips: every clip.
    """

    num_clips: int
    num_samples: int
    min_frames: int
    median_frames: float
    max_frames: int
    div_k: Score
    div_g: Score
    music_motion: Score
    motion_motion: Score
    clips: tuple[ClipScores, ...]


@dataclass(frozen=True)
class EvaluationResult:
    """What :func:`evaluate` found; ``dataclasses.asdict`` of it is ready for JSON and holds no NaN.

    Attributes:
        protocol: how it was measured.
        version: of opendance-hf.
        fps: frame rate that every frame number refers to.
        fid_k, fid_g: Fréchet distance of predictions to reference on kinetic and geometric features.
        predictions: the row of the method.
        reference: the row of the ground truth.
    """

    protocol: Protocol
    version: str
    fps: int
    fid_k: Score
    fid_g: Score
    predictions: SetScores
    reference: SetScores


def evaluate(
    predictions: Iterable[Clip], reference: Iterable[Clip], protocol: str = "opendance-3d"
) -> EvaluationResult:
    """Compare predicted dances with reference dances.

    Both are read once, in order; only features and beats are kept, so datasets larger than memory can be streamed.

    Args:
        predictions: the dances of a model.
        reference: the dances it should look like. The paper takes all sequences of the dataset, training and test.
        protocol: a key of :data:`PROTOCOLS`.

    Raises:
        ValueError: if the protocol is unknown or a set is empty.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; there are {', '.join(PROTOCOLS)}")
    rule = PROTOCOLS[protocol]
    found, truth = _measure(predictions, rule.prediction_frames), _measure(reference, None)
    for name, measured in (("predictions", found), ("reference", truth)):
        if not measured.clips:
            raise ValueError(f"no {name} to evaluate")
    return EvaluationResult(
        protocol=rule,
        version=__version__,
        fps=FPS,
        fid_k=frechet_score(found.kinetic, truth.kinetic),
        fid_g=frechet_score(found.geometric, truth.geometric),
        predictions=_summarise(found, truth),
        reference=_summarise(truth, truth),
    )


@dataclass(frozen=True)
class _Measured:
    clips: list[ClipScores]
    kinetic: npt.NDArray[np.float64]
    geometric: npt.NDArray[np.float64]


def _measure(clips: Iterable[Clip], max_frames: int | None) -> _Measured:
    scores, features = [], []
    for clip in clips:
        joints = as_joints(clip.joints)[:, :max_frames]
        scores.append(_clip_scores(clip, joints))
        features.append(motion_features(joints))
    kinetic = [one.kinetic for one in features]
    geometric = [one.geometric for one in features]
    return _Measured(scores, _stack(kinetic), _stack(geometric))


def _stack(parts: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    return np.concatenate(parts) if parts else np.empty((0, 0))


def _clip_scores(clip: Clip, joints: npt.NDArray[np.float64]) -> ClipScores:
    num_dancers, frames_used = joints.shape[:2]
    notes: dict[str, str] = {}
    beats = [motion_beats(dancer) for dancer in joints]
    still = [str(i) for i, found in enumerate(beats) if not len(found)]
    if still:
        notes["music_motion"] = notes["motion_motion"] = f"dancer {', '.join(still)} has no motion beats"
    music_motion: list[float | None] = [None] * num_dancers
    music = None if clip.music_beats is None else beats_within(clip.music_beats, frames_used)
    if music is None:
        notes["music_motion"] = "no music beats given"
    elif not len(music):
        notes["music_motion"] = "the music has no beats within the dance"
    else:
        music_motion = [beat_alignment(music, found) for found in beats]
    if num_dancers < 2:
        notes["motion_motion"] = "one dancer"
    return ClipScores(
        id=clip.id,
        num_dancers=num_dancers,
        num_frames=clip.joints.shape[1],
        frames_used=frames_used,
        num_music_beats=None if music is None else len(music),
        num_motion_beats=tuple(map(len, beats)),
        music_motion=tuple(music_motion),
        motion_motion=mean_mutual_beat_alignment(beats) if num_dancers > 1 else None,
        notes=notes,
    )


def _summarise(measured: _Measured, truth: _Measured) -> SetScores:
    clips = measured.clips
    frames = [clip.frames_used for clip in clips]
    together = [clip for clip in clips if clip.num_dancers > 1]
    return SetScores(
        num_clips=len(clips),
        num_samples=len(measured.kinetic),
        min_frames=min(frames),
        median_frames=float(np.median(frames)),
        max_frames=max(frames),
        div_k=diversity_score(measured.kinetic, truth.kinetic),
        div_g=diversity_score(measured.geometric, truth.geometric),
        music_motion=_mean([score for clip in clips for score in clip.music_motion], "no clip"),
        motion_motion=_mean([clip.motion_motion for clip in together], "no clip of two or more dancers"),
        clips=tuple(clips),
    )


def _mean(scores: list[float | None], none: str) -> Score:
    known = [score for score in scores if score is not None]
    if not scores:
        return Score(None, 0, note=none)
    left_out = f"{len(scores) - len(known)} of {len(scores)} undefined for want of beats"
    if not known:
        return Score(None, 0, note=left_out)
    note = f"{left_out}, left out" if len(known) < len(scores) else None
    return Score(float(np.mean(known)), len(known), note=note)
