from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from opendance_hf.metrics import average_pairwise_distance, frechet_distance, motion_features, normalise
from opendance_hf.metrics.uncertainty import (
    MIN_GROUPS,
    FeatureSet,
    bootstrap_mean,
    diversity_subsamples,
    frechet_difference,
    frechet_floor,
    frechet_subsamples,
    largest_equal_n,
    paired_test,
)

SETTINGS = settings(max_examples=20)
SCORES = st.lists(st.floats(0, 1, width=32), min_size=10, max_size=16)


# Interval of a mean


def coverage(
    draw: Callable[[np.random.Generator], tuple], mean: float, repetitions: int = 500
) -> tuple[float, float]:
    """How many of the intervals there are hold the mean, and how many cases have an interval."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(repetitions):
        values, groups = draw(rng)
        # One seed: resamples of one size are drawn once.
        got = bootstrap_mean(values, groups=groups, num_resamples=1000)
        if got.low is not None:
            found.append(got.low <= mean <= got.high)
    return np.mean(found), len(found) / repetitions


@pytest.mark.parametrize("size", [MIN_GROUPS, 20, 50])
@pytest.mark.parametrize("shape", [(0.5, 3), (1, 4)])
def test_intervals_hold_the_true_mean_of_skewed_scores(size: int, shape: tuple[float, float]) -> None:
    held, given = coverage(lambda rng: (rng.beta(*shape, size), None), shape[0] / sum(shape))
    assert 0.92 <= held <= 0.985
    assert given == 1


@pytest.mark.parametrize("size", [MIN_GROUPS, 20, 50])
def test_intervals_of_heavy_tails(size: int) -> None:
    held, given = coverage(lambda rng: (rng.lognormal(0, 1, size), None), np.exp(0.5), 1000)
    assert 0.885 <= held <= 0.96
    assert given == 1


@pytest.mark.parametrize("share", [0.1, 0.3])
@pytest.mark.parametrize("size", [MIN_GROUPS, 20, 50])
@pytest.mark.parametrize("members", [1, 3])
def test_scores_that_are_mostly_zero(size: int, share: float, members: int) -> None:
    # Foot skate, interpenetration. Where so few differ from 0 that nothing can be said, nothing is.
    group = np.repeat(np.arange(size), members)

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        values = (rng.random(size) < share) * rng.exponential(1, size)
        return values[group] * rng.uniform(0.5, 1.5, len(group)), group

    held, given = coverage(draw, share, 1000)
    if given > 0.1:
        assert held >= 0.92
    nonzero = stats.binom(size, share)
    assert nonzero.sf(4) - 0.05 <= given <= nonzero.sf(2) + 0.05


def test_intervals_of_grouped_scores_and_what_ignoring_groups_does() -> None:
    group = np.repeat(np.arange(20), 5)

    def alike(rng: np.random.Generator) -> np.ndarray:
        return 0.8 * rng.beta(1, 4, 20)[group] + 0.2 * rng.beta(1, 4, 100)

    assert 0.92 <= coverage(lambda rng: (alike(rng), group), 0.2)[0] <= 0.985
    assert coverage(lambda rng: (alike(rng), None), 0.2)[0] < 0.8


def test_groups_of_unequal_size() -> None:
    def alike(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        group = np.repeat(np.arange(30), rng.integers(1, 8, 30))
        return rng.beta(1, 4, 30)[group], group

    assert 0.91 <= coverage(alike, 0.2)[0] <= 0.985


def test_interval_by_hand() -> None:
    got = bootstrap_mean([0.25, None, 0.75, 0.3, None, 0.7, 0.4, 0.6, 0.5, 0.5, 0.45, 0.55])
    assert (got.n, got.num_groups, got.num_undefined, got.level, got.note) == (10, 10, 2, 0.95, None)
    assert got.mean == pytest.approx(0.5)
    assert 0.35 < got.low < 0.46
    assert 0.54 < got.high < 0.65
    # Large samples leave nothing but the normal distribution.
    values = np.random.default_rng(0).normal(3, 2, 2000)
    got = bootstrap_mean(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(2000)
    assert got.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert got.high == pytest.approx(values.mean() + half, abs=0.1 * half)
    wider = bootstrap_mean(values, level=0.99)
    assert wider.low < got.low < got.high < wider.high


@SETTINGS
@given(SCORES)
def test_repeating_a_group_adds_nothing(values: list[float]) -> None:
    once = bootstrap_mean(values)
    twice = bootstrap_mean(values * 2, groups=[f"song{i}" for i in range(len(values))] * 2)
    assert twice.num_groups == len(values)
    assert twice.note == once.note
    if once.low is not None:
        assert (twice.mean, twice.low, twice.high) == pytest.approx((once.mean, once.low, once.high))


def test_too_few_and_equal_values() -> None:
    nothing = bootstrap_mean([])
    assert (nothing.mean, nothing.low, nothing.n) == (None, None, 0)
    few = bootstrap_mean(np.arange(9))
    assert (few.mean, few.low, few.high) == (4, None, None)
    assert "needs 10 groups, got 9" in few.note
    assert bootstrap_mean(np.arange(10)).low is not None
    same_song = bootstrap_mean(np.linspace(0, 1, 50), groups=[0, 1] * 25)
    assert (same_song.num_groups, same_song.low) == (2, None)
    for values in ([0.3] * 12, [0.0] * 12, [0.0] * 10 + [0.2, 0.3], [1.0] * 10 + [0.2, 0.3]):
        equal = bootstrap_mean(values)
        assert equal.mean == pytest.approx(np.mean(values))
        assert (equal.low, equal.high) == (None, None)
        assert "the same mean" in equal.note
    # Values differ, songs do not.
    songs = bootstrap_mean([0.1, 0.2, 0.3] * 12, groups=np.repeat(np.arange(12), 3))
    assert (songs.low, songs.note) == (None, equal.note)


def test_bounds() -> None:
    values = np.array([0] * 6 + [0.1, 0.9, 0.5, 0.2])
    free = bootstrap_mean(values)
    assert 0 < free.low < free.mean < 1 < free.high
    cut = bootstrap_mean(values, bounds=(0, 1))
    assert (cut.mean, cut.low, cut.high) == (free.mean, free.low, 1)
    assert bootstrap_mean(values, bounds=(0, None)) == free
    assert bootstrap_mean(1 - values).low < 0
    assert bootstrap_mean(1 - values, bounds=(0, None)).low == 0
    for bounds in ((0.1, None), (None, 0.8)):
        with pytest.raises(ValueError, match="bounds"):
            bootstrap_mean(values, bounds=bounds)


@pytest.mark.parametrize(
    "options", [{"level": 0}, {"level": 1}, {"num_resamples": 0}, {"groups": [1, 2]}, {"groups": []}]
)
def test_bad_options(options: dict) -> None:
    with pytest.raises(ValueError, match=r"must"):
        bootstrap_mean([0.1, 0.2, 0.3], **options)


@pytest.mark.parametrize("bad", [[0.1, np.nan], [np.inf], [[0.1, 0.2]]])
def test_bad_values(bad: list) -> None:
    with pytest.raises(ValueError, match="finite"):
        bootstrap_mean(bad)


# Two systems


def test_paired_test_against_all_signs() -> None:
    a, b = [0.3, 0.5, 0.45, 0.7, 0.2, 0.9], [0.1, 0.45, 0.5, 0.3, 0.1, 0.4]
    differences = np.subtract(a, b)
    flips = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=6)]
    got = paired_test(a, b)
    assert got.p_value == np.mean(np.array(flips) >= differences.sum() - 1e-9)
    assert got.difference == pytest.approx(differences.mean())
    assert got.interval.low is None  # six are too few for an interval, but not for a test
    twelve = paired_test(a * 2, [*b, *np.subtract(b, 0.01)])
    assert twelve.interval.low < twelve.difference < twelve.interval.high
    assert paired_test(b, a).p_value == got.p_value
    with_gaps = paired_test([None, *a, 0.1], [0.2, *b, None])
    assert (with_gaps.n, with_gaps.num_undefined) == (6, 2)
    assert with_gaps.p_value == got.p_value
    # All members of a song flip together: 2 of 4 signs are as extreme.
    assert paired_test(a, np.zeros(6), groups=[0, 0, 0, 1, 1, 1]).p_value == 0.5


def test_paired_test_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.beta(2, 4, 10), rng.beta(1.5, 4, 10)
    expected = stats.permutation_test((a - b,), np.mean, permutation_type="samples")
    assert paired_test(a, b).p_value == pytest.approx(expected.pvalue)
    # More than 13 pairs: a random part of the signs.
    a, b = rng.beta(2, 4, 14), rng.beta(1.5, 4, 14)
    expected = stats.permutation_test((a - b,), np.mean, permutation_type="samples", n_resamples=2**14)
    assert paired_test(a, b).p_value == pytest.approx(expected.pvalue, abs=0.02)
    # Of which the one that was seen is one.
    assert paired_test(np.arange(1, 41), np.zeros(40)).p_value == pytest.approx(1 / 10_001)


def rejected(draw: Callable[[np.random.Generator], tuple], repetitions: int = 600) -> float:
    rng = np.random.default_rng(0)
    found = 0
    for seed in range(repetitions):
        a, b, groups = draw(rng)
        found += paired_test(a, b, groups=groups, num_resamples=499, seed=seed).p_value <= 0.05
    return found / repetitions


def test_false_alarms_and_power() -> None:
    assert 0.025 < rejected(lambda rng: (*rng.beta(1, 4, (2, 20)), None)) < 0.075
    assert 0.025 < rejected(lambda rng: (*rng.beta(1, 4, (2, 9)), None)) < 0.075

    def better(rng: np.random.Generator) -> tuple:
        song = rng.beta(2, 4, 20)
        return song + rng.normal(0.05, 0.05, 20), song + rng.normal(0, 0.05, 20), None

    assert rejected(better, 200) > 0.7


def test_false_alarms_of_groups_and_of_ignoring_them() -> None:
    group = np.repeat(np.arange(15), 4)

    def alike(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        a, b = rng.beta(1, 4, (2, 15))[:, group] + rng.normal(0, 0.02, (2, 60))
        return a, b

    assert 0.025 < rejected(lambda rng: (*alike(rng), group)) < 0.075
    assert rejected(lambda rng: (*alike(rng), None), 200) > 0.2


def test_paired_test_without_a_difference() -> None:
    same = paired_test([0.5] * 6, [0.5] * 6)
    assert (same.difference, same.p_value) == (0, 1)
    nothing = paired_test([None], [0.5])
    assert (nothing.difference, nothing.p_value, nothing.n, nothing.num_undefined) == (None, None, 0, 1)
    with pytest.raises(ValueError, match="same clips"):
        paired_test([0.5], [0.5, 0.6])
    with pytest.raises(ValueError, match="num_resamples"):
        paired_test([0.5], [0.5], num_resamples=0)
    with pytest.raises(ValueError, match="finite"):
        paired_test([0.5], [np.nan])


# Fréchet distance at a given n


def normal_set(size: int, seed: int, dims: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(2, 3, (size, dims))


def test_subsamples_of_everything_are_the_score_itself() -> None:
    x, y = normal_set(40, 0) + 1, normal_set(40, 1)
    expected = frechet_distance(*normalise(x, y))
    got = frechet_subsamples(x, y, n=40, draws=3)
    assert (got.median, got.low, got.high) == pytest.approx((expected,) * 3)
    assert (got.n, got.draws) == (40, 3)
    assert "overlap" in got.note
    expected = average_pairwise_distance(normalise(x, y)[0])
    assert diversity_subsamples(x, y, n=40, draws=3).median == pytest.approx(expected)


def test_few_samples_raise_the_distance_but_not_the_diversity() -> None:
    x, y = normal_set(600, 0), normal_set(600, 1)
    far = [frechet_subsamples(x, y, n=n, draws=60) for n in (10, 40, 160)]
    assert far[0].low > far[1].high
    assert far[1].low > far[2].high
    assert far[0].note is None
    wide = [diversity_subsamples(x, y, n=n, draws=200).median for n in (10, 160)]
    assert wide[0] == pytest.approx(wide[1], rel=0.03)


def test_the_floor_is_what_a_perfect_model_gets() -> None:
    reference = normal_set(400, 0)
    perfect = frechet_subsamples(normal_set(400, 1), reference, n=30)
    floor = frechet_floor(reference, np.repeat(np.arange(200), 2), n=30)
    assert floor.low < perfect.median < floor.high
    assert perfect.median == pytest.approx(floor.median, rel=0.1)
    worse = frechet_subsamples(1.5 * normal_set(400, 1), reference, n=30)
    assert worse.median > floor.high


def test_both_sides_of_the_floor_share_no_group() -> None:
    # Ten songs far from one another: were a song on both sides, they would be alike.
    song = np.repeat(np.arange(10), 10)
    reference = np.random.default_rng(0).normal(0, 1, (10, 4))[song] + 0.01 * normal_set(100, 0, 4)
    grouped = frechet_floor(reference, song, n=40)
    loose = frechet_floor(reference, np.arange(100), n=40)
    assert grouped.low > loose.median
    assert grouped.median > 5 * loose.median


def songs(rng: np.random.Generator, num: int, size: int = 6, dims: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Samples of a song are alike: most of the variance is between songs."""
    group = np.repeat(np.arange(num), size)
    return rng.normal(0, 0.8, (num, dims))[group] + rng.normal(0, 0.6, (num * size, dims)), group


@pytest.mark.parametrize("num", [20, 40])
def test_a_perfect_model_meets_the_floor_of_grouped_dances(num: int) -> None:
    rng = np.random.default_rng(0)
    told, floors, loose = [], [], []
    for seed in range(40):
        (y, song), (x, its_song) = songs(rng, 20), songs(rng, num)
        n = largest_equal_n(song)
        assert n == 60
        options = {"n": n, "draws": 20, "seed": seed}
        told.append(frechet_subsamples(x, y, groups=its_song, reference_groups=song, **options).median)
        loose.append(frechet_subsamples(x, y, **options).median)
        floors.append(frechet_floor(y, song, **options).median)
    # The standard error of each mean is about 3%.
    assert np.mean(told) == pytest.approx(np.mean(floors), rel=0.09)
    # From all songs at once even a bad model would pass.
    assert np.mean(loose) < 0.85 * np.mean(floors)


def test_a_difference_tells_sets_whose_distances_overlap() -> None:
    (y, song), (x, its_song) = songs(np.random.default_rng(0), 12, 8), songs(np.random.default_rng(1), 12, 8)
    near, far = x + 0.1, x + 0.7
    options = {"n": 40, "groups": its_song, "reference_groups": song}
    lone = [frechet_subsamples(side, y, **options) for side in (near, far)]
    assert lone[0].high > lone[1].low
    real, one, two = FeatureSet(y, song), FeatureSet(near, its_song), FeatureSet(far, its_song)
    told, back = frechet_difference(one, two, real, n=40), frechet_difference(two, one, real, n=40)
    assert told.high < 0 < back.low
    assert told.median == pytest.approx(-back.median)
    same = frechet_difference(one, one, real, n=40)
    assert (same.low, same.median, same.high) == (0, 0, 0)
    # Another perfect set, drawn from other songs, is no nearer: the control.
    other, other_song = songs(np.random.default_rng(2), 12, 8)
    control = frechet_difference(FeatureSet(x, its_song), FeatureSet(other, other_song), real, n=40)
    assert control.low < 0 < control.high
    assert "needs N >= 40" in frechet_difference(one, FeatureSet(far[:39]), real, n=40).note


def test_groups_widen_the_spread() -> None:
    (x, song), (y, _) = songs(np.random.default_rng(0), 20, 10), songs(np.random.default_rng(1), 120, 1)
    labels = [f"song{i}" for i in song]
    options = {"n": 40, "reference_groups": np.repeat(np.arange(10), 12)}
    loose, grouped = (frechet_subsamples(x, y, groups=groups, **options) for groups in (None, labels))
    assert grouped.median > 1.1 * loose.median
    diversity = [diversity_subsamples(x, y, n=40, groups=groups) for groups in (None, labels)]
    assert diversity[1].median < diversity[0].median
    assert diversity[1].high - diversity[1].low > 1.2 * (diversity[0].high - diversity[0].low)


def test_the_largest_n_of_a_floor() -> None:
    assert largest_equal_n(np.arange(60)) == 30
    assert largest_equal_n(np.arange(61)) == 30
    assert largest_equal_n(["song"] * 60) == 0
    assert largest_equal_n([]) == 0
    # Songs of any length hardly ever split into halves, but nearly into halves.
    lengths = [16, 14, 22, 12, 18, 26, 10, 8, 14, 20]
    song = np.repeat(np.arange(10), lengths)
    n = largest_equal_n(song)
    assert 0.35 * sum(lengths) < n < 0.5 * sum(lengths)
    reference = normal_set(sum(lengths), 0)
    assert frechet_floor(reference, song, n=n, seed=1).draws >= 180
    assert frechet_floor(reference, song, n=sum(lengths) // 2).draws < 60


def test_floor_needs_two_sides() -> None:
    reference = normal_set(60, 0)
    one_song = frechet_floor(reference, ["song"] * 60, n=10)
    assert (one_song.median, one_song.low, one_song.high, one_song.draws) == (None, None, None, 0)
    assert "no two sides of 10" in one_song.note
    assert frechet_floor(reference, np.arange(60), n=31).median is None
    assert frechet_floor(reference, np.arange(60), n=30, draws=5).draws == 5
    # One song as long as all others: they make a side of their own unless it comes late.
    assert frechet_floor(reference[:40], [0] * 20 + [*range(1, 21)], n=20).draws > 0
    # Songs of 1 or 8 windows: some draws are too uneven.
    song = np.repeat(np.arange(18), [8] * 6 + [1] * 12)
    some = frechet_floor(reference, song, n=29)
    assert 0 < some.draws < 200
    assert f"{200 - some.draws} of 200" in some.note


@pytest.mark.parametrize("subsamples", [frechet_subsamples, diversity_subsamples])
def test_undefined_subsamples_have_a_reason(subsamples: Callable) -> None:
    x, y = normal_set(30, 0), normal_set(30, 1)
    few = subsamples(x, y, n=31)
    assert few.median is None
    assert "needs N >= 31" in few.note
    x[3, 2] = np.nan
    assert "NaN" in subsamples(x, y, n=10).note
    x, flat = normal_set(30, 0), normal_set(30, 1)
    flat[:, 4] = 0
    assert "constant" in subsamples(x, flat, n=10).note
    x[:, 4] = 0
    assert np.isfinite(subsamples(x, flat, n=10).median)


@SETTINGS
@given(st.integers(-3, 1), st.sampled_from([frechet_subsamples, diversity_subsamples, frechet_floor]))
def test_bad_subsamples(n: int, subsamples: Callable) -> None:
    x = normal_set(10, 0)
    second = np.arange(10) if subsamples is frechet_floor else x
    with pytest.raises(ValueError, match="n must be"):
        subsamples(x, second, n=n)
    with pytest.raises(ValueError, match="draws"):
        subsamples(x, second, n=5, draws=0)
    with pytest.raises(ValueError, match="group"):
        frechet_floor(x, [1, 2, 3], n=5)
    with pytest.raises(ValueError, match="group"):
        frechet_subsamples(x, x, n=5, groups=[1])
    with pytest.raises(ValueError, match="must be"):
        frechet_subsamples(x, x[:, :3], n=5)


@pytest.mark.shared
def test_floor_of_real_dances(shared: Path) -> None:
    windows, trial = [], []
    for number, path in enumerate(sorted((shared / "data/mocap").glob("salsa_*.npz"))):
        with np.load(path) as arrays:
            joints = arrays["joints"]
        for start in range(0, joints.shape[1] - 299, 300):
            windows += [*joints[:, start : start + 300]]
            trial += [number] * 2
    features = motion_features(windows)
    assert len(windows) == 128
    floors = {n: frechet_floor(features.kinetic, trial, n=n) for n in (20, 40)}
    for n, median, low, high in ((20, 31, 16, 74), (40, 21, 11, 43)):
        got = floors[n]
        assert (got.median, got.low, got.high) == pytest.approx((median, low, high), rel=0.25)
    geometric = frechet_floor(features.geometric, trial, n=40)
    assert geometric.median == pytest.approx(17, rel=0.25)
    assert frechet_floor(features.kinetic, trial, n=65).median is None
