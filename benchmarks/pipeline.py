"""``glass-bench pipeline``: does the whole keep up with its two halves?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import product

import msgspec

from ..runtime.commands.progress import on_console
from ..runtime.machine.environment import environment
from ..runtime.results.tables import markdown_table
from .contenders.halves import HalvesRunner, Way
from .contenders.ours import BundleContender
from .contenders.turns import in_turns
from .contenders.work import Setup, plan_photos
from .measuring.process import OwnProcess
from .measuring.report import SCHEMA_VERSION, BenchReport
from .measuring.samples import Samples, median_ratio

_WAYS: tuple[Way, ...] = ("views", "judging", "whole")


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


class PipelineReport(BenchReport, frozen=True):
    """Everything that a run of the benchmark measured."""

    images: int
    crops: int
    workers: int
    isolate: bool
    rounds: int
    bundles: tuple[BundleHalves, ...]

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
        return self.page(
            "The pipeline and its halves",
            f"{self.images} images, {self.crops} crops each, {self.workers} workers"
            f"{', the whole with isolated decoders' if self.isolate else ''}; median of "
            f"{self.rounds} rounds in turns (quartiles). Views only: files become views, by as "
            "many threads as the pipeline has workers. Engine only: views lie ready, and as "
            "many runs go on at once as in the pipeline. On a CPU both halves take all CPUs, "
            "so together they can take no less than their sum; beside a GPU no less than "
            "the slower one.",
            self.table(),
        )

    def _per_image(self, samples: Samples) -> Samples:
        return Samples(tuple(seconds / self.images for seconds in samples.seconds))


def measure_pipeline(
    contenders: Sequence[BundleContender],
    paths: Sequence[str],
    setup: Setup,
    rounds: int,
    *,
    command: str,
) -> PipelineReport:
    """Time views alone, the engine alone, and the detector, in turns.

    Args:
        contenders: bundles on engines; all decode isolated or none does.
        paths: image files; all must be readable.
        setup: how the detector runs.
        rounds: rounds that count; one more warms up.
        command: what the report says it was made by.

    Raises:
        ImageError: an image cannot be judged.
        EngineError: an engine cannot run a bundle.
    """
    photos = plan_photos(paths, setup)
    with ExitStack() as stack:
        with on_console("loading"):
            runners = [
                stack.enter_context(OwnProcess(each.name, HalvesRunner, each, setup, photos))
                for each in contenders
            ]
        turns = in_turns(list(product(runners, _WAYS)), _time, rounds + 1, "measuring")
        samples = iter([Samples(seconds[1:]) for seconds in turns])  # the first round warms up
        bundles = []
        for contender, runner in zip(contenders, runners, strict=True):
            facts = runner.ask(HalvesRunner.facts)
            views, judging, whole = (next(samples) for _ in _WAYS)
            bundles.append(BundleHalves(contender.bundle.name, *facts, views, judging, whole))
    return PipelineReport(
        schema=SCHEMA_VERSION,
        command=command,
        environment=environment(),
        images=len(paths),
        crops=setup.views.num_crops,
        workers=setup.workers,
        isolate=contenders[0].isolate,
        rounds=rounds,
        bundles=tuple(bundles),
    )


def _time(member: tuple[OwnProcess[HalvesRunner], Way]) -> float:
    runner, way = member
    return runner.ask(HalvesRunner.time, way)
