"""Ranges from counts: exact where they can be, near NumPy's answers where not."""

from __future__ import annotations

import numpy as np
import pytest
from glass_edge.calibration.int8.histogram import BINS, METHODS, PERCENTILE, Histogram
from hypothesis import example, given, settings
from hypothesis import strategies as st


def counted(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part.astype(np.float32))
    return histogram


@settings(max_examples=50)
@example([0.03125], 1)  # a power of two of which the logarithm rounds down
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=200),
    st.integers(1, 5),
)
def test_minmax_is_the_largest_magnitude_and_nothing_is_lost(values, parts):
    array = np.array(values, np.float32)
    histogram = counted(*(part for part in np.array_split(array, parts) if part.size))
    assert histogram.range("minmax") == np.abs(array).max()
    assert histogram.counts.sum() == array.size


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
@settings(max_examples=25)
def test_the_percentile_is_numpys_within_a_bin(seed, scale):
    values = np.random.default_rng(seed).normal(0, scale, 50_000).astype(np.float32)
    histogram = counted(*np.array_split(values, 7))
    expected = np.percentile(np.abs(values), PERCENTILE)
    width = histogram.limit / BINS
    assert histogram.range("percentile") == pytest.approx(expected, abs=2 * width)


def test_the_order_of_values_does_not_matter():
    values = np.random.default_rng(0).normal(0, 1, (4, 1000)) * np.array([[1], [100], [0.01], [7]])
    forward, backward = counted(*values), counted(*values[::-1])
    for method in METHODS:
        assert forward.range(method) == backward.range(method)


def test_entropy_cuts_a_lonely_outlier_and_keeps_what_is_common():
    values = np.random.default_rng(0).normal(0, 1, 100_000)
    with_outlier = counted(values, np.array([60.0]))
    assert with_outlier.range("minmax") == 60.0
    assert 3.0 < with_outlier.range("entropy") < 30.0


def test_entropy_keeps_values_that_fill_their_range():
    values = np.random.default_rng(0).uniform(-1, 1, 100_000)
    assert counted(values).range("entropy") > 0.95


@pytest.mark.parametrize("method", METHODS)
def test_no_range_exceeds_what_was_seen(method):
    values = np.abs(np.random.default_rng(0).normal(0, 1, 5000))
    assert 0 < counted(values).range(method) <= values.astype(np.float32).max()
    assert counted(np.zeros(10)).range(method) == 0.0
