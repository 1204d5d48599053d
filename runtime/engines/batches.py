"""The few batch sizes that engines see, so that each prepares for them once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..views.batch import DrawnViews
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


@dataclass(frozen=True)
class DrawRows:
    """The rows of several draws of some images in a device's memory, one draw after the other.

    So each draw's rows are in the order of the images, as the global features are that all draws
    share.
    """

    images: int
    draws: int

    @classmethod
    def of(cls, views: DrawnViews, several: str | None) -> tuple[DrawRows, int]:
        """Return the rows of some images' views, and how many views of several each draw has."""
        if several is None:
            return cls(len(next(iter(views.values()))), draws=1), 1
        images, draws, count = views[several].shape[:3]
        return cls(images, draws), count

    def views(self, crops: Array) -> Array:
        """Put crops ``(images, draws, crops, p, p, 3)`` in this order; one draw is not copied."""
        views: Array = crops.swapaxes(0, 1).reshape(-1, *crops.shape[3:])
        return views

    def padded(self, sizes: BatchSizes) -> int:
        """Return how many rows there are, with those that fill up the last draw's last batch."""
        return (self.draws - 1) * self.images + sizes.padded(self.images)

    def parts(self, sizes: BatchSizes) -> Iterator[tuple[int, Part]]:
        """Cut each draw into batches: yield a batch's first row, and which images it holds.

        What fills up a draw's last batch lies where the next draw begins, and is written again
        with that.
        """
        for draw in range(self.draws):
            for part in sizes.parts(self.images):
                yield draw * self.images + part.start, part

    def by_image(self, rows: Array) -> Array:
        """Return a copy of one array ``(images, draws, ...)`` of all rows."""
        shape = (self.draws, self.images, *rows.shape[1:])
        by_draw = rows[: self.draws * self.images].reshape(shape)
        answers: Array = by_draw.swapaxes(0, 1).copy()
        return answers
