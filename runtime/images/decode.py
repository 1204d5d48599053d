"""Encoded images to RGB pixels, exactly as the reference's Pillow gives them.

Pillow's ``Image.open(...).convert("RGB")`` defines the pixels: the order stored in the
file (EXIF orientation is not applied), alpha dropped and not blended, palettes expanded.
A faster decoder takes a file only if it gives the same pixels. A file's format is told by its
content, never by its name.

An image is whole, or it is an error. Some decoders fill in what is missing and at most warn, so
JPEG, PNG and TIFF are checked for missing data, each in a module of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

from PIL import AvifImagePlugin, Image

from ..finding.signatures import SIGNATURE_BYTES, Kind, file_format
from ..machine.errors import ImageError
from .encoded import (
    DEFAULT_MAX_PIXELS,
    Decoded,
    DecodeOptions,
    EncodedImage,
    Rgb,
    check_size,
    damage,
)
from .jpeg import open_jpeg
from .opencv import open_webp
from .pillow import open_with_pillow
from .png import open_png
from .tiff import open_tiff

_OPENERS: dict[str, Callable[[bytes, DecodeOptions], EncodedImage]] = {
    "JPEG": open_jpeg,
    "PNG": open_png,
    "TIFF": open_tiff,
    "WebP": open_webp,
}
_ZEROS_DECODED = ("WebP", "AVIF", "HEIC", "JPEG 2000")
"""Formats whose decoders take zeros for data. Those of the others notice them."""
_BROKEN_OFF = bytes(1024)
"""What a file ends in whose room was reserved before it was downloaded or copied."""
_DEFAULTS = DecodeOptions()


def decode(content: bytes, options: DecodeOptions = _DEFAULTS) -> Rgb:
    """Decode an image file's bytes to RGB pixels.

    Raises:
        ImageError: empty, not an image, of a format that is not read, truncated, damaged or too
            large; or nothing of the picture is left in 8 bits.
    """
    return read_header(content, options).decode().rgb


def read_header(content: bytes, options: DecodeOptions = _DEFAULTS) -> EncodedImage:
    """Read an image's size and choose its decoder; nothing is decoded yet.

    Images of more pixels than allowed or with a side above ``MAX_SIDE`` are refused. For the
    formats that Pillow opens, its own limit, ``PIL.Image.MAX_IMAGE_PIXELS``, holds as well.

    Raises:
        ImageError: empty, not an image, of a format that is not read, a damaged header, or too
            large.
    """
    if not content:
        raise ImageError("the file is empty.")
    found = file_format(content[:SIGNATURE_BYTES])
    if found and found.kind is not Kind.READ:
        raise ImageError(found.refusal)
    name = found.name if found else ""
    image = _OPENERS.get(name, open_with_pillow)(content, options)
    check_size(image.width, image.height, options.max_pixels)
    if name in _ZEROS_DECODED and content.endswith(_BROKEN_OFF):
        return _broken_off(image, options)
    return image


def _broken_off(image: EncodedImage, options: DecodeOptions) -> EncodedImage:
    """Refuse an image whose file ends in zeros, or call it damaged."""
    if not options.allow_damaged:
        raise ImageError(damage("its file ends in zeros, as a broken download does"))
    return replace(image, _decode=lambda buffer: Decoded(image.decode(buffer).rgb, damaged=True))


def settle_pillow(max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
    """Let our limit rule, and keep notes on damaged metadata off the screen.

    These settings are the whole process's: a command makes them, a library must not.
    """
    # By default each AVIF image takes a thread for each CPU; here images are decoded side by side.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.filterwarnings("ignore", module="PIL")
