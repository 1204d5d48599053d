"""Decoding with OpenCV: faster than Pillow, for WebP and PNG whose pixels are the same."""

from __future__ import annotations

import struct
from dataclasses import replace

import cv2
import numpy as np
from PIL import Image

from .encoded import Decoded, DecodeOptions, EncodedImage, Rgb
from .pillow import decoded_by_pillow, opened

_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_PEAK = 3.0  # times the decoded size, measured as in .pillow


def open_with_opencv(content: bytes, otherwise: EncodedImage) -> EncodedImage:
    """Return an image that OpenCV decodes, or ``otherwise`` if OpenCV refuses it.

    Args:
        content: the file. It must be of a kind that OpenCV refuses wherever ``otherwise`` does.
        otherwise: gives the image's size, decodes what OpenCV refuses, and raises what is wrong.
    """

    def decode(buffer: Rgb | None) -> Decoded:
        try:
            rgb = cv2.imdecode(np.frombuffer(content, np.uint8), _FLAGS)
        except cv2.error:
            rgb = None
        if rgb is None:
            return otherwise.decode(buffer)
        return Decoded(rgb.astype(np.uint8, copy=False))

    return replace(otherwise, decoder="opencv", _decode=decode, peak=_PEAK)


def open_webp(content: bytes, options: DecodeOptions) -> EncodedImage:
    """Read a WebP's header; OpenCV decodes still pictures without alpha, Pillow the others.

    Raises:
        ImageError: it is damaged, or too large for Pillow's own limit.
    """
    with opened(content) as image:
        pillows = decoded_by_pillow(image, content, options)
        by_opencv = _opencv_agrees(image, content)
    return open_with_opencv(content, pillows) if by_opencv else pillows


def _opencv_agrees(image: Image.Image, content: bytes) -> bool:
    """Whether OpenCV gives Pillow's pixels of this file, and refuses it where Pillow does.

    OpenCV passes over damage in the alpha channel, and over what follows its picture.
    """
    (size,) = struct.unpack_from("<I", content, 4)
    still = not getattr(image, "is_animated", False)
    return still and image.mode == "RGB" and size + 8 == len(content)
