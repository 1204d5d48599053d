"""Crops of an image that may be looked at later, when the decoded image is gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..images.encoded import Rgb
from .placement import Placement

Crops: TypeAlias = npt.NDArray[np.uint8]
"""Crops of an image, ``(crops, p, p, 3)``, RGB."""


class LaterCrops:
    """Some of an image's crops, or all its pixels to cut them from: whichever takes less memory."""

    def __init__(self, rgb: Rgb, placements: Sequence[Placement], side: int) -> None:
        """Keep what is needed of an image; ``rgb`` may be overwritten afterwards."""
        self._placements, self._side = placements, side
        whole = rgb.nbytes <= len(placements) * side * side * 3
        self._rgb = rgb.copy() if whole else None
        self._crops = self._cut(rgb, () if whole else placements)

    def __len__(self) -> int:
        return len(self._placements)

    def take(self, count: int) -> Crops:
        """Return the next crops, ``(count, p, p, 3)``, and keep the others."""
        taken, self._placements = self._placements[:count], self._placements[count:]
        if self._rgb is not None:
            return self._cut(self._rgb, taken)
        crops, self._crops = self._crops[:count], self._crops[count:]
        return crops

    def _cut(self, rgb: Rgb, placements: Sequence[Placement]) -> Crops:
        crops = np.empty((len(placements), self._side, self._side, 3), np.uint8)
        cut_crops(crops, rgb, placements)
        return crops


def cut_crops(crops: Crops, rgb: Rgb, placements: Sequence[Placement]) -> None:
    """Write crops of an image, zeros where they stick out of it."""
    for crop, place in zip(crops, placements, strict=True):
        bottom, right = place.top + place.height, place.left + place.width
        crop[: place.height, : place.width] = rgb[place.top : bottom, place.left : right]
        crop[place.height :] = 0
        crop[:, place.width :] = 0
