"""Is a detector as sure as it is right? Bins of confidence, and their error.

The expected calibration error is that of Guo et al., *On Calibration of Modern Neural Networks*,
ICML 2017 (section 2).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

BINS = 15


class Bin(msgspec.Struct, frozen=True):
    """The judgements whose confidence lies in ``(lower, upper]``; the first bin holds 0 too.

    ``confidence`` is their mean confidence, ``accuracy`` the share of them that is right.
    """

    lower: float
    upper: float
    count: int
    confidence: float
    accuracy: float


def reliability_bins(
    confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]
) -> tuple[Bin, ...]:
    """Sort judgements into 15 equal bins of confidence; bins without any are left out.

    Args:
        confidence: ``(n,)``, the probability of the class that was called, 0 to 1.
        right: ``(n,)``, whether that class is the true one.
    """
    edges = np.linspace(0.0, 1.0, BINS + 1)
    places = np.digitize(confidence, edges[1:-1], right=True)
    return tuple(
        Bin(
            lower=float(edges[place]),
            upper=float(edges[place + 1]),
            count=int((places == place).sum()),
            confidence=float(confidence[places == place].mean()),
            accuracy=float(right[places == place].mean()),
        )
        for place in np.unique(places)
    )


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Return the mean of ``|accuracy - confidence|`` over bins, weighted by their counts."""
    total = sum(each.count for each in bins)
    return sum(each.count * abs(each.accuracy - each.confidence) for each in bins) / total
