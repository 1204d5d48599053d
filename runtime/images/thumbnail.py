"""Small pictures of images for people, from pixels that are decoded anyway."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from ..machine.errors import ImageError
from .encoded import EncodedImage, Rgb, damage

THUMBNAIL_SIDE = 192
"""Pixels; no side of a thumbnail is longer, unless asked for."""

_QUALITY = 60  # libwebp's; the eye sees no difference to 80 at this size
_EFFORT = 1  # libwebp's method: a third of its default's time, for a quarter more bytes
_JPEG, _JPEG_QUALITY = b"\xff\xd8", 92
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
_TRANSPOSED = (5, 6, 7, 8)
_FLIPPED_ACROSS = (2, 3, 6, 7)  # after transposing, if that is done
_FLIPPED_DOWN = (3, 4, 7, 8)


class Box(NamedTuple):
    """A rectangle in an image, in pixels from its upper left corner."""

    left: int
    top: int
    width: int
    height: int


def upright_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Return the size that an image has once it is upright."""
    return (height, width) if orientation in _TRANSPOSED else (width, height)


def upright_box(box: Box, width: int, height: int, orientation: int) -> Box:
    """Return where a rectangle lies once its image is upright.

    Args:
        box: in stored pixels.
        width, height: the image's size in stored pixels.
        orientation: EXIF's, 1 to 8.
    """
    if orientation in _TRANSPOSED:
        box = Box(box.top, box.left, box.height, box.width)
    width, height = upright_size(width, height, orientation)
    left = width - box.left - box.width if orientation in _FLIPPED_ACROSS else box.left
    top = height - box.top - box.height if orientation in _FLIPPED_DOWN else box.top
    return Box(left, top, box.width, box.height)


class Thumbnail(NamedTuple):
    """A small picture, upright: a WebP file, or a JPEG that becomes one if it is shown.

    ``orientation`` is EXIF's, 1 to 8, by which the image's stored pixels become upright.
    """

    content: bytes
    orientation: int


def thumbnail_of(rgb: Rgb, orientation: int = 1, side: int = THUMBNAIL_SIDE) -> Thumbnail:
    """Return a thumbnail of an image with these pixels, ``(height, width, 3)`` uint8, as WebP.

    No side of it is longer than ``side``. Small images are not enlarged. Of large ones some pixels
    are looked at, not all: that takes a millisecond, whatever the image's size.
    """
    height, width = rgb.shape[:2]
    small = _reduced(rgb, (width, height), side)
    return Thumbnail(webp(small, orientation), orientation)


def quick_thumbnail(
    pixels: npt.NDArray[Any], size: tuple[int, int], orientation: int = 1
) -> Thumbnail:
    """Return a thumbnail as JPEG, which takes a third of the time: it may never be shown.

    Args:
        pixels: of the image, ``(rows, columns, 3)`` in 0..255, perhaps stretched.
        size: the image's width and height.
        orientation: EXIF's.
    """
    small = _turned(Image.fromarray(_reduced(pixels, size, THUMBNAIL_SIDE)), orientation)
    jpeg = simplejpeg.encode_jpeg(np.asarray(small), quality=_JPEG_QUALITY)
    return Thumbnail(jpeg, orientation)


def as_webp(thumbnail: Thumbnail) -> Thumbnail:
    """Return a thumbnail that is WebP, from one of either kind."""
    if not thumbnail.content.startswith(_JPEG):
        return thumbnail
    rgb = simplejpeg.decode_jpeg(thumbnail.content, "RGB")
    return thumbnail._replace(content=webp(rgb))


def _reduced(pixels: npt.NDArray[Any], size: tuple[int, int], side: int) -> Rgb:
    """Return pixels of an image of some size, reduced so that no side is longer than ``side``."""
    width, height = size
    scale = min(1.0, side / max(width, height))
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    sampled = (_SAMPLES * target[0], _SAMPLES * target[1])
    if pixels.shape[1] > sampled[0] and pixels.shape[0] > sampled[1]:
        pixels = cv2.resize(pixels, sampled, interpolation=cv2.INTER_NEAREST)
    small = cv2.resize(pixels, target, interpolation=cv2.INTER_AREA)
    if small.dtype != np.uint8:
        small = np.clip(np.rint(small), 0, 255)
    return small.astype(np.uint8, copy=False)


def webp(rgb: Rgb, orientation: int = 1, quality: int = _QUALITY) -> bytes:
    """Return stored pixels as a WebP file that is upright."""
    file = io.BytesIO()
    _turned(Image.fromarray(rgb), orientation).save(file, "WEBP", quality=quality, method=_EFFORT)
    return file.getvalue()


def _turned(stored: Image.Image, orientation: int) -> Image.Image:
    return stored.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else stored


def draft(content: bytes, image: EncodedImage, side: int = THUMBNAIL_SIDE) -> Rgb:
    """Decode an image as well as a thumbnail needs it: a JPEG at a fraction of its size.

    Args:
        content: its file.
        image: what :func:`.decode.read_header` says of it.
        side: the thumbnail's longer side.

    Raises:
        ImageError: truncated or damaged.
    """
    if image.decoder != "simplejpeg":
        return image.decode().rgb
    long_side = "min_width" if image.width > image.height else "min_height"
    try:
        rgb: Rgb = simplejpeg.decode_jpeg(
            content, "RGB", fastdct=True, fastupsample=True, strict=False,
            **{long_side: 2 * side},
        )  # fmt: skip
    except ValueError as error:
        raise ImageError(damage(str(error))) from None
    return rgb
