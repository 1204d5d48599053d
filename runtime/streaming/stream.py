"""Images become batches of views by the road that a detector takes, and stay views."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..images.reading import ImageSource
from ..machine.errors import ImageError
from ..machine.timings import Timings
from ..views.batch import Sampling, ViewBatch, ViewInfo, Views
from .orders import Look, Road
from .pipeline import Pipeline
from .sharing import LastStage, PipelineOptions


@dataclass(frozen=True)
class PreparedBatch:
    """The views of some images in order.

    ``outcomes`` says of each image what its views come from, or why it has none; ``views`` have a
    row for each that has, with the crops of all its draws.
    """

    outcomes: tuple[ViewInfo | ImageError, ...]
    views: Views

    @property
    def infos(self) -> list[ViewInfo]:
        """The origins of the views, row by row."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, ViewInfo)]


class _Kept(NamedTuple):
    """One image's views, without the axis of images."""

    info: ViewInfo
    views: Views


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
    last = LastStage[_Kept](lanes=alone.workers, on_host=True)
    road = Road(Look(sampling), alone.images, _keep)
    with closing(Pipeline(images, road, last, alone, Timings())) as pipeline:
        outcomes = (outcome for _, outcome in pipeline)
        while some := tuple(itertools.islice(outcomes, size)):
            yield _joined(some, sampling)


def _workers(sampling: Sampling, options: PipelineOptions) -> int:
    """Return how many workers may each hold the views of an image, and of one that waits."""
    held = 2 * max(1, sampling.image_bytes)
    return max(1, min(options.workers, options.memory // held))


def _keep(infos: Sequence[ViewInfo], views: Views, timings: Timings) -> list[_Kept]:
    """Copy the views out of the batch, whose arrays are used again."""
    return [
        _Kept(info, {name: pixels[row].copy() for name, pixels in views.items()})
        for row, info in enumerate(infos)
    ]


def _joined(outcomes: Sequence[_Kept | ImageError], sampling: Sampling) -> PreparedBatch:
    found = [outcome for outcome in outcomes if isinstance(outcome, _Kept)]
    room = ViewBatch(len(found), sampling.spec, sampling.draws * sampling.crops).views
    for row, kept in enumerate(found):
        for name, pixels in kept.views.items():
            room[name][row] = pixels
    infos = (each.info if isinstance(each, _Kept) else each for each in outcomes)
    return PreparedBatch(tuple(infos), room)
