"""The views that changed graphs are tried on: some images, each with several draws of crops."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

import numpy as np

from ...runtime.bundle.bundle import Bundle
from ...runtime.images.reading import ImageSource
from ...runtime.machine.progress import Progress, silent, track
from ...runtime.streaming.draws import DrawnBatch, stream_draws
from ...runtime.streaming.sharing import PipelineOptions
from ...runtime.streaming.stream import PreparedBatch
from ...runtime.views.batch import DrawnCrops, Overviews, Sampling
from ...runtime.views.spec import ViewSpec
from ..images import Suitability

_SEED = 20_602  # draws other crops than those whose ranges were measured
_CROPS = 512  # in all
_IMAGES = 48
_FEWEST_DRAWS, _MOST_DRAWS = 2, 4
_BATCH = 4


def trial_views(
    bundle: Bundle, images: Sequence[ImageSource], progress: Progress = silent
) -> tuple[Overviews, DrawnCrops]:
    """Make the views of some images: rather more images than more draws of each.

    Returns:
        Global views ``(n, p, p, 3)`` and crops ``(n, draws, crops, p, p, 3)`` of those that could
        be read.

    Raises:
        CalibrationError: none could, or most show nothing.
    """
    spec = bundle.manifest.views
    count, draws = trial_size(spec, len(images))
    chosen = track(images[:count], "views to try on", count, progress)
    return drawn_views(chosen, Sampling(spec, _SEED, draws=draws))


def trial_size(spec: ViewSpec, images: int) -> tuple[int, int]:
    """Return on how many of some images to try a change, and how many draws of each to take."""
    wanted = _CROPS // (spec.num_crops * min(_IMAGES, images))
    draws = max(_FEWEST_DRAWS, min(_MOST_DRAWS, wanted))
    most = max(1, min(_IMAGES, _CROPS // (spec.num_crops * draws)))
    return min(most, images), draws


def drawn_views(images: Iterable[ImageSource], sampling: Sampling) -> tuple[Overviews, DrawnCrops]:
    """Make the views of all images that can be read.

    Raises:
        CalibrationError: none can, or most show nothing.
    """
    suitability = Suitability()
    batches = list(suitable_draws(images, sampling, suitability))
    suitability.check()
    overviews = np.concatenate([batch.overviews for batch in batches])
    return overviews, np.concatenate([batch.crops for batch in batches])


def suitable_draws(
    images: Iterable[ImageSource], sampling: Sampling, suitability: Suitability
) -> Iterator[DrawnBatch]:
    """Turn images into views, and count those that are not suitable."""
    with closing(stream_draws(images, sampling, PipelineOptions(_BATCH))) as stream:
        for batch in stream:
            suitability.add(PreparedBatch(batch.outcomes, batch.overviews, batch.crops[:, 0]))
            yield batch
