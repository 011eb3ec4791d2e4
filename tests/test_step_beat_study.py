"""The study behind the figures of docs/metrics.md on step beat."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import step_beat as study
from opendance_hf.metrics import FootEvents


def test_auc_counts_wins_and_half_of_the_ties() -> None:
    high, low = [np.array([2.0, 3.0]), np.array([4.0])], [np.array([0.0]), np.array([1.0, 1.0])]
    assert study.auc(high, low) == (1, 1, 1)
    assert study.auc(low, high) == (0, 0, 0)
    assert study.auc(high, high) == (pytest.approx(0.5),) * 3
    value, least, most = study.auc([np.array([1.0]), np.array([3.0])], [np.array([2.0]), np.array([2.0])])
    assert (value, least, most) == (0.5, 0, 1)


def test_a_mean_is_over_clips_and_its_interval_over_songs() -> None:
    value, low, high = study.mean([np.array([1.0, 1.0, 1.0]), np.array([0.0])])
    assert (value, low, high) == (0.75, 0, 1)


def test_pooled_events_are_of_one_kind() -> None:
    pooled = study.pool(FootEvents(np.array([3, 9]), np.array([5])))
    assert [frames.tolist() for frames in pooled] == [[3, 5, 9], []]


def test_wrong_beats_are_not_the_songs() -> None:
    beats = np.arange(0, 1800, 30.0)
    still = np.zeros((1800, 24, 3))
    dances = [study.Dance(name, still, beats + i, beats) for i, name in enumerate(("C_1", "C_2", "R_1"))]
    sample = study.samples(dances, 10)[1]
    assert (sample.dance, sample.start, sample.motion.num_frames) == (0, 600, 600)
    rng = np.random.default_rng(0)
    own = [dance.beats for dance in dances]
    for _ in range(20):
        shifted = study.wrong_beats(dances, sample, "shifted", rng, own)
        assert 6 <= (shifted[0] - beats[0] + 600) % 30 <= 24
        metronome = study.wrong_beats(dances, sample, "metronome", rng, own)
        np.testing.assert_allclose(np.diff(metronome), 30)
        assert metronome[0] < 0
        assert metronome[-1] > 600
        other = study.wrong_beats(dances, sample, "other song", rng, own)
        assert other[0] <= 1  # of C_2, whose beats begin at 1, from a later frame on
        assert len(other) == len(beats)


@pytest.mark.shared
def test_docs_hold_what_the_study_prints(shared: Path, repo: Path) -> None:
    dances = study.load_dances(shared / "data/pairs")
    if not dances:
        pytest.skip(f"no dances in {shared / 'data/pairs'}")
    clips = study.samples(dances, 10)
    text = (repo / "docs/metrics.md").read_text(encoding="utf-8").replace("*", "")
    assert f"captured ballroom solos ({sum(len(d.joints) for d in dances) / 3600:.0f} minutes" in text
    assert f"10 s ({len(clips)} clips)" in text
    for name in ("equation 1, music beats", "step beat"):
        found = study.scored(dances, clips, study.SCORES[name], tracked=False)
        cell = " / ".join(study.interval(study.auc(found["true"], found[kind])) for kind in study.NEGATIVES)
        assert re.search(rf"^\| {name} \| .* \| {re.escape(cell)} \|", text, re.MULTILINE)
