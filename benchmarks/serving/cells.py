"""What the cells of the tables say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..measuring.samples import Samples
from .answers import Load

MB = 1e6


def percentiles(loads: Sequence[Load], percent: float) -> Samples:
    """Return a percentile of each load's answers."""
    return Samples(tuple(load.percentile(percent) for load in loads))


def images_per_second(per_image: Samples) -> str:
    """Return ``median (quartile to quartile)`` of the images in a second."""
    high, middle, low = (1 / seconds for seconds in per_image.quartiles())
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def multiple(values: Sequence[float]) -> str:
    """Return ``median (quartile to quartile)`` of numbers without a unit; NaN is left out."""
    known = Samples(tuple(value for value in values if not math.isnan(value)))
    if len(known.seconds) < 2:
        return f"{known.median:.2f}" if known.seconds else ""
    low, middle, high = known.quartiles()
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def milliseconds(seconds: float) -> str:
    """Return a time, or nothing for NaN."""
    return "" if math.isnan(seconds) else Samples((seconds,)).milliseconds()


def summed(loads: Sequence[Load]) -> dict[str, int]:
    """Return how many requests of all loads ended in each way."""
    names = sorted({name for load in loads for name in load.counts})
    return {name: sum(load.counts.get(name, 0) for load in loads) for name in names}


def listed(counts: Mapping[str, int]) -> str:
    """Return ``200: 1,234; 503: 56``."""
    return "; ".join(f"{name}: {count:,}" for name, count in counts.items())


def megabytes(held: Sequence[int]) -> list[str]:
    """Return what was held at the start, in the middle, at the end, and at most."""
    if not held:
        return [""] * 4
    return [f"{bytes_ / MB:.0f}" for bytes_ in
            (held[0], held[len(held) // 2], held[-1], max(held))]  # fmt: skip
