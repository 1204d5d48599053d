"""Repeated measurements, their spread and their ratios."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from ...runtime.results.tables import markdown_table

UNSTEADY = 0.025  # coefficient of variation above which a measurement is marked
MARK = "\\*"
SPREAD = ("min", "mean", "median", "p90", "p95", "p99")


class Samples(msgspec.Struct, frozen=True):
    """Repeated measurements of one thing, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value, in seconds."""
        return statistics.median(self.seconds)

    @property
    def variation(self) -> float:
        """The coefficient of variation: standard deviation over mean; 0 of one value."""
        if len(self.seconds) < 2:
            return 0.0
        return statistics.stdev(self.seconds) / statistics.mean(self.seconds)

    def quartiles(self) -> tuple[float, float, float]:
        """Return the lower quartile, the median and the upper quartile, in seconds."""
        low, middle, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, middle, high

    def milliseconds(self) -> str:
        """Return ``median (quartile to quartile)`` in milliseconds."""
        if len(self.seconds) < 2:
            return _milliseconds(self.median)
        low, middle, high = map(_milliseconds, self.quartiles())
        return f"{middle} ({low} to {high})"


def _milliseconds(seconds: float) -> str:
    """Return a time with a tenth of a millisecond, or three digits of a shorter one than 10."""
    value = seconds * 1e3
    return f"{value:.1f}" if value >= 10 else three_digits(value)


class Refusal(msgspec.Struct, frozen=True):
    """A contender that cannot run here, or not all of the benchmark, and why."""

    name: str
    reason: str


def refusals_table(refusals: Iterable[Refusal]) -> str:
    """Return a row for each contender that cannot run here, with the reason in one cell."""
    rows = []
    for refusal in refusals:
        told = " ".join(refusal.reason.split()).replace("|", r"\|")
        rows.append([refusal.name, f"refused: {told}"])
    return markdown_table(["contender", "result"], rows)


def mark(samples: Samples) -> str:
    """Return what stands behind a figure that is unsteady, else nothing."""
    return MARK if samples.variation > UNSTEADY else ""


def unsteady_note(*tables: str) -> str:
    """Say what the mark means, if it is in one of some tables."""
    if not any(MARK in table for table in tables):
        return ""
    return (
        f"{MARK} unsteady: the coefficient of variation over the rounds is above {UNSTEADY:.1%}, "
        "so that the figure holds only roughly; measure again on a machine that does nothing else."
    )


def counted(number: int, noun: str) -> str:
    """Return ``1 image``, ``2 images`` …."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def three_digits(value: float) -> str:
    """Return a figure with three digits of it, all of them if it is large, no exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def median_ratio(one: Samples, other: Samples) -> float:
    """Return the median of the ratios of measurements taken one after the other."""
    pairs = zip(one.seconds, other.seconds, strict=True)
    return statistics.median(a / b for a, b in pairs)


def spread(values: Sequence[float]) -> tuple[float, ...]:
    """Return what :data:`SPREAD` names of some values; percentiles are interpolated."""
    percentiles = np.percentile(values, [50, 90, 95, 99])
    return (min(values), statistics.fmean(values), *map(float, percentiles))
