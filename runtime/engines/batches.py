"""The few batch sizes that engines see, so that each prepares for them once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .base import Array


@dataclass(frozen=True)
class Part:
    """Rows ``start .. start + count`` of some input, computed in a batch of ``size`` rows."""

    start: int
    count: int
    size: int

    def of(self, rows: Array) -> Array:
        """Return this part of the rows, zeros appended up to the batch's size."""
        taken = rows[self.start : self.start + self.count]
        if self.count == self.size:
            return taken
        padding = np.zeros((self.size - self.count, *rows.shape[1:]), rows.dtype)
        return np.concatenate([taken, padding])


@dataclass(frozen=True)
class BatchSizes:
    """Sizes in rising order; any number of rows is cut into full batches and one of these."""

    sizes: tuple[int, ...]

    @classmethod
    def up_to(cls, largest: int, least: int = 1) -> BatchSizes:
        """Return powers of two from ``least`` on, and ``largest``."""
        powers = (2**exponent for exponent in itertools.count())
        below = itertools.takewhile(lambda size: size < largest, powers)
        return cls((*(size for size in below if size >= least), largest))

    @property
    def largest(self) -> int:
        """The most rows in one batch."""
        return self.sizes[-1]

    def parts(self, rows: int) -> Iterator[Part]:
        """Cut rows into full batches; the last one has the smallest size that suffices."""
        for start in range(0, rows, self.largest):
            count = min(self.largest, rows - start)
            yield Part(start, count, next(size for size in self.sizes if size >= count))

    def padded(self, rows: int) -> int:
        """Return how many rows the batches of so many rows have together."""
        return sum(part.size for part in self.parts(rows))
