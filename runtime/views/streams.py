"""The views of a stream from an image's pixels, where no other stream is needed for them."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from ..images.encoded import Rgb
from .guided import GUIDED_VIEWS
from .placement import Placement
from .places import Guided, Stratified
from .resample import resample
from .resizing import resized, resized_size
from .spec import FLOAT, StreamViews
from .windows import cut_windows


def count_views(height: int, width: int, views: StreamViews) -> int:
    """Return how many views an image of some size has; no pixel is needed.

    Raises:
        ImageError: the detector has no views of an image of this size.
    """
    if views.resize is not None:
        height, width = resized_size(height, width, views.resize)
    match views.places:
        case None:
            return 1
        case Stratified(count=count):
            return count
        case Guided():
            return GUIDED_VIEWS
        case places:
            return len(places.windows(height, width, views.size).at)


def write_views(out: npt.NDArray[Any], rgb: Rgb, views: StreamViews) -> tuple[Placement, ...]:
    """Write the views of an image: the resized image, or squares at places that its size decides.

    Args:
        out: what they are written to, ``(count, size, size, 3)`` of the stream's type, RGB in
            0..255; ``count`` is :func:`count_views`'s.
        rgb: pixels ``(height, width, 3)``, uint8.
        views: without faults, and not ``Stratified`` or ``Guided``, which need more than pixels.

    Returns:
        The part of the image that each view shows; nothing where the image is resized.

    Raises:
        ImageError: the detector has no views of an image of this size.
    """
    resize, places = views.resize, views.places
    if isinstance(places, Stratified | Guided):
        raise TypeError(f"{type(places).__name__} views need more than pixels")
    if resize is not None and resize.rule == FLOAT:
        out[0] = resample(rgb, views.size)
        return ()
    image = rgb if resize is None else resized(rgb, resize)
    if places is None:
        out[0] = image
        return ()
    height, width = image.shape[:2]
    windows = places.windows(height, width, views.size)
    cut_windows(out, image, windows)
    return windows.placements if resize is None else ()
