from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import pytest

from opendance_hf.metrics import (
    Clip,
    diversity_score,
    evaluate,
    frechet_score,
    motion_features,
    motion_motion_score,
    music_motion_score,
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
    assert result.predictions.music_motion.value == pytest.approx(
        np.mean([m for m in music if m is not None])
    )
    pairs = [motion_motion_score(clip.joints) for clip in found if len(clip.joints) > 1]
    assert result.predictions.motion_motion.value == pytest.approx(np.mean(pairs))
    row = result.predictions.clips[1]
    assert (row.id, row.num_dancers, row.num_frames, row.frames_used) == ("clip1", 2, 50, 50)
    assert row.music_motion == tuple(music[1:3])
    assert row.motion_motion == pairs[0]


def test_protocols_differ_in_what_counts() -> None:
    long = np.concatenate([synth_motion(i) for i in range(30)])[None, :1300]
    prediction, reference = [Clip("long", long, np.array([5, 1250]))], [Clip("long", long), *clips(3)]
    bailando, paper = (evaluate(prediction, reference, name) for name in ("bailando", "opendance-3d"))
    assert (bailando.predictions.max_frames, bailando.reference.max_frames) == (1200, 1300)
    assert (paper.predictions.max_frames, paper.reference.max_frames) == (1300, 1300)
    assert bailando.predictions.clips[0].num_frames == 1300
    assert bailando.predictions.clips[0].num_music_beats == 1
    assert paper.predictions.clips[0].num_music_beats == 2


def test_json_has_numbers_or_reasons() -> None:
    still = Clip("still", np.zeros((1, 40, 24, 3)), np.array([10]))
    silent = Clip("silent", synth_motion(3)[None])
    result = evaluate([still, silent], clips(4))
    restored = json.loads(json.dumps(asdict(result), allow_nan=False))
    assert restored["protocol"]["name"] == "opendance-3d"
    assert restored["fps"] == 60
    rows = restored["predictions"]["clips"]
    assert rows[0]["music_motion"] == [None]
    assert rows[0]["notes"] == {"music_motion": "dancer 0 has no motion beats", "motion_motion": "one dancer"}
    assert rows[1]["notes"]["music_motion"] == "no music beats given"
    assert rows[1]["num_music_beats"] is None
    score = restored["predictions"]["music_motion"]
    assert (score["value"], score["note"]) == (None, "2 of 2 undefined for want of beats")
    assert restored["predictions"]["motion_motion"]["note"] == "no clip of two or more dancers"

    beats = evaluate([*clips(1), silent], clips(4)).predictions.music_motion
    assert beats.n == 1
    assert beats.note == "1 of 2 undefined for want of beats, left out"


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
    with pytest.raises(ValueError, match="unknown protocol 'aist'; there are bailando, opendance-3d"):
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
