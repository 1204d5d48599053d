"""Images become batches of views by the road that a detector takes, and stay views."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..images.reading import ImageSource
from ..machine.errors import ImageError
from ..machine.timings import Timings
from ..views.batch import Crops, Overviews, Sampling, ViewInfo
from .pipeline import Pipeline
from .sharing import LastStage, PipelineOptions


@dataclass(frozen=True)
class PreparedBatch:
    """The views of some images in order.

    ``outcomes`` says of each image what its views come from, or why it has none; ``overviews``
    and ``crops`` have a row for each that has, with the crops of all its draws.
    """

    outcomes: tuple[ViewInfo | ImageError, ...]
    overviews: Overviews
    crops: Crops

    @property
    def infos(self) -> list[ViewInfo]:
        """The origins of the views in ``overviews`` and ``crops``, row by row."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, ViewInfo)]


class _Views(NamedTuple):
    """One image's: global view ``(p, p, 3)``, crops ``(n, p, p, 3)``."""

    info: ViewInfo
    overview: Overviews
    crops: Crops


def stream_views(
    images: Iterable[ImageSource], sampling: Sampling, options: PipelineOptions
) -> Generator[PreparedBatch, None, None]:
    """Turn images into views as they come; while a batch is used, the next one is made.

    Args:
        images: as users give them.
        sampling: which crops are drawn.
        options: ``images`` of them make a batch. While one is used, the views of at most two more
            are made; ``window`` sets another bound. Where an image has very many crops, fewer
            ``workers`` make them: their views may take ``memory``, too.
    """
    size = options.images
    # One by one, so that workers share the images of a batch and none waits for another.
    alone = replace(
        options,
        images=1,
        workers=_workers(sampling, options),
        window=options.window or 2 * size,
    )
    last = LastStage(_keep, lanes=alone.workers, on_host=True)
    with closing(Pipeline(images, last, sampling, alone, Timings())) as pipeline:
        outcomes = (outcome for _, outcome in pipeline)
        while some := tuple(itertools.islice(outcomes, size)):
            yield _joined(some, sampling)


def _workers(sampling: Sampling, options: PipelineOptions) -> int:
    """Return how many workers may each hold the views of an image, and of one that waits."""
    side, count = sampling.spec.crop_size, sampling.draws * sampling.crops
    held = 2 * count * side * side * 3
    return max(1, min(options.workers, options.memory // held))


def _keep(
    infos: Sequence[ViewInfo], overviews: Overviews, crops: Crops, timings: Timings
) -> list[_Views]:
    """Copy the views out of the batch, whose arrays are used again."""
    return [_Views(*each) for each in zip(infos, overviews.copy(), crops.copy(), strict=True)]


def _joined(outcomes: Sequence[_Views | ImageError], sampling: Sampling) -> PreparedBatch:
    found = [outcome for outcome in outcomes if isinstance(outcome, _Views)]
    side, count = sampling.spec.crop_size, sampling.draws * sampling.crops
    overviews = np.empty((len(found), side, side, 3), np.float32)
    crops = np.empty((len(found), count, side, side, 3), np.uint8)
    for row, views in enumerate(found):
        overviews[row], crops[row] = views.overview, views.crops
    infos = (each.info if isinstance(each, _Views) else each for each in outcomes)
    return PreparedBatch(tuple(infos), overviews, crops)
