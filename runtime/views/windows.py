"""Squares cut from an image, and what fills those that stick out of it."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from ..images.encoded import Rgb
from .placement import Placement

Pad: TypeAlias = Literal["zeros", "reflect", "wrap"]
"""What lies outside the image.

``reflect`` goes to and fro over the image without repeating its edge (OpenCV's reflect-101); one
pixel alone repeats. ``wrap`` begins at the other edge again.
"""


class Window(NamedTuple):
    """A square whose corner is at ``top`` and ``left``, in image pixels; both may be negative.

    Some of it lies on the image. A ``mirrored`` window shows the square with left and right
    exchanged.
    """

    top: int
    left: int
    mirrored: bool = False


class Windows(NamedTuple):
    """What is cut from an image.

    Attributes:
        at: where the windows lie, in the order of the views.
        size: their side in pixels.
        height, width: of the part of the image, from its top left corner, that windows show. What
            lies beyond is outside, as if the image ended there.
        pad: what windows show outside.
    """

    at: tuple[Window, ...]
    size: int
    height: int
    width: int
    pad: Pad = "zeros"

    @property
    def placements(self) -> tuple[Placement, ...]:
        """The part of the image that each window shows, padding left out."""
        return tuple(inside(window, self.size, self.height, self.width) for window in self.at)


def inside(window: Window, size: int, height: int, width: int) -> Placement:
    """Return the part of a ``height`` x ``width`` image on which a window of ``size`` lies."""
    top, left = max(window.top, 0), max(window.left, 0)
    bottom, right = min(window.top + size, height), min(window.left + size, width)
    return Placement(top, left, bottom - top, right - left)


def cut_windows(views: npt.NDArray[np.uint8], rgb: Rgb, windows: Windows) -> None:
    """Cut the windows of an image.

    Args:
        views: what they are written to, uint8 ``(n, size, size, 3)``, one for each window.
        rgb: pixels ``(height, width, 3)``, uint8, at least as large as the part to be shown.
        windows: where to cut.
    """
    shown = rgb[: windows.height, : windows.width]
    for view, window, place in zip(views, windows.at, windows.placements, strict=True):
        if windows.pad == "zeros" or (place.height, place.width) == view.shape[:2]:
            _copy(view, shown, window, place)
        else:
            _gather(view, shown, window, windows.pad)
        if window.mirrored:
            view[...] = cv2.flip(view, 1)


def _copy(view: npt.NDArray[np.uint8], rgb: Rgb, window: Window, place: Placement) -> None:
    """Copy the pixels at a window's place; the rest of the view becomes zero."""
    part = rgb[place.top : place.top + place.height, place.left : place.left + place.width]
    if part.shape == view.shape:
        view[...] = part
        return
    top, left = place.top - window.top, place.left - window.left
    view[...] = 0
    view[top : top + place.height, left : left + place.width] = part


def _gather(view: npt.NDArray[np.uint8], rgb: Rgb, window: Window, pad: Pad) -> None:
    """Take the pixels of a window that sticks out row by row and column by column."""
    rows = _indices(window.top, view.shape[0], rgb.shape[0], pad)
    columns = _indices(window.left, view.shape[1], rgb.shape[1], pad)
    # Only what is needed of long sides is copied.
    top, left = rows.min(), columns.min()
    part = rgb[top : rows.max() + 1, left : columns.max() + 1]
    view[...] = part.take(rows - top, axis=0).take(columns - left, axis=1)


def _indices(start: int, count: int, length: int, pad: Pad) -> npt.NDArray[np.intp]:
    """Return which of ``length`` pixels are shown from ``start`` on, padding included."""
    positions = np.arange(start, start + count)
    if pad == "wrap":
        return positions % length
    period = max(2 * (length - 1), 1)
    positions %= period
    return np.minimum(positions, period - positions)
