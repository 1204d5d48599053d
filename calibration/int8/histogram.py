"""The magnitudes of a tensor's values: one histogram, and three ways to choose a range."""

from __future__ import annotations

import math
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

Method = Literal["minmax", "percentile", "entropy"]
METHODS: tuple[Method, ...] = get_args(Method)

BINS = 2048
PERCENTILE = 99.99
_LEVELS = 128  # magnitudes that symmetric INT8 can tell apart
_STEP = 16  # bins from one threshold that the entropy method tries to the next
_SMALLEST = 2.0**-100


class Histogram:
    """Counts of magnitudes in equal bins over ``[0, limit)``.

    The limit is a power of two. A larger value doubles it and merges pairs of bins, so values may
    be added in any order, and memory does not grow.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.float64)
        self.limit = _SMALLEST
        self.largest = 0.0

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count values; all must be finite."""
        magnitudes = np.abs(values, dtype=np.float32).reshape(-1, 1)
        self.largest = max(self.largest, float(magnitudes.max()))
        if self.largest >= self.limit:
            self._grow(2.0 ** math.frexp(self.largest)[1])  # the next power of two
        found = cv2.calcHist([magnitudes], [0], None, [BINS], [0.0, self.limit])
        self.counts += found.ravel()  # OpenCV 4 gives a column, 5 a vector

    def range(self, method: Method) -> float:
        """Return the magnitude that INT8's largest value stands for; 0 if all values were 0."""
        if method == "minmax" or self.largest == 0.0:
            return self.largest
        if method == "percentile":
            shares = np.cumsum(self.counts) / self.counts.sum()
            last = int(np.searchsorted(shares, PERCENTILE / 100))
        else:
            last = _entropy_threshold(self.counts)
        return min(self.largest, (last + 1) * self.limit / BINS)

    def _grow(self, limit: float) -> None:
        factor = min(BINS, int(limit / self.limit))
        merged = self.counts.reshape(-1, factor).sum(axis=1)
        self.counts = np.zeros(BINS, np.float64)
        self.counts[: len(merged)] = merged
        self.limit = float(limit)


def _entropy_threshold(counts: npt.NDArray[np.float64]) -> int:
    """Return the last bin to keep, so that clipping and rounding lose the least information.

    This is the threshold with the smallest Kullback-Leibler divergence between the clipped
    distribution and its quantised form (S. Migacz, 8-bit Inference with TensorRT, 2017). Zeros are
    exact at any range, so the first bin, which is full of them after a ReLU, is given the second
    bin's count.
    """
    counts = counts.copy()
    counts[0] = counts[1]
    used = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else 1
    ends = [*range(_LEVELS, used, _STEP), used]
    divergences = [_divergence(counts, end) for end in ends]
    best: int = ends[int(np.argmin(divergences))]
    return best - 1


def _divergence(counts: npt.NDArray[np.float64], end: int) -> float:
    """Return KL(clipped at ``end`` || the same in ``_LEVELS`` steps), in nats."""
    clipped = counts[:end].copy()
    clipped[-1] += counts[end:].sum()
    level = np.arange(end) * _LEVELS // max(end, _LEVELS)
    occupied = counts[:end] > 0
    sums = np.bincount(level, counts[:end], _LEVELS)
    members = np.bincount(level, occupied, _LEVELS)
    means = np.divide(sums, members, out=np.zeros(_LEVELS), where=members > 0)
    rounded = np.where(occupied, means[level], 0.0)
    if not rounded.any():
        return float("inf")
    p, q = clipped / clipped.sum(), rounded / rounded.sum()
    here = p > 0
    return float(np.sum(p[here] * np.log(p[here] / np.maximum(q[here], 1e-12))))
