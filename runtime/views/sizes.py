"""Bounds on what takes memory: far above any detector, far below what would exhaust a machine."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

LARGEST_SIDE: Final = 2048
MOST_VIEWS: Final = 1024
Side = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_SIDE)]
Count = Annotated[int, msgspec.Meta(ge=1, le=MOST_VIEWS)]
