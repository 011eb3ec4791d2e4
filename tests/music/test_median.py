"""The running median against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import median_filter

from opendance_hf.music.median import running_median


@pytest.mark.parametrize(
    ("n", "columns"), [(1, 1), (5, 3), (15, 2), (16, 300), (17, 5), (721, 7), (2100, 600)]
)
def test_is_scipys_median_filter(n: int, columns: int) -> None:
    values = np.random.default_rng(n).standard_normal((n, columns)).astype(np.float32)
    values[::3] = 0.25  # ties
    np.testing.assert_array_equal(running_median(values), median_filter(values, (31, 1), mode="reflect"))
