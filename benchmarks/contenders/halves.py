"""A bundle at work from files to P(fake), and its two halves, each alone: views, engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeAlias

from ...runtime.engines.base import Engine
from ...runtime.judging.options import engine_options, pipeline_options
from ...runtime.machine.errors import ImageError
from ...runtime.streaming.sharing import PipelineOptions
from ...runtime.streaming.stream import PreparedBatch, stream_views
from ...runtime.views.batch import Sampling
from .ours import BundleContender
from .work import Photos, Setup

Way: TypeAlias = Literal["views", "judging", "whole"]


class HalvesRunner:
    """A bundle with its three ways to spend time on images, in a process of its own."""

    def __init__(self, contender: BundleContender, setup: Setup, photos: Photos) -> None:
        loaded, options = contender.open(setup), contender.detector_options(setup)
        shares = pipeline_options(options, setup.views.num_crops)
        engine = contender.open_engine(engine_options(options, shares, setup.views.num_crops))
        ready = _make_views(photos, setup, shares)
        self._facts = (engine.description, engine.precision, engine.on_host, engine.lanes)
        self._ways: dict[Way, Callable[[], object]] = {
            "views": lambda: _make_views(photos, setup, shares),
            "judging": lambda: _judge(engine, ready),
            "whole": lambda: loaded.judge(photos),
        }

    def facts(self) -> tuple[str, str, bool, int]:
        """Return the engine's description, precision, whether it is on the host, and lanes."""
        return self._facts

    def time(self, way: Way) -> float:
        """Return the seconds that all images take, once."""
        started = time.perf_counter()
        self._ways[way]()
        return time.perf_counter() - started


def _judge(engine: Engine, batches: list[PreparedBatch]) -> None:
    """Judge views that lie ready, as many batches at once as the pipeline would."""
    with ThreadPoolExecutor(engine.lanes) as pool:
        list(pool.map(lambda batch: engine.judge(batch.views), batches))


def _make_views(photos: Photos, setup: Setup, shares: PipelineOptions) -> list[PreparedBatch]:
    """Make the views of all images, in batches as the pipeline makes them."""
    sampling = Sampling(setup.views, setup.seed)
    # Nothing else goes on, so that workers may run ahead as far as they can.
    options = PipelineOptions(shares.images, shares.workers, window=max(2, len(photos)))
    batches = list(stream_views([photo.path for photo in photos], sampling, options))
    for outcome in (outcome for batch in batches for outcome in batch.outcomes):
        if isinstance(outcome, ImageError):
            raise outcome
    return batches
