"""The whole image resized by Pillow on uint8, as torchvision's transforms of PIL images do.

Pillow defines the pixels, and its versions differ: 13.0 filters some tall images that shrink
vertically first, and some values then differ by one grey level.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image

from ..images.encoded import DEFAULT_MAX_PIXELS, Rgb
from ..machine.errors import ImageError
from .spec import Resize

_FILTERS: Final = {
    "pillow-bilinear": Image.Resampling.BILINEAR,
    "pillow-bicubic": Image.Resampling.BICUBIC,
}


def resized(rgb: Rgb, resize: Resize) -> Rgb:
    """Resize an image by one of Pillow's rules.

    Args:
        rgb: pixels ``(height, width, 3)``, uint8.
        resize: how; not the rule in float, which is :func:`.resample.resample`.

    Returns:
        Pixels of :func:`resized_size`, not always writeable; ``rgb`` itself if it has that size.

    Raises:
        ImageError: it would have more pixels than an image may have.
    """
    before = rgb.shape[:2]
    height, width = resized_size(before[0], before[1], resize)
    if (height, width) == before:
        return rgb
    image = Image.fromarray(rgb)
    return np.asarray(image.resize((width, height), _FILTERS[resize.rule]))


def resized_size(height: int, width: int, resize: Resize) -> tuple[int, int]:
    """Return the height and width that an image of some size gets.

    Raises:
        ImageError: it would have more pixels than an image may have by default, as a line of
            20,000 pixels whose shorter side is made 224 long. Such an image is small, so that
            nothing else bounds the memory that it takes.
    """
    side = resize.side
    if resize.fit == "stretch":
        return side, side
    longer = side * max(height, width) // min(height, width)
    if side * longer > DEFAULT_MAX_PIXELS:
        raise ImageError(
            f"an image of {width}x{height} pixels, resized until its shorter side has {side}, "
            f"would have more than {DEFAULT_MAX_PIXELS}; cut it in pieces."
        )
    return (side, longer) if height <= width else (longer, side)
