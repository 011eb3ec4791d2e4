from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from opendance_hf.metrics import beat_alignment, motion_beats
from opendance_hf.metrics.agreement import matched_beats

SETTINGS = settings(max_examples=50)
WHOLE = st.lists(st.integers(0, 59), max_size=12)
# Quarters of a frame are exact in binary, so "at most 3 frames" is the same for every way of computing it.
FRACTIONAL = st.lists(st.integers(0, 4 * 59).map(lambda n: n / 4), max_size=12)
RATIOS = ("precision", "recall", "f1")


def most_matches(beats1: np.ndarray, beats2: np.ndarray, tolerance: float) -> int:
    near = np.abs(beats1[:, None] - beats2) <= tolerance
    return (
        int((maximum_bipartite_matching(csr_array(near), perm_type="column") >= 0).sum()) if near.size else 0
    )


@SETTINGS
@given(st.one_of(st.tuples(WHOLE, WHOLE), st.tuples(FRACTIONAL, FRACTIONAL)), st.integers(0, 5))
def test_exact_against_maximum_bipartite_matching(
    lists: tuple[list[float], list[float]], tolerance: int
) -> None:
    music, motion = (np.array(beats, dtype=float) for beats in lists)
    got = matched_beats(music, motion, 60, tolerance=tolerance / 60)
    assert got.matches == most_matches(music, motion, tolerance)
    shifted = [most_matches((music + shift) % 60, motion, tolerance) for shift in range(60)]
    assert got.chance_matches == pytest.approx(np.mean(shifted))


def test_by_hand() -> None:
    # 10-12 and 60-57 agree, 30 and 100 have none; the second motion beat near 10 counts nothing.
    got = matched_beats([10, 30, 60, 100], [9, 12, 57], 120)
    assert (got.matches, got.num_music, got.num_motion) == (2, 4, 3)
    assert got.recall == 2 / 4
    assert got.precision == 2 / 3
    assert got.f1 == pytest.approx(4 / 7)
    assert (got.music_density, got.motion_density) == (2, 1.5)
    # Chance of one beat and one beat: the 7 shifts of 120 that bring them within 3 frames.
    got = matched_beats([50], [50], 120)
    assert got.chance_matches == pytest.approx(7 / 120)
    got = matched_beats([50], [80], 120)
    assert got.corrected_f1 == pytest.approx((0 - 7 / 120) / (1 - 7 / 120))


def test_a_greedy_choice_of_the_nearest_would_lose_a_match() -> None:
    assert matched_beats([10, 13], [7, 10], 60).matches == 2


def test_tolerance_is_inclusive_and_in_seconds() -> None:
    assert matched_beats([10], [13], 60).matches == 1
    assert matched_beats([10], [13.01], 60).matches == 0
    assert matched_beats([20], [26], 120, fps=120).matches == 1
    assert matched_beats([20], [27], 120, fps=120).matches == 0
    assert matched_beats([10], [11], 60, fps=20).matches == 1
    assert matched_beats([10], [12], 60, fps=20).matches == 0
    assert matched_beats([10], [10], 60, tolerance=0).matches == 1


def test_undefined_is_none() -> None:
    still = matched_beats([10, 40], [], 60)
    assert still.precision is None
    assert still.corrected_precision is None
    assert (still.recall, still.f1, still.corrected_recall, still.corrected_f1) == (0, 0, 0, 0)
    silence = matched_beats([], [10], 60)
    assert silence.recall is None
    assert silence.precision == 0
    nothing = matched_beats([], [], 60)
    assert nothing.f1 is None
    assert nothing.corrected_f1 is None
    assert nothing.chance_matches == 0
    certain = matched_beats([1], [1], 4)  # any shift of four frames agrees
    assert certain.chance_matches == 1
    assert certain.f1 == 1
    assert [getattr(certain, f"corrected_{name}") for name in RATIOS] == [None] * 3


@SETTINGS
@given(WHOLE, WHOLE)
def test_bounds_and_exchange(music: list[int], motion: list[int]) -> None:
    got, swapped = matched_beats(music, motion, 60), matched_beats(motion, music, 60)
    assert (got.precision, got.recall, got.f1) == (swapped.recall, swapped.precision, swapped.f1)
    for name in RATIOS:
        raw, corrected = getattr(got, name), getattr(got, f"corrected_{name}")
        assert raw is None or 0 <= raw <= 1
        assert corrected is None or corrected <= min(1, raw + 1e-12)


@SETTINGS
@given(st.lists(st.integers(0, 299), min_size=1, max_size=20))
def test_identical_beats_score_one(beats: list[int]) -> None:
    got = matched_beats(beats, list(reversed(beats)), 300)
    assert got.matches == len(beats)
    for name in RATIOS:
        assert getattr(got, name) == 1
        corrected = getattr(got, f"corrected_{name}")
        assert corrected is None or corrected == pytest.approx(1)


def test_chance_is_zero_on_average_whatever_the_density() -> None:
    rng = np.random.default_rng(0)
    for density in (5, 20, 60):
        motion = rng.choice(300, density, replace=False)
        # Exactly zero over the shifts of one music.
        music = rng.choice(300, 10, replace=False)
        shifts = [matched_beats((music + shift) % 300, motion, 300) for shift in range(300)]
        for name in RATIOS:
            mean = np.mean([getattr(shifted, f"corrected_{name}") for shifted in shifts])
            assert mean == pytest.approx(0, abs=1e-12)
        # And over unrelated musics.
        scores = [
            [getattr(got, f"corrected_{name}") for name in RATIOS]
            for got in (matched_beats(rng.choice(300, 10, replace=False), motion, 300) for _ in range(2000))
        ]
        error = np.std(scores, axis=0) / np.sqrt(len(scores))
        assert (np.abs(np.mean(scores, axis=0)) < 4 * error).all()


def test_denser_beats_buy_nothing() -> None:
    """Paper figure 5: unrelated motion beats, sparse and dense, against a 120 BPM grid."""
    rng = np.random.default_rng(1)
    music = np.arange(0, 600, 30)
    classic, corrected = [], []
    for count in (10, 40):
        drawn = [np.sort(rng.choice(600, count, replace=False)) for _ in range(1000)]
        classic.append(np.mean([beat_alignment(music, motion) for motion in drawn]))
        corrected.append(np.mean([matched_beats(music, motion, 600).corrected_f1 for motion in drawn]))
    assert classic[1] > 2 * classic[0]
    assert np.abs(corrected).max() < 0.015


@pytest.mark.parametrize(
    "bad",
    [
        ([[1.0]], [1.0], 60, {}),
        ([1.0], [np.nan], 60, {}),
        ([60], [1.0], 60, {}),
        ([-1], [1.0], 60, {}),
        ([], [], 0, {}),
        ([], [], 60, {"fps": 0}),
        ([], [], 60, {"tolerance": -1}),
        ([], [], 60, {"tolerance": np.nan}),
    ],
)
def test_bad_input(bad: tuple) -> None:
    music, motion, num_frames, options = bad
    with pytest.raises(ValueError, match="must be"):
        matched_beats(music, motion, num_frames, **options)


def test_importing_is_quick(repo: Path) -> None:
    code = "import sys, opendance_hf.metrics.agreement; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=repo)


@pytest.mark.shared
def test_noise_on_real_dances(shared: Path) -> None:
    """Jitter raises equation 1 against any music; corrected scores it leaves at zero, or takes there."""
    windows = []
    for path in sorted((shared / "data/mocap").glob("salsa_*.npz")):
        with np.load(path) as arrays:
            joints = arrays["joints"].astype(np.float64)
        windows += [
            joints[dancer, start : start + 300]
            for start in range(0, joints.shape[1] - 299, 300)
            for dancer in (0, 1)
        ]
    speeds = 299
    clean = [motion_beats(window) for window in windows]
    partner = [clean[i ^ 1] for i in range(len(clean))]
    grid = [np.arange(0, speeds, 30)] * len(clean)  # 120 BPM that nobody danced to
    rng = np.random.default_rng(0)
    classic: dict[str, list[float]] = {"grid": [], "own": [], "partner": []}
    corrected: dict[str, list[np.ndarray]] = {"grid": [], "own": [], "partner": []}
    for metres in (0, 0.01, 0.05):
        noisy = [motion_beats(window + rng.normal(0, metres, window.shape)) for window in windows]
        for name, music in (("grid", grid), ("own", clean), ("partner", partner)):
            pairs = list(zip(music, noisy, strict=True))
            classic[name].append(float(np.mean([beat_alignment(m, b) for m, b in pairs])))
            found = [matched_beats(m, b, speeds) for m, b in pairs]
            corrected[name].append(
                np.mean([[getattr(f, f"corrected_{ratio}") for ratio in RATIOS] for f in found], axis=0)
            )
    assert classic["grid"][2] > 1.5 * classic["grid"][0]
    assert np.abs(corrected["grid"]).max() < 0.03
    assert corrected["own"][0] == pytest.approx(1)
    assert ((corrected["own"][1] > 0.25) & (corrected["own"][1] < 0.6)).all()
    assert np.abs(corrected["own"][2]).max() < 0.04
    # What a partner's beats tell drowns in 5 cm of noise, which the classic score does not notice.
    assert classic["partner"][2] > 0.95 * classic["partner"][0]
    assert corrected["partner"][0].min() > 0.1
    assert corrected["partner"][2].max() < 0.03
