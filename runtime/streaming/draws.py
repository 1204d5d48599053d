"""Several draws of each image's crops: one decoding and one global view serve them all."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from ..images.reading import ImageSource
from ..machine.errors import ImageError
from ..views.batch import DrawnCrops, Overviews, Sampling, ViewInfo
from .sharing import PipelineOptions
from .stream import stream_views

MOST_DRAWS = 16
"""The most draws whose crops are in memory together: 24 MB of an image's, if a draw has ten."""


@dataclass(frozen=True)
class DrawnBatch:
    """The views of some images in order, each with several draws of its crops.

    ``outcomes`` says of each image what its views come from, or why it has none; ``overviews``
    ``(n, p, p, 3)`` and ``crops`` ``(n, draws, crops, p, p, 3)`` have a row for each that has.
    """

    outcomes: tuple[ViewInfo | ImageError, ...]
    overviews: Overviews
    crops: DrawnCrops

    @property
    def infos(self) -> list[ViewInfo]:
        """Where the views in ``overviews`` and ``crops`` come from, row by row."""
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
    shape = (sampling.draws, sampling.crops)
    with closing(stream_views(images, sampling, options)) as batches:
        for batch in batches:
            images_count, _, *pixels = batch.crops.shape
            crops = batch.crops.reshape(images_count, *shape, *pixels)
            yield DrawnBatch(batch.outcomes, batch.overviews, crops)


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
    return max(1, batch_size // min(groups[0].draws, groups[0].crops))
