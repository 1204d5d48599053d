"""What collections cost, as one object that is written as JSON or Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import msgspec
import numpy as np

from ...runtime.machine.timings import Stage
from ...runtime.results.tables import markdown_table
from ..measuring.cells import MB, multiple
from ..measuring.report import BenchReport
from ..measuring.samples import Samples, mark, three_digits, unsteady_note
from .options import Budget

PREPARING: tuple[Stage, ...] = ("read", "decode", "views")
"""The stages whose time grows with the image's size."""
ENGINE: tuple[Stage, ...] = ("infer", "aggregate")
"""The stages whose time grows with the network and the number of crops."""

_MILLI = 1e3  # milliseconds of a second


class ImageCost(msgspec.Struct, frozen=True):
    """What an image costs one CPU.

    Attributes:
        crops: that are judged; ``None`` where the bundle draws none.
        megapixels: of the image.
        bytes: of its file.
        seconds: per image, from the file to the record, of each round.
        stages: seconds per image by stage, of each round.
    """

    crops: int | None
    megapixels: float
    bytes: int
    seconds: Samples
    stages: dict[Stage, Samples]

    @property
    def preparing(self) -> float:
        """Milliseconds from the file to the views."""
        return self._milliseconds(PREPARING)

    @property
    def engine(self) -> float:
        """Milliseconds from the views to P(fake)."""
        return self._milliseconds(ENGINE)

    def bound(self) -> str:
        """Say what takes more of the time, and how much of it."""
        name, taken = max(("decoding", self.preparing), ("engine", self.engine), key=lambda x: x[1])
        return f"{name}, {taken / (self.preparing + self.engine):.0%}".replace("%", " %")

    def _milliseconds(self, stages: Sequence[Stage]) -> float:
        return sum(self.stages[stage].median for stage in stages) * _MILLI


class BundleCosts(msgspec.Struct, frozen=True):
    """What a bundle costs.

    Attributes:
        name: of the bundle.
        precision: of the bundle.
        engine: what executed its graphs.
        images: what an image costs, by crops and size, the smallest first.
        all_cpus: seconds per image of each round if all CPUs of the machine judge images of the
            largest size with the first number of crops.
    """

    name: str
    precision: str
    engine: str
    images: tuple[ImageCost, ...]
    all_cpus: Samples

    def by_crops(self) -> Iterator[tuple[int | None, list[ImageCost]]]:
        """Yield the costs of every size for each number of crops."""
        for crops, costs in groupby(self.images, key=lambda cost: cost.crops):
            yield crops, list(costs)


class CostsReport(BenchReport, frozen=True):
    """Everything that a run of the benchmark measured."""

    rounds: int
    images: int
    budget: Budget
    bundles: tuple[BundleCosts, ...]

    def cost_table(self) -> str:
        """Return a row for each bundle, number of crops and size."""
        budget = self.budget
        header = ["bundle", "precision", "crops", "megapixels", "decoding, ms", "engine, ms",
                  "what binds", "images/s per CPU", "$ per million",
                  f"days for {budget.images:,}"]  # fmt: skip
        rows = []
        for bundle in self.bundles:
            for cost in bundle.images:
                rates = [1 / seconds for seconds in cost.seconds.seconds]
                rows.append([
                    bundle.name,
                    bundle.precision,
                    _crops(cost.crops),
                    f"{cost.megapixels:g}",
                    three_digits(cost.preparing),
                    three_digits(cost.engine),
                    cost.bound(),
                    _spread(rates) + mark(cost.seconds),
                    _spread([budget.dollars_per_million(each) for each in cost.seconds.seconds]),
                    _spread([budget.days(each) for each in cost.seconds.seconds]),
                ])  # fmt: skip
        return markdown_table(header, rows)

    def balance_table(self) -> str:
        """Return a row for each bundle and number of crops: from which size decoding binds."""
        header = ["bundle", "crops", "engine, ms", "decoding of one more megapixel, ms",
                  "decoding costs as much at"]  # fmt: skip
        rows = [
            [
                bundle.name,
                _crops(crops),
                three_digits(_engine(costs)),
                _slope(costs),
                _balance(costs),
            ]
            for bundle in self.bundles
            for crops, costs in bundle.by_crops()
        ]
        return markdown_table(header, rows)

    def scaling_table(self) -> str:
        """Return a row for each bundle: the speed of all CPUs beside that of one."""
        cpus = self.environment.cpus
        header = ["bundle", "crops", "megapixels", f"times one CPU's speed with {cpus}"]
        rows = []
        for bundle in self.bundles:
            _, costs = next(bundle.by_crops())
            one = costs[-1].seconds.median
            speeds = multiple([one / each for each in bundle.all_cpus.seconds])
            size = f"{costs[-1].megapixels:g}"
            rows.append(
                [bundle.name, _crops(costs[-1].crops), size, speeds + mark(bundle.all_cpus)]
            )
        return markdown_table(header, rows)

    def to_markdown(self) -> str:
        """Return the tables and how they were measured."""
        budget, costs, scaling = self.budget, self.cost_table(), self.scaling_table()
        return self.page(
            "What a collection costs",
            f"{self.images} equal JPEG files ({self._sizes()}), mosaics of real photographs, are "
            f"judged from file to record; medians (quartiles) of {self.rounds} rounds after one "
            "that warms up. In each round all sizes and numbers of crops of a bundle take turns. "
            f"Bundles are measured one after the other. {self._engines()}",
            "## By the image",
            "One worker, without a GPU, and on Linux with one CPU, so that elapsed time is that of "
            "the CPU. "
            "Decoding is from the file to the views, and the engine from the views to P(fake). "
            f"The rest is arithmetic: dollars at ${budget.price:g} per CPU and hour, and days of "
            f"{budget.machines} machines with {budget.cpus} such CPUs each.",
            costs,
            "## What binds",
            "Where decoding takes longer than the engine, a faster engine, fewer crops or a GPU "
            "saves less than half of the time. Between the sizes measured, decoding is assumed to "
            "grow evenly.",
            self.balance_table(),
            "## From one CPU to all",
            "The arithmetic assumes that CPUs are as fast side by side as alone. How far that "
            "holds on this machine, with images of the largest size:",
            scaling,
            unsteady_note(costs, scaling),
        )

    def _sizes(self) -> str:
        costs = self.bundles[0].images
        sizes = {cost.megapixels: cost.bytes for cost in costs}
        return ", ".join(f"{size:g} MP of {each / MB:.1f} MB" for size, each in sizes.items())

    def _engines(self) -> str:
        engines = dict.fromkeys(bundle.engine for bundle in self.bundles)
        return f"Engines: {', '.join(engines)}."


def _crops(number: int | None) -> str:
    return "" if number is None else str(number)


def _spread(values: Sequence[float]) -> str:
    """Return ``median (quartile to quartile)`` with three digits."""
    low, middle, high = Samples(tuple(values)).quartiles()
    return f"{three_digits(middle)} ({three_digits(low)} to {three_digits(high)})"


def _engine(costs: Sequence[ImageCost]) -> float:
    """Return the engine's milliseconds, which do not depend on the size."""
    return float(np.median([cost.engine for cost in costs]))


def _slope(costs: Sequence[ImageCost]) -> str:
    """Return the milliseconds by which decoding grows with a megapixel, smallest to largest."""
    first, last = costs[0], costs[-1]
    if first.megapixels == last.megapixels:
        return ""
    slope = (last.preparing - first.preparing) / (last.megapixels - first.megapixels)
    return three_digits(slope)


def _balance(costs: Sequence[ImageCost]) -> str:
    """Return the size at which decoding takes as long as the engine."""
    sizes = [cost.megapixels for cost in costs]
    # Sizes that are close may be in the wrong order by noise.
    preparing = np.maximum.accumulate([cost.preparing for cost in costs])
    engine = _engine(costs)
    if engine <= preparing[0]:
        return f"less than {sizes[0]:g} MP"
    if engine >= preparing[-1]:
        return f"more than {sizes[-1]:g} MP"
    return f"{three_digits(float(np.interp(engine, preparing, sizes)))} MP"
