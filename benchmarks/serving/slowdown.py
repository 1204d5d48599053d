"""How much longer an image takes among others than alone: each its own, as sizes differ."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from .answers import Load


def seconds_alone(alone: Sequence[Load]) -> dict[int, float]:
    """Return the median seconds to the answer for each image, over all loads of one client."""
    seconds_of = defaultdict(list)
    for load in alone:
        for image, seconds in load.of_images:
            seconds_of[image].append(seconds)
    return {image: statistics.median(seconds) for image, seconds in seconds_of.items()}


def slowdown(load: Load, alone: Mapping[int, float], percent: float) -> float:
    """Return a percentile, interpolated, of a load's latencies as multiples of those alone.

    Args:
        load: its answers of status 200 count.
        alone: of :func:`seconds_alone`; images that are not in it are left out.
        percent: of the answers.

    Returns:
        NaN if no answer is left.
    """
    found = [seconds / alone[image] for image, seconds in load.of_images if image in alone]
    return float(np.percentile(found, percent)) if found else math.nan
