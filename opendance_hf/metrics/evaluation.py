"""From two sets of dances to the numbers of a table, by a written-down protocol, with everything needed to read them.

Every clip is measured once, by itself (:class:`ClipScores`); sets of clips are then summarised and compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf import __version__
from opendance_hf.metrics.agreement import matched_beats
from opendance_hf.metrics.beats import (
    BEAT_SIGMA,
    FPS,
    Beats,
    beat_alignment,
    beats_within,
    mean_mutual_beat_alignment,
    motion_beats,
)
from opendance_hf.metrics.duet import (
    CROSS_DISTANCE_DIM,
    HOLD_DISTANCE,
    cross_distance_features,
    hand_hold_distance,
    interpenetration,
)
from opendance_hf.metrics.features import GEOMETRIC_DIM, KINETIC_DIM, Floats, as_joints, motion_features
from opendance_hf.metrics.frechet import diversity_score, frechet_score
from opendance_hf.metrics.protocol import PROTOCOLS, STD_FLOORS, Clip, Protocol
from opendance_hf.metrics.quality import (
    floor_height,
    foot_skate_ratio,
    ground_penetration,
    jitter,
    physical_foot_contact,
)
from opendance_hf.metrics.scores import MEASURES, ClipScores, EvaluationResult, SetScores
from opendance_hf.metrics.steps import FootEvents, duet_step_beat, foot_events, partner_steps, score_events
from opendance_hf.metrics.uncertainty import (
    Interval,
    PairedTest,
    bootstrap_mean,
    diversity_subsamples,
    frechet_floor,
    frechet_subsamples,
    largest_equal_n,
    paired_test,
)
from opendance_hf.motion.phase import as_times


def evaluate(
    predictions: Iterable[Clip],
    reference: Iterable[Clip],
    protocol: str = "opendance-3d",
    *,
    seed: int = 0,
    draws: int = 100,
) -> EvaluationResult:
    """Compare predicted dances with reference dances.

    Both are read once, in order; only features and scores are kept, so datasets larger than memory can be streamed.

    Args:
        predictions: the dances of a model.
        reference: the dances it should look like. The paper takes all sequences of the dataset, training and test.
        protocol: a key of :data:`PROTOCOLS`.
        seed: of everything drawn at random.
        draws: subsets taken for ``fid_at_n``, ``floor_at_n`` and ``div_at_n``.

    Raises:
        ValueError: if the protocol is unknown, a set is empty, or a clip has a frame rate that the protocol does not
            know.
    """
    rule = get_protocol(protocol)
    return compare_sets(
        measure(predictions, rule, rule.prediction_frames),
        measure(reference, rule),
        rule,
        seed=seed,
        draws=draws,
    )


def compare_sets(
    found: Measured, truth: Measured, rule: Protocol, *, seed: int = 0, draws: int = 100
) -> EvaluationResult:
    """:func:`evaluate` for sets that are measured already: several methods against one reference.

    Raises:
        ValueError: if a set is empty.
    """
    for name, measured in (("predictions", found), ("reference", truth)):
        if not measured.clips:
            raise ValueError(f"no {name} to evaluate")
    fid, at_n, floor_at_n, num = {}, {}, {}, {}
    for kind in FEATURES:
        x, y, floor = found.features[kind], truth.features[kind], _floor(rule, kind)
        songs, true_songs = found.groups[kind], truth.groups[kind]
        # A single group has no halves, so there is no floor, but still a distance.
        half = largest_equal_n(true_songs, draws=draws, seed=seed) or len(y) // 2
        n = num[kind] = max(2, min(len(x), half))
        fid[kind] = frechet_score(x, y, floor=floor)
        at_n[kind] = frechet_subsamples(
            x, y, n=n, draws=draws, seed=seed, groups=songs, reference_groups=true_songs, floor=floor
        )
        floor_at_n[kind] = frechet_floor(y, true_songs, n=n, draws=draws, seed=seed, floor=floor)
    return EvaluationResult(
        protocol=rule,
        version=__version__,
        seed=seed,
        fid_k=fid["k"],
        fid_g=fid["g"],
        fid_cd=fid["cd"],
        fid_at_n=at_n,
        floor_at_n=floor_at_n,
        predictions=_summarise(found, truth, rule, num, seed, draws),
        reference=_summarise(truth, truth, rule, num, seed, draws),
    )


def compare_systems(a: SetScores, b: SetScores, *, seed: int = 0) -> dict[str, PairedTest]:
    """Paired tests between two systems on the clips, by id, that both danced: a minus b, a key of :data:`MEASURES` each.

    Controls are not tested.
    Dancers are paired in their order; clips in which the systems have another number of dancers are left out.

    Raises:
        ValueError: if no clip is common to both.
    """
    others = {clip.id: clip for clip in b.clips}
    pairs = [
        (one, others[one.id])
        for one in a.clips
        if one.id in others and one.num_dancers == others[one.id].num_dancers
    ]
    if not pairs:
        some = [", ".join([clip.id for clip in scores.clips][:3]) for scores in (a, b)]
        raise ValueError(
            f"no clip, by id and number of dancers, is common to both systems ({some[0]} ...; {some[1]} ...): the dances of both to one "
            "song must have the same id, or file name"
        )
    tests = {}
    for name, about in MEASURES.items():
        if about.better == "control":
            continue
        rows = [
            (x, y, one.group)
            for one, other in pairs
            for x, y in zip(one.scores.get(name, ()), other.scores.get(name, ()), strict=True)
        ]
        if rows:
            first, second, groups = zip(*rows, strict=True)
            tests[name] = paired_test(first, second, groups=groups, seed=seed)
    return tests


def get_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        ValueError: naming those there are.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}; there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


#: Kinds of features with a Fréchet distance and a diversity, and how many numbers each has.
FEATURES: Final[dict[str, int]] = {"k": KINETIC_DIM, "g": GEOMETRIC_DIM, "cd": CROSS_DISTANCE_DIM}


#: Clips whose dancers are the strangers of ``partner_steps_shuffled``.
NUM_STRANGERS: Final = 4


def _floor(rule: Protocol, kind: str) -> float:
    return STD_FLOORS[kind] if rule.corrected else 0.0


@dataclass(frozen=True)
class Measured:
    """What :func:`measure` keeps of a set of clips.

    Attributes:
        clips: the scores of each.
        features: "k", "g", "cd" to (N, F) features of all samples.
        groups: "k", "g", "cd" to the group of each sample.
        fingerprint: see :class:`SetScores`.
        num_short: likewise.
    """

    clips: list[ClipScores]
    features: dict[str, Floats]
    groups: dict[str, list[str]]
    fingerprint: str
    num_short: int = 0


def measure(clips: Iterable[Clip], rule: Protocol, max_frames: int | None = None) -> Measured:
    """Measure every clip by itself.

    Args:
        clips: read once, in order.
        rule: how.
        max_frames: only this many first frames of each count; None for all.

    Raises:
        ValueError: if a clip has a frame rate that the protocol does not know, or two have one id.
    """
    scores: list[ClipScores] = []
    steps: list[list[FootEvents]] = []
    seen: set[str] = set()
    num_short = 0
    rows: dict[str, list[Floats]] = {kind: [np.empty((0, width))] for kind, width in FEATURES.items()}
    groups: dict[str, list[str]] = {kind: [] for kind in FEATURES}
    digests = []
    for clip in clips:
        if not rule.corrected and clip.fps != FPS:
            raise ValueError(
                f"clip {clip.id!r} has {clip.fps:g} FPS, but the protocol {rule.name} is defined at {FPS:g}: "
                f"resample the motion, or use the protocol corrected"
            )
        if clip.id in seen:
            raise ValueError(f"two clips are called {clip.id!r}: give every clip an id of its own")
        seen.add(clip.id)
        digests.append(_digest(clip))
        joints = as_joints(clip.joints)[:, :max_frames]
        steps.append([foot_events(dancer, clip.fps) for dancer in joints])
        scores.append(_clip_scores(clip, joints, steps[-1]))
        num_short += rule.window_s is not None and joints.shape[1] < round(rule.window_s * clip.fps)
        for kind, found in _features(joints, rule, clip.fps).items():
            rows[kind].append(found)
            groups[kind] += [clip.group] * len(found)
    fingerprint = hashlib.sha256(b"".join(sorted(digests))).hexdigest()
    features = {kind: np.concatenate(parts) for kind, parts in rows.items()}
    return Measured(_with_strangers(scores, steps), features, groups, fingerprint, num_short)


def _digest(clip: Clip) -> bytes:
    digest = hashlib.sha256(f"{clip.joints.shape} {clip.fps:g}".encode())
    digest.update(np.ascontiguousarray(clip.joints, dtype="<f4").data)
    if clip.music_beats is not None:
        digest.update(np.asarray(clip.music_beats, dtype="<f8").tobytes())
    return digest.digest()


def _features(joints: Floats, rule: Protocol, fps: float) -> dict[str, Floats]:
    """Features of one clip, joints (D, T, 24, 3): a row for every dancer, or pair, and window."""
    num_dancers, num_frames = joints.shape[:2]
    length = num_frames if rule.window_s is None else round(rule.window_s * fps)
    count = num_frames // length
    windows = joints[:, : count * length].reshape(num_dancers, count, length, *joints.shape[2:])
    found = motion_features(windows.reshape(-1, length, *joints.shape[2:]), corrected=rule.corrected, fps=fps)
    # Nobody says who leads: each of a couple is once the follower.
    pairs = [
        cross_distance_features(windows[one], windows[two])
        for pair in combinations(range(num_dancers), 2)
        for one, two in (pair, pair[::-1])
    ]
    cross = np.concatenate(pairs) if pairs else np.empty((0, FEATURES["cd"]))
    return {"k": found.kinetic, "g": found.geometric, "cd": cross}


def _clip_scores(clip: Clip, joints: Floats, steps: list[FootEvents]) -> ClipScores:
    frames_used = joints.shape[1]
    beats = [motion_beats(dancer, fps=clip.fps) for dancer in joints]
    music = None if clip.music_beats is None else beats_within(clip.music_beats, frames_used)
    scores: dict[str, tuple[float | None, ...]] = {}
    notes: dict[str, str] = {}
    still = [str(i) for i, found in enumerate(beats) if not len(found)]
    if still:
        # Left out, a model that freezes would score better than one that dances badly.
        why = f"dancer {', '.join(still)} has no motion beats, which counts as 0"
        notes |= dict.fromkeys((*_WITH_MUSIC, *_WITH_PARTNER), why)
    if music is None or not len(music):
        why = "no music beats given" if music is None else "the music has no beats within the dance"
        notes |= dict.fromkeys(_WITH_MUSIC, why)
        scores |= dict.fromkeys(_WITH_MUSIC, (None,) * len(joints))
    else:
        rows = [_with_music(music, found, frames_used - 1, clip.fps) for found in beats]
        scores |= dict(zip(_WITH_MUSIC, zip(*rows, strict=True), strict=True))
    _add_steps(scores, notes, clip, steps, frames_used)
    seconds = (frames_used - 1) / clip.fps
    scores["motion_beat_density"] = tuple(len(found) / seconds for found in beats)
    _add_quality(scores, notes, clip, joints)
    if len(joints) > 1:
        _add_duet(scores, joints, beats, clip.fps)
    return ClipScores(
        id=clip.id,
        group=clip.group,
        num_dancers=len(joints),
        num_frames=clip.joints.shape[1],
        fps=clip.fps,
        frames_used=frames_used,
        num_music_beats=None if music is None else len(music),
        num_motion_beats=tuple(map(len, beats)),
        scores={name: scores[name] for name in MEASURES if name in scores},
        notes={name: why for name, why in notes.items() if name in scores},
    )


_WITH_MUSIC = ("music_motion", "music_motion_by_motion", "beat_precision", "beat_recall", "beat_f1")
_WITH_PARTNER = ("motion_motion", "partner_f1")
_PARTNER_STEPS = ("partner_steps", "partner_steps_clone", "partner_steps_mirrored")


def _with_music(music: Floats, beats: Beats, num_frames: int, fps: float) -> tuple[float | None, ...]:
    """The scores of _WITH_MUSIC for one dancer."""
    if not len(beats):
        return (0.0,) * len(_WITH_MUSIC)
    sigma = BEAT_SIGMA * fps / FPS
    agreement = matched_beats(music, beats, num_frames, fps=fps)
    return (
        beat_alignment(music, beats, sigma=sigma),
        beat_alignment(beats, music, sigma=sigma),
        agreement.corrected_precision,
        agreement.corrected_recall,
        agreement.corrected_f1,
    )


_STEPS_WITH_MUSIC = ("step_beat", "step_beat_landings", "step_lock", "step_lead")


def _add_steps(
    scores: dict[str, tuple[float | None, ...]],
    notes: dict[str, str],
    clip: Clip,
    steps: list[FootEvents],
    num_frames: int,
) -> None:
    """Add the scores of foot events. Beats beyond the frames used define the phase near the ends."""
    beats = np.unique(as_times(() if clip.music_beats is None else clip.music_beats))
    if len(beats) > 1 and len(beats_within(beats, num_frames)):
        found = [score_events(events, beats, num_frames, clip.fps) for events in steps]
        scores["step_beat"] = tuple(one.score for one in found)
        scores["step_beat_landings"] = tuple(one.landings for one in found)
        scores["step_lock"] = tuple(one.lock for one in found)
        scores["step_lead"] = tuple(one.lead_s if one.num else None for one in found)
    else:
        why = (
            "no music beats given" if clip.music_beats is None else "the music has no beats within the dance"
        )
        if len(beats) == 1:
            why = "the music has a single beat, which defines no phase"
        notes |= dict.fromkeys(_STEPS_WITH_MUSIC, why)
        scores |= dict.fromkeys(_STEPS_WITH_MUSIC, (None,) * len(steps))
    counts = [len(events.landings) + len(events.take_offs) for events in steps]
    scores["step_density"] = tuple(count * clip.fps / num_frames for count in counts)
    if idle := [str(i) for i, count in enumerate(counts) if not count]:
        who = f"dancer {', '.join(idle)} takes no steps"
        for name in ("step_beat", "step_beat_landings", "step_lock", "partner_steps"):
            notes.setdefault(name, f"{who}, which counts as 0")
        notes.setdefault("step_lead", who)


def _with_strangers(clips: list[ClipScores], steps: list[list[FootEvents]]) -> list[ClipScores]:
    """Add the partner steps of dancers who never met: those of up to four clips of other groups, the next ones by id."""
    order = sorted((i for i, clip in enumerate(clips) if clip.num_dancers > 1), key=lambda i: clips[i].id)
    out = list(clips)
    for place, i in enumerate(order):
        clip = clips[i]
        others = [
            j
            for j in order[place + 1 :] + order[:place]
            if clips[j].group != clip.group and clips[j].fps == clip.fps
        ][:NUM_STRANGERS]
        values = [
            partner_steps(_cut(own, num), _cut(stranger, num))
            for j in others
            for num in (min(clip.frames_used, clips[j].frames_used),)
            for own in steps[i]
            for stranger in steps[j]
        ]
        scores = clip.scores | {"partner_steps_shuffled": (float(np.mean(values)) if values else None,)}
        notes = (
            clip.notes if values else clip.notes | {"partner_steps_shuffled": "no couple of another group"}
        )
        out[i] = replace(
            clip, scores={name: scores[name] for name in MEASURES if name in scores}, notes=notes
        )
    return out


def _cut(events: FootEvents, num_frames: int) -> FootEvents:
    return FootEvents(*(frames[frames < num_frames] for frames in events))


def _add_quality(
    scores: dict[str, tuple[float | None, ...]], notes: dict[str, str], clip: Clip, joints: Floats
) -> None:
    fps, ground = clip.fps, clip.ground
    floors = [floor_height(dancer) if ground is None else ground for dancer in joints]

    def each(name: str, score: Callable[[Floats, float], float | None]) -> None:
        try:
            scores[name] = tuple(score(dancer, floor) for dancer, floor in zip(joints, floors, strict=True))
        except ValueError as error:  # the joints are sound: there are too few frames
            scores[name], notes[name] = (None,) * len(joints), str(error)

    each("jitter", lambda dancer, _: jitter(dancer, fps=fps))
    each("foot_skate", lambda dancer, floor: foot_skate_ratio(dancer, fps=fps, floor=floor))
    each("pfc", lambda dancer, _: physical_foot_contact(dancer, fps=fps))
    each("pfc_edge", lambda dancer, _: physical_foot_contact(dancer, fps=fps, acceleration_scale=None))
    if None in scores["pfc_edge"]:
        notes.setdefault("pfc_edge", "the pelvis does not accelerate")
    if ground is None:
        scores["penetration"], notes["penetration"] = (
            (None,) * len(joints),
            "the height of the ground is unknown",
        )
    else:
        each("penetration", lambda dancer, floor: ground_penetration(dancer, floor=floor).mean_depth)


def _add_duet(
    scores: dict[str, tuple[float | None, ...]], joints: Floats, beats: list[npt.NDArray[np.intp]], fps: float
) -> None:
    pairs = list(combinations(range(len(joints)), 2))
    agreements = [
        matched_beats(beats[i], beats[j], joints.shape[1] - 1, fps=fps).corrected_f1 for i, j in pairs
    ]
    hands = [hand_hold_distance(joints[i], joints[j]) for i, j in pairs]
    depths = [interpenetration(joints[i], joints[j]).mean() for i, j in pairs]
    f1 = [0.0 if value is None else value for value in agreements]
    mutual = mean_mutual_beat_alignment(beats, sigma=BEAT_SIGMA * fps / FPS)
    duets = np.array([duet_step_beat(joints[i], joints[j], fps)[:3] for i, j in pairs]).mean(axis=0).tolist()
    for name, value in zip(_PARTNER_STEPS, duets, strict=True):
        scores[name] = (value,)
    scores["motion_motion"] = (0.0 if mutual is None else mutual,)
    scores["partner_f1"] = (float(np.mean(f1)),)
    scores["hand_distance"] = (float(np.mean([np.median(distance) for distance in hands])),)
    scores["hand_hold"] = (float(np.mean([(distance < HOLD_DISTANCE).mean() for distance in hands])),)
    scores["interpenetration"] = (float(np.mean(depths)),)


def _summarise(
    measured: Measured, truth: Measured, rule: Protocol, num: dict[str, int], seed: int, draws: int
) -> SetScores:
    clips = measured.clips
    frames = [clip.frames_used for clip in clips]
    div, at_n = {}, {}
    for kind, n in num.items():
        x, y, floor = measured.features[kind], truth.features[kind], _floor(rule, kind)
        div[kind] = diversity_score(x, y, floor=floor)
        at_n[kind] = diversity_subsamples(x, y, n=n, draws=draws, seed=seed, floor=floor)
    return SetScores(
        num_clips=len(clips),
        num_samples=sum(clip.num_dancers for clip in clips),
        num_groups=len({clip.group for clip in clips}),
        min_frames=min(frames),
        median_frames=float(np.median(frames)),
        max_frames=max(frames),
        min_fps=min(clip.fps for clip in clips),
        max_fps=max(clip.fps for clip in clips),
        fingerprint=measured.fingerprint,
        num_short=measured.num_short,
        div_k=div["k"],
        div_g=div["g"],
        div_cd=div["cd"],
        div_at_n=at_n,
        means={name: _mean(name, clips, seed) for name in MEASURES},
        clips=tuple(clips),
    )


def _mean(name: str, clips: list[ClipScores], seed: int) -> Interval:
    values = [(value, clip.group) for clip in clips for value in clip.scores.get(name, ())]
    return bootstrap_mean(
        [value for value, _ in values],
        groups=[group for _, group in values],
        bounds=MEASURES[name].bounds,
        seed=seed,
    )
