from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from opendance_hf.metrics import (
    MEASURES,
    PROTOCOLS,
    Clip,
    compare_systems,
    cross_distance_features,
    diversity_score,
    duet_step_beat,
    evaluate,
    foot_events,
    foot_skate_ratio,
    frechet_score,
    hand_hold_distance,
    jitter,
    matched_beats,
    motion_beats,
    motion_features,
    motion_motion_score,
    music_motion_score,
    partner_steps,
    step_beat,
)
from tests.fixtures.make_metrics_small import synth_motion, synth_music_beats


def clips(count: int, first: int = 0) -> list[Clip]:
    """Solos at even, duets at odd places."""
    out = []
    for i in range(count):
        one, two = synth_motion(first + i)[:50], synth_motion(first + i + 1000)[:50]
        joints = np.stack([one, two]) if i % 2 else one[None]
        out.append(Clip(f"clip{first + i}", joints, synth_music_beats(i, 50)))
    return out


def test_an_evaluation_is_made_of_the_plain_functions() -> None:
    found, truth = clips(6), clips(8, first=50)
    result = evaluate(iter(found), iter(truth), "bailando")
    dancers = [dancer for clip in found for dancer in clip.joints]
    x, y = motion_features(dancers), motion_features(d for clip in truth for d in clip.joints)
    assert result.fid_k == frechet_score(x.kinetic, y.kinetic)
    assert result.fid_g == frechet_score(x.geometric, y.geometric)
    assert result.predictions.div_k == diversity_score(x.kinetic, y.kinetic)
    assert result.reference.div_g == diversity_score(y.geometric, y.geometric)
    assert (result.predictions.num_clips, result.predictions.num_samples) == (6, 9)
    assert (result.fid_k.n, result.fid_k.n_reference) == (9, 12)

    music = [music_motion_score(d, clip.music_beats) for clip in found for d in clip.joints]  # type: ignore[arg-type]
    means = result.predictions.means
    assert means["music_motion"].mean == pytest.approx(np.mean([m for m in music if m is not None]))
    pairs = [motion_motion_score(clip.joints) for clip in found if len(clip.joints) > 1]
    assert means["motion_motion"].mean == pytest.approx(np.mean(pairs))
    skate = [foot_skate_ratio(d) for d in dancers]
    assert means["foot_skate"].mean == pytest.approx(np.mean(skate))
    row = result.predictions.clips[1]
    assert (row.id, row.num_dancers, row.num_frames, row.frames_used) == ("clip1", 2, 50, 50)
    assert row.scores["music_motion"] == tuple(music[1:3])
    assert row.scores["motion_motion"] == (pairs[0],)
    assert row.scores["jitter"] == tuple(jitter(d) for d in found[1].joints)
    one, two = found[1].joints
    assert row.scores["hand_distance"] == (pytest.approx(np.median(hand_hold_distance(one, two))),)
    beats = matched_beats(found[1].music_beats[found[1].music_beats < 49], motion_beats(one), 49)  # type: ignore[index]
    assert row.scores["beat_f1"][0] == beats.corrected_f1
    assert set(result.predictions.clips[0].scores) < set(row.scores) == set(MEASURES)


def stepping_couple(id: str, seed: int, frames: int = 600, fps: float = 60) -> Clip:
    """Two dancers whose feet step at random times of their own, to beats that go on after the dance."""
    rng = np.random.default_rng(seed)
    joints = np.zeros((2, frames, 24, 3))
    for dancer in joints:
        for foot in (10, 11):
            for start in np.cumsum(rng.uniform(0.5, 1.5, 12)):
                share = np.clip((np.arange(frames) / fps - start) / 0.3, 0, 1)
                dancer[:, foot, 0] += 0.2 * (1 - np.cos(np.pi * share))
    return Clip(id, joints, np.arange(7, 900, 33), fps=fps)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_steps_are_measured_for_every_dancer_and_couple(protocol: str) -> None:
    found = [stepping_couple(f"couple{i}", i, 600 + 30 * i) for i in range(4)]
    result = evaluate(found, found[:2], protocol)
    for clip, row in zip(found, result.predictions.clips, strict=True):
        solos = [step_beat(dancer, clip.music_beats) for dancer in clip.joints]  # type: ignore[arg-type]
        assert row.scores["step_beat"] == tuple(one and one.score for one in solos)
        assert row.scores["step_beat_landings"] == tuple(one and one.landings for one in solos)
        assert row.scores["step_lock"] == tuple(one and one.lock for one in solos)
        assert row.scores["step_lead"] == tuple(one and one.lead_s for one in solos)
        assert row.scores["step_density"] == tuple(one and one.events_per_s for one in solos)
        others = [other for other in found if other is not clip]
        strangers = [
            [partner_steps(foot_events(own), foot_events(stranger[: len(own)])) for own in clip.joints]
            for other in others
            for stranger in other.joints
            if other.joints.shape[1] >= clip.joints.shape[1]
        ]
        duet = duet_step_beat(*clip.joints)
        assert row.scores["partner_steps"] == (duet.score,)
        assert row.scores["partner_steps_clone"] == row.scores["partner_steps_mirrored"] == (1,)
        if len(strangers) == 6:
            shuffled = row.scores["partner_steps_shuffled"][0]
            assert shuffled == pytest.approx(np.mean(strangers), abs=0.02)
    tests = compare_systems(result.predictions, result.predictions)
    assert "partner_steps" in tests
    assert "partner_steps_clone" not in tests


def test_strangers_are_of_other_groups_whatever_the_order() -> None:
    found = [stepping_couple(f"couple{i}", i) for i in range(7)]
    rows = {row.id: row for row in evaluate(found, found).predictions.clips}
    for row in evaluate(found[::-1], found).predictions.clips:
        assert row.scores == rows[row.id].scores
    alike = [Clip(c.id, c.joints, c.music_beats, group="one song") for c in found]
    for row in evaluate(alike, found).predictions.clips:
        assert row.scores["partner_steps_shuffled"] == (None,)
        assert row.notes["partner_steps_shuffled"] == "no couple of another group"


def test_steps_without_beats_have_a_reason() -> None:
    joints = stepping_couple("a", 0).joints[:1]
    for beats, why in (
        (None, "no music beats given"),
        (np.array([700, 730]), "the music has no beats within the dance"),
        (np.array([30]), "the music has a single beat, which defines no phase"),
    ):
        (row,) = evaluate([Clip("a", joints, beats)], clips(3)).predictions.clips
        for name in ("step_beat", "step_beat_landings", "step_lock", "step_lead"):
            assert row.scores[name] == (None,)
            assert row.notes[name] == why
        assert row.scores["step_density"][0] > 1  # type: ignore[operator]
    still = Clip("still", np.zeros((1, 60, 24, 3)), np.array([10, 40]))
    (row,) = evaluate([still], clips(3)).predictions.clips
    assert (row.scores["step_beat"], row.scores["step_lead"]) == ((0,), (None,))
    assert row.notes["step_beat"] == "dancer 0 takes no steps, which counts as 0"
    assert row.notes["step_lead"] == "dancer 0 takes no steps"


def test_each_of_a_couple_is_once_the_leader() -> None:
    result = evaluate(clips(6), clips(8, first=50))
    pairs = [(a, b) for clip in clips(6) if len(clip.joints) > 1 for a, b in (clip.joints, clip.joints[::-1])]
    truth = [
        (a, b) for clip in clips(8, 50) if len(clip.joints) > 1 for a, b in (clip.joints, clip.joints[::-1])
    ]
    x, y = (np.stack([cross_distance_features(a, b) for a, b in some]) for some in (pairs, truth))
    assert result.fid_cd.value == pytest.approx(frechet_score(x, y).value)
    assert result.predictions.div_cd.value == pytest.approx(diversity_score(x, y).value)
    assert result.fid_cd.n == 6


def slowed(clip: Clip, fps: float) -> Clip:
    """The same dance at another frame rate."""
    count = clip.joints.shape[1]
    frames = np.arange(0, count - 1 + 1e-9, 60 / fps)
    low = np.minimum(frames.astype(int), count - 2)
    part = (frames - low)[:, None, None]
    joints = clip.joints[:, low] * (1 - part) + clip.joints[:, low + 1] * part
    return Clip(clip.id, joints, np.round(clip.music_beats * fps / 60).astype(int), fps=fps)  # type: ignore[operator]


def long_clips(count: int, seconds: float = 11.0) -> list[Clip]:
    """Dances of several windows: smoothed random walks of a synthetic body."""
    out = []
    for i in range(count):
        rng = np.random.default_rng(i)
        frames = round(60 * seconds)
        sway = gaussian_filter1d(rng.normal(0, 6, (frames, 24, 3)), 12, axis=0)
        out.append(Clip(f"long{i}", (synth_motion(i)[:1] + sway)[None], np.arange(i, frames, 30)))
    return out


def test_corrected_cuts_both_sets_into_equal_windows() -> None:
    result = evaluate(long_clips(4), long_clips(5), "corrected")
    assert (result.fid_k.n, result.fid_k.n_reference) == (8, 10)
    windows = [clip.joints[0, i * 300 : i * 300 + 300] for clip in long_clips(4) for i in range(2)]
    truth = [clip.joints[0, i * 300 : i * 300 + 300] for clip in long_clips(5) for i in range(2)]
    x, y = motion_features(windows, corrected=True), motion_features(truth, corrected=True)
    assert result.fid_g.value == pytest.approx(frechet_score(x.geometric, y.geometric, floor=0.05).value)
    assert result.fid_k.value == pytest.approx(frechet_score(x.kinetic, y.kinetic, floor=0.01).value)
    short = evaluate([*long_clips(4), *clips(1)], long_clips(5), "corrected")
    assert short.fid_k.value == result.fid_k.value
    assert short.predictions.num_clips == 5


def test_corrected_scores_hardly_depend_on_the_frame_rate() -> None:
    at = {
        fps: evaluate([slowed(c, fps) for c in long_clips(6)], long_clips(6), "corrected")
        for fps in (60, 120)
    }
    one, two = at[60].predictions, at[120].predictions
    for name, tolerance in (("music_motion", 0.03), ("motion_beat_density", 0.1), ("beat_f1", 0.06)):
        assert two.means[name].mean == pytest.approx(one.means[name].mean, abs=tolerance)
    assert two.div_k.value == pytest.approx(one.div_k.value, rel=0.1)
    assert at[120].fid_k.value < 1
    assert at[120].predictions.max_fps == 120
    for name in ("bailando", "opendance-3d"):
        with pytest.raises(
            ValueError, match=r"clip 'long0' has 120 FPS, but the protocol .* is defined at 60"
        ):
            evaluate([slowed(long_clips(1)[0], 120)], clips(2), name)


def test_a_feature_that_the_reference_does_not_vary_in_is_divided_by_a_floor() -> None:
    """Real windows often lack a relation altogether: the official number is then an explosion."""
    reference = [Clip(str(i), long_clips(1)[0].joints, np.array([3])) for i in range(3)]
    official = evaluate(long_clips(4), reference, "opendance-3d")
    assert official.fid_g.value is None
    assert "constant in the reference" in (official.fid_g.note or "")
    corrected = evaluate(long_clips(4), reference, "corrected")
    assert corrected.fid_g.value is not None
    assert 0 < corrected.fid_g.value < 1e4


def test_equal_n_and_floor() -> None:
    result = evaluate(clips(20), clips(30, first=50), draws=20)
    n = result.fid_at_n["k"].n
    assert n == 22  # half of the reference's 45 dancers
    assert result.floor_at_n["k"].n == n
    assert 0 < result.floor_at_n["k"].low < result.floor_at_n["k"].high  # type: ignore[operator]
    worse = [Clip(c.id, np.asarray(c.joints) * 1.5, c.music_beats) for c in clips(20)]
    bad = evaluate(worse, clips(30, first=50), draws=20)
    assert bad.fid_at_n["k"].low > result.floor_at_n["k"].high  # type: ignore[operator]
    again = evaluate(clips(20), clips(30, first=50), draws=20)
    assert asdict(again) == asdict(result)


def test_fingerprint_is_of_the_content() -> None:
    prints = [
        evaluate(clips(2), reference).reference.fingerprint
        for reference in (
            clips(6),
            clips(6)[::-1],
            clips(5),
            [Clip(f"{c.id}x", c.joints, c.music_beats) for c in clips(6)],
        )
    ]
    assert prints[0] == prints[1] == prints[3] != prints[2]
    assert len(prints[0]) == 64


def test_paired_tests_of_two_systems() -> None:
    one = evaluate(clips(20), clips(10, first=50)).predictions
    noisy = [
        Clip(c.id, c.joints + np.random.default_rng(i).normal(0, 0.02, c.joints.shape), c.music_beats)
        for i, c in enumerate(clips(20))
    ]
    two = evaluate([*noisy[::-1], *clips(1, first=90)], clips(10, first=50)).predictions
    tests = compare_systems(one, two)
    assert tests["jitter"].n == 30
    assert tests["jitter"].num_groups == 20
    assert tests["jitter"].difference < 0  # type: ignore[operator]
    assert tests["jitter"].p_value < 0.001  # type: ignore[operator]
    assert compare_systems(one, one)["jitter"].p_value == 1
    with pytest.raises(ValueError, match="no clip, by id and number of dancers, is common"):
        compare_systems(one, evaluate(clips(3, first=200), clips(5)).predictions)


def test_protocols_differ_in_what_counts() -> None:
    long = np.concatenate([synth_motion(i) for i in range(30)])[None, :1300]
    prediction, reference = [Clip("long", long, np.array([5, 1250]))], [Clip("long", long), *clips(3)]
    bailando, paper = (evaluate(prediction, reference, name) for name in ("bailando", "opendance-3d"))
    assert (bailando.predictions.max_frames, bailando.reference.max_frames) == (1200, 1300)
    assert (paper.predictions.max_frames, paper.reference.max_frames) == (1300, 1300)
    assert bailando.predictions.clips[0].num_frames == 1300
    assert bailando.predictions.clips[0].num_music_beats == 1
    assert paper.predictions.clips[0].num_music_beats == 2
    assert bailando.predictions.clips[0].frames_used == 1200


def test_json_has_numbers_or_reasons() -> None:
    still = Clip("still", np.zeros((1, 40, 24, 3)), np.array([10]))
    silent = Clip("silent", synth_motion(3)[None])
    result = evaluate([still, silent], clips(4))
    restored = json.loads(json.dumps(asdict(result), allow_nan=False))
    assert restored["protocol"]["name"] == "opendance-3d"
    assert (restored["seed"], restored["predictions"]["min_fps"], restored["predictions"]["max_fps"]) == (
        0,
        60,
        60,
    )
    rows = restored["predictions"]["clips"]
    assert rows[0]["scores"]["music_motion"] == [0.0]
    assert rows[0]["notes"]["music_motion"] == "dancer 0 has no motion beats, which counts as 0"
    assert rows[0]["notes"]["penetration"] == "the height of the ground is unknown"
    assert rows[1]["notes"]["music_motion"] == "no music beats given"
    assert rows[1]["num_music_beats"] is None
    assert "motion_motion" not in rows[1]["scores"]
    score = restored["predictions"]["means"]["music_motion"]
    assert (score["mean"], score["n"], score["num_undefined"]) == (0.0, 1, 1)
    assert restored["predictions"]["means"]["motion_motion"]["n"] == 0

    beats = evaluate([*clips(1), silent], clips(4)).predictions.means["music_motion"]
    assert (beats.n, beats.num_undefined) == (1, 1)


def test_three_frames_are_enough_for_what_needs_no_more() -> None:
    result = evaluate([Clip("three", synth_motion(1)[None, :3])], clips(4))
    (clip,) = result.predictions.clips
    assert clip.scores["jitter"] == (None,)
    assert "at least 4 frames" in clip.notes["jitter"]
    assert clip.scores["foot_skate"][0] is not None
    json.dumps(asdict(result), allow_nan=False)


def test_the_ground_is_the_datasets_or_unknown() -> None:
    joints = synth_motion(2)[None]
    lowest = joints[..., 1].min()
    known = evaluate([Clip("a", joints, ground=float(lowest) - 1)], clips(3)).predictions
    assert known.means["penetration"].mean == 0
    sunk = evaluate([Clip("a", joints, ground=float(joints[..., 1].max()) + 1)], clips(3)).predictions
    assert sunk.means["penetration"].mean > 1  # type: ignore[operator]


def test_one_clip_is_too_few() -> None:
    result = evaluate(clips(1), clips(1))
    assert result.fid_k.value is None
    assert result.fid_k.note == "needs N >= 2 in both sets, got 1 and 1"
    assert result.predictions.div_k.value is None


def test_a_set_equals_itself_in_any_order() -> None:
    result = evaluate(clips(9)[::-1], clips(9))
    assert result.fid_k.value == pytest.approx(0, abs=1e-6)
    assert result.fid_g.value == pytest.approx(0, abs=1e-6)
    assert result.fid_k.rank_deficient
    assert result.predictions.div_k.value == pytest.approx(result.reference.div_k.value)


def test_sets_are_streamed() -> None:
    alive: list[int] = []

    def stream() -> Iterator[Clip]:
        for clip in clips(5):
            alive.append(1)
            yield clip

    evaluate(stream(), stream())
    assert len(alive) == 10


def test_bad_input() -> None:
    with pytest.raises(
        ValueError, match="unknown protocol 'aist'; there are bailando, opendance-3d, corrected"
    ):
        evaluate(clips(2), clips(2), "aist")
    with pytest.raises(ValueError, match="no predictions to evaluate"):
        evaluate([], clips(2))
    with pytest.raises(ValueError, match="no reference to evaluate"):
        evaluate(clips(2), [])
    with pytest.raises(
        ValueError, match=r"clip 'a': joints must be \(dancers, frames, 24, 3\), got \(9, 24, 3\)"
    ):
        Clip("a", np.zeros((9, 24, 3)))
    with pytest.raises(ValueError, match="clip 'a': joints hold NaN"):
        Clip("a", np.full((1, 9, 24, 3), np.nan))
    with pytest.raises(ValueError, match="clip 'a': joints must have at least 3 frames"):
        Clip("a", np.zeros((1, 2, 24, 3)))
    with pytest.raises(ValueError, match="clip 'a': beats must be a finite vector"):
        Clip("a", np.zeros((1, 9, 24, 3)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="clip 'a': fps must be positive"):
        Clip("a", np.zeros((1, 9, 24, 3)), fps=0)
    with pytest.raises(ValueError, match="clip 'a': the ground must be at a finite height"):
        Clip("a", np.zeros((1, 9, 24, 3)), ground=float("nan"))


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(0, 5) | st.just(24) | st.just(3), max_size=5),
    spoiled=st.sampled_from([None, np.nan, np.inf, -np.inf]),
    data=st.data(),
)
def test_any_joints_are_measured_or_refused_by_name(
    shape: list[int], spoiled: float | None, data: st.DataObject
) -> None:
    joints = np.random.default_rng(0).normal(size=shape)
    good = len(shape) == 4 and shape[0] > 0 and shape[1] >= 3 and shape[2:] == [24, 3]
    if spoiled is not None and joints.size:
        joints.flat[data.draw(st.integers(0, joints.size - 1))] = spoiled
        good = False
    if good:
        assert evaluate([Clip("a", joints)], [Clip("b", joints)]).predictions.num_clips == 1
    else:
        with pytest.raises(ValueError, match="clip 'a': joints"):
            Clip("a", joints)


@settings(max_examples=15, deadline=None)
@given(sizes=st.tuples(st.integers(1, 6), st.integers(1, 6)), protocol=st.sampled_from(sorted(PROTOCOLS)))
def test_sets_of_any_size_have_numbers_or_reasons(sizes: tuple[int, int], protocol: str) -> None:
    result = evaluate(clips(sizes[0]), clips(sizes[1], first=50), protocol, draws=3)
    for score in (
        result.fid_k,
        result.fid_g,
        result.fid_cd,
        result.predictions.div_k,
        result.reference.div_g,
    ):
        assert (score.value is None) <= bool(score.note)
        assert score.value is None or np.isfinite(score.value)
    for spread in (*result.fid_at_n.values(), *result.floor_at_n.values()):
        assert (spread.median is None) <= bool(spread.note)
    json.dumps(asdict(result), allow_nan=False)


def test_standing_still_earns_nothing() -> None:
    still = Clip("still", np.zeros((2, 40, 24, 3)), np.array([10, 20]))
    means = evaluate([*clips(2), still], clips(4)).predictions.means
    alone = evaluate(clips(2), clips(4)).predictions.means
    for name in (
        "music_motion",
        "music_motion_by_motion",
        "beat_precision",
        "beat_f1",
        "motion_motion",
        "partner_f1",
        "step_beat",
        "step_lock",
        "partner_steps",
    ):
        count = alone[name].n
        added = 2 if MEASURES[name].each_dancer else 1
        assert means[name].n == count + added
        assert means[name].mean == pytest.approx(alone[name].mean * count / (count + added))  # type: ignore[operator]


def test_every_clip_has_a_name_of_its_own() -> None:
    with pytest.raises(ValueError, match="two clips are called 'clip0'"):
        evaluate([*clips(2), *clips(1)], clips(3))


def test_dances_shorter_than_a_window_are_counted() -> None:
    result = evaluate([*long_clips(3), *clips(2)], long_clips(4), "corrected")
    assert (result.predictions.num_short, result.reference.num_short) == (2, 0)
    assert evaluate(clips(2), clips(3)).predictions.num_short == 0


def test_what_is_no_dance_in_metres_is_refused() -> None:
    body = synth_motion(1)[None]
    for joints, beats, options, why in (
        (body.astype(complex), None, {}, "joints must be real numbers, got complex"),
        (np.zeros((1, 9, 24, 3), "M8[s]"), None, {}, "joints must be real numbers, got datetime64"),
        (body + 1e5, None, {}, r"joints must be in metres; one is 1e\+05 m from the origin"),
        (body * 100, None, {}, r"joints must be in metres; this body is 1\d\d m tall"),
        (body, np.zeros(50, bool), {}, "beats must be frame indices, not a mask"),
        (body, np.array([0, 1, 0, 0]), {}, "beats must be frame indices, not a mask"),
        (body, np.array([1j]), {}, "beats must be real numbers"),
        (body, None, {"fps": 1e-9}, "fps must be positive, between 1 and 1000"),
        (body, None, {"fps": 1e9}, "fps must be positive, between 1 and 1000"),
        (body, None, {"fps": 60j}, "fps must be real numbers"),
        (body, None, {"ground": 1e9}, "the ground must be at a finite height"),
    ):
        with pytest.raises(ValueError, match=f"clip 'a': {why}"):
            Clip("a", joints, beats, **options)
    assert Clip("a", np.zeros((1, 9, 24, 3), np.float32), np.array([], int), fps=1000).fps == 1000
