"""Fréchet distance (FID) and diversity (Div) of sets of features, normalised by the reference set.

Source: paper section 5.2; both sets are normalised by mean and standard deviation of the reference, as AIST++,
Bailando and EDGE do. A set too small or too flat for a number gets a reason instead: see :class:`Score`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from opendance_hf.metrics.features import Floats

#: Added to the reference's standard deviation before dividing by it, as in the official code.
EPSILON: Final = 1e-10
# Below these a feature counts as constant. The absolute one is where EPSILON stops being negligible, the relative one
# where the rounding of float32 motions begins.
_CONSTANT_ABSOLUTE = 1e-8
_CONSTANT_RELATIVE = 1e-6
#: Rows of one block of pairwise distances.
_BLOCK = 512


@dataclass(frozen=True)
class Score:
    """One number of an evaluation, or the reason why there is none.

    Attributes:
        value: the number; None where it is undefined or would be an artefact. Never NaN.
        n: how many samples it describes.
        n_reference: size of the reference set; None for a score that needs no reference.
        needs_n: the smallest set that gives a trustworthy number; None where that is 1.
        rank_deficient: a set has no more samples than features, so its covariance has no full rank. The number is
            still given, since the field reports such numbers, but is biased upwards and comparable only at equal N.
        note: why ``value`` is None, or what to beware of.
    """

    value: float | None
    n: int
    n_reference: int | None = None
    needs_n: int | None = None
    rank_deficient: bool = False
    note: str | None = None


def normalise(
    features: npt.ArrayLike, reference: npt.ArrayLike, *, floor: float = 0.0
) -> tuple[Floats, Floats]:
    """Both sets minus the reference's mean, divided by its (population) standard deviation + 1e-10.

    Args:
        features: (N, F).
        reference: (M, F).
        floor: the smallest deviation to divide by. With 0, the official code's, a feature that is constant in the
            reference is divided by 1e-10.

    Raises:
        ValueError: if the sets are no matrices of one width, or the reference is empty.
    """
    x, y = as_feature_sets(features, reference)
    if not len(y):
        raise ValueError("the reference set is empty")
    mean, scale = y.mean(axis=0), np.maximum(y.std(axis=0), floor) + EPSILON
    return (x - mean) / scale, (y - mean) / scale


def frechet_distance(features: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Fréchet distance between Gaussians fitted to two sets: |m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½). Symmetric.

    No normalisation. The trace of the root is taken as the sum of the singular values of R1 R2', where S = R'R: the
    same number as from the eigenvalues of S1^½ S2 S1^½, but a set with fewer samples than features has zero
    eigenvalues, and the root of their rounding errors is what makes matrix square roots lose half the digits.

    Args:
        features: (N, F), N at least 2.
        reference: (M, F), M at least 2.

    Raises:
        ValueError: if the sets are no matrices of one width, have fewer than two rows, NaN or infinity.
    """
    x, y = as_feature_sets(features, reference)
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a covariance needs at least two samples, got {len(x)} and {len(y)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("the features hold NaN or infinity")
    r1, r2 = _covariance_factor(x), _covariance_factor(y)
    between = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    root = np.linalg.svd(r1 @ r2.T, compute_uv=False).sum()
    # A distance is not negative; rounding may be.
    return max(0.0, float(between + (r1**2).sum() + (r2**2).sum() - 2 * root))


def average_pairwise_distance(features: npt.ArrayLike) -> float:
    """Mean Euclidean distance over all pairs of rows of (N, F), N at least 2: the diversity of normalised features.

    Raises:
        ValueError: if there are fewer than two rows.
    """
    x, _ = as_feature_sets(features, features)
    if len(x) < 2:
        raise ValueError(f"a pair needs at least two samples, got {len(x)}")
    total = sum(cdist(x[i : i + _BLOCK], x).sum() for i in range(0, len(x), _BLOCK))
    return float(total / (len(x) * (len(x) - 1)))


def frechet_score(features: npt.ArrayLike, reference: npt.ArrayLike, *, floor: float = 0.0) -> Score:
    """FID of (N, F) features against an (M, F) reference, both normalised by the reference, with what it is worth.

    ``needs_n`` is F + 1 for either set: the covariance of N samples has rank N - 1 at most, so F features need more
    than F samples. ``floor`` is that of :func:`normalise`; without one, features that are constant in the reference
    only, by which the official number explodes, give a reason instead of a number.

    Raises:
        ValueError: if the sets are no matrices of one width.
    """
    x, y = as_feature_sets(features, reference)
    needs_n = x.shape[1] + 1
    deficient = min(len(x), len(y)) < needs_n
    reason = why_undefined(x, y, floor)
    if reason is not None:
        return Score(None, len(x), len(y), needs_n, deficient, reason)
    x, y = normalise_varying(x, y, floor)
    note = f"needs N >= {needs_n} in both sets for a covariance of full rank" if deficient else None
    return Score(frechet_distance(x, y), len(x), len(y), needs_n, deficient, note)


def diversity_score(features: npt.ArrayLike, reference: npt.ArrayLike, *, floor: float = 0.0) -> Score:
    """Div of (N, F) features: their mean pairwise distance, normalised by the (M, F) reference.

    ``floor`` is that of :func:`normalise`, as in :func:`frechet_score`.

    Raises:
        ValueError: if the sets are no matrices of one width.
    """
    x, y = as_feature_sets(features, reference)
    reason = why_undefined(x, y, floor)
    if reason is not None:
        return Score(None, len(x), len(y), 2, note=reason)
    x, _ = normalise_varying(x, y, floor)
    return Score(average_pairwise_distance(x), len(x), len(y), 2)


def why_undefined(x: Floats, y: Floats, floor: float) -> str | None:
    """Why there is no distance between (N, F) features and an (M, F) reference; None if there is one."""
    if min(len(x), len(y)) < 2:
        return f"needs N >= 2 in both sets, got {len(x)} and {len(y)}"
    for name, values in (("features", x), ("reference features", y)):
        if not np.isfinite(values).all():
            return f"the {name} hold NaN or infinity"
    if floor > 0:
        return None
    constant, tolerance = _constant(y)
    varying = np.flatnonzero(constant & (np.abs(x - y.mean(axis=0)).max(axis=0) > tolerance))
    if len(varying):
        which = ", ".join(map(str, varying[:8])) + (", ..." if len(varying) > 8 else "")
        return (
            f"degenerate: {len(varying)} feature(s) are constant in the reference but not equal to it here "
            f"({which}); dividing by their deviation of zero would be all there is in the score"
        )
    return None


def _constant(reference: Floats) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Which features the reference does not vary in, and what counts as equal for each."""
    tolerance = _CONSTANT_ABSOLUTE + _CONSTANT_RELATIVE * np.abs(reference.mean(axis=0))
    return reference.std(axis=0) <= tolerance, tolerance


def normalise_varying(x: Floats, y: Floats, floor: float) -> tuple[Floats, Floats]:
    """:func:`normalise` for (N, F) features of which those constant in the (M, F) reference are equal to it in both.

    Those add nothing to a distance; left in, their rounding errors would be divided by 0. They are left out, so the
    sets that come back may be narrower.
    """
    if floor > 0:
        return normalise(x, y, floor=floor)
    keep = ~_constant(y)[0]
    return normalise(x[:, keep], y[:, keep])


def _covariance_factor(x: Floats) -> Floats:
    """R with R'R = the sample covariance (N - 1) of the rows of x, with no more rows than columns."""
    centred = (x - x.mean(axis=0)) / np.sqrt(len(x) - 1)
    return centred if len(x) <= x.shape[1] else np.linalg.qr(centred).R


def as_feature_sets(features: npt.ArrayLike, reference: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Both sets as float64 arrays, (N, F) and (M, F).

    Raises:
        ValueError: if they are no matrices of one width.
    """
    x, y = np.asarray(features, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"feature sets must be (N, F) and (M, F), got {x.shape} and {y.shape}")
    return x, y
