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
from ...runtime.views.batch import DrawnViews, Sampling
from ...runtime.views.spec import ViewSpec
from ..images import Suitability

_SEED = 20_602  # draws other crops than those whose ranges were measured
_CROPS = 512  # in all
_IMAGES = 48
_FEWEST_DRAWS, _MOST_DRAWS = 2, 4
_BATCH = 4


def trial_views(
    bundle: Bundle, images: Sequence[ImageSource], progress: Progress = silent
) -> DrawnViews:
    """Make the views of some images that can be read: rather more images than more draws of each.

    Raises:
        CalibrationError: none could be read, or most show nothing.
    """
    spec = bundle.manifest.views
    count, draws = trial_size(spec, len(images))
    chosen = track(images[:count], "views to try on", count, progress)
    return drawn_views(chosen, Sampling(spec, _SEED, draws=draws))


def trial_size(spec: ViewSpec, images: int) -> tuple[int, int]:
    """Return on how many of some images to try a change, and how many draws of each to take."""
    each = max(1, spec.num_crops)
    wanted = _CROPS // (each * min(_IMAGES, images))
    draws = max(_FEWEST_DRAWS, min(_MOST_DRAWS, wanted)) if spec.drawn else 1
    most = max(1, min(_IMAGES, _CROPS // (each * draws)))
    return min(most, images), draws


def drawn_views(images: Iterable[ImageSource], sampling: Sampling) -> DrawnViews:
    """Make the views of all images that can be read.

    Raises:
        CalibrationError: none can, or most show nothing.
    """
    suitability = Suitability()
    batches = list(suitable_draws(images, sampling, suitability))
    suitability.check()
    return {
        name: np.concatenate([batch.views[name] for batch in batches])
        for name in sampling.spec.streams
    }


def suitable_draws(
    images: Iterable[ImageSource], sampling: Sampling, suitability: Suitability
) -> Iterator[DrawnBatch]:
    """Turn images into views, and count those that are not suitable."""
    with closing(stream_draws(images, sampling, PipelineOptions(_BATCH))) as stream:
        for batch in stream:
            suitability.add(batch)
            yield batch
