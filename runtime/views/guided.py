"""Six views where the score maps of another stream peak: the rule of Fusing and of GLFF.

That stream's map of 7 x 7 cells covers the centred square of the image. Its graph sums the
channels of averages over 3 x 3 and 2 x 2 cells, which gives score maps of 5 x 5 and 6 x 6.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from ..images.encoded import Rgb
from .placement import Placement

Scores: TypeAlias = npt.NDArray[np.float32]
"""A score map of one image, ``(n, n)``."""
_Float32: TypeAlias = npt.NDArray[np.float32]

_SIDES: Final = (224, 112)
"""Of the squares that each score map places, in image pixels."""
_PEAKS: Final = 3
GUIDED_VIEWS: Final = len(_SIDES) * _PEAKS
_MAP_SIDE: Final = 7
SCORE_MAPS: Final = (5, 6)
"""The sides of the score maps."""
_NEIGHBOURS: Final = np.ones((3, 3), np.uint8)


def guided_windows(height: int, width: int, scores: Sequence[Scores]) -> list[Placement]:
    """Place the six views of an image: three squares of 224 pixels a side, then three of 112.

    Args:
        height: of the image that was not resized.
        width: likewise.
        scores: its score maps, ``(5, 5)`` and ``(6, 6)``.

    Returns:
        The squares in the order of the peaks, smaller only where the image is.
    """
    return [
        _square(height, width, side, len(score), peak)
        for side, score in zip(_SIDES, scores, strict=True)
        for peak in _peaks(score)
    ]


def guided_views(out: _Float32, rgb: Rgb, places: Sequence[Placement]) -> None:
    """Cut views and stretch them.

    Args:
        out: what they are written to, float32 ``(6, size, size, 3)``, in 0..255.
        rgb: pixels ``(height, width, 3)``, uint8.
        places: from :func:`guided_windows`.
    """
    for view, (top, left, height, width) in zip(out, places, strict=True):
        view[...] = aligned_stretch(rgb[top : top + height, left : left + width], len(view))


def aligned_stretch(rgb: Rgb, size: int) -> _Float32:
    """Stretch pixels to ``(size, size, 3)``, bilinear in float32 with aligned corners.

    It is what ``torch.nn.functional.interpolate(align_corners=True)`` computes: the corners' pixels
    stay where they are. Pixels that have the size already are only converted.
    """
    rows, columns = (_between(length, size) for length in rgb.shape[:2])
    wide = rgb.astype(np.float32)
    if rgb.shape[1] != size:
        wide = _mixed(wide, columns, axis=1)
    return wide if rgb.shape[0] == size else _mixed(wide, rows, axis=0)


def _peaks(scores: Scores) -> Iterator[tuple[int, int]]:
    """Yield the row and column of the largest score, erase the peak, and go on.

    Every cell whose neighbourhood has the same largest score is erased with it. Where all others
    are negative, an erased zero is the largest, as in the published code.
    """
    left = scores.copy()
    for _ in range(_PEAKS):
        row, column = divmod(int(left.argmax()), left.shape[1])
        yield row, column
        highest = cv2.dilate(left, _NEIGHBOURS)
        left[highest == left[row, column]] = 0


def _square(height: int, width: int, side: int, cells: int, peak: tuple[int, int]) -> Placement:
    """Return the square around a cell's centre, shifted into the image.

    The published code computes the centre in float32 and cuts; integers give the same for every
    side up to 100,000.
    """
    shorter = min(height, width)
    corner = []
    for length, cell in zip((height, width), peak, strict=True):
        offset = shorter * (2 * cell + _MAP_SIDE + 1 - cells) // (2 * _MAP_SIDE)
        start = (length - shorter) // 2 + offset - side // 2
        corner.append(max(min(start, length - side), 0))
    top, left = corner
    return Placement(top, left, min(side, height), min(side, width))


class _Between(NamedTuple):
    """Between which two samples each output lies, and how close to the second one."""

    first: npt.NDArray[np.intp]
    second: npt.NDArray[np.intp]
    weight: _Float32


@lru_cache(maxsize=16)
def _between(length: int, size: int) -> _Between:
    """Return how ``length`` samples become ``size``, in float32 as torch computes it."""
    scale = np.float32(length - 1) / np.float32(max(size - 1, 1))
    places = np.arange(size, dtype=np.float32) * scale
    first = places.astype(np.intp)
    return _Between(first, np.minimum(first + 1, length - 1), places - first.astype(np.float32))


def _mixed(pixels: _Float32, between: _Between, axis: int) -> _Float32:
    """Mix the rows (axis 0) or columns (axis 1) of ``(height, width, 3)``."""
    weight = between.weight.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    first = pixels.take(between.first, axis)
    second = pixels.take(between.second, axis)
    return first * (1 - weight) + second * weight
