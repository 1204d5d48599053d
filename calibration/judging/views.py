"""The views that changed graphs are tried on: some images, each with several draws of crops."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np

from ...runtime.bundle.bundle import Bundle
from ...runtime.images.reading import ImageSource
from ...runtime.judging.joining import place_views
from ...runtime.machine.progress import Progress, silent, track
from ...runtime.streaming.draws import DrawnBatch, stream_draws
from ...runtime.streaming.sharing import PipelineOptions
from ...runtime.views.batch import DrawnViews, Sampling, ViewInfo
from ...runtime.views.spec import ViewSpec
from ..images import Suitability
from .comparison import open_on_cpu

_SEED = 20_602  # draws other crops than those whose ranges were measured
_CROPS = 512  # in all
_IMAGES = 48
_FEWEST_DRAWS, _MOST_DRAWS = 2, 4
_BATCH = 4
_APART = 6  # views of an image, where there are as many as it asks for


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
    return drawn_views(bundle, chosen, Sampling(spec, _SEED, draws=draws))


def trial_size(spec: ViewSpec, images: int) -> tuple[int, int]:
    """Return on how many of some images to try a change, and how many draws of each to take."""
    each = _APART if spec.apart else max(1, spec.num_crops)
    wanted = _CROPS // (each * min(_IMAGES, images))
    draws = max(_FEWEST_DRAWS, min(_MOST_DRAWS, wanted)) if spec.drawn else 1
    most = max(1, min(_IMAGES, _CROPS // (each * draws)))
    return min(most, images), draws


def drawn_views(bundle: Bundle, images: Iterable[ImageSource], sampling: Sampling) -> DrawnViews:
    """Make the views of all images that can be read.

    Raises:
        CalibrationError: none can, or most show nothing.
    """
    suitability = Suitability()
    batches = list(suitable_draws(bundle, images, sampling, suitability))
    suitability.check()
    return {
        name: np.concatenate([batch.views[name] for batch in batches])
        for name in sampling.spec.streams
    }


def suitable_draws(
    bundle: Bundle, images: Iterable[ImageSource], sampling: Sampling, suitability: Suitability
) -> Iterator[DrawnBatch]:
    """Turn images into views, as many of each, and count those that are not suitable."""
    even = _Even(bundle) if sampling.spec.apart else None
    with closing(stream_draws(images, sampling, PipelineOptions(_BATCH))) as stream:
        for found in stream:
            batch = found if even is None else even(found)
            suitability.add(batch)
            yield batch


class _Even:
    """Gives all images as many views, where an engine would be given as many as they ask for.

    Of an image with more some are taken, spread evenly; of one with fewer some twice.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._spec = bundle.manifest.views
        self._guide = open_on_cpu(bundle) if self._spec.guided else None

    def __call__(self, batch: DrawnBatch) -> DrawnBatch:
        spec = self._spec
        outputs = {}
        if self._guide is not None and spec.guided is not None:
            by = spec.guided.by
            outputs[by] = self._guide.outputs(by, batch.views[by]) if batch.readable else ()
        placed = place_views(batch.infos, outputs, spec) if batch.readable else []
        own = spec.streams[spec.several or ""]
        views = np.empty((len(placed), 1, _APART, own.size, own.size, 3), own.dtype)
        for row, each in enumerate(placed):
            views[row, 0] = each.views[np.arange(_APART) * len(each.views) // _APART]
        several = {spec.several or "": views}
        # The pixels of the images would be kept as long as these views are.
        outcomes = tuple(
            replace(each, own=None, image=None) if isinstance(each, ViewInfo) else each
            for each in batch.outcomes
        )
        return DrawnBatch(outcomes, {**batch.views, **several})
