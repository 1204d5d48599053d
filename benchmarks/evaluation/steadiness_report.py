"""What ``glass-eval --crops auto`` writes down, and its words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ...calibration.steadiness.curve import Point
from ...calibration.steadiness.picture import Panel, draw
from ...runtime.bundle.stopping import Stopping
from ...runtime.results.tables import markdown_table
from ..measuring.report import BenchReport
from ..measuring.samples import Samples, median_ratio, three_digits

BUDGET = 0.6
"""Of the crops of the bundle's own number: what a rule may spend in the second comparison."""
_HEADER = ("crops of an image", "on average", "verdicts unlike the settled one",
           "verdicts that differ between two seeds", "ROC AUC", "images/s")  # fmt: skip


class Row(msgspec.Struct, frozen=True):
    """What some way to spend crops is worth.

    ``roc_auc`` is the mean over seeds. ``seconds_per_image`` are those of whole runs, where they
    were timed.
    """

    point: Point
    roc_auc: float
    seconds_per_image: Samples | None


class BundleSteadiness(msgspec.Struct, frozen=True):
    """A bundle with fixed numbers of crops and by its rule.

    ``num_crops`` is the number that it takes by default, ``fixed`` has a row for each number, and
    ``auto`` is its rule's; ``unsettled`` is the share of images that this left open. ``rules`` are
    rules of every scale, the most careful first.
    """

    name: str
    engine: str
    precision: str
    num_crops: int
    stopping: Stopping
    fixed: dict[int, Row]
    auto: Row
    unsettled: float
    rules: tuple[Point, ...]

    @property
    def short_name(self) -> str:
        """The bundle's name up to its first dot."""
        return self.name.partition(".")[0]

    @property
    def own(self) -> Point:
        """What the bundle's own number of crops comes to."""
        return self.fixed[self.num_crops].point

    def cheapest(self) -> Point | None:
        """Return the cheapest rule with no more verdicts unlike than the own number has."""
        good = [each for each in self.rules if each.unlike <= self.own.unlike]
        return min(good, key=lambda each: each.crops, default=None)

    def within_budget(self) -> Point | None:
        """Return the most careful rule that takes at most 60 % of the own number's crops."""
        good = [each for each in self.rules if each.crops <= BUDGET * self.own.crops]
        return max(good, key=lambda each: each.crops, default=None)

    def speed_ratio(self) -> float | None:
        """Return the rule's speed, as a multiple of the own number's, if both were timed."""
        own, auto = self.fixed[self.num_crops].seconds_per_image, self.auto.seconds_per_image
        return None if own is None or auto is None else median_ratio(own, auto)


class SteadinessReport(BenchReport, frozen=True, tag_field="report", tag="steadiness"):
    """Everything that an evaluation of rules found; ``images`` counts those judged, by class."""

    classes: tuple[str, str]
    fake_class: str
    images: dict[str, int]
    unreadable: dict[str, str]
    bundles: tuple[BundleSteadiness, ...]

    def to_markdown(self) -> str:
        """Return a table for each bundle, and how they were measured."""
        counts = ", ".join(f"{count} {name}" for name, count in self.images.items())
        settled = self.bundles[0].stopping.settled_crops
        parts = [
            f"{counts} images, each with the crops of two seeds. The settled verdict is that of "
            f"{settled} crops of the same sequence, and fixed numbers are its first crops. "
            "Images/s: whole runs from files to records, the bundle's own number of crops and its "
            "rule in turns; median.",
            *(part for bundle in self.bundles for part in _section(bundle)),
        ]
        if self.unreadable:
            parts.append("\n".join(f"- {path}: {why}" for path, why in self.unreadable.items()))
        return self.page("How many crops verdicts need", *parts)

    def summary(self, titles: Mapping[str, str], pytorch: Mapping[str, tuple[str, str]]) -> str:
        """Return two rows for each bundle: its own number of crops, and its rule.

        Args:
            titles: what to call bundles, by their short names.
            pytorch: how many times PyTorch's speed the two rows have.
        """
        header = ["network", "crops", "risk", "on average", "unlike", "flips", "ROC AUC",
                  "images/s", "times PyTorch"]  # fmt: skip
        rows = []
        for bundle in self.bundles:
            risk, own = f"{bundle.stopping.risk:.1%}", bundle.fixed[bundle.num_crops]
            pairs = ((str(bundle.num_crops), "", own), ("auto", risk, bundle.auto))
            for (name, asked, row), times in zip(pairs, pytorch[bundle.short_name], strict=True):
                crops, *found = _row(name, row)
                cells = (cell.replace("%", " %") for cell in (asked, *found))
                rows.append([titles[bundle.short_name], crops, *cells, times])
        return markdown_table(header, rows)

    def to_png(self) -> bytes:
        """Draw a panel for each bundle; needs matplotlib."""
        return draw([
            Panel(
                f"{each.name.partition('@')[0]}, {each.precision}",
                {number: row.point for number, row in each.fixed.items()},
                each.rules,
                each.auto.point,
            )
            for each in self.bundles
        ])  # fmt: skip


def _section(bundle: BundleSteadiness) -> list[str]:
    rule = bundle.stopping
    return [
        f"## {bundle.name}, {bundle.engine}, {bundle.precision}",
        f"Its rule was made for a risk of {rule.risk:g} on {rule.images} images. It left "
        f"{bundle.unsettled:.1%} of these images unsettled.",
        steadiness_table(bundle),
        "\n".join(f"- {line}" for line in comparisons(bundle)),
    ]


def steadiness_table(bundle: BundleSteadiness) -> str:
    """Return a row for each fixed number of crops, and one for the rule."""
    rows = [_row(str(number), row) for number, row in bundle.fixed.items()]
    return markdown_table(_HEADER, [*rows, _row("auto", bundle.auto)])


def _row(name: str, row: Row) -> Sequence[str]:
    point, taken = row.point, row.seconds_per_image
    return [
        name,
        f"{point.crops:.2f}",
        f"{point.unlike:.2%}",
        "" if point.flips is None else f"{point.flips:.2%}",
        f"{row.roc_auc:.4f}",
        "" if taken is None else three_digits(1 / taken.median),
    ]


def comparisons(bundle: BundleSteadiness) -> Iterable[str]:
    """Say what rules save beside the bundle's own number of crops; they are chosen in hindsight."""
    own, number = bundle.own, bundle.num_crops
    if (cheapest := bundle.cheapest()) is not None:
        yield (
            f"In hindsight, the cheapest rule that differs no more often than {number} crops takes "
            f"{cheapest.crops / own.crops:.1%} of the crops."
        )
    if (careful := bundle.within_budget()) is not None:
        yield (
            f"In hindsight, a rule with {careful.crops / own.crops:.1%} of the crops has "
            f"{_times(careful.unlike, own.unlike)} the share unlike and "
            f"{_times(careful.flips or 0.0, own.flips or 0.0)} the flips."
        )
    if (ratio := bundle.speed_ratio()) is not None:
        yield (
            f"The bundle's rule runs at {ratio:.2f} times the speed of {number} crops "
            "(median of neighbouring runs' ratios)."
        )


def _times(part: float, whole: float) -> str:
    return f"{part / whole:.2f} times" if whole else "none of"
