"""Images become batches of views, the next batch prepared while one is used."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass

from ..images.decode import DEFAULT_MAX_PIXELS
from ..images.reading import ImageSource
from ..machine.cpus import available_cpus
from ..machine.errors import ImageError
from ..views.batch import Crops, Overviews, Sampling, ViewBatch, ViewInfo
from .workers import DEFAULT_MEMORY, ViewWorkers


@dataclass(frozen=True)
class StreamOptions:
    """How images are read.

    Attributes:
        batch_size: images in a batch; at most two batches are held.
        workers: threads that read and decode; 0 takes one per CPU available.
        memory: bytes that decoded images may take at once; a larger image goes alone.
        max_pixels: images with more pixels are refused.
    """

    batch_size: int
    workers: int = 0
    memory: int = DEFAULT_MEMORY
    max_pixels: int = DEFAULT_MAX_PIXELS


@dataclass(frozen=True)
class PreparedBatch:
    """Some images in order, and the views of those that could be read.

    ``outcomes`` holds each image's views' origin, or why it has none; ``overviews`` and
    ``crops`` have a row for each that has.
    """

    images: tuple[ImageSource, ...]
    outcomes: tuple[ViewInfo | ImageError, ...]
    overviews: Overviews
    crops: Crops

    @property
    def infos(self) -> list[ViewInfo]:
        """The origins of the views in ``overviews`` and ``crops``, row by row."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, ViewInfo)]


def stream_views(
    images: Iterable[ImageSource], sampling: Sampling, options: StreamOptions
) -> Generator[PreparedBatch, None, None]:
    """Turn images into views as they come; while one batch is used, the next is made."""
    source = iter(images)
    workers = ViewWorkers(
        sampling,
        workers=options.workers or available_cpus(),
        memory=options.memory,
        max_pixels=options.max_pixels,
    )
    with closing(workers):
        current = _start(source, sampling, options.batch_size, workers)
        while current is not None:
            following = _start(source, sampling, options.batch_size, workers)
            yield current.finish()
            current = following


@dataclass(frozen=True)
class _Started:
    images: tuple[ImageSource, ...]
    batch: ViewBatch
    views: list[Future[ViewInfo]]

    def finish(self) -> PreparedBatch:
        outcomes = tuple(_outcome(views) for views in self.views)
        good = [slot for slot, views in enumerate(outcomes) if isinstance(views, ViewInfo)]
        overviews, crops = self.batch.overviews, self.batch.crops
        if len(good) < len(outcomes):
            overviews, crops = overviews[good], crops[good]
        return PreparedBatch(self.images, outcomes, overviews, crops)


def _start(
    source: Iterator[ImageSource], sampling: Sampling, count: int, workers: ViewWorkers
) -> _Started | None:
    """Take the next images and start turning them into views."""
    images = tuple(itertools.islice(source, count))
    if not images:
        return None
    batch = ViewBatch(len(images), sampling.spec)
    views = [workers.submit(batch, slot, image) for slot, image in enumerate(images)]
    return _Started(images, batch, views)


def _outcome(views: Future[ViewInfo]) -> ViewInfo | ImageError:
    try:
        return views.result()
    except ImageError as error:
        return error
