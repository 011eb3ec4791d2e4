from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opendance_hf.metrics import (
    average_pairwise_distance,
    diversity_score,
    frechet_distance,
    frechet_score,
    motion_features,
    normalise,
)

SETTINGS = settings(max_examples=25)
SETS = st.tuples(st.integers(2, 20), st.integers(2, 20), st.integers(1, 12), st.integers(0, 10**6))


def draw_sets(sizes: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    n, m, dims, seed = sizes
    rng = np.random.default_rng(seed)
    scale = 10 ** rng.uniform(-3, 3, dims)
    return rng.standard_normal((n, dims)) * scale + scale, rng.standard_normal((m, dims)) * scale


@pytest.mark.parametrize("kind", ["kinetic", "geometric"])
def test_parity_with_plain_loops(repo: Path, kind: str) -> None:
    with np.load(repo / "tests/fixtures/metrics_small.npz") as arrays:
        x, y = arrays[f"{kind}_predictions"], arrays[f"{kind}_reference"]
        assert frechet_score(x, y).value == pytest.approx(arrays[f"fid_{kind}"], rel=1e-4)
        assert diversity_score(x, y).value == pytest.approx(arrays[f"div_{kind}"], rel=1e-6)
        assert diversity_score(y, y).value == pytest.approx(arrays[f"div_{kind}_reference"], rel=1e-6)


@pytest.mark.shared
def test_parity_with_the_official_code(shared: Path) -> None:
    facts = json.loads((shared / "reference/metrics.json").read_text())["results"]
    with np.load(shared / "reference/metrics.npz") as arrays:
        pred40, gt24 = motion_features(arrays["pred40_joints"]), motion_features(arrays["gt24_joints"])
        pred150, gt150 = ((arrays[f"{s}150_kinetic"], arrays[f"{s}150_geometric"]) for s in ("pred", "gt"))
        motions = motion_features(arrays[f"motion{i}"] for i in range(8))
    pairs = {
        "pred150_vs_gt150": (pred150, gt150),
        "pred40_vs_gt150": (pred40, gt150),
        "gt24_vs_itself": (gt24, gt24),
        "pred24_vs_gt24": ((pred40[0][:24], pred40[1][:24]), gt24),
    }
    for name, sets in pairs.items():
        for kind, x, y in zip("km", *sets, strict=True):
            fid = np.real(np.atleast_1d(facts[name][f"fid_{kind}"])[0])
            got = frechet_score(x, y)
            assert got.value is not None
            assert abs(got.value - fid) <= 1e-4 * max(1, abs(fid)), (name, kind)
            assert got.rank_deficient == (min(len(x), len(y)) <= x.shape[1])
            assert diversity_score(x, y).value == pytest.approx(facts[name][f"div_{kind}"], rel=1e-5)
            assert diversity_score(y, y).value == pytest.approx(facts[name][f"div_{kind}_gt"], rel=1e-5)

    # Four against four, three geometric features constant in the reference: the official code says 2.8e19.
    degenerate = facts["motions4to7_vs_motions0to3"]
    x, y = motions.geometric[4:], motions.geometric[:4]
    for score in (frechet_score(x, y), diversity_score(x, y)):
        assert score.value is None
        assert ", ".join(map(str, degenerate["gt_const_geometric_dims"])) in (score.note or "")
    assert frechet_score(motions.kinetic[4:], motions.kinetic[:4]).rank_deficient


def test_one_dimension_by_hand() -> None:
    x, y = np.array([[0.0], [2.0]]), np.array([[5.0], [13.0]])
    # Means 1 and 9, variances (ddof 1) 2 and 32: 64 + 2 + 32 - 2 sqrt(64) = 82.
    assert frechet_distance(x, y) == pytest.approx(82)
    # Reference mean 9, population deviation 4: (0 - 9)/4, (2 - 9)/4 and -1, 1.
    one, two = normalise(x, y)
    np.testing.assert_allclose(one[:, 0], [-2.25, -1.75])
    np.testing.assert_allclose(two[:, 0], [-1, 1])
    assert frechet_score(x, y).value == pytest.approx(82 / 16)
    assert diversity_score(x, y).value == pytest.approx(0.5)
    assert average_pairwise_distance([[0, 0], [3, 4], [3, 0]]) == pytest.approx((5 + 3 + 4) / 3)


@SETTINGS
@given(SETS)
def test_no_distance_to_itself(sizes: tuple[int, int, int, int]) -> None:
    x, _ = draw_sets(sizes)
    scale = np.trace(np.atleast_2d(np.cov(x, rowvar=False)))
    assert frechet_distance(x, x) <= 1e-9 * scale
    score = frechet_score(x, x)
    assert score.value == pytest.approx(0, abs=1e-8)


@SETTINGS
@given(SETS)
def test_symmetric_shift_and_order(sizes: tuple[int, int, int, int]) -> None:
    x, y = draw_sets(sizes)
    rng = np.random.default_rng(0)
    expected = pytest.approx(frechet_distance(x, y), rel=1e-6, abs=1e-6)
    assert frechet_distance(y, x) == expected
    assert frechet_distance(x + 3, y + 3) == expected
    assert frechet_distance(rng.permutation(x), rng.permutation(y)) == expected
    columns = rng.permutation(x.shape[1])
    assert frechet_distance(x[:, columns], y[:, columns]) == expected
    assert average_pairwise_distance(rng.permutation(x)) == pytest.approx(average_pairwise_distance(x))


@SETTINGS
@given(SETS)
def test_scores_do_not_depend_on_units(sizes: tuple[int, int, int, int]) -> None:
    x, y = draw_sets(sizes)
    unit = np.geomspace(0.1, 10, x.shape[1])
    for score in (frechet_score, diversity_score):
        value = score(x, y).value
        assert value is not None
        assert score(x * unit - 1, y * unit - 1).value == pytest.approx(value, rel=1e-4, abs=1e-4)


def test_rank_deficiency_is_said() -> None:
    rng = np.random.default_rng(1)
    small, large = rng.standard_normal((32, 32)), rng.standard_normal((33, 32))
    assert frechet_score(large, large).note is None
    for pair in ((small, large), (large, small)):
        score = frechet_score(*pair)
        assert score.value is not None
        assert score.rank_deficient
        assert score.needs_n == 33
        assert "needs N >= 33" in (score.note or "")


@pytest.mark.parametrize("score", [frechet_score, diversity_score])
def test_undefined_sets_have_a_reason(score: object) -> None:
    assert callable(score)
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((9, 3)), rng.standard_normal((8, 3))
    for few in ((x[:1], y), (x, y[:1]), (x[:0], y)):
        result = score(*few)
        assert result.value is None
        assert result.note == f"needs N >= 2 in both sets, got {len(few[0])} and {len(few[1])}"
    holed = x.copy()
    holed[0, 0] = np.nan
    assert score(holed, y).note == "the features hold NaN or infinity"
    assert score(x, holed).note == "the reference features hold NaN or infinity"

    flat = y.copy()
    flat[:, 1] = 0.25
    assert score(x, flat).value is None
    assert "degenerate: 1 feature(s)" in score(x, flat).note
    off = x.copy()
    off[:, 1] = 0.75  # constant too, but elsewhere
    assert score(off, flat).value is None
    same = x.copy()
    same[:, 1] = 0.25 + 1e-9  # equal but for rounding: nothing to compare
    assert score(same, flat).value == pytest.approx(score(x[:, [0, 2]], y[:, [0, 2]]).value)


def test_bad_sets() -> None:
    with pytest.raises(ValueError, match=r"must be \(N, F\) and \(M, F\), got \(3, 2\) and \(3, 4\)"):
        frechet_score(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="at least two samples, got 1 and 3"):
        frechet_distance(np.zeros((1, 2)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="NaN or infinity"):
        frechet_distance(np.full((3, 2), np.inf), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="at least two samples, got 1"):
        average_pairwise_distance(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="reference set is empty"):
        normalise(np.zeros((1, 2)), np.zeros((0, 2)))
