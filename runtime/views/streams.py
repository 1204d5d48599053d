"""Stand-in until the merge."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from ..images.encoded import Rgb
from .placement import Placement
from .resample import resample
from .spec import StreamViews


def write_views(out: npt.NDArray[Any], rgb: Rgb, views: StreamViews) -> tuple[Placement, ...]:
    """Write."""
    out[0] = resample(rgb, views.size)
    return ()


def count_views(height: int, width: int, views: StreamViews) -> int:
    """Count."""
    return 1
