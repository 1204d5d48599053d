"""What ``glass-bench scaling`` writes down: series, each with a straight line through it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from ...runtime.machine.environment import Environment
from ...runtime.results.tables import markdown_table
from ...runtime.views.spec import ViewSpec
from ..measuring.figures import colour, marker, new_figure, png, short_name
from ..measuring.samples import Refusal, Samples, refusals_table, three_digits
from ..run.report import BundleInfo
from ..run.tables import MARK, UNSTEADY, unsteady_note

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEMA_VERSION = 1
Axis = Literal["crops", "megapixels", "batch"]
AXES: tuple[Axis, ...] = ("crops", "megapixels", "batch")
_TITLES: dict[Axis, str] = {
    "crops": "Number of crops",
    "megapixels": "Image size",
    "batch": "Batch",
}
_UNITS: dict[Axis, str] = {"crops": "crops", "megapixels": "megapixels", "batch": "images"}
_COSTS: dict[Axis, str] = {
    "crops": "ms per image, engine only, batch of 1",
    "megapixels": "ms per image, from file to P(fake)",
    "batch": "ms per batch, engine only",
}


class Point(msgspec.Struct, frozen=True):
    """The cost at one value of the axis, measured once in each round."""

    at: float
    cost: Samples


class Line(msgspec.Struct, frozen=True):
    """A straight line by least squares, in seconds; ``r2`` is the share that it explains."""

    slope: float
    intercept: float
    r2: float


class Series(msgspec.Struct, frozen=True):
    """One contender along one axis."""

    axis: Axis
    contender: str
    points: tuple[Point, ...]

    @property
    def line(self) -> Line | None:
        """The line through the points' medians; of fewer than two points there is none."""
        if len(self.points) < 2:
            return None
        xs = np.array([point.at for point in self.points])
        ys = np.array([point.cost.median for point in self.points])
        slope, intercept = np.polyfit(xs, ys, 1)
        left = float(((ys - (slope * xs + intercept)) ** 2).sum())
        spread = float(((ys - ys.mean()) ** 2).sum())
        return Line(float(slope), float(intercept), 1 - left / spread if spread else 1.0)


class ScalingReport(msgspec.Struct, frozen=True, tag_field="report", tag="scaling"):
    """Everything that a run of the benchmark measured."""

    schema: int
    command: str
    environment: Environment
    backbone: str
    bundles: tuple[BundleInfo, ...]
    views: ViewSpec
    threads: int
    workers: int
    rounds: int
    series: tuple[Series, ...]
    refusals: tuple[Refusal, ...]

    def to_json(self) -> bytes:
        """Return the report with all samples."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    def along(self, axis: Axis) -> list[Series]:
        """Return the series of one axis, a contender each."""
        return [series for series in self.series if series.axis == axis]

    def table(self, axis: Axis) -> str:
        """Return a row for each contender: costs in milliseconds, and the line."""
        series = self.along(axis)
        values = sorted({point.at for each in series for point in each.points})
        unit = _UNITS[axis]
        header = ["contender", *(f"{value:g}" for value in values),
                  f"ms per {unit.removesuffix('s')}", "ms at 0", "R^2"]  # fmt: skip
        rows = [_row(each, values) for each in series]
        return markdown_table(header, rows)

    def to_markdown(self) -> str:
        """Return the tables and how they were measured."""
        parts = [
            "# What an image costs",
            f"`{self.command}`",
            self.environment.to_markdown(),
            f"{self.backbone}; {self.views.num_crops} crops where their number does not change; "
            f"{self.threads} threads, {self.workers} workers. Medians of {self.rounds} rounds in "
            "turns, each contender in a process of its own, after one to warm up; lines by least "
            "squares through the medians.",
        ]
        for axis in AXES:
            if self.along(axis):
                title = f"## {_TITLES[axis]}"
                parts += [title, f"By {_UNITS[axis]}: {_COSTS[axis]}.", self.table(axis)]
        if self.refusals:
            parts.append(refusals_table(self.refusals))
        text = "\n\n".join(parts)
        return text + (f"\n\n{unsteady_note()}\n" if MARK in text else "\n")

    def to_png(self) -> bytes:
        """Return a plot for each axis; needs matplotlib."""
        axes = [axis for axis in AXES if self.along(axis)]
        figure = new_figure(6 * len(axes), 6)
        panels = figure.subplots(1, len(axes), squeeze=False)[0]
        for panel, axis in zip(panels, axes, strict=True):
            _plot(panel, axis, self.along(axis))
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9)
        figure.suptitle(f"{self.backbone}, {self.environment.processor}, {self.threads} threads")
        return png(figure)


def _row(series: Series, values: list[float]) -> list[str]:
    costs = {point.at: point.cost for point in series.points}
    cells = [_milliseconds(costs[value]) if value in costs else "" for value in values]
    line = series.line
    if line is None:
        return [series.contender, *cells, "", "", ""]
    fit = [three_digits(line.slope * 1e3), three_digits(line.intercept * 1e3), f"{line.r2:.4f}"]
    return [series.contender, *cells, *fit]


def _milliseconds(cost: Samples) -> str:
    return f"{three_digits(cost.median * 1e3)}{MARK if cost.variation > UNSTEADY else ''}"


def _plot(ax: Axes, axis: Axis, series: list[Series]) -> None:
    from matplotlib.ticker import MaxNLocator

    for index, each in enumerate(series):
        xs = np.array([point.at for point in each.points])
        ys = [point.cost.median * 1e3 for point in each.points]
        ax.plot(
            xs,
            ys,
            linestyle="",
            markersize=6,
            label=short_name(each.contender),
            color=colour(index),
            marker=marker(index),
        )
        if line := each.line:
            fitted = (line.slope * xs + line.intercept) * 1e3
            ax.plot(xs, fitted, color=colour(index), linewidth=1)
    ax.set_xlabel(_UNITS[axis])
    ax.set_ylabel(_COSTS[axis])
    ax.set_title(_TITLES[axis])
    if axis != "megapixels":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlim(left=0)
    ax.set_ylim(bottom=0)
    ax.grid(alpha=0.3)
