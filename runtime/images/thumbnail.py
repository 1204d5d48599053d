"""Small pictures of images for people, from pixels that are decoded anyway."""

from __future__ import annotations

import io
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from ..machine.errors import ImageError
from .encoded import EncodedImage, Rgb, damage

THUMBNAIL_SIDE = 192
"""Pixels; no side of a thumbnail is longer."""

_QUALITY = 60  # libwebp's; the eye sees no difference to 80 at this size
_EFFORT = 2  # libwebp's method: half the time of its default, for a tenth more bytes
_SAMPLES = 2  # in each direction for each pixel of a thumbnail
# What turns stored pixels upright, by EXIF's orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Thumbnail(NamedTuple):
    """A picture of at most 192 x 192 pixels as a WebP file, upright.

    ``orientation`` is EXIF's, 1 to 8, by which the image's stored pixels become upright.
    """

    webp: bytes
    orientation: int


def thumbnail_of(rgb: Rgb, orientation: int = 1) -> Thumbnail:
    """Return a thumbnail of an image with these pixels, ``(height, width, 3)`` uint8.

    Small images are not enlarged. Of large ones some pixels are looked at, not all: that takes a
    millisecond, whatever the image's size.
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, THUMBNAIL_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    sampled = (_SAMPLES * size[0], _SAMPLES * size[1])
    if width > sampled[0] and height > sampled[1]:
        rgb = _resized(rgb, sampled, cv2.INTER_NEAREST)
    return Thumbnail(webp(_resized(rgb, size, cv2.INTER_AREA), orientation), orientation)


def _resized(rgb: Rgb, size: tuple[int, int], interpolation: int) -> Rgb:
    return cv2.resize(rgb, size, interpolation=interpolation).astype(np.uint8, copy=False)


def webp(rgb: Rgb, orientation: int = 1, quality: int = _QUALITY) -> bytes:
    """Return stored pixels as a WebP file that is upright."""
    image = Image.fromarray(rgb)
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, method=_EFFORT)
    return file.getvalue()


def draft(content: bytes, image: EncodedImage) -> Rgb:
    """Decode an image as well as a thumbnail needs it: a JPEG at a fraction of its size.

    Args:
        content: its file.
        image: what :func:`.decode.read_header` says of it.

    Raises:
        ImageError: truncated or damaged.
    """
    if image.decoder != "simplejpeg":
        return image.decode().rgb
    long_side = "min_width" if image.width > image.height else "min_height"
    try:
        rgb: Rgb = simplejpeg.decode_jpeg(
            content, "RGB", fastdct=True, fastupsample=True, strict=False,
            **{long_side: 2 * THUMBNAIL_SIDE},
        )  # fmt: skip
    except ValueError as error:
        raise ImageError(damage(str(error))) from None
    return rgb
