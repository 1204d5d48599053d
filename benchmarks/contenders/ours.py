"""The bundles among the contenders: glass-edge as it is served.

No import of PyTorch here: the processes of bundles import this module.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean

from ...export.paper import GLOBAL, LOCAL
from ...runtime.bundle.bundle import Bundle
from ...runtime.engines.base import Engine, EngineOptions, Float32
from ...runtime.engines.batches import BatchSizes
from ...runtime.engines.registry import open_engine, runnable_engines
from ...runtime.images.decode import decode
from ...runtime.judging.detector import Detector
from ...runtime.judging.options import AUTO_CROPS, DetectorOptions
from ...runtime.machine.errors import EngineError
from ...runtime.results.records import Record, Verdict
from ...runtime.views.batch import ViewBatch
from ...runtime.views.later import cut_crops
from ...runtime.views.placement import Placement
from ...runtime.views.streams import write_views
from .work import Backbone, Judged, Loaded, Photos, Pixels, Setup


@dataclass(frozen=True)
class BundleContender:
    """A bundle on an engine, which chooses its device by itself.

    ``isolate``: images are decoded in processes of their own. ``auto``: the bundle's stopping rule
    says how many crops an image is judged by.
    """

    bundle: Bundle
    engine: str
    isolate: bool = False
    auto: bool = False

    @property
    def name(self) -> str:
        """The bundle's and the engine's name."""
        return f"{self.bundle.name}, {self.engine}{', auto crops' if self.auto else ''}"

    def open(self, setup: Setup) -> Loaded:
        """Load the graphs, see :meth:`.work.Contender.open`."""
        return _LoadedBundle(self, setup)

    def open_backbone(self, crops: Pixels, threads: int) -> Backbone:
        """Load the graphs and lay crops ready for the local one, as uint8 pixels.

        Each number of crops has an engine of its own, which computes no rows of zeros.

        Raises:
            EngineError: it cannot be run as asked.
        """

        @cache
        def opened(count: int) -> Engine:
            options = EngineOptions(threads=threads, batch_size=count, images=1)
            return self.open_engine(options)

        engine = opened(len(crops))

        def features(count: int) -> Float32:
            return opened(count).features("local", crops[:count])

        return Backbone(engine.description, engine.precision, features)

    def open_engine(self, options: EngineOptions) -> Engine:
        """Load the graphs into the engine."""
        return open_engine(self.bundle, self.engine, options)

    def detector_options(self, setup: Setup) -> DetectorOptions:
        """Say how a detector judges as everyone does."""
        return DetectorOptions(
            engine=self.engine,
            crops=AUTO_CROPS if self.auto else setup.views.num_crops,
            seed=setup.seed,
            batch_size=setup.batch_size,
            workers=setup.workers,
            isolate=self.isolate,
        )


class _LoadedBundle:
    def __init__(self, contender: BundleContender, setup: Setup) -> None:
        self._contender, self._setup = contender, setup
        self._engines: dict[int, Engine] = {}  # by the most crops at once
        self._detector = Detector(contender.bundle, contender.detector_options(setup))

    def judge(self, photos: Photos) -> Judged:
        """Judge images with the detector, as ``glass-run`` does."""
        started = time.perf_counter()
        with self._detector.stream([photo.path for photo in photos]) as stream:
            records = list(stream)
        seconds = time.perf_counter() - started
        verdicts = [_verdict(record) for record in records]
        return Judged(
            engine=verdicts[0].engine,
            precision=verdicts[0].precision,
            scores=tuple(verdict.score for verdict in verdicts),
            placements=None if self._contender.auto else tuple(map(_placements, verdicts)),
            mean_crops=fmean(len(verdict.crops) for verdict in verdicts),
            seconds=seconds,
            stages={stage: taken for stage, taken in stream.timings.seconds.items() if taken},
        )

    def batch(self, photos: Photos) -> Callable[[], object]:
        """Return the call that judges all images, see :meth:`.work.Loaded.batch`."""
        if self._contender.auto:
            raise EngineError("takes as many crops as it needs: measured from files only.")
        spec = self._setup.views.with_crops(len(photos[0].placements))
        engine = self._opened(len(photos) * spec.num_crops)
        views = ViewBatch(len(photos), spec).views
        for slot, photo in enumerate(photos):
            rgb = decode(Path(photo.path).read_bytes())
            write_views(views[GLOBAL][slot : slot + 1], rgb, spec.streams[GLOBAL])
            cut_crops(views[LOCAL][slot, : len(photo.placements)], rgb, photo.placements)
        return lambda: engine.judge(views)

    def _opened(self, crops: int) -> Engine:
        """Return the graphs as a detector loads them for batches of so many crops.

        Sizes that need no rows of zeros anyway share one engine: each holds the weights again.
        """
        most = self._setup.batch_size
        size = most if min(crops, most) in BatchSizes.up_to(most).sizes else crops
        if size not in self._engines:
            options = EngineOptions(threads=self._setup.threads, batch_size=size)
            self._engines[size] = self._contender.open_engine(options)
        return self._engines[size]


def bundle_contenders(bundles: Sequence[Bundle], engines: Sequence[str]) -> list[BundleContender]:
    """Return every bundle on each of the engines; none given means all that can run here."""
    names = engines or runnable_engines()
    return [BundleContender(bundle, engine) for bundle in bundles for engine in names]


def _verdict(record: Record) -> Verdict:
    if not isinstance(record, Verdict):
        raise EngineError(f"{record.path}: {record.error.message}")
    return record


def _placements(verdict: Verdict) -> tuple[Placement, ...]:
    return tuple(Placement(c.top, c.left, c.height, c.width) for c in verdict.crops)
