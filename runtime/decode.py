"""Encoded images to RGB pixels, exactly as the reference's Pillow gives them.

Pillow's ``Image.open(...).convert("RGB")`` defines the pixels: the order stored in the
file (EXIF orientation is not applied), alpha dropped and not blended, palettes expanded.
OpenCV decodes the formats in which it gives the same pixels faster; Pillow all others.
"""

from __future__ import annotations

import io
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from .errors import ImageError

Rgb: TypeAlias = npt.NDArray[np.uint8]
"""Pixels ``(height, width, 3)``, uint8, RGB."""

DEFAULT_MAX_PIXELS = 200_000_000
_JPEG_END = b"\xff\xd9"
_OPENCV_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


def decode(content: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Rgb:
    """Decode an image file's bytes to RGB pixels.

    Images of more than ``max_pixels`` pixels are refused before anything is decoded;
    Pillow's own limit, ``PIL.Image.MAX_IMAGE_PIXELS``, holds as well.

    Raises:
        ImageError: empty, not an image, truncated, damaged or too large.
    """
    if not content:
        raise ImageError("the file is empty.")
    try:
        with Image.open(io.BytesIO(content)) as image:
            _check_size(image, max_pixels)
            if _opencv_agrees(image, content):
                return _decode_with_opencv(content)
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError:
        raise ImageError("the file is not an image in a format that Pillow reads.") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"the image is too large: {error}") from None
    # Pillow's format plugins raise many types on damaged files, SyntaxError among them.
    except (OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError, KeyError) as error:
        raise ImageError(f"the image is truncated or damaged: {error}") from None
    except (MemoryError, cv2.error) as error:
        raise ImageError(f"the image cannot be decoded: {error}") from None


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"the image has no pixels ({width}x{height}).")
    if width * height > max_pixels:
        raise ImageError(
            f"the image has {width}x{height} pixels, more than the limit of {max_pixels}; "
            "raise the limit or scale it down."
        )


def _opencv_agrees(image: Image.Image, content: bytes) -> bool:
    """Whether OpenCV gives Pillow's pixels: whole RGB and greyscale JPEG files.

    CMYK differs by rounding. A JPEG whose end is missing goes to Pillow, which tells
    truncated files from whole ones with something appended; OpenCV 4 shows grey instead.
    """
    return image.format == "JPEG" and image.mode in ("RGB", "L") and content.endswith(_JPEG_END)


def _decode_with_opencv(content: bytes) -> Rgb:
    rgb = cv2.imdecode(np.frombuffer(content, np.uint8), _OPENCV_FLAGS)
    if rgb is None:
        raise ImageError("the image is truncated or damaged.")
    return rgb.astype(np.uint8, copy=False)
