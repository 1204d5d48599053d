"""What libraries make of a file by themselves: pixels, and OpenCV's crops. No PyTorch here."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from ...runtime.views.placement import Placement

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""An image ``(height, width, 3)``, RGB."""
_OPENCV_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


def pillow_rgb(content: bytes) -> Pixels:
    """Decode a file as the training code does."""
    return np.array(Image.open(io.BytesIO(content)).convert("RGB"))


def opencv_rgb(content: bytes) -> Pixels | None:
    """Decode a file with OpenCV, as it is stored; return ``None`` if OpenCV cannot read it."""
    try:
        rgb = cv2.imdecode(np.frombuffer(content, np.uint8), _OPENCV_FLAGS)
    except cv2.error:
        return None
    return None if rgb is None else rgb.astype(np.uint8, copy=False)


def simplejpeg_rgb(content: bytes) -> Pixels | None:
    """Decode a JPEG file; return ``None`` if simplejpeg cannot read it."""
    try:
        rgb: Pixels = simplejpeg.decode_jpeg(content, "RGB")
    except ValueError:
        return None
    return rgb


DECODERS: Mapping[str, Callable[[bytes], Pixels | None]] = {
    "Pillow": pillow_rgb,
    "OpenCV": opencv_rgb,
    "simplejpeg": simplejpeg_rgb,
}


def opencv_crops(rgb: Pixels, places: Sequence[Placement], side: int) -> Pixels:
    """Cut crops ``(n, side, side, 3)`` out of an image, zeros beyond its edge.

    ``cv2.imread`` turns an image by its EXIF orientation, so that parts may be missing.
    """
    crops = np.zeros((len(places), side, side, 3), np.uint8)
    for crop, place in zip(crops, places, strict=True):
        bottom, right = place.top + place.height, place.left + place.width
        part = rgb[place.top : bottom, place.left : right]
        crop[: part.shape[0], : part.shape[1]] = part
    return crops
