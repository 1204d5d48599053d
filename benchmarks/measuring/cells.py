"""What the cells of tables say."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .samples import Samples

MB = 1e6


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
