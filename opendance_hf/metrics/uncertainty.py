"""Compute the uncertainty of scores: intervals of means, tests of differences, and the bias of FID at a given N.

Dancers of one clip, windows of one dance and dances to one song are not independent. Give them one group: groups are
drawn, flipped or split as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.metrics.features import Floats
from opendance_hf.metrics.frechet import (
    as_feature_sets,
    average_pairwise_distance,
    frechet_distance,
    normalise_varying,
    why_undefined,
)

Groups = Sequence[Hashable] | npt.NDArray
Indices = npt.NDArray[np.intp]

#: With fewer groups no interval of a mean is given: those of a log-normal score would hold it in less than 90% of cases.
MIN_GROUPS: Final = 10
_ALIKE = "no interval: all groups, or all but a few, have the same mean"
# Numbers in memory at a time while resampling, and kept for the next score.
_BLOCK = 1_000_000
_CACHED = 4_000_000
# Up to this many groups all 2^n signs are tried: 8,192.
_EXACT_GROUPS = 13


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval.

    Attributes:
        mean: None without any value.
        low, high: both None where the values allow no interval.
        level: the share of such intervals that should hold the true mean.
        n: how many values the mean is over.
        num_groups: how many independent groups they come from.
        num_undefined: values that were None, left out.
        note: why there is no interval.
    """

    mean: float | None
    low: float | None
    high: float | None
    level: float
    n: int
    num_groups: int
    num_undefined: int
    note: str | None = None


@dataclass(frozen=True)
class PairedTest:
    """Difference of the scores of two systems on the same clips.

    Attributes:
        difference: mean of a - b, None without any pair.
        interval: its confidence interval.
        p_value: two-sided; None without any pair. With n groups it can be no less than 2 / 2ⁿ.
        n: how many pairs.
        num_groups: how many independent groups they come from.
        num_undefined: pairs in which either score was None, left out.
    """

    difference: float | None
    interval: Interval
    p_value: float | None
    n: int
    num_groups: int
    num_undefined: int


@dataclass(frozen=True)
class SubsampleInterval:
    """Distribution of a score over random subsets of n; it is not a confidence interval of the true value.

    Attributes:
        median, low, high: over the draws; low and high are the 2.5th and 97.5th percentile. None if undefined.
        n: samples in each subset.
        draws: how many subsets were taken.
        note: why there is no value, or what to beware of.
    """

    median: float | None
    low: float | None
    high: float | None
    n: int
    draws: int
    note: str | None = None


def bootstrap_mean(
    values: Sequence[float | None] | npt.NDArray[np.floating],
    *,
    groups: Groups | None = None,
    level: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
    bounds: tuple[float | None, float | None] = (None, None),
) -> Interval:
    """Compute the mean of scores and its interval by the bootstrap-t of groups (Efron and Tibshirani, 1993, chapter 12).

    Each resample draws as many groups as there are, with replacement, and counts how many standard errors *of its own*
    its mean is away from the mean. A resample of equal values has no error; it counts as infinitely far away. So there
    is no interval where too many are like that: where all but about three groups have the same value, usually 0.

    Intervals of 95%, where there is one, hold the true mean of Beta and of zero-inflated scores in 94 to 99% of cases
    with 10, 20 or 50 groups, of log-normal scores in 90 to 93%. Percentile and BCa intervals of skewed scores do worse.

    Args:
        values: (N,) scores, None where undefined.
        groups: (N,) to which group each belongs; None if all are independent.
        level: between 0 and 1.
        num_resamples: how many.
        seed: of the resamples.
        bounds: the least and the greatest possible score, None where there is none. The interval is cut to them.

    Raises:
        ValueError: if values and groups differ in length, a value is NaN, infinite or out of bounds, or level or
            num_resamples is out of range.
    """
    if not 0 < level < 1 or num_resamples < 1:
        raise ValueError(
            f"level must lie in (0, 1) and num_resamples be positive, got {level}, {num_resamples}"
        )
    known, group = _known(values, groups)
    least, greatest = (
        -np.inf if bounds[0] is None else bounds[0],
        np.inf if bounds[1] is None else bounds[1],
    )
    if ((known < least) | (known > greatest)).any():
        raise ValueError(f"scores must lie within their bounds {bounds}")
    sums, counts = _group_sums(known, group)
    n, num_groups, num_undefined = len(known), len(sums), len(values) - len(known)
    mean = float(known.mean()) if n else None
    low = high = None
    if mean is None or num_groups < MIN_GROUPS:
        note = f"no interval: it needs {MIN_GROUPS} groups, got {num_groups}"
    elif np.ptp(sums / counts) <= 1e-12 * np.abs(known).max():  # what is left is rounding
        note = _ALIKE
    else:
        ends = _bootstrap_t(sums - mean * counts, counts, level, num_resamples, seed)
        if isinstance(ends, str):
            note = ends
        else:
            low, high, note = max(mean + ends[0], least), min(mean + ends[1], greatest), None
    return Interval(mean, low, high, level, n, num_groups, num_undefined, note)


def _bootstrap_t(
    residuals: Floats, counts: Floats, level: float, num_resamples: int, seed: int
) -> tuple[float, float] | str:
    """Interval about a mean of 0, given the sum of the residuals of each group, and the sizes of the groups.

    Or why there is none.
    """
    num_groups = len(residuals)
    # What a resample needs of its groups are sums, weighted by how often each was drawn.
    columns = np.stack([residuals, counts, residuals**2, residuals * counts, counts**2], axis=1)

    def mean_and_error(sums: Floats) -> tuple[Floats, Floats]:
        e, c, ee, ec, cc = np.moveaxis(sums, -1, 0)
        mean = e / c
        scatter = np.maximum(ee - 2 * mean * ec + mean**2 * cc, 0)
        return mean, np.sqrt(scatter * num_groups / (num_groups - 1)) / c

    drawn = [weights @ columns for weights in _resamples(num_groups, num_resamples, seed)]
    _, error = mean_and_error(columns.sum(axis=0))
    shift, its_error = mean_and_error(np.concatenate(drawn))
    away = np.copysign(np.inf, shift)
    np.divide(shift, its_error, out=away, where=its_error > 1e-6 * error)  # not one value over and over
    away.sort()
    # The ends round outwards: interpolating between infinities gives NaN.
    tail = int((1 - level) / 2 * (num_resamples - 1))
    bottom, top = float(away[tail]), float(away[-1 - tail])
    if not np.isfinite([bottom, top]).all():
        return _ALIKE
    return -top * float(error), -bottom * float(error)


def _resamples(num_groups: int, num_resamples: int, seed: int) -> Iterable[Floats]:
    """Yield (some resamples, num_groups) counts of how often each group is drawn, until there are ``num_resamples``."""
    few = num_groups * num_resamples <= _CACHED
    # Every score of a table is resampled in the same way.
    return _all_resamples(num_groups, num_resamples, seed) if few else _draw(num_groups, num_resamples, seed)


@lru_cache(maxsize=2)
def _all_resamples(num_groups: int, num_resamples: int, seed: int) -> tuple[Floats, ...]:
    return tuple(_draw(num_groups, num_resamples, seed))


def _draw(num_groups: int, num_resamples: int, seed: int) -> Iterator[Floats]:
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // num_groups)
    for start in range(0, num_resamples, block):
        rows = min(block, num_resamples - start)
        index = rng.integers(0, num_groups, (rows, num_groups))
        index += np.arange(rows)[:, None] * num_groups
        counts = np.bincount(index.ravel(), minlength=rows * num_groups)
        yield counts.reshape(rows, num_groups).astype(np.float64)


def paired_test(
    a: Sequence[float | None] | npt.NDArray[np.floating],
    b: Sequence[float | None] | npt.NDArray[np.floating],
    *,
    groups: Groups | None = None,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> PairedTest:
    """Compare two systems on the same clips by a sign-flip test, :func:`scipy.stats.permutation_test` of each group's sum.

    The p-value is the share of sign flips whose mean difference is at least as large as the one seen; all members of a
    group flip together. All flips are tried for 13 groups or fewer, a random ``num_resamples`` for more.

    Args:
        a, b: (N,) scores of the two systems on the same clips, None where undefined.
        groups: (N,) to which group each clip belongs; None if all are independent.
        num_resamples: how many.
        seed: of the flips, and of the interval, which is that of :func:`bootstrap_mean`.

    Raises:
        ValueError: if the lengths differ, a value is NaN or infinite, or num_resamples is not positive.
    """
    if len(a) != len(b):
        raise ValueError(f"both systems must be scored on the same clips, got {len(a)} and {len(b)}")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be positive, got {num_resamples}")
    differences = [None if x is None or y is None else x - y for x, y in zip(a, b, strict=True)]
    interval = bootstrap_mean(differences, groups=groups, seed=seed)
    sums, _ = _group_sums(*_known(differences, groups))
    return PairedTest(
        difference=interval.mean,
        interval=interval,
        p_value=_sign_flip_p(sums, num_resamples, seed) if len(sums) else None,
        n=interval.n,
        num_groups=interval.num_groups,
        num_undefined=interval.num_undefined,
    )


def _sign_flip_p(sums: Floats, num_resamples: int, seed: int) -> float:
    from scipy.stats import permutation_test  # takes half a second to import

    if len(sums) == 1:  # both signs give the same distance from 0
        return 1.0
    # Sums in another order differ by rounding, so equal ones are made exactly equal.
    scale = np.abs(sums).sum() or 1.0
    exact = len(sums) <= _EXACT_GROUPS
    result = permutation_test(
        (sums,),
        lambda x, axis: np.round(np.abs(x.sum(axis=axis)) / scale, 11),
        permutation_type="samples",
        alternative="greater",
        n_resamples=2 ** len(sums) if exact else num_resamples,
        batch=max(1, _BLOCK // len(sums)),
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def frechet_subsamples(
    features: npt.ArrayLike,
    reference: npt.ArrayLike,
    *,
    n: int,
    draws: int = 200,
    seed: int = 0,
    groups: Groups | None = None,
    reference_groups: Groups | None = None,
    floor: float = 0.0,
) -> SubsampleInterval:
    """Compute the Fréchet distance between n random samples of a set and n of the reference, over many draws.

    Each side is drawn from half as many groups as the reference has, at random, as :func:`frechet_floor` must: samples
    of one group are alike, so the fewer groups a set is drawn from, the further it is from anything. Both are
    normalised by the whole reference, so that only the distance varies. Compare with the floor at the same n, not with other
    n: **the distance is biased upwards, the more the smaller n is**, and its spread over subsets is not a
    confidence interval. Nor would a bootstrap give one: in 72 dimensions its intervals do not cover the true distance.

    Args:
        features: (N, F), not normalised.
        reference: (M, F), not normalised.
        n: samples a side, at least 2. Above half of either set the draws overlap and spread too little.
        draws: how many.
        seed: of the draws.
        groups: (N,) groups of the features; None if all are independent. Where those drawn hold fewer than n samples,
            more are drawn. A set of fewer groups than half of the reference's is further away than the floor even if
            it is perfect.
        reference_groups: (M,) likewise, of the reference.
        floor: smallest deviation to divide by, as in :func:`opendance_hf.metrics.frechet.normalise`.

    Returns:
        Median and percentiles; None with a reason if a set is smaller than n, or the score is undefined for the sets.

    Raises:
        ValueError: if the sets are not matrices of one width, groups have another length, or n or draws is too small.
    """
    x, y = as_feature_sets(features, reference)
    rows, reference_rows = _members(groups, len(x)), _members(reference_groups, len(y))
    reason = _why_not(x, y, n, draws, floor)
    if reason is not None:
        return SubsampleInterval(None, None, None, n, 0, reason)
    x, y = normalise_varying(x, y, floor)
    half = (len(reference_rows) + 1) // 2

    def one(rng: np.random.Generator) -> float:
        return frechet_distance(x[_pick(rng, rows, half, n)], y[_pick(rng, reference_rows, half, n)])

    return _over_draws(one, n, draws, seed, _overlap(n, len(x), len(y)))


@dataclass(frozen=True)
class FeatureSet:
    """Features of a set of dances.

    Attributes:
        features: (N, F), not normalised.
        groups: (N,) their groups; None if all are independent.
    """

    features: npt.ArrayLike
    groups: Groups | None = None


def frechet_difference(
    first: FeatureSet,
    second: FeatureSet,
    reference: FeatureSet,
    *,
    n: int,
    draws: int = 200,
    seed: int = 0,
    floor: float = 0.0,
) -> SubsampleInterval:
    """Compute how much further a set is from the reference than another set, over many draws of :func:`frechet_subsamples`.

    In every draw both are compared with the same samples of the reference, and sets of the same groups and sizes are drawn
    alike. Much of the spread of a distance is that of the reference drawn, which the difference does not have: it tells two
    sets apart whose distances overlap. Its percentiles are over subsets, not a confidence interval.

    Args:
        first, second: the sets to compare.
        reference: what both should look like.
        n, draws, seed, floor: as :func:`frechet_subsamples`.

    Returns:
        Median and percentiles of the distance of ``first`` minus that of ``second``: below 0 where ``first`` is nearer. None
        with a reason if a set is smaller than n, or the score is undefined for the sets.

    Raises:
        ValueError: as :func:`frechet_subsamples`.
    """
    y, _ = as_feature_sets(reference.features, reference.features)
    sets = [as_feature_sets(side.features, y)[0] for side in (first, second)]
    for x in sets:
        reason = _why_not(x, y, n, draws, floor)
        if reason is not None:
            return SubsampleInterval(None, None, None, n, 0, reason)
    members = [_members(side.groups, len(x)) for side, x in zip((first, second), sets, strict=True)]
    reference_rows = _members(reference.groups, len(y))
    half = (len(reference_rows) + 1) // 2
    sets = [normalise_varying(x, y, floor)[0] for x in sets]
    y, _ = normalise_varying(y, y, floor)

    def one(rng: np.random.Generator) -> float:
        real = y[_pick(rng, reference_rows, half, n)]
        draw = int(rng.integers(2**63))
        near, far = (
            frechet_distance(x[_pick(np.random.default_rng(draw), rows, half, n)], real)
            for x, rows in zip(sets, members, strict=True)
        )
        return near - far

    return _over_draws(one, n, draws, seed, _overlap(n, len(y), *map(len, sets)))


def diversity_subsamples(
    features: npt.ArrayLike,
    reference: npt.ArrayLike,
    *,
    n: int,
    draws: int = 200,
    seed: int = 0,
    groups: Groups | None = None,
    floor: float = 0.0,
) -> SubsampleInterval:
    """Compute the diversity (mean pairwise distance) of n random samples of a set, normalised by the reference, over draws.

    Without groups diversity does not depend on n but for its spread. Samples of one group are alike, so drawing from
    few groups, a random half of them, lowers it.

    Args, returns, raises: as :func:`frechet_subsamples`, but the reference may have any size from 2 on.
    """
    x, y = as_feature_sets(features, reference)
    rows = _members(groups, len(x))
    reason = _why_not(x, y, n, draws, floor, reference_too=False)
    if reason is not None:
        return SubsampleInterval(None, None, None, n, 0, reason)
    x, _ = normalise_varying(x, y, floor)

    def one(rng: np.random.Generator) -> float:
        return average_pairwise_distance(x[_pick(rng, rows, (len(rows) + 1) // 2, n)])

    return _over_draws(one, n, draws, seed, _overlap(n, len(x)))


def frechet_floor(
    reference: npt.ArrayLike,
    groups: Groups,
    *,
    n: int,
    draws: int = 200,
    seed: int = 0,
    floor: float = 0.0,
) -> SubsampleInterval:
    """Compute the Fréchet distance of n real dances to n others over many draws: what a perfect model would get.

    Each draw splits the groups at random into two sides of about equal size, and takes n samples of each. Both are
    normalised by the whole reference. A model's :func:`frechet_subsamples` within these percentiles cannot be told
    from real dances by this score at this n; that is the only thing a FID of few samples can say.

    Args:
        reference: (M, F), not normalised.
        groups: (M,) what must be on one side: the dancers of a clip, the windows of a dance, the dances to a song.
        n: samples a side, at least 2.
        draws: how many.
        seed: of the draws.
        floor: smallest deviation to divide by, as in :func:`opendance_hf.metrics.frechet.normalise`.

    Returns:
        Median and percentiles, over the draws that gave two sides of n; None with a reason if none did.

    Raises:
        ValueError: if the reference is not a matrix, groups have another length, or n or draws is too small.
    """
    y, _ = as_feature_sets(reference, reference)
    members = _members(groups, len(y))
    reason = _why_not(y, y, n, draws, floor)
    if reason is not None:
        return SubsampleInterval(None, None, None, n, 0, reason)
    y, _ = normalise_varying(y, y, floor)

    def one(rng: np.random.Generator) -> float | None:
        sides = _two_sides(rng, members)
        if min(map(len, sides)) < n:
            return None
        left, right = (y[rng.permutation(side)[:n]] for side in sides)
        return frechet_distance(left, right)

    return _over_draws(one, n, draws, seed, None)


def largest_equal_n(groups: Groups, *, draws: int = 200, seed: int = 0) -> int:
    """Return the largest n at which 95% of the draws of :func:`frechet_floor` give two sides; 0 for a single group.

    Half of the samples would need splits into equal halves, which groups of unequal size hardly ever give.

    Args:
        groups: (M,) what must be on one side.
        draws: how many splits to try.
        seed: of the splits.
    """
    rng, members = np.random.default_rng(seed), _members(groups, len(groups))
    smaller = sorted(min(map(len, _two_sides(rng, members))) for _ in range(draws))
    return smaller[draws // 20]


def _pick(rng: np.random.Generator, members: list[Indices], num_groups: int, n: int) -> Indices:
    """Draw n rows out of so many random groups, or out of as many more as n needs."""
    groups = [members[i] for i in rng.permutation(len(members))]
    needed = 1 + int(np.searchsorted(np.cumsum([len(group) for group in groups]), n))
    return rng.permutation(np.concatenate(groups[: max(num_groups, needed)]))[:n]


def _two_sides(rng: np.random.Generator, members: list[Indices]) -> tuple[Indices, Indices]:
    """Split groups in random order: each goes to the side that is smaller so far."""
    sides: tuple[list[Indices], list[Indices]] = ([], [])
    sizes = [0, 0]
    for i in rng.permutation(len(members)):
        side = int(sizes[1] < sizes[0])
        sides[side].append(members[i])
        sizes[side] += len(members[i])
    empty = np.empty(0, np.intp)
    return np.concatenate([empty, *sides[0]]), np.concatenate([empty, *sides[1]])


def _over_draws(
    one: Callable[[np.random.Generator], float | None], n: int, draws: int, seed: int, note: str | None
) -> SubsampleInterval:
    rng = np.random.default_rng(seed)
    found = [value for value in (one(rng) for _ in range(draws)) if value is not None]
    if not found:
        return SubsampleInterval(
            None, None, None, n, 0, f"the groups give no two sides of {n} samples without a common group"
        )
    if len(found) < draws:
        note = f"{draws - len(found)} of {draws} draws gave no two sides of {n} samples, left out"
    low, median, high = np.percentile(found, [2.5, 50, 97.5])
    return SubsampleInterval(float(median), float(low), float(high), n, len(found), note)


def _why_not(
    x: Floats, y: Floats, n: int, draws: int, floor: float, *, reference_too: bool = True
) -> str | None:
    if n < 2 or draws < 1:
        raise ValueError(f"n must be at least 2 and draws at least 1, got {n} and {draws}")
    if len(x) < n or (reference_too and len(y) < n):
        return f"needs N >= {n}, got {len(x)}" + (f" and {len(y)}" if reference_too else "")
    return why_undefined(x, y, floor)


def _overlap(n: int, *sizes: int) -> str | None:
    if 2 * n <= min(sizes):
        return None
    return f"subsets of {n} out of {min(sizes)} overlap: the spread is too narrow"


def _members(groups: Groups | None, size: int) -> list[Indices]:
    """Return the rows of each group."""
    group = _group_numbers(groups, size)
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)


def _known(
    values: Sequence[float | None] | npt.NDArray[np.floating], groups: Groups | None
) -> tuple[Floats, Indices]:
    """Return the values that are not None, and the number of the group of each."""
    group = _group_numbers(groups, len(values))
    keep = np.array([value is not None for value in values], dtype=bool)
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    if known.ndim != 1 or not np.isfinite(known).all():
        raise ValueError("scores must be a vector of finite numbers, None where undefined")
    return known, group[keep]


def _group_sums(values: Floats, group: Indices) -> tuple[Floats, Floats]:
    """Return the sum and the number of values of each group that has any."""
    _, numbers = np.unique(group, return_inverse=True)
    counts = np.bincount(numbers).astype(np.float64)
    return np.bincount(numbers, values).astype(np.float64), counts


def _group_numbers(groups: Groups | None, size: int) -> Indices:
    """Number the groups by first appearance; without groups, each row is its own."""
    if groups is None:
        return np.arange(size)
    if len(groups) != size:
        raise ValueError(f"there must be a group for each of {size} values, got {len(groups)}")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.intp)
