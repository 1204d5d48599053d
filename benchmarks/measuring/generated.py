"""Photographs of any size, which are the same on every machine."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

from ...calibration.photographs import photographs

_JPEG_QUALITY = 90
_SIDES = (4, 3)  # aspect ratio


def generated_images(megapixels: Sequence[float]) -> dict[str, bytes]:
    """Make a JPEG image of each size: mosaics of real photographs at their native resolution.

    A photograph scaled up would be smooth and decode faster than one from a camera.
    """
    photographed = [Image.open(io.BytesIO(item)).convert("RGB") for item in photographs()]
    made = {}
    for size in megapixels:
        unit = (size * 1e6 / (_SIDES[0] * _SIDES[1])) ** 0.5
        mosaic = _mosaic(photographed, round(_SIDES[0] * unit), round(_SIDES[1] * unit))
        buffer = io.BytesIO()
        mosaic.save(buffer, "JPEG", quality=_JPEG_QUALITY)
        made[f"{size:g} MP"] = buffer.getvalue()
    return made


def _mosaic(photographs: Sequence[Image.Image], width: int, height: int) -> Image.Image:
    canvas = Image.new("RGB", (width, height))
    top, number = 0, 0
    while top < height:
        left, row_height = 0, 0
        while left < width:
            photograph = photographs[number % len(photographs)]
            canvas.paste(photograph, (left, top))
            left += photograph.width
            row_height = max(row_height, photograph.height)
            number += 1
        top += row_height
        number += 1
    return canvas
