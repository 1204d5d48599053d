"""``glass-bench pipeline``: does the whole keep up with its two halves?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial

import msgspec

from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.progress import on_console
from ...runtime.engines.base import Engine
from ...runtime.engines.registry import open_engine
from ...runtime.judging.detector import Detector
from ...runtime.judging.options import DetectorOptions, engine_options, pipeline_options
from ...runtime.judging.pipeline import PipelineOptions
from ...runtime.judging.stream import PreparedBatch, stream_views
from ...runtime.machine.environment import Environment, environment
from ...runtime.machine.errors import ImageError
from ...runtime.machine.progress import track
from ...runtime.results.tables import markdown_table
from ...runtime.views.batch import Sampling
from ..measuring.samples import Samples, median_ratio

SCHEMA_VERSION = 1


class BundleHalves(msgspec.Struct, frozen=True):
    """Seconds that one bundle takes for all images: views alone, engine alone, both together.

    ``on_host`` says whether the engine computes on the CPUs that make the views.
    """

    name: str
    engine: str
    precision: str
    on_host: bool
    lanes: int
    views: Samples
    judging: Samples
    whole: Samples

    @property
    def bound(self) -> Samples:
        """The least that the whole can take: both halves' CPU time, or the slower half."""
        halves = zip(self.views.seconds, self.judging.seconds, strict=True)
        return Samples(tuple(one + two if self.on_host else max(one, two) for one, two in halves))


class PipelineReport(msgspec.Struct, frozen=True):
    """Everything that a run of the benchmark measured."""

    schema: int
    command: str
    environment: Environment
    images: int
    crops: int
    workers: int
    isolate: bool
    rounds: int
    bundles: tuple[BundleHalves, ...]

    def to_json(self) -> bytes:
        """Return the report with all samples."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    def table(self) -> str:
        """Return a row for each bundle, in milliseconds per image."""
        header = ["bundle", "engine", "views only: ms per image", "engine only: ms per image",
                  "together: ms per image", "images/s", "of what is possible"]  # fmt: skip
        rows = []
        for bundle in self.bundles:
            times = (bundle.views, bundle.judging, bundle.whole)
            rows.append([
                bundle.name,
                bundle.engine,
                *(self._per_image(samples).milliseconds() for samples in times),
                f"{self.images / bundle.whole.median:.1f}",
                f"{median_ratio(bundle.bound, bundle.whole):.0%}",
            ])  # fmt: skip
        return markdown_table(header, rows)

    def to_markdown(self) -> str:
        """Return the table and how it was measured."""
        return "\n\n".join(
            [
                "# The pipeline and its halves",
                f"`{self.command}`",
                self.environment.to_markdown(),
                f"{self.images} images, {self.crops} crops each, {self.workers} workers"
                f"{', the whole with isolated decoders' if self.isolate else ''}; median of "
                f"{self.rounds} rounds in turns (quartiles). Views only: files become views, by as "
                "many threads as the pipeline has workers. Engine only: views lie ready, and as "
                "many runs go on at once as in the pipeline. On a CPU both halves take all CPUs, "
                "so together they can take no less than their sum; beside a GPU no less than "
                "the slower one.",
                self.table() + "\n",
            ]
        )

    def _per_image(self, samples: Samples) -> Samples:
        return Samples(tuple(seconds / self.images for seconds in samples.seconds))


@dataclass(frozen=True)
class _Contestant:
    """A bundle with its three ways to spend time on the images."""

    detector: Detector
    engine: Engine
    ways: tuple[Callable[[], object], ...]


def measure_pipeline(
    bundles: Sequence[Bundle],
    paths: Sequence[str],
    options: DetectorOptions,
    rounds: int,
    *,
    command: str,
) -> PipelineReport:
    """Time views alone, the engine alone, and the detector, in turns.

    Args:
        bundles: all with the same number of crops, or ``options`` names it.
        paths: image files; all must be readable.
        options: how the detector runs.
        rounds: rounds that count; one more warms up.
        command: what the report says it was made by.

    Raises:
        ImageError: an image cannot be judged.
        EngineError: an engine cannot run a bundle.
    """
    crops = options.crops or bundles[0].manifest.views.num_crops
    with ExitStack() as stack, on_console("loading"):
        contestants = [_contestant(bundle, paths, options, stack) for bundle in bundles]
        seconds = _measure(contestants, rounds)
        return PipelineReport(
            schema=SCHEMA_VERSION,
            command=command,
            environment=environment(),
            images=len(paths),
            crops=crops,
            workers=pipeline_options(options, crops).workers,
            isolate=options.isolate,
            rounds=rounds,
            bundles=tuple(
                _halves(contestant, taken)
                for contestant, taken in zip(contestants, seconds, strict=True)
            ),
        )


def _contestant(
    bundle: Bundle, paths: Sequence[str], options: DetectorOptions, stack: ExitStack
) -> _Contestant:
    detector = Detector(bundle, options)
    spec = bundle.manifest.views
    if options.crops:
        spec = msgspec.structs.replace(spec, num_crops=options.crops)
    shares = pipeline_options(options, spec.num_crops)
    settings = engine_options(options, shares, spec.num_crops)
    engine = open_engine(bundle, options.engine, settings)
    make_views = partial(_views, paths, Sampling(spec, options.seed), shares.images, shares.workers)
    ready = make_views()
    judges = stack.enter_context(ThreadPoolExecutor(engine.lanes))
    return _Contestant(
        detector,
        engine,
        (
            make_views,
            lambda: list(
                judges.map(lambda batch: engine.judge(batch.overviews, batch.crops), ready)
            ),
            lambda: detector.detect(paths),
        ),
    )


def _views(
    paths: Sequence[str], sampling: Sampling, images: int, workers: int
) -> list[PreparedBatch]:
    """Make the views of all images, in batches as the pipeline makes them."""
    options = PipelineOptions(len(paths), workers)
    with closing(stream_views(paths, sampling, options)) as batches:
        (everything,) = batches
    for path, outcome in zip(paths, everything.outcomes, strict=True):
        if isinstance(outcome, ImageError):
            raise ImageError(f"{path}: {outcome}")
    return [
        PreparedBatch(
            everything.outcomes[start : start + images],
            everything.overviews[start : start + images],
            everything.crops[start : start + images],
        )
        for start in range(0, len(paths), images)
    ]


def _measure(contestants: Sequence[_Contestant], rounds: int) -> list[list[tuple[float, ...]]]:
    """Return each contestant's seconds, way by way. The first round warms up."""
    taken = [
        [tuple(map(_seconds, contestant.ways)) for contestant in contestants]
        for _ in track(range(rounds + 1), "measuring", rounds + 1, on_console)
    ]
    return [list(zip(*each, strict=True)) for each in zip(*taken[1:], strict=True)]


def _seconds(way: Callable[[], object]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def _halves(contestant: _Contestant, seconds: Sequence[tuple[float, ...]]) -> BundleHalves:
    views, judging, whole = map(Samples, seconds)
    engine = contestant.engine
    return BundleHalves(
        name=contestant.detector.bundle.name,
        engine=engine.description,
        precision=engine.precision,
        on_host=engine.on_host,
        lanes=engine.lanes,
        views=views,
        judging=judging,
        whole=whole,
    )
