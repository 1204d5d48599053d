"""How an image becomes views, as a bundle says it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

RESAMPLING: Final = "triangle-antialias-float"

# Bounds on what takes memory: far above any GLASS, far below what would exhaust a machine.
LARGEST_CROP_SIZE: Final = 2048
MOST_CROPS: Final = 1024
Side = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_CROP_SIZE)]
Count = Annotated[int, msgspec.Meta(ge=1, le=MOST_CROPS)]


class ViewSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an image becomes views.

    ``crop_size`` is the side of the global view and of each crop in pixels, ``max_grid``
    the largest side of the sampling grid in cells.
    """

    crop_size: Side
    num_crops: Count
    max_grid: Count
    resampling: Literal["triangle-antialias-float"] = RESAMPLING
