"""Repeated measurements and their ratios."""

from __future__ import annotations

import statistics

import msgspec


class Samples(msgspec.Struct, frozen=True):
    """Repeated measurements of one thing, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value, in seconds."""
        return statistics.median(self.seconds)

    def milliseconds(self) -> str:
        """Return ``median (quartile to quartile)`` in milliseconds."""
        if len(self.seconds) < 2:
            return f"{self.median * 1e3:.1f}"
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return f"{self.median * 1e3:.1f} ({low * 1e3:.1f} to {high * 1e3:.1f})"


def median_ratio(one: Samples, other: Samples) -> float:
    """Return the median of the ratios of measurements taken one after the other."""
    pairs = zip(one.seconds, other.seconds, strict=True)
    return statistics.median(a / b for a, b in pairs)
