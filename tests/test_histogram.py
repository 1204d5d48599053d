"""Ranges from counts: what is clipped and what is rounded err least together."""

from __future__ import annotations

import numpy as np
import pytest
from glass_edge.calibration.int8.grid import SIGNED_STEPS, UNSIGNED_STEPS, Grid
from glass_edge.calibration.int8.histogram import Histogram
from hypothesis import example, given, settings
from hypothesis import strategies as st

RANDOM = np.random.default_rng(0)
SIGNED = {
    "normal": RANDOM.normal(0, 1, 60_000),
    "long tails": RANDOM.laplace(0, 3, 60_000),
    "outliers": RANDOM.standard_t(3, 60_000),
    "uniform": RANDOM.uniform(-7, 7, 60_000),
    "one outlier": np.append(RANDOM.normal(0, 1, 60_000), 60.0),
}
UNSIGNED = {
    "after a ReLU": np.maximum(RANDOM.normal(-1, 1, 60_000), 0),
    "mostly zeros": np.maximum(RANDOM.standard_t(4, 60_000) - 2.5, 0),
    "mostly tiny": np.abs(
        RANDOM.standard_t(4, 60_000) * RANDOM.choice([1e-3, 1], 60_000, p=[0.9, 0.1])
    ),
    "shares of a softmax": RANDOM.dirichlet(np.full(50, 0.3), 1_200),
}
both_steps = pytest.mark.parametrize("steps", [SIGNED_STEPS, UNSIGNED_STEPS])


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
def test_the_largest_magnitude_is_kept_and_nothing_but_zeros_is_left_out(values, parts):
    array = np.array(values, np.float32)
    histogram = counted(*(part for part in np.array_split(array, parts) if part.size))
    assert histogram.largest == np.abs(array).max()
    assert histogram.counts.sum() == np.count_nonzero(array)
    assert histogram.counts.min() >= 0


@both_steps
def test_the_order_of_values_does_not_matter(steps):
    values = np.random.default_rng(0).normal(0, 1, (4, 1000)) * np.array([[1], [100], [0.01], [7]])
    assert counted(*values).range(steps) == counted(*values[::-1]).range(steps)


@pytest.mark.parametrize(
    ("values", "unsigned"),
    [
        *((pytest.param(values, False, id=name) for name, values in SIGNED.items())),
        *((pytest.param(values, True, id=name) for name, values in UNSIGNED.items())),
    ],
)
def test_no_other_range_errs_much_less(values, unsigned):
    """Brute force: the values themselves, rounded and clipped in a hundred ranges."""

    def error(limit: float) -> float:
        grid = Grid(limit, unsigned)
        return float(np.mean((values - grid.steps(values) * grid.scale) ** 2))

    values = values.astype(np.float32)
    found = counted(*np.array_split(values, 5)).range(UNSIGNED_STEPS if unsigned else SIGNED_STEPS)
    best = min(error(limit) for limit in np.linspace(0.05, 1.0, 100) * np.abs(values).max())
    assert error(found) < 1.02 * best


@both_steps
def test_a_lonely_outlier_is_clipped_and_what_is_common_is_not(steps):
    assert 3.0 < counted(SIGNED["one outlier"]).range(steps) < 0.95 * 60


@both_steps
def test_values_that_fill_their_range_are_kept(steps):
    assert counted(SIGNED["uniform"]).range(steps) > 0.98 * 7


@pytest.mark.parametrize("values", SIGNED.values(), ids=SIGNED)
def test_with_more_steps_less_is_clipped(values):
    histogram = counted(values)
    assert histogram.range(SIGNED_STEPS) <= histogram.range(UNSIGNED_STEPS)


@both_steps
def test_no_range_exceeds_what_was_seen(steps):
    values = np.abs(np.random.default_rng(0).normal(0, 1, 5000))
    assert 0 < counted(values).range(steps) <= values.astype(np.float32).max()
    assert counted(np.zeros(10)).range(steps) == 0.0
