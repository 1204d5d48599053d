"""Several draws of each image's crops: one decoding and one global view serve them all."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from ..images.reading import ImageSource
from ..machine.errors import ImageError
from ..views.batch import DrawnViews, Sampling, ViewInfo, Views
from .sharing import PipelineOptions
from .stream import stream_views

MOST_DRAWS = 16
"""The most draws whose crops are in memory together: 24 MB of an image's, if a draw has ten."""


@dataclass(frozen=True)
class DrawnBatch:
    """The views of some images in order, each with several draws of its crops.

    ``outcomes`` says of each image what its views come from, or why it has none; ``views`` have a
    row for each that has.
    """

    outcomes: tuple[ViewInfo | ImageError, ...]
    views: DrawnViews

    @property
    def infos(self) -> list[ViewInfo]:
        """Where the views come from, row by row."""
        return [found for found in self.outcomes if isinstance(found, ViewInfo)]

    @property
    def readable(self) -> list[int]:
        """Which of the images have views: their places in ``outcomes``, row by row."""
        return [place for place, found in enumerate(self.outcomes) if isinstance(found, ViewInfo)]


def stream_draws(
    images: Iterable[ImageSource], sampling: Sampling, options: PipelineOptions
) -> Generator[DrawnBatch, None, None]:
    """Turn images into views as :func:`.stream.stream_views` does, with ``sampling.draws`` each.

    A draw's crops are those of a run with its seed. A batch holds the crops of all draws: bound
    them by :func:`in_groups`, and the images of a batch by :func:`images_at_once`.
    """
    with closing(stream_views(images, sampling, options)) as batches:
        for batch in batches:
            yield DrawnBatch(batch.outcomes, by_draw(batch.views, sampling))


def by_draw(views: Views, sampling: Sampling) -> DrawnViews:
    """Give the stream of several views, with the crops of all draws, an axis of draws."""
    several = sampling.spec.several
    if several is None or several not in views:
        return views
    images, _, *pixels = views[several].shape
    shape = (images, sampling.draws, sampling.crops, *pixels)
    return {**views, several: views[several].reshape(shape)}


def in_groups(sampling: Sampling, most: int = MOST_DRAWS) -> list[Sampling]:
    """Split draws into groups of at most ``most``, the larger ones first, by one draw at most.

    Images are decoded anew for each group.
    """
    count = -(-sampling.draws // most)
    seeds = np.array_split(np.arange(sampling.draws), count)
    return [replace(sampling, seed=sampling.seed + int(g[0]), draws=len(g)) for g in seeds]


def images_at_once(groups: Sequence[Sampling], batch_size: int) -> int:
    """Return how many images make a batch, the same in each group.

    That is ``batch_size``, divided by the draws so that memory is bounded, but no fewer than a run
    gives an engine at once: ``batch_size`` views.
    """
    first = groups[0]
    if first.spec.apart:
        return max(1, batch_size // first.spec.usual)
    return max(1, batch_size // max(1, min(first.draws, first.crops)))
