"""What the cells of tables of servers say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..measuring.cells import MB
from ..measuring.samples import Samples
from .answers import Load


def percentiles(loads: Sequence[Load], percent: float) -> Samples:
    """Return a percentile of each load's answers."""
    return Samples(tuple(load.percentile(percent) for load in loads))


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
