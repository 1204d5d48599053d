"""The magnitudes of a tensor's values, and the range of INT8 that loses least of them."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

BINS = 2048
_SMALLEST = 2.0**-100
_SHARES = np.linspace(0.1, 1.0, 181)  # of the largest value: the ranges to try


class Histogram:
    """Counts of magnitudes in equal bins over ``[0, limit)``, but for zeros, which never err.

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
        self.counts[0] -= magnitudes.size - cv2.countNonZero(magnitudes)

    def range(self, steps: int) -> float:
        """Return the magnitude above which to clip, so that the squared error is least.

        The range is divided into ``steps``. Values below half a step become 0, others within the
        range err by up to half a step, and evenly; values above it by what is clipped (after R.
        Banner et al., Post Training 4-bit Quantization of Convolutional Networks for
        Rapid-Deployment, 2019). Returns 0 if all values were 0.
        """
        middles = (np.arange(BINS) + 0.5) * (self.limit / BINS)
        tried = _SHARES[:, None] * self.largest
        size = tried / steps
        rounded = np.where(middles < size / 2, middles**2, size**2 / 12)
        errors = np.where(middles <= tried, rounded, (middles - tried) ** 2) @ self.counts
        return float(tried[int(np.argmin(errors)), 0])

    def _grow(self, limit: float) -> None:
        factor = min(BINS, int(limit / self.limit))
        merged = self.counts.reshape(-1, factor).sum(axis=1)
        self.counts = np.zeros(BINS, np.float64)
        self.counts[: len(merged)] = merged
        self.limit = float(limit)
